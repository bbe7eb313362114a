"""What reading costs: a slice beside the whole file, and the memory of streaming a volume.

python benchmarks/io.py [--write]

One file: 16 slices of 16 coils, 640x368, complex64 (482 MB), warm in the system's cache. A slice through our reader
(header checked, samples checked) against `file["kspace"][()][i]`, in turns in one process. Memory: the peak of a
process that reads every slice once, above one that has opened the scan and read none. The same for all of
`reconstruct` into NIfTI, zero-filled, where the pictures wait on disk. Gates: a slice at least 8 times faster; reading
within 64 MiB. Exit code 1 where one fails.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
from machine import copy_ceiling, heading, keep

import nirvana_mri as nm
from nirvana_mri.io.fastmri import write_fastmri

SLICES, COILS, NY, NX = 16, 16, 640, 368
RATIO, MEBIBYTES = 8.0, 64.0
RESULT = Path(__file__).parent / "results" / "io.md"
MEMORY = """
import sys
from pathlib import Path
import numpy as np
from nirvana_mri.recon.batch import Recipe, run
from nirvana_mri.recon.jobs import plan
from nirvana_mri.recon.open import open_scan
from nirvana_mri.recon.stream import read_ahead

def memory(name):  # of this process's own; getrusage would count its parent's peak before exec
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name)) / 1024

def peak():  # from now on
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")

scan, what, out = open_scan(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
jobs, recipe = plan([Path(sys.argv[1])], out), Recipe(method="zero-filled", accelerate=4)
if what == "reconstruct":  # what torch and the writer load, and their first buffers, are there before
    first = Recipe(method="zero-filled", accelerate=4, slices=(0, 1))
    assert all(outcome.error is None for outcome in run(jobs, first, redo=True))
idle = peak()
if what == "slices":
    for kspace in scan:
        pass
elif what == "ahead":
    for kspace in read_ahead(scan.kspace, range(len(scan.kspace))):
        pass
else:
    assert all(outcome.error is None for outcome in run(jobs, recipe, redo=True))
print(memory("VmHWM") - idle)
"""


def write_scan(path: Path) -> None:
    draw = np.random.default_rng(0)
    parts = draw.standard_normal((1, COILS, NY, 2 * NX), np.float32)
    kspace = np.repeat(parts.view(np.complex64), SLICES, axis=0)
    write_fastmri(path, kspace, reference=np.zeros((SLICES, 320, 320), np.float32))


def seconds(call) -> float:  # type: ignore[no-untyped-def]
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def slice_times(path: Path, repeats: int = 9) -> tuple[list[float], list[float]]:
    """Seconds of our slice and of the whole file's, taken in turns, sorted."""
    scan = nm.open_scan(path)

    def whole() -> None:
        with h5py.File(path) as file:
            file["kspace"][()][SLICES // 2]

    def ours() -> None:
        scan.kspace[SLICES // 2]

    ours(), whole()
    pairs = [(seconds(ours), seconds(whole)) for _ in range(repeats)]
    own, peer = zip(*pairs, strict=True)
    return sorted(own), sorted(peer)


def memory(path: Path, what: str) -> float:
    """Peak resident memory above the idle process [MiB]."""
    words = [sys.executable, "-c", MEMORY, path, what, path.with_name("out.nii.gz")]
    return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def row(name: str, found: list[float]) -> str:
    return f"| {name} | {1e3 * found[len(found) // 2]:.1f} | {1e3 * found[0]:.1f} | {1e3 * found[-1]:.1f} |\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep the figures in benchmarks/results/io.md")
    write = parser.parse_args().write
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "volume.h5"
        write_scan(path)
        size = path.stat().st_size
        own, peer = slice_times(path)
        plain, ahead, all_of_it = (memory(path, what) for what in ("slices", "ahead", "reconstruct"))
    ratio = peer[len(peer) // 2] / own[len(own) // 2]
    text = (
        f"# Reading a volume of {size / 1e6:.0f} MB: {SLICES} slices, {COILS} coils, {NY}x{NX}\n\n"
        + heading("python benchmarks/io.py --write", 0)
        + f"- ceilings: memory copy {copy_ceiling():.0f} GB/s\n\n"
        "| one slice | median [ms] | fastest [ms] | slowest [ms] |\n|---|---|---|---|\n"
        + row("nirvana-mri `scan.kspace[i]`, checked", own)
        + row('h5py `file["kspace"][()][i]`', peer)
        + f"\nRatio of medians {ratio:.1f} (gate: at least {RATIO:.0f}).\n\n"
        "| peak memory above the idle process | MiB |\n|---|---|\n"
        f"| every slice, one after the other (gate: {MEBIBYTES:.0f}) | {plain:.0f} |\n"
        f"| every slice, the next one read ahead | {ahead:.0f} |\n"
        f"| `reconstruct` into NIfTI, zero-filled, above a process that has done one slice | {all_of_it:.0f} |\n\n"
        f"One slice has {COILS * NY * NX * 8 / 2**20:.0f} MiB; two are there while one takes the place of another.\n"
    )
    print(text)
    if write:
        keep(RESULT, text)
    return 0 if ratio >= RATIO and plain < MEBIBYTES else 1


if __name__ == "__main__":
    sys.exit(main())
