"""The C++ library: compiled once per machine with the compiler that is there, then loaded from a cache folder.

A plain C interface, so that neither torch's headers nor a build system is needed and it takes a second or two.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
from pathlib import Path

from nirvana_mri.atomic import atomic_path
from nirvana_mri.errors import UsageError

VARIABLE = "NIRVANA_CACHE"
SOURCE = Path(__file__).with_name("recurrence.cpp")
# Sums may be reordered (vectors), but NaN and infinity stay what they are.
FLAGS = ("-std=c++17", "-O3", "-fno-math-errno", "-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math")
LINK = ("-shared", "-fPIC", "-pthread")


def library() -> ctypes.CDLL:
    """The compiled library. Raises: UsageError that says why there is none."""
    found = _attempt(os.environ.get("CXX", ""), _cache_folder())
    if isinstance(found, str):
        raise UsageError(f"gated_delta_rule: {found}")
    return found


def missing() -> str | None:
    """Why there is no library, in one line, or None. The first call on a machine compiles it."""
    found = _attempt(os.environ.get("CXX", ""), _cache_folder())
    return found if isinstance(found, str) else None


def _cache_folder() -> Path:
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "nirvana-mri" / "kernels"


@functools.lru_cache(maxsize=8)
def _attempt(cxx: str, folder: Path) -> ctypes.CDLL | str:
    """The library, or one line that says why there is none."""
    command = _compiler(cxx)
    if isinstance(command, str):
        return command
    try:
        version = subprocess.run([*command, "--version"], capture_output=True, check=True, timeout=60).stdout
        flags = (*FLAGS, "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native", *LINK)
        parts = (SOURCE.read_bytes(), version, repr(flags).encode(), _processor().encode())
        digest = hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
        target = folder / f"gated_delta_{digest[:24]}.so"
        if not target.exists():
            with atomic_path(target) as temporary:
                words = [*command, *flags, str(SOURCE), "-o", str(temporary)]
                subprocess.run(words, capture_output=True, text=True, check=True, timeout=300)
        return ctypes.CDLL(str(target))
    except subprocess.CalledProcessError as error:
        return f"{shlex.join(command)} could not compile {SOURCE.name}: {_first_error(error)}"
    except subprocess.TimeoutExpired as error:
        return f"{shlex.join(command)} did not end within {error.timeout:.0f} s; set CXX to another compiler"
    except (UsageError, OSError) as error:
        return (
            f"no compiled library in {folder} ({error}); set {VARIABLE} to a folder where it may be written and loaded"
        )


def _compiler(cxx: str) -> list[str] | str:
    if cxx:
        words = shlex.split(cxx)
        return words if shutil.which(words[0]) else f"no program {words[0]}, which CXX names; unset CXX or correct it"
    for name in ("g++", "clang++", "c++"):
        if shutil.which(name):
            return [name]
    return "no C++ compiler; install g++ or clang++, or name one in CXX"


def _processor() -> str:
    """What -march=native depends on: a cache folder may be shared by different machines."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return f"{platform.machine()} {platform.processor()}"
    lines = cpuinfo.read_text().split("\n\n", 1)[0].splitlines()
    return "\n".join(line for line in lines if line.startswith(("model name", "flags", "CPU", "Features")))


def _first_error(error: subprocess.CalledProcessError) -> str:
    text = error.stderr if isinstance(error.stderr, str) else (error.stderr or b"").decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), lines[0] if lines else f"exit {error.returncode}")
