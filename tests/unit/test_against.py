"""The base of the paired gate, taken from real git repositories."""

import subprocess
from pathlib import Path

import pytest

from pytest_triton_perf.against import AgainstImage, AgainstRepository
from pytest_triton_perf.errors import MissingPartError, UsageError
from pytest_triton_perf.servers.base import ServerSpec

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2\nsize 132735\n"


def git(folder: Path, *args: str) -> str:
    name = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", "-C", str(folder), *name, *args], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def commit(folder: Path, text: str) -> str:
    """Commit a model whose source is ``text``."""
    model = folder / "serving" / "models" / "m" / "1"
    model.mkdir(parents=True, exist_ok=True)
    (model / "model.py").write_text(text)
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", text.partition("\n")[0])
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    commit(folder, "one")
    git(folder, "tag", "v1")
    commit(folder, "two")
    return folder


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def source(base: Path | None) -> str:
    assert base is not None
    return (base / "m" / "1" / "model.py").read_text()


@pytest.mark.parametrize(("ref", "text"), [("v1", "one"), ("HEAD~1", "one"), ("main", "two")])
def test_a_ref_is_taken_from_git_and_nothing_is_left(
    repository: Path, temporary: Path, ref: str, text: str
) -> None:
    head = repository / "serving" / "models"
    (head / "m" / "1" / "model.py").write_text("three")
    before = git(repository, "status", "--porcelain=v2", "--branch")
    against = AgainstRepository(ref, repository)
    try:
        assert source(against.repository(head)) == text
        assert source(head) == "three"
        commit = git(repository, "rev-parse", ref)
        assert str(against) == f"{ref} ({commit[:12]})"
        assert git(repository, "status", "--porcelain=v2", "--branch") == before
        assert len(git(repository, "worktree", "list").splitlines()) == 1
    finally:
        against.close()
        against.close()
    assert list(temporary.iterdir()) == []


def test_repositories_of_one_git_repository_share_one_tree(
    repository: Path, temporary: Path
) -> None:
    against = AgainstRepository("main", repository)
    head = repository / "serving" / "models"
    assert against.repository(head) == against.repository(head)
    assert len(list(temporary.iterdir())) == 1
    against.close()


def test_a_model_repository_that_is_new_has_no_base(repository: Path, temporary: Path) -> None:
    new = repository / "new" / "models"
    new.mkdir(parents=True)
    against = AgainstRepository("main", repository)
    assert against.repository(new) is None
    against.close()


def test_a_folder_is_the_base_as_it_is(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    against = AgainstRepository("base", tmp_path)
    assert against.repository(tmp_path / "head") == base
    assert str(against) == "base"
    against.close()
    assert base.is_dir()


def test_links_and_files_outside_the_model_repository_come_along(
    repository: Path, temporary: Path
) -> None:
    (repository / "weights").write_text("heavy")
    link = repository / "serving" / "models" / "m" / "1" / "weights"
    link.symlink_to("../../../../weights")
    commit(repository, "linked")
    against = AgainstRepository("main", repository)
    base = against.repository(repository / "serving" / "models")
    assert base is not None
    assert (base / "m" / "1" / "weights").read_text() == "heavy"
    assert (base / "m" / "1" / "weights").resolve() != link.resolve()
    against.close()


def test_an_unknown_ref_is_a_usage_error(repository: Path) -> None:
    with pytest.raises(UsageError, match=r"--triton-perf-against=mian: .* no such ref in .*branch"):
        AgainstRepository("mian", repository).repository(repository / "serving" / "models")


@pytest.mark.parametrize(
    ("ref", "command"),
    [
        (
            "origin/other",
            "git fetch --depth=1 origin +refs/heads/other:refs/remotes/origin/other",
        ),
        ("HEAD~1", "git fetch --unshallow"),
        ("v1", "git fetch --depth=1 origin v1:v1"),
        (None, "git fetch --depth=1 origin {commit}"),
    ],
)
def test_a_shallow_clone_is_told_how_to_get_the_ref_and_that_works(
    repository: Path, tmp_path: Path, temporary: Path, ref: str | None, command: str
) -> None:
    git(repository, "branch", "other", "v1")
    git(repository, "config", "uploadpack.allowAnySHA1InWant", "true")
    ref = ref or git(repository, "rev-parse", "v1")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "--depth=1", "--no-tags", f"file://{repository}", str(clone))
    against = AgainstRepository(ref, clone)
    with pytest.raises(UsageError, match="a shallow clone: fetch the ref with") as problem:
        against.repository(clone / "serving" / "models")
    _, told, _ = str(problem.value).split("`")
    assert told == command.format(commit=ref)
    subprocess.run(told.split(), cwd=clone, check=True, capture_output=True)
    assert source(against.repository(clone / "serving" / "models")) == "one"
    against.close()


def test_a_model_repository_outside_git_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"no such folder, and the model repository .* is in no git"
    ):
        AgainstRepository("main", tmp_path).repository(tmp_path)


def test_weights_that_are_pointers_are_told_before_they_are_measured(
    repository: Path, temporary: Path
) -> None:
    commit(repository, POINTER)
    against = AgainstRepository("main", repository)
    with pytest.raises(UsageError, match=r"m/1/model.py is a Git LFS pointer.*git lfs fetch"):
        against.repository(repository / "serving" / "models")
    against.close()
    assert list(temporary.iterdir()) == []


def test_git_that_is_not_installed_is_a_missing_part(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(repository))
    with pytest.raises(MissingPartError, match="apt-get install -y git"):
        AgainstRepository("main", repository).repository(repository / "serving" / "models")


def test_variables_that_git_sets_for_hooks_lead_nowhere_else(
    repository: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    against = AgainstRepository("v1", repository)
    assert source(against.repository(repository / "serving" / "models")) == "one"
    against.close()


def test_each_repository_is_looked_at_once(repository: Path, temporary: Path) -> None:
    against = AgainstRepository("v1", repository)
    head = repository / "serving" / "models"
    found = [against.with_base(ServerSpec(repository=head, image=image)) for image in ("a", "b")]
    assert [server.image for server in found] == ["a", "b"]
    assert found[0].base == found[1].base
    assert source(found[0].base) == "one"
    assert len(list(temporary.iterdir())) == 1
    against.close()


def test_another_image_serves_the_same_models() -> None:
    head = ServerSpec(repository=Path("/models"), image="triton:24.10", server_args=("--a",))
    against = AgainstImage("triton:24.09")
    assert str(against) == "triton:24.09"
    assert against.with_base(head) == ServerSpec(
        repository=Path("/models"),
        base=Path("/models"),
        image="triton:24.10",
        base_image="triton:24.09",
        server_args=("--a",),
    )
