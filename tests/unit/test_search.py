"""The search on simulated servers: what it chooses, what that takes, and how it deals with loss."""

import itertools
import math
from collections.abc import Callable

import pytest

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.levels import Estimate, Load, Measurement
from pytest_triton_perf.domain.searches import SearchSpec
from pytest_triton_perf.errors import UsageError
from pytest_triton_perf.search import scoring, space
from pytest_triton_perf.search.base import NOTHING, Grid, Guess, Outcome, Spot
from pytest_triton_perf.search.engine import Search
from validation.search import CONFIGS, LEVELS, LOADS, MACHINES, SERVERS, search

SEEDS = range(10)
BATCHED = {"max_batch_size": 8, "instance_group": [{"count": 2}]}


@pytest.mark.parametrize("server", ["instances help", "one instance is best", "little memory"])
def test_quick_finds_a_configuration_within_2_percent_of_the_best(server):
    results = [search(SERVERS[server], "quick", seed) for seed in SEEDS]
    assert sum(result.quality >= 0.98 for result in results) >= 9
    assert max(result.levels for result in results) <= 0.15 * LEVELS


def test_quick_is_near_the_best_of_those_that_do_not_die():
    results = [search(SERVERS["dies with 4 instances"], "quick", seed) for seed in range(4)]
    assert all(result.quality >= 0.97 for result in results)


@pytest.mark.parametrize("server", ["one instance is best", "memory excludes the best"])
def test_quick_finds_it_on_a_machine_that_drifts_and_loads_no_model_twice_alike(server):
    results = [search(SERVERS[server], "quick", seed, MACHINES["shared"]) for seed in SEEDS]
    assert sum(result.quality >= 0.98 for result in results) >= 9
    assert max(result.levels for result in results) <= 0.15 * LEVELS


def test_brute_measures_every_level_once_and_then_runs_the_finals():
    server = SERVERS["instances help"]
    result = search(server, "brute", 0)
    assert LEVELS <= result.levels <= LEVELS + 22
    assert result.quality >= 0.98


@pytest.mark.parametrize("server", ["two cores", "dies with 4 instances"])
def test_optuna_keeps_the_limits_and_the_share_of_levels(server):
    results = [search(SERVERS[server], "optuna", seed) for seed in range(2)]
    assert all(result.quality >= 0.95 for result in results)
    assert max(result.levels for result in results) <= 0.15 * LEVELS


def test_optuna_takes_the_last_step_to_a_best_level_that_stands_alone():
    results = [search(SERVERS["p99 and memory"], "optuna", seed) for seed in SEEDS]
    assert sum(result.quality >= 0.98 for result in results) >= 8


def test_the_same_seed_measures_the_same_levels():
    server = SERVERS["p99 and memory"]
    assert search(server, "quick", 3) == search(server, "quick", 3)


def test_no_limit_no_space_of_the_simulation_is_trivial():
    for name, server in SERVERS.items():
        found = sorted(server.best(config) for config in CONFIGS)
        assert server.best(CONFIGS[0]) < 0.7 * found[-1], name
        assert found[len(found) // 2] < 0.98 * found[-1], name


def line(*scores: float, constraints: int = 0) -> Grid:
    """A candidate per score, a step from each other, at one load."""
    return Grid(
        candidates=[(float(i),) for i in range(len(scores))],
        loads=[(0.0,)],
        constraints=[()] * constraints,
    )


def outcome(score: float, *slacks: Guess, error: float = 0.01) -> Outcome:
    return Outcome(score=Guess(score, error), slacks=slacks)


def raced(explored: list[float], fresh: Callable[[int, int], float]) -> tuple[Search, list[int]]:
    """A search whose finals give ``fresh(candidate, visit)``, and whom the finals loaded."""
    engine = Search(line(*explored), mode="brute", seed=0)
    for candidate, score in enumerate(explored):
        engine.tell(Spot(candidate, 0), outcome(score, error=0.03))
    engine.finish()
    visits: list[int] = []
    while (spot := engine.ask()) is not None:
        visit = visits.count(spot.candidate)
        visits.append(spot.candidate)
        engine.tell(spot, outcome(fresh(spot.candidate, visit), error=0.03))
    return engine, visits


def test_finals_visit_all_in_turns_until_nobody_can_be_better_by_1_percent():
    engine, visits = raced([0.0, 0.95, 1.0, 0.97], lambda candidate, visit: candidate / 10)
    # Candidate 0 is surely behind, and 3 was the last to be loaded: it is not loaded at once again.
    assert visits == [2, 1, 3, 2, 3]
    assert [spot.candidate for spot in engine.found.ranking()] == [3, 2, 1, 0]


def test_what_the_exploration_saw_does_not_count_in_the_finals():
    engine, _ = raced([1.0, 1.09], lambda candidate, visit: 1.0 - 0.05 * candidate)
    assert engine.found.ranking()[0] == Spot(0, 0)
    assert engine.found.outcomes[Spot(1, 0)].score.mean == pytest.approx(0.95)


def test_a_drift_that_all_share_decides_nothing():
    _, steady = raced([1.0, 1.0], lambda candidate, visit: 0.04 * candidate)
    _, drifting = raced([1.0, 1.0], lambda candidate, visit: 0.04 * candidate + 0.5 * visit)
    assert drifting == steady
    assert len(steady) < 10


def test_visits_that_differ_make_the_finals_longer_and_then_they_end():
    lucky = [0.1, *[0.0] * 9]
    _, steady = raced([1.0, 1.0], lambda candidate, visit: 0.05 * candidate)
    engine, visits = raced(
        [1.0, 1.0], lambda candidate, visit: 0.03 * candidate + lucky[visit] * (not candidate)
    )
    assert len(steady) < len(visits) <= 10
    assert all(one != other for one, other in itertools.pairwise(visits))
    assert engine.found.ranking()[0] == Spot(1, 0)


def test_of_loads_that_are_as_good_both_are_raced_however_many_that_are():
    grid = Grid(candidates=[(float(i),) for i in range(7)], loads=[(0.0,), (1.0,), (2.0,)])
    engine = Search(grid, mode="brute", seed=0)
    for candidate, load in itertools.product(range(7), range(3)):
        engine.tell(Spot(candidate, load), outcome([0.5, 0.995, 1.0][load], error=0.03))
    engine.finish()
    first = []
    while (spot := engine.ask()) is not None:
        first.append(spot)
        engine.tell(spot, outcome(1.0, error=0.03))
    assert first == [Spot(candidate, load) for candidate in range(6) for load in (2, 1)]


def test_a_candidate_that_is_lost_in_the_finals_cannot_win():
    engine = Search(line(0, 0), mode="brute", seed=0)
    while (spot := engine.ask()) is not None:
        if spot.candidate == 1 and engine.found.outcomes.keys() == {Spot(0, 0), Spot(1, 0)}:
            engine.lost(1)
        else:
            engine.tell(spot, outcome(spot.candidate * 0.01, error=0.02))
    assert [spot.candidate for spot in engine.found.ranking()] == [0]


def test_quick_gives_up_a_limit_that_nothing_measures():
    engine = Search(line(*range(30), constraints=1), mode="quick", seed=0)
    asked = []
    while (spot := engine.ask()) is not None:
        asked.append(spot)
        engine.tell(spot, outcome(1.0, NOTHING))
    assert len(asked) <= 6
    assert all(engine.found.slack(spot) == -math.inf for spot in asked)


def test_a_level_whose_objective_is_missing_is_outside():
    engine = Search(line(0, 0), mode="brute", seed=0)
    engine.tell(Spot(0, 0), outcome(-5.0))
    engine.tell(Spot(1, 0), Outcome(score=NOTHING))
    assert engine.found.slack(Spot(1, 0)) == -math.inf
    assert [spot.candidate for spot in engine.found.ranking()] == [0, 1]


def test_where_none_keeps_the_limits_the_nearest_comes_first():
    engine = Search(line(0, 0, 0, constraints=1), mode="brute", seed=0)
    while (spot := engine.ask()) is not None:
        distance = {0: -0.5, 1: -0.1, 2: -0.9}[spot.candidate]
        engine.tell(spot, outcome(1.0, Guess(distance, 0.01)))
    assert [spot.candidate for spot in engine.found.ranking()] == [1, 0, 2]


def test_of_loads_that_are_as_good_the_lowest_is_chosen():
    grid = Grid(candidates=[(0.0,)], loads=[(0.0,), (1.0,), (2.0,)])
    engine = Search(grid, mode="brute", seed=0)
    for load, score in enumerate((0.5, 0.998, 1.0)):
        engine.tell(Spot(0, load), outcome(score))
    assert engine.found.best_of(0) == Spot(0, 1)


def test_a_limit_at_another_load_counts_for_all_loads():
    grid = Grid(candidates=[(0.0,)], loads=[(0.0,), (1.0,)], constraints=[(0,)])
    engine = Search(grid, mode="brute", seed=0)
    engine.tell(Spot(0, 0), outcome(0.0, Guess(-0.2, 0.01)))
    engine.tell(Spot(0, 1), outcome(1.0, Guess(0.5, 0.01)))
    assert engine.found.slack(Spot(0, 1)) == -0.2


# -- from figures to what is compared


def level(**values: Estimate) -> Measurement:
    return Measurement(load=Load(concurrency=1), requests=10, wall_s=1.0, values=values)


def test_objectives_are_weighted_relative_to_each_other():
    measurement = level(
        throughput=Estimate(value=100.0, ci=(90.0, 111.0)), power_w=Estimate(value=50.0)
    )
    one = scoring.score(measurement, {"throughput": 3})
    assert one.mean == pytest.approx(math.log(100))
    assert one.error == pytest.approx(math.hypot(0.03, math.log(111 / 90) / 2 / 1.96), rel=0.01)
    both = scoring.score(measurement, {"throughput": 3, "power_w": 1})
    assert both.mean == pytest.approx(0.75 * math.log(100) - 0.25 * math.log(50))


def test_a_metric_that_is_missing_fails_its_limit_and_is_the_worst_objective():
    limit = Budget.from_keyword("max_gpu_memory_mb", 100)
    assert scoring.slack(level(), limit) is NOTHING
    assert scoring.score(level(), {"gpu_memory_mb": 1}) is NOTHING
    assert scoring.slack(level(gpu_memory_mb=Estimate(value=50)), limit).mean == pytest.approx(
        math.log(2)
    )
    floor = Budget.from_keyword("min_throughput", 100)
    assert scoring.slack(level(throughput=Estimate(value=50)), floor).mean == pytest.approx(
        -math.log(2)
    )


# -- spaces


def test_the_automatic_space_is_batches_by_instances():
    found = space.candidates(SearchSpec(), "m", BATCHED, LOADS)
    assert len(found) == 40
    assert found[0] == {"max_batch_size": 1, "dynamic_batching": {}, "instance_group.count": 1}
    assert found[-1] == {"max_batch_size": 128, "dynamic_batching": {}, "instance_group.count": 5}


@pytest.mark.parametrize("kind", ["dynamic_batching", "sequence_batching"])
def test_what_batches_already_stays_as_it_is(kind):
    config = {**BATCHED, kind: {"max_queue_delay_microseconds": "100"}}
    found = space.candidates(SearchSpec(max_instance_count=1), "m", config, LOADS)
    assert [set(each) for each in found] == [{"max_batch_size", "instance_group.count"}] * 8


def test_a_model_that_does_not_batch_has_only_its_instances_varied():
    found = space.candidates(SearchSpec(), "m", {"instance_group": []}, LOADS)
    assert found == [{"instance_group.count": count} for count in range(1, 6)]


def test_the_batches_of_the_clients_must_fit():
    loads = [Load(concurrency=1, batch_size=16)]
    found = space.candidates(SearchSpec(max_instance_count=1), "m", BATCHED, loads)
    assert [each["max_batch_size"] for each in found] == [16, 32, 64, 128]
    with pytest.raises(UsageError, match="batch_size=16 do not fit into max_batch_size=8, the"):
        space.candidates(SearchSpec(max_model_batch_size=8), "m", BATCHED, loads)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, r"needs the config.pbtxt of model 'm'; .*perf_search\(parameters="),
        ({"ensemble_scheduling": {}}, "'m' is an ensemble, which has no instances"),
    ],
)
def test_some_models_have_no_automatic_space(config, message):
    with pytest.raises(UsageError, match=message):
        space.candidates(SearchSpec(), "m", config, LOADS)


def test_a_manual_space_is_all_combinations():
    spec = SearchSpec(parameters={"a": [1, 2], "b": ["x"]})
    assert space.candidates(spec, "m", None, LOADS) == [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}]


def test_loads_that_are_left_to_the_search_double_between_their_bounds():
    spec = SearchSpec(max_concurrency=20, min_request_rate=100, max_request_rate=250)
    closed = space.automatic_loads(spec, [Load(concurrency=1)], [Load(concurrency=3)])
    assert [load.concurrency for load in closed] == [1, 2, 3, 4, 8, 16]
    opened = space.automatic_loads(spec, [Load(request_rate=100.0)])
    assert [load.request_rate for load in opened] == [100, 200]


def test_a_step_of_a_coordinate_is_a_doubling_or_another_kind():
    found = [{"size": 1, "kind": "a"}, {"size": 4, "kind": "a"}, {"size": 4, "kind": "b"}]
    places = space.coordinates(found, {"size": 2, "kind": "a"})
    assert math.dist(places[1], places[2]) == pytest.approx(2)
    assert math.dist(places[2], places[3]) == pytest.approx(1)
    assert math.dist(places[0], places[1]) == pytest.approx(math.sqrt(2))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mode": "quik"}, "mode: expected 'quick', 'brute' or 'optuna', not 'quik'"),
        ({"objectives": {"troughput": 1}}, r"unknown metric 'troughput' \(did you mean 'through"),
        ({"objectives": {}}, "objective: expected a metric or"),
        ({"objectives": {"throughput": 0}}, "a weight is a number above 0, not 0"),
        ({"parameters": {}}, "parameters: expected a mapping of config path"),
        ({"parameters": {"max_batch_size": []}}, "expected a list of values, not"),
        ({"parameters": {"max_batch_size": [1, 1]}}, "a value appears twice"),
        ({"min_instance_count": 3, "max_instance_count": 2}, "min_instance_count=3 is over max_"),
        ({"max_concurrency": 0}, "max_concurrency: expected a whole number of at least 1, not 0"),
        ({"max_model_batch_size": True}, "expected a whole number of at least 1, not True"),
        ({"min_request_rate": math.inf}, "min_request_rate: expected a number above 0, not inf"),
        ({"seed": 0.5}, "seed: expected a whole number, not 0.5"),
    ],
)
def test_a_space_that_cannot_be_is_a_usage_error(given, message):
    with pytest.raises(UsageError, match=message):
        SearchSpec(**given)
