"""What a figure was measured on: hardware, date, versions, and the ceilings beside which it is read."""

import datetime
import platform
import subprocess
import time
from pathlib import Path

import torch

import nirvana_mri

BY_HAND = "<!-- by hand from here on; kept when the figures are written anew -->\n"


def processor() -> str:
    """The processor's name as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        if names:
            return f"{names[0]}, {len(names)} cores"
    return platform.processor() or platform.machine()


def commit() -> str:
    """The commit measured; marked where the tree holds more."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=False).stdout.strip()

    dirty = "+" if git("status", "--porcelain", "--untracked-files=no") else ""
    return (git("rev-parse", "--short", "HEAD") or "unknown") + dirty


def heading(command: str, seed: int) -> str:
    """Lines of Markdown that every result starts with."""
    return (
        f"- command: `{command}`, seed {seed}\n"
        f"- hardware: {processor()}, torch threads {torch.get_num_threads()}\n"
        f"- date: {datetime.date.today().isoformat()}, commit {commit()}\n"
        f"- versions: nirvana-mri {nirvana_mri.__version__}, torch {torch.__version__}, "
        f"Python {platform.python_version()}\n"
    )


def keep(path: Path, text: str) -> None:
    """Write figures to a file, and leave what is written by hand below the mark in it, if it has one."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    _, mark, remarks = before.partition(BY_HAND)
    path.write_text(text.rstrip("\n") + "\n" + (f"\n{mark}{remarks}" if mark else ""), encoding="utf-8")


def gemm_ceiling(size: int = 1024) -> float:
    """float32 matrix product, GFLOP/s: best of ten."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / best(lambda: a @ b, 10) / 1e9


def copy_ceiling(megabytes: int = 256) -> float:
    """Memory read and write, GB/s: best of ten."""
    source = torch.randn(megabytes * 2**18)
    target = torch.empty_like(source)
    return 2 * megabytes * 2**20 / best(lambda: target.copy_(source), 10) / 1e9


def best(call, repeats: int) -> float:  # type: ignore[no-untyped-def]
    """Seconds of the fastest of some calls."""
    return min(times(call, repeats))


def times(call, repeats: int) -> list[float]:  # type: ignore[no-untyped-def]
    """Seconds of each of some calls, sorted, after one that is not counted."""
    call()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return sorted(seconds)
