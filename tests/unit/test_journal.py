"""What a session finds of an earlier one, and what of damage it does not believe."""

from pathlib import Path

import pytest
from test_records import record

from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.timelines import NOTHING_YET
from pytest_triton_perf.errors import UsageError
from pytest_triton_perf.journal import Journal
from pytest_triton_perf.takes import Take

ONE, TWO = Load(concurrency=1), Load(concurrency=2)
INGREDIENTS = {"the CPU": "2 x fast", "model file m/1/model.py": "sha256:aa"}
SERVER = {"image": None, "version": "2.51.0"}


def journal(folder: Path, session: str = "b", *, resume: bool = True) -> Journal:
    return Journal(folder / "out" / "resume.journal", session=session, resume=resume)


def lines(folder: Path) -> list[bytes]:
    return (folder / "out" / "resume.journal").read_bytes().splitlines(keepends=True)


def rewrite(folder: Path, *rows: bytes) -> None:
    (folder / "out" / "resume.journal").write_bytes(b"".join(rows))


def measure(
    begun: Journal, *seconds: float, sweep: str = "test_it", end: float | None = None
) -> Take:
    """Measure a sweep at level ONE: a segment for each of ``seconds`` of measuring time."""
    take = begun.take(sweep, INGREDIENTS)
    assert take.is_new
    take.begin(config={"max_batch_size": 8}, server=SERVER)
    for used_s in seconds:
        take.add(record(ONE, used_s=used_s))
    if end is not None:
        take.finish(end)
    return take


def used(take: Take, load: Load = ONE) -> list[float]:
    """The measuring time of each segment that is given back."""
    found = []
    while (segment := take.next(load)) is not None:
        found.append(segment.used_s)
    return found


def test_a_killed_session_is_gone_on_with(tmp_path: Path) -> None:
    measure(journal(tmp_path, "a", resume=False), 1.0, 2.0)
    take = journal(tmp_path, "b").take("test_it", INGREDIENTS)
    assert (take.is_new, take.config, take.server) == (False, {"max_batch_size": 8}, SERVER)
    assert take.memory == record().memory
    assert list(take.measured) == [ONE]
    assert take.next(TWO) is None
    assert used(take) == [1.0, 2.0]
    take.add(record(TWO, used_s=4.0))
    take.finish(0.5)
    last = journal(tmp_path, "c")
    take = last.take("test_it", INGREDIENTS)
    assert used(take) == [1.0, 2.0]
    assert used(take, TWO) == [4.5]  # with the time that it took to find the end
    before = lines(tmp_path)
    take.finish(0.0)
    assert (lines(tmp_path), last.notes) == (before, [])


def test_takes_of_one_sweep_are_given_in_their_order_and_once(tmp_path: Path) -> None:
    first = journal(tmp_path, "a", resume=False)
    measure(first, 1.0, end=0.0)
    measure(first, 2.0, end=0.0)  # such as a rerun makes
    second = journal(tmp_path)
    assert used(second.take("test_it", INGREDIENTS)) == [1.0]
    assert used(second.take("test_it", INGREDIENTS)) == [2.0]
    assert second.take("test_it", INGREDIENTS).is_new
    assert second.take("test_other", INGREDIENTS).is_new
    assert second.notes == []


def test_without_resume_nothing_is_reused_and_the_file_is_replaced(tmp_path: Path) -> None:
    measure(journal(tmp_path, "a", resume=False), 1.0)
    again = journal(tmp_path, "b", resume=False)
    assert len(lines(tmp_path)) == 3, "a session that measures nothing replaced it"
    measure(again, 2.0)
    # Another process of the same session adds to it.
    measure(journal(tmp_path, "b", resume=False), 3.0, sweep="test_other")
    last = journal(tmp_path, "c")
    assert used(last.take("test_it", INGREDIENTS)) == [2.0]
    assert used(last.take("test_other", INGREDIENTS)) == [3.0]


def test_a_sweep_from_other_ingredients_is_measured_again_and_says_why(tmp_path: Path) -> None:
    begun = journal(tmp_path, "a", resume=False)
    measure(begun, 1.0)
    measure(begun, 1.0, sweep="test_other")
    second = journal(tmp_path)
    changed = {**INGREDIENTS, "model file m/1/model.py": "sha256:bb"}
    assert second.take("test_it", changed).is_new
    assert second.take("test_other", changed).is_new
    assert second.notes == [
        "measured again, because model file m/1/model.py changed: test_it, test_other"
    ]


def test_a_torn_last_line_is_cut_off_and_measured_again(tmp_path: Path) -> None:
    measure(journal(tmp_path, "a", resume=False), 1.0, 2.0)
    whole = lines(tmp_path)
    rewrite(tmp_path, *whole[:-1], whole[-1][:1000])
    second = journal(tmp_path)
    take = second.take("test_it", INGREDIENTS)
    assert used(take) == [1.0]
    assert "its last line is not whole" in second.notes[0]
    take.add(record(ONE, used_s=3.0))
    third = journal(tmp_path)
    assert used(third.take("test_it", INGREDIENTS)) == [1.0, 3.0]
    assert third.notes == []


def test_after_a_damaged_line_its_take_is_measured_again(tmp_path: Path) -> None:
    begun = journal(tmp_path, "a", resume=False)
    measure(begun, 1.0, 2.0, 3.0, end=0.0)
    measure(begun, 4.0, sweep="test_other")
    rows = lines(tmp_path)
    rows[3] = rows[3].replace(b'"used_s":2.0', b'"used_s":9.0')
    rewrite(tmp_path, *rows)
    second = journal(tmp_path)
    take = second.take("test_it", INGREDIENTS)
    assert used(take) == [1.0]
    assert used(second.take("test_other", INGREDIENTS)) == [4.0]
    assert "3 line(s) are damaged or follow a damaged one" in second.notes[0]
    take.add(record(ONE, used_s=5.0))
    assert used(journal(tmp_path).take("test_it", INGREDIENTS)) == [1.0, 5.0]


def test_a_take_without_its_beginning_or_without_segments_is_none(tmp_path: Path) -> None:
    begun = journal(tmp_path, "a", resume=False)
    measure(begun, sweep="test_begun")
    measure(begun, 1.0)
    rows = lines(tmp_path)
    rewrite(tmp_path, *rows[:2], b"0" * 8 + rows[2][8:], *rows[3:])
    second = journal(tmp_path)
    assert second.take("test_begun", INGREDIENTS).is_new
    assert second.take("test_it", INGREDIENTS).is_new
    assert len(second.notes) == 1


def test_a_session_that_ended_before_it_measured_leaves_nothing_to_resume(tmp_path: Path) -> None:
    measure(journal(tmp_path, "a", resume=False))
    second = journal(tmp_path)
    assert second.take("test_it", INGREDIENTS).is_new
    assert second.notes == [
        f"nothing to resume: {tmp_path}/out/resume.journal holds no measurement"
    ]


@pytest.mark.parametrize("content", [b"", b"what is this?\n", b"\xff\xfe\n", b"00000000 []\n"])
def test_a_file_that_is_no_journal_is_replaced_and_said_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "out").mkdir()
    rewrite(tmp_path, content)
    begun = journal(tmp_path)
    measure(begun, 1.0)
    assert begun.notes[0].startswith("nothing to resume: ")
    assert begun.notes[0].endswith("is no journal")
    assert used(journal(tmp_path).take("test_it", INGREDIENTS)) == [1.0]


def test_with_nothing_to_resume_everything_is_measured(tmp_path: Path) -> None:
    begun = journal(tmp_path)
    measure(begun, 1.0)
    assert begun.notes == [f"nothing to resume: there is no {tmp_path}/out/resume.journal"]


def test_a_journal_of_another_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        newer.setattr("pytest_triton_perf.journal.SCHEMA", 2)
        measure(journal(tmp_path, "a", resume=False), 1.0)
    with pytest.raises(UsageError, match=r"--triton-perf-resume: .* has schema 2, which another"):
        journal(tmp_path)
    measure(journal(tmp_path, resume=False), 2.0)
    assert used(journal(tmp_path).take("test_it", INGREDIENTS)) == [2.0]


def test_a_disk_without_room_costs_the_journal_and_not_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = journal(tmp_path, resume=False)
    take = measure(begun, 1.0)
    (tmp_path / "out" / "resume.journal").unlink()
    (tmp_path / "out" / "resume.journal").symlink_to("/dev/full")
    take.add(record(ONE, used_s=2.0))
    take.add(record(ONE, used_s=3.0))
    (note,) = begun.notes
    assert "was not written (No space left on device): a session that resumes" in note


def test_what_cannot_be_known_again_is_not_kept(tmp_path: Path) -> None:
    take = journal(tmp_path, resume=False).take("test_it", None)
    assert (take.is_new, take.memory) == (True, NOTHING_YET)
    take.begin(config={}, server=SERVER)
    take.add(record())
    assert not (tmp_path / "out").exists()
