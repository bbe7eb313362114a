"""What adapting the shipped model to a scan truly changes: SSIM and PSNR against all samples, and seconds.

python benchmarks/adapt.py SHARED [--model nano] [--steps 40] [--write]

SHARED is the folder that holds data/kspace and data/volumes (the tests' shared data). Every scan is reported, gains and
losses, with what the scan's own samples set aside said of it. Gate: over all scans and samplings the adaptation, used
where it was sure, makes neither SSIM nor PSNR worse in the mean; exit code 1 where it does.
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from accuracy import HELD_OUT, Setting
from machine import heading, keep

import nirvana_mri as nm
from nirvana_mri.recon.checkpoint import LoadedModel
from nirvana_mri.scan import Scan

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support import write_brain8

RESULT = Path(__file__).parent / "results" / "adapt.md"
REAL = (
    Setting("equispaced_fraction", 4, 0.08),
    Setting("random", 4, 0.08),
    Setting("equispaced_fraction", 8, 0.04),
    Setting("poisson", 6, 0.1),
)
SIMULATED = (Setting("equispaced_fraction", 4, 0.08), Setting("equispaced_fraction", 8, 0.04))


@dataclass(frozen=True)
class Change:
    """SSIM and PSNR [dB] before and after, what the scan itself said, and what it cost."""

    name: str
    before: tuple[float, float]
    after: tuple[float, float]
    own: float
    p_value: float
    columns: int
    kept: bool
    seconds: float


def change(name: str, scan: Scan, setting: Setting, model: LoadedModel, steps: int) -> Change:
    found = []
    for asked in (0, steps):
        sampled = (setting.accelerate, setting.mask, setting.center_fraction, setting.seed)
        volume = nm.reconstruct(scan, model, "nirvana", *sampled, adapt=asked)
        score = nm.evaluate(volume, scan)
        found.append((score.ssim, score.psnr))
    came = volume.provenance["adaptation"]
    own = came["after"] / came["before"] - 1
    return Change(f"{name}: {setting}", *found, own, came["p_value"], came["columns"], came["kept"], came["seconds"])


def table(rows: list[Change]) -> str:
    head = "| scan, sampling | own error | p | columns | used | SSIM | change | PSNR [dB] | change | seconds |\n"
    head += "|---|---:|---:|---:|---|---:|---:|---:|---:|---:|\n"
    return head + "".join(
        f"| {row.name} | {100 * row.own:+.1f} % | {row.p_value:.2g} | {row.columns} | {'yes' if row.kept else 'no'} "
        f"| {row.after[0]:.4f} | {row.after[0] - row.before[0]:+.4f} "
        f"| {row.after[1]:.2f} | {row.after[1] - row.before[1]:+.2f} | {row.seconds:.0f} |\n"
        for row in rows
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--write", action="store_true", help="keep the figures in benchmarks/results/adapt.md")
    options = parser.parse_args()
    model = nm.load_model(options.model)
    data = options.shared / "data"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        scan = nm.open_scan(write_brain8(data, Path(folder) / "brain8.h5"))
        for setting in REAL:
            rows.append(change("brain8 (measured, 1 slice)", scan, setting, model, options.steps))
            print(rows[-1], flush=True)
    for name, slices in HELD_OUT.items():
        made = nm.simulate(data / "volumes" / f"{name}.nii.gz", coils=8, noise=0.01, seed=0, slices=slices)
        for setting in SIMULATED:
            rows.append(change(f"{name} (simulated, {len(slices)} slices)", made, setting, model, options.steps))
            print(rows[-1], flush=True)
    means = [sum(row.after[i] - row.before[i] for row in rows) / len(rows) for i in range(2)]
    text = (
        "# Adapting the shipped model to a scan\n\n"
        + heading(f"python benchmarks/adapt.py SHARED --steps {options.steps} --write", 0)
        + f"- model: {model.name}, sha256 {model.sha256[:12]}; protocol: fastMRI's rule, target RSS of all coils\n\n"
        + table(rows)
        + f"\nMean change over all rows: SSIM {means[0]:+.4f}, PSNR {means[1]:+.2f} dB. Own error is that of the "
        "samples that were set aside, which is all that a scan can say of itself: it decides, the scores only judge "
        "it. Few scans of few people: no interval can be given.\n"
    )
    print(text)
    if options.write:
        keep(RESULT, text)
    return 0 if min(means) >= 0 else 1


if __name__ == "__main__":
    sys.exit(main())
