"""Scoring ten thousand slices: seconds and memory, beside fastmri.evaluate on the same files.

python benchmarks/evaluate.py [--slices 10000] [--write]

Files of 20 slices, 160x160: 25 different ones, the rest are further names of these. Each way runs in a process of its
own. Gates: the mean SSIM, PSNR and NMSE are fastmri's to 1e-6; ten times as many slices take less than 50 MB more. Exit
code 1 where one fails.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from machine import heading, keep

from nirvana_mri.io.fastmri import write_fastmri

RESULT = Path(__file__).parent / "results" / "evaluate.md"
SLICES, SIDE, DIFFERENT = 20, 160, 25
MEGABYTES, AGREEMENT = 50.0, 1e-6
SCORES = ("ssim", "psnr", "nmse")
CHILD = """
import json, sys, time
from argparse import Namespace
from pathlib import Path
def memory(name):
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(name)).split()[1]) / 1e3
way, targets, predictions = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
if way == "ours":
    import torch
    from nirvana_mri.eval.run import evaluate_files
else:
    import numpy as np
    from fastmri.evaluate import evaluate
idle, began = memory("VmRSS"), time.perf_counter()
if way == "ours":
    means = dict(evaluate_files(predictions, targets).mean)
else:
    options = Namespace(target_path=targets, predictions_path=predictions, challenge="multicoil", acceleration=None,
                        acquisition=None)
    found = evaluate(options, "reconstruction_rss").means()
    means = {name.lower(): np.asarray(value).item() for name, value in found.items()}
spent = time.perf_counter() - began
print(json.dumps({"means": means, "seconds": spent, "megabytes": memory("VmHWM") - idle}))
"""


@dataclass(frozen=True)
class Found:
    """What one way took and gave."""

    means: dict[str, float]
    seconds: float
    megabytes: float


def write_files(folder: Path, slices: int) -> None:
    """Targets and predictions of so many slices."""
    draw = np.random.default_rng(0)
    for name in ("targets", "predictions"):
        (folder / name).mkdir(parents=True)
    for number in range(slices // SLICES):
        target, prediction = (folder / name / f"file{number}.h5" for name in ("targets", "predictions"))
        if number >= DIFFERENT:
            os.link(folder / "targets" / f"file{number % DIFFERENT}.h5", target)
            os.link(folder / "predictions" / f"file{number % DIFFERENT}.h5", prediction)
            continue
        picture = np.abs(draw.standard_normal((SLICES, SIDE, SIDE)).cumsum(1).cumsum(2)).astype(np.float32)
        kspace = np.ones((SLICES, 1, SIDE, SIDE), np.complex64)
        write_fastmri(target, kspace, reference=picture, attrs={"max": float(picture.max()), "patient_id": str(number)})
        noise = 0.05 * picture.std() * draw.standard_normal(picture.shape)
        with h5py.File(prediction, "w") as file:
            file["reconstruction"] = (picture + noise).astype(np.float32)


def run(way: str, folder: Path) -> Found:
    words = [sys.executable, "-c", CHILD, way, str(folder / "targets"), str(folder / "predictions")]
    found = subprocess.run(words, capture_output=True, text=True, check=True)
    return Found(**json.loads(found.stdout.splitlines()[-1]))


def row(name: str, slices: int, found: Found) -> str:
    pace = slices / found.seconds
    return f"| {name} | {slices:,} | {found.seconds:.0f} | {pace:.0f} | {found.megabytes:.0f} |\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=10_000)
    parser.add_argument("--write", action="store_true", help="keep the figures in benchmarks/results/evaluate.md")
    options = parser.parse_args()
    few = options.slices // 10
    with tempfile.TemporaryDirectory() as folder:
        for count in (few, options.slices):
            write_files(Path(folder) / str(count), count)
        tenth = run("ours", Path(folder) / str(few))
        whole = run("ours", Path(folder) / str(options.slices))
        peer = run("fastmri", Path(folder) / str(options.slices))
    apart = max(abs(whole.means[name] - peer.means[name]) / abs(peer.means[name]) for name in SCORES)
    growth = whole.megabytes - tenth.megabytes
    text = (
        "# Scoring ten thousand slices\n\n"
        + heading(f"python benchmarks/evaluate.py --slices {options.slices} --write", 0)
        + f"- files of {SLICES} slices, {SIDE}x{SIDE}\n\n"
        "| | slices | seconds | slices/s | peak memory above idle [MB] |\n|---|---:|---:|---:|---:|\n"
        + row("nirvana-mri", few, tenth)
        + row("nirvana-mri", options.slices, whole)
        + row("fastmri.evaluate", options.slices, peer)
        + f"\nTen times as many slices take {growth:.0f} MB more (gate: {MEGABYTES:.0f}). Largest relative difference "
        f"of a mean score to fastmri's: {apart:.1e} (gate: {AGREEMENT:.0e}). Ours also measures MS-SSIM, HaarPSI and "
        f"edge sharpness, fastmri SSIM, PSNR, NMSE and MSE: {whole.seconds / peer.seconds:.1f} times its time.\n"
    )
    print(text)
    if options.write:
        keep(RESULT, text)
    return 0 if growth < MEGABYTES and apart <= AGREEMENT else 1


if __name__ == "__main__":
    sys.exit(main())
