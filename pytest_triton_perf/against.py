"""The base of the paired gate: a model repository by its path or at a git ref, or an image."""

import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from pytest_triton_perf.errors import MissingPartError, UsageError
from pytest_triton_perf.git import GitError, git
from pytest_triton_perf.servers.base import ServerSpec

_OPTION = "--triton-perf-against"
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_LFS_POINTER_BYTES = 1024


class Against(Protocol):
    """What the paired gate compares with; ``str`` is its name in reports."""

    @property
    def image(self) -> str | None:
        """The image of the base's server where it is not the head's."""

    def with_base(self, server: ServerSpec) -> ServerSpec:
        """The head's server, with what its base is.

        Raises:
            UsageError: what was named is not there, or cannot be compared with.
            MissingPartError: something has to be installed first.
        """

    def close(self) -> None:
        """Remove what was put onto the disk; safe to call twice."""


class AgainstImage:
    """What ``--triton-perf-against-image`` names: the base has the head's models."""

    def __init__(self, image: str) -> None:
        self.image = image

    def __str__(self) -> str:
        return self.image

    def with_base(self, server: ServerSpec) -> ServerSpec:
        """See :class:`Against`."""
        return replace(server, base=server.repository, base_image=self.image)

    def close(self) -> None:
        """Nothing to remove."""


class AgainstRepository:
    """What ``--triton-perf-against`` names.

    ``given`` is a folder, relative to ``home``, or else a git ref. Of a ref, all files are put into
    a temporary folder, which ``close`` removes; the user's git repository is only read.
    """

    def __init__(self, given: str, home: Path) -> None:
        self._given = given
        folder = home / Path(given).expanduser()
        self._folder = folder.resolve() if folder.is_dir() else None
        self._trees: dict[Path, Path] = {}
        self._bases: dict[Path, Path | None] = {}
        self.image = None
        self.commits: dict[str, str] = {}
        """Of each git repository that was read, the commit."""

    def __str__(self) -> str:
        shown = [commit[:12] for commit in self.commits.values()]
        return " ".join([self._given, *(f"({commit})" for commit in shown)])

    def with_base(self, server: ServerSpec) -> ServerSpec:
        """See :class:`Against`; each repository is looked at once."""
        if (head := server.repository) is None:
            return server
        if head not in self._bases:
            self._bases[head] = self.repository(head)
        return replace(server, base=self._bases[head])

    def repository(self, head: Path) -> Path | None:
        """The base of the model repository ``head``; ``None`` where there was none at the ref.

        Raises:
            UsageError: no such ref, ``head`` is not in git, or weights are not there but pointers.
            MissingPartError: git is not installed.
        """
        base = self._folder or self._at_ref(head)
        if base is not None:
            _refuse_pointers(base, self._given)
        return base

    def close(self) -> None:
        """Remove what was taken from git; safe to call twice."""
        for tree in self._trees.values():
            shutil.rmtree(tree, ignore_errors=True)
        self._trees.clear()

    def _at_ref(self, head: Path) -> Path | None:
        top = Path(self._top(head))
        if top not in self._trees:
            commit = self._commit(top)
            self._trees[top] = Path(tempfile.mkdtemp(prefix="triton-perf-base-")).resolve()
            _check_out(top, commit, self._trees[top])
            self.commits[str(top)] = commit
        base = self._trees[top] / "tree" / head.resolve().relative_to(top)
        return base if base.is_dir() else None

    def _top(self, head: Path) -> str:
        try:
            return git(head, "rev-parse", "--show-toplevel")
        except MissingPartError as error:
            raise MissingPartError(f"{_OPTION} takes the base from git: {error}") from None
        except GitError as error:
            raise UsageError(
                f"{_OPTION}={self._given}: there is no such folder, and the model repository "
                f"{head} is in no git repository that has refs ({error}); give the path of the "
                "model repository to compare with"
            ) from None

    def _commit(self, top: Path) -> str:
        try:
            return git(top, "rev-parse", "--verify", "--quiet", f"{self._given}^{{commit}}")
        except GitError:
            pass
        problem = f"{_OPTION}={self._given}: there is no such folder, and no such ref in {top}"
        if git(top, "rev-parse", "--is-shallow-repository") == "true":
            raise UsageError(
                f"{problem}, which is a shallow clone: fetch the ref with "
                f"`{_fetch(top, self._given)}`"
            )
        raise UsageError(f"{problem}; `git branch -a` and `git tag` list what there is")


def _check_out(top: Path, commit: str, folder: Path) -> None:
    """Write the files of a commit to ``folder``/tree, as a checkout would (filters included).

    An index of its own, so that nothing in the user's repository changes or has to be undone.
    """
    index = folder / "index"
    try:
        git(top, "read-tree", commit, index=index)
        git(top, "checkout-index", "--all", f"--prefix={folder}/tree/", index=index)
    except GitError as error:
        raise UsageError(
            f"{_OPTION}: git did not give the files of {commit[:12]}: {error}"
        ) from None


def _fetch(top: Path, ref: str) -> str:
    """The command that brings a ref into a shallow clone."""
    remote, slash, branch = ref.partition("/")
    if slash and remote in git(top, "remote").splitlines():
        return f"git fetch --depth=1 {remote} +refs/heads/{branch}:refs/remotes/{remote}/{branch}"
    if any(mark in ref for mark in "~^@"):
        return "git fetch --unshallow"
    if re.fullmatch("[0-9a-f]{7,40}", ref):
        return f"git fetch --depth=1 origin {ref}"
    return f"git fetch --depth=1 origin {ref}:{ref}"


def _refuse_pointers(base: Path, given: str) -> None:
    for path in sorted(base.rglob("*")):
        if path.is_file() and path.stat().st_size < _LFS_POINTER_BYTES:
            with path.open("rb") as file:
                if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
                    raise UsageError(
                        f"{_OPTION}={given}: {path.relative_to(base)} is a Git LFS pointer, not "
                        "the weights: run `git lfs install` and `git lfs fetch --all`, so that "
                        "git can put the weights in its place"
                    )
