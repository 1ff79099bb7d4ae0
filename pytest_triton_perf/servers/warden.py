"""Ends a server whose pytest died without a chance to do so (SIGKILL, ``os._exit``).

Run as a script by ``local.py``, with only the standard library: standard input is a pipe whose
other end pytest holds and never writes to, so reading it returns when pytest is gone, or has
closed it. The arguments are the server's process id, which is its process group too, and its
private folder, whose name begins those of its shared memory regions.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

STOP_S = 10.0
"""How long a server may take to end by itself."""


def main(server: int, folder: Path) -> None:
    """Wait for the pipe to close; then end the server and remove what it leaves behind."""
    sys.stdin.buffer.read()
    deadline = time.monotonic() + STOP_S
    with contextlib.suppress(ProcessLookupError):
        os.kill(server, signal.SIGTERM)
        while time.monotonic() < deadline:
            os.kill(server, 0)
            time.sleep(0.1)
    # The stubs of python models outlive a killed server, and a model that hangs.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server, signal.SIGKILL)
    for region in Path("/dev/shm").glob(f"{folder.name}*"):
        region.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
