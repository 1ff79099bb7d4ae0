"""What git says of a repository, which is only read."""

import os
import subprocess
from pathlib import Path

from pytest_triton_perf.errors import MissingPartError


class GitError(Exception):
    """What git said."""


def git(folder: Path, *args: str, index: Path | None = None) -> str:
    """What git prints, run in ``folder``; with ``index`` in place of the repository's own.

    Raises:
        GitError: with what git said.
        MissingPartError: git is not installed.
    """
    # Set by git for its hooks: they would lead it to another repository than the folder's.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    if index is not None:
        env["GIT_INDEX_FILE"] = str(index)
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *args],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        raise MissingPartError("git is not installed: apt-get install -y git") from None
    if done.returncode:
        raise GitError(done.stderr.strip() or f"git {args[0]} ended with {done.returncode}")
    return done.stdout.strip()


def commit_and_branch(folder: Path) -> tuple[str | None, str | None]:
    """The commit and the branch that ``folder`` is at; ``None`` where git does not say.

    Of a detached HEAD, as CI checks out, there is no branch.
    """
    try:
        commit = git(folder, "rev-parse", "HEAD")
        branch = git(folder, "rev-parse", "--abbrev-ref", "HEAD")
    except (GitError, MissingPartError):
        return None, None
    return commit, None if branch == "HEAD" else branch
