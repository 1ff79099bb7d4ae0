"""What a search leaves: the sentence, config.pbtxt, and budgets to keep."""

import json
from dataclasses import replace

import pytest
from builders import LOADS, measurement, ramp

from pytest_triton_perf.cli import main
from pytest_triton_perf.domain.levels import Estimate
from pytest_triton_perf.domain.results import Run, from_json, merge, to_json
from pytest_triton_perf.domain.searched import Candidate, SearchResult
from pytest_triton_perf.domain.variants import Variant
from pytest_triton_perf.reports.content import summary_sentence
from pytest_triton_perf.reports.lines import lines_of
from pytest_triton_perf.reports.tables import best_table
from pytest_triton_perf.servers.model_config import read_config
from pytest_triton_perf.suggestions import suggest
from pytest_triton_perf.written_configs import write_configs

CONFIG = {"name": "m", "max_batch_size": 8, "dynamic_batching": {}}


def result(**changes):
    best = Candidate(variant="m_config_0", standing="best", load=LOADS[1])
    found = SearchResult(
        test="test_it",
        model="m",
        mode="quick",
        objectives={"throughput": 1.0},
        candidates=[best, Candidate(variant="m_config_1", standing="lost", why="it died")],
        levels=9,
        space=40,
        configurations=5,
        wall_s=12.3,
        config=CONFIG,
        gain=Estimate(value=2.0, ci=(1.9, 2.1)),
    )
    return replace(found, **changes)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "throughput is 100.0% [90.0, 110.0] higher than the default configuration's"),
        (
            {"objectives": {"avg_latency_ms": 1.0}},
            "average latency is 50.0% [47.4, 52.4] lower than the default configuration's",
        ),
        (
            {"objectives": {"throughput": 1.0, "power_w": 1.0}},
            "the weighted objective is 100.0% [90.0, 110.0] better than the default "
            "configuration's",
        ),
    ],
)
def test_the_sentence_says_by_how_much_the_best_is_better(changes, sentence):
    assert str(result(**changes)) == (
        f"m: m_config_0 is the best configuration at concurrency 2: {sentence} "
        "(9 of 40 levels of 5 configurations were measured in 12 s)"
    )


def test_a_search_that_found_nothing_says_so():
    none = replace(result(), candidates=[Candidate(variant="m_config_0", standing="outside")])
    assert str(replace(none, note="its time was up")) == (
        "m: no configuration keeps the budgets (9 of 40 levels of 5 configurations were measured "
        "in 12 s; its time was up)"
    )


def run(*searches):
    return Run(environment={}, sweeps=[ramp()], verdicts=[], searches=searches)


def test_the_reports_say_what_the_search_found():
    sentence = summary_sentence(run(result(), result(model="other")), "m")
    assert sentence.startswith(f"{result()}. In 4 measurements of 1 configuration, m_config_0 ")
    assert "other" not in sentence


def test_searches_go_through_results_json_and_through_workers():
    data = json.loads(json.dumps(to_json(run(result()))))
    assert from_json(data).searches == (result(),)
    del data["searches"]
    assert from_json(data).searches == ()
    assert merge([run(result()), run(result(test="other"))]).searches == [
        result(),
        result(test="other"),
    ]


def test_the_best_config_is_written_and_can_be_read(tmp_path):
    assert write_configs([result()], tmp_path / "new") == []
    text = (tmp_path / "new" / "m" / "config.pbtxt").read_text()
    assert text.startswith("# m: m_config_0 is the best configuration at concurrency 2: ")
    assert read_config(tmp_path / "new" / "m") == CONFIG


def test_of_two_best_configs_of_a_model_the_first_is_written_and_the_other_told(tmp_path):
    other = result(test="test_other", config={"name": "m"})
    assert write_configs([result(), other, result(test="same")], tmp_path) == [
        "test_other found another best configuration of m than test_it; "
        f"{tmp_path / 'm'} has the latter's"
    ]
    assert read_config(tmp_path / "m") == CONFIG


def test_what_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    (problem,) = write_configs([result()], tmp_path / "file")
    assert (
        problem == f"{tmp_path / 'file' / 'm' / 'config.pbtxt'} cannot be written: Not a directory"
    )
    none = replace(result(), candidates=[])
    assert write_configs([none], tmp_path / "new") == [
        f"no test found a best configuration: {tmp_path / 'new'} was not written"
    ]


def test_suggested_limits_are_the_far_ends_with_a_margin():
    values = {
        "throughput": Estimate(value=1000.0, ci=(960.0, 1040.0)),
        "p50_latency_ms": Estimate(value=5.0, ci=(4.0, 6.0)),
        "p99_latency_ms": Estimate(value=10.0, ci=(9.0, 12.0)),
        "cpu_memory_mb": Estimate(value=100.0),
    }
    levels = [replace(measurement(load), values=values) for load in LOADS]
    sweep = replace(ramp(), measurements=levels)
    found = suggest(replace(run(result()), sweeps=[sweep]), 20.0)
    assert found.splitlines() == [
        "# Limits are 20% away from the far end of the measured interval.",
        "",
        "# test_it: m_config_0",
        "@pytest.mark.perf_budget(p99_latency_ms=14.4, min_throughput=800, max_cpu_memory_mb=120, "
        "at={'concurrency': 2})",
    ]


def test_an_open_end_gives_no_limit_and_a_plain_sweep_is_taken_at_its_best_load():
    values = {
        "throughput": Estimate(value=1000.0, ci=(960.0, 1040.0)),
        "p99_latency_ms": Estimate(value=10.0, ci=(9.0, None)),
    }
    levels = [measurement(LOADS[0], throughput=1.0), replace(measurement(LOADS[2]), values=values)]
    found = suggest(replace(run(), sweeps=[replace(ramp(), measurements=levels)]), 0)
    assert found.endswith("@pytest.mark.perf_budget(min_throughput=960, at={'concurrency': 4})")


def test_only_the_best_of_a_search_is_suggested():
    other = replace(ramp(), variant=Variant(model="m", name="m_config_1"))
    found = suggest(replace(run(result()), sweeps=[other, ramp()]), 20.0)
    assert "m_config_1" not in found
    assert found.count("perf_budget") == 1


def test_the_command_prints_them(tmp_path, capsys):
    (tmp_path / "results.json").write_text(json.dumps(to_json(run(result()))))
    assert main(["suggest", str(tmp_path), "--margin-pct", "50"]) == 0
    assert "# Limits are 50% away" in capsys.readouterr().out
    assert main(["suggest", str(tmp_path / "gone")]) == 2
    assert "cannot be read (No such file or directory); DIR is what" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["suggest", str(tmp_path), "--margin-pct", "-1"])
    assert "expected a number of at least 0, not -1" in capsys.readouterr().err


def test_the_summary_names_one_best_configuration_and_that_is_the_searchs():
    chosen = replace(ramp(), test="test_it")
    # One of the others had a lucky visit.
    lucky = [
        replace(m, values={**m.values, "throughput": Estimate(value=2 * m.value("throughput"))})
        for m in chosen.measurements
    ]
    other = replace(chosen.variant, name="m_config_1")
    sweeps = [chosen, replace(chosen, variant=other, measurements=lucky)]
    run = Run(environment={}, sweeps=sweeps, verdicts=(), searches=[result()])
    text = summary_sentence(run, "m")
    assert text.startswith(
        f"{result()}. m_config_0 provides at best 8000 infer/sec at concurrency 8."
    )
    assert text.endswith("the search compared them over several.")
    assert "m_config_1" not in text
    assert [row[0] for row in best_table(run, "m").rows] == ["m_config_0", "m_config_1"]
    assert [line.label for line in lines_of(run, "m")] == ["m_config_0", "m_config_1"]
    # Where the objective is another, the most throughput is no second answer.
    other_goal = replace(run, searches=[result(objectives={"avg_latency_ms": 1.0})])
    assert "m_config_1 provides the best throughput" in summary_sentence(other_goal, "m")
    assert [row[0] for row in best_table(other_goal, "m").rows] == ["m_config_1", "m_config_0"]
