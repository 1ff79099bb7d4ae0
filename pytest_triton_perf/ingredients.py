"""What a measurement was made from: equal ingredients, and it can stand for a new one.

They are all named here. What is in none of them is not seen: models that a python model calls by
itself (unless ``--load-model`` names them), files outside the repository that it reads, and
environment variables.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytest_triton_perf.collection import PerfTest
from pytest_triton_perf.load.base import Traffic
from pytest_triton_perf.servers.base import Launcher

_DIGEST = "sha256:"
_SHOWN = 60
"""A text that is no longer than this is kept as it is, for the reader of a difference."""

_MOST_NAMED = 3


class Ingredients:
    """Finds the ingredients of sweeps.

    ``environment`` is that of the results, ``settings`` are what the session was told about its
    servers, by name; those in ``secret`` are kept as digests only.
    """

    def __init__(
        self,
        launcher: Launcher,
        environment: Mapping[str, Any],
        settings: Mapping[str, Any],
        *,
        secret: Mapping[str, Any],
    ) -> None:
        self._launcher = launcher
        generator = environment["load_generator"]
        self._session = {
            "the plugin": environment["plugin_version"],
            "the operating system": environment["system"],
            "the CPU": f"{environment['cpu_count']} x {environment['cpu']}",
            "the CPUs of server and perf_analyzer": environment["cpu_isolation"],
            "the GPUs": environment["gpus"],
            "the GPU driver": environment["driver"],
            "perf_analyzer": [generator[key] for key in ("version", "path") if key in generator],
            **settings,
            **{name: _digest(_text(value)) for name, value in secret.items()},
        }
        self._digests: dict[Path, tuple[tuple[int, ...], str]] = {}
        self._first: dict[Path, str] = {}

    def of(self, test: PerfTest) -> dict[str, str] | None:
        """What the sweep of a test is measured from, by name: a short text, or a digest.

        ``None`` where that cannot be known, because a remote server's models are not seen.
        """
        server = self._launcher.identity(test.server.image)
        if server is None:
            return None
        traffic = test.sweep.traffic
        found = {
            **self._session,
            **server,
            "the model's config": test.variant.config,
            "the server's arguments": test.server.server_args,
            "the requests": _requests(traffic),
        }
        ingredients = {name: _short(value) for name, value in found.items()}
        if isinstance(traffic.input_data, Path):
            ingredients |= self._files("input data", traffic.input_data)
        if test.server.repository is not None:
            for folder in _folders(test.server.repository, test):
                ingredients |= self._files("model file", folder)
            # What Triton makes of it is the config above, overrides and all.
            own = f"model file {test.variant.model}/config.pbtxt"
            ingredients.pop(own, None)
        return ingredients

    def _files(self, kind: str, path: Path) -> dict[str, str]:
        # As the server does, through folders that are links.
        folders = os.walk(path, followlinks=True)
        found = [Path(folder, name) for folder, _, names in folders for name in names]
        if path.is_file():
            found = [path]
        return {
            f"{kind} {file.relative_to(path.parent)}": self._digest(file)
            for file in sorted(found)
            if "__pycache__" not in file.parts
        }

    def _digest(self, file: Path) -> str:
        """The digest of a file's content; one that changed in this session is like no other."""
        if not file.is_file():  # A link to what only the container has; a socket.
            return str(file.readlink()) if file.is_symlink() else "no file"
        stat = file.stat()
        state = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if self._digests.get(file, ((), ""))[0] != state:
            self._digests[file] = (state, _content(file) or f"not readable, {state}")
        now = self._digests[file][1]
        # A server that serves the model already goes on with the content of before.
        first = self._first.setdefault(file, now)
        return now if first == now else f"{now}, changed while the session ran"


def _content(file: Path) -> str:
    """The digest of a file; empty where we may not read it, which the server may all the same."""
    content = hashlib.sha256()
    try:
        with file.open("rb") as opened:
            while chunk := opened.read(1 << 20):
                content.update(chunk)
    except PermissionError:
        return ""
    return _DIGEST + content.hexdigest()


def _requests(traffic: Traffic) -> dict[str, Any]:
    requests = asdict(traffic)
    del requests["percentiles"]  # They are computed from the requests, and change none.
    return requests


def requests_digest(traffic: Traffic) -> str:
    """The digest of how requests look, the content of their data included, wherever that lies."""
    requests = _requests(traffic)
    if isinstance(traffic.input_data, Path):
        data = traffic.input_data
        files = sorted(path for path in (data, *data.rglob("*")) if path.is_file())
        requests["input_data"] = [[str(f.relative_to(data)), _content(f)] for f in files]
    return _digest(_text(requests))


def difference(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What changed, in words, one for each ingredient."""
    words = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        if new is None:
            words.append(f"{name} is gone")
        elif old is None:
            words.append(f"{name} is new")
        elif _DIGEST in old + new:
            words.append(f"{name} changed")
        else:
            words.append(f"{name} changed from {old} to {new}")
    more = len(words) - _MOST_NAMED
    return words if more <= 0 else [*words[:_MOST_NAMED], f"and {more} more"]


def _short(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= _SHOWN or text.startswith(_DIGEST) else _digest(text)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def _digest(text: str) -> str:
    return _DIGEST + hashlib.sha256(text.encode()).hexdigest()


def _folders(repository: Path, test: PerfTest) -> Iterator[Path]:
    """The folders of all models that a test's server loads: an ensemble's own, and those named."""
    from pytest_triton_perf.servers.model_config import read_config

    args = " ".join(test.server.server_args)
    named = re.findall(r"--load-model[= ](\S+)", args)
    waiting = [test.variant.model, *named]
    if "*" in named:
        waiting += [folder.name for folder in sorted(repository.iterdir())]
    seen: set[str] = set()
    while waiting:
        model = waiting.pop()
        folder = repository / model
        if model in seen or not folder.is_dir():
            continue
        seen.add(model)
        yield folder
        own = model == test.variant.model
        config = test.variant.config if own else read_config(folder) or {}
        steps = config.get("ensemble_scheduling", {}).get("step", [])
        waiting += [step["model_name"] for step in steps]
