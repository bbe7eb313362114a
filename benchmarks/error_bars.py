"""Error bars of the shipped model: what their calibration measured, and what they cover on a measured slice.

python benchmarks/error_bars.py SHARED [--write]

SHARED is the folder that holds data/kspace (the tests' shared data). The calibrations are those in the package, each by
`scripts/calibrate_error_bars.py` with the command that is told; how they did is in their files. The measured slice is
fully sampled: at each acceleration it is sampled anew with eight seeds. No gate: on real scans bars are reported.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from accuracy import HELD_OUT
from machine import heading, keep

import nirvana_mri as nm
from nirvana_mri.recon.errorbars import MUST_MATCH, CalibratedBars, coverage, shipped_bars, subject_of

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support import write_brain8

RESULT = Path(__file__).parent / "results" / "error_bars.md"
SEEDS = 8
CENTRES = {4: 0.08, 8: 0.04}  # acceleration: share of the lines kept in the middle


def calibrated(acceleration: int) -> CalibratedBars:
    """Those in the package."""
    made = {"method": "nirvana", "model_sha256": nm.load_model("nano").sha256, "combine": "rss", "strength": 1.0}
    assert set(made) == set(MUST_MATCH)
    return shipped_bars({**made, "acceleration": float(acceleration)})


def exchangeable(known: dict[int, CalibratedBars]) -> str:
    text = "| acceleration | mean coverage | interval | lowest | highest |\n|---|---:|---|---:|---:|\n"
    for acceleration, bars in known.items():
        told = bars.protocol["held_out_coverage"]
        low, high = told["interval"]
        ends = f"{min(told['each']):.3f} | {max(told['each']):.3f}"
        text += f"| {acceleration}x | {told['mean']:.3f} | {low:.3f} to {high:.3f} | {ends} |\n"
    return text


def heads(known: dict[int, CalibratedBars]) -> str:
    """Each head's subjects under bars of all other heads'."""
    text = f"| head | subjects | {' | '.join(f'{each}x' for each in known)} |\n|---|---:|{'---|' * len(known)}\n"
    shares = {each: bars.protocol["unseen_file_coverage"] for each, bars in known.items()}
    for name, first in next(iter(shares.values())).items():
        cells = [f"{each[name]['mean']:.3f} ({each[name]['lowest']:.3f})" for each in shares.values()]
        stem = name.split(".")[0]
        new = " (never trained on)" if stem in HELD_OUT else ""
        text += f"| {stem}{new} | {first['subjects']:.0f} | {' | '.join(cells)} |\n"
    return text


def measured(scan: nm.Scan, acceleration: int, bars: CalibratedBars) -> str:
    """A row: what the bars cover of the measured slice, over several samplings."""
    shares, residuals = [], []
    for seed in range(SEEDS):
        volume = nm.reconstruct(
            scan, accelerate=acceleration, center_fraction=CENTRES[acceleration], seed=seed, error_bars=bars
        )
        residual = volume.provenance["trust"]["residual_over_noise"]
        assert scan.reference is not None
        subject = subject_of(volume.magnitude, np.asarray(scan.reference), volume.maps["error_scale"], residual)
        shares.append(float(coverage(bars, [subject])[0]))
        residuals.append(residual)
    spread = f"{min(shares):.3f} to {max(shares):.3f} | {min(residuals):.2f} to {max(residuals):.2f}"
    return f"| {acceleration}x | {np.mean(shares):.3f} | {spread} |\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--write", action="store_true", help="keep the figures in benchmarks/results/error_bars.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = {each: calibrated(each) for each in CENTRES}
    with tempfile.TemporaryDirectory() as folder:
        scan = nm.open_scan(write_brain8(options.shared / "data", Path(folder) / "brain8.h5"))
        real = "".join(measured(scan, each, bars) for each, bars in known.items())
    text = "# Error bars of the shipped model\n\n" + heading("python benchmarks/error_bars.py SHARED --write", 0)
    for acceleration, bars in known.items():
        command = f"python scripts/calibrate_error_bars.py VOLUMES --accelerate {acceleration}"
        draws = bars.subjects + bars.protocol["held_out_coverage"]["subjects"]
        command += f" --center-fraction {CENTRES[acceleration]} --draws {draws} --slices 3 -o FILE"
        text += f"- {acceleration}x: calibrated on {bars.subjects} subjects by `{command}`, seed 0\n"
    means = [each["mean"] for bars in known.values() for each in bars.protocol["unseen_file_coverage"].values()]
    text += (
        f"- model: nano, sha256 {nm.load_model('nano').sha256[:12]}\n"
        f"- subjects: draws from {known[4].protocol['files']['different']} heads; each has three slices of a head's "
        "middle third, coils, noise, mask\n\n"
        "Bars of 90 %: the share of the foreground pixels whose error lies within the bar.\n\n"
        "## Subjects drawn as those of the calibration\n\n"
        "Mean over those that did not calibrate, its 95 % interval over subjects, lowest and highest subject.\n\n"
        + exchangeable(known)
        + "\n## Heads that no calibration saw\n\n"
        "Each head's subjects under bars of all other heads': mean, and the lowest subject.\n\n"
        + heads(known)
        + f"\nFrom {min(means):.2f} to {max(means):.2f}: bars of 90 % promise 90 % to no single head.\n"
        "\n## A measured slice (brain, 8 channels)\n\n"
        f"{SEEDS} samplings; reported, not promised. Its noise is estimated from above, so that the residual is "
        "at least what stands here.\n\n"
        "| acceleration | mean coverage | lowest to highest | residual / noise |\n|---|---:|---|---|\n" + real
    )
    print(text)
    if options.write:
        keep(RESULT, text)


if __name__ == "__main__":
    main()
