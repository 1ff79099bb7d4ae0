"""Build the scripted NVML library of ``nvml/fake_nvml.c``."""

import shutil
import subprocess
from pathlib import Path

from support import missing_part

SOURCE = Path(__file__).parent / "nvml" / "fake_nvml.c"


def build_library(folder: Path, *flags: str) -> Path:
    """Put ``libnvidia-ml.so.1`` into the folder, which is for LD_LIBRARY_PATH."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        missing_part("a C compiler for the scripted NVML library (apt-get install gcc)")
    warnings = ("-Wall", "-Wextra", "-Werror")
    shared = ("-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1")
    output = folder / "libnvidia-ml.so.1"
    subprocess.run(
        [compiler, *warnings, *shared, *flags, "-o", output, SOURCE], check=True, timeout=60
    )
    return folder
