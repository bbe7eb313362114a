"""SSIM and PSNR of the shipped model beside the classical methods, on real k-space and on held-out simulated subjects.

python benchmarks/accuracy.py SHARED [--model nano] [--write]

SHARED is the folder that holds data/kspace and data/volumes (the tests' shared data). All methods see the same samples,
go through the same coil maps and the same combination, and are scored by the same protocol. Gate: on every real 4x
setting the model is above every classical method in SSIM and PSNR; exit code 1 where it is not.
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from machine import heading

import nirvana_mri as nm
from nirvana_mri.recon.checkpoint import LoadedModel
from nirvana_mri.scan import Scan

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support import write_brain8

RESULT = Path(__file__).parent / "results" / "accuracy.md"
METHODS = ("zero-filled", "sense", "wavelet", "nirvana")
HELD_OUT = {"niivue_register_T2w": range(18, 42, 4), "niimath_T1": range(60, 132, 12)}
CLASSICAL = METHODS[:-1]


@dataclass(frozen=True)
class Setting:
    mask: str
    accelerate: float
    center_fraction: float
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.mask} {self.accelerate:g}x, centre {self.center_fraction:g}, seed {self.seed}"


REAL = (
    Setting("equispaced_fraction", 4, 0.08),
    Setting("equispaced_fraction", 4, 0.08, 1),
    Setting("equispaced_fraction", 4, 0.08, 2),
    Setting("random", 4, 0.08),
    Setting("equispaced_fraction", 3, 0.11),
    Setting("equispaced_fraction", 6, 0.06),
    Setting("equispaced_fraction", 8, 0.04),
    Setting("poisson", 6, 0.1),
)
SIMULATED = (
    Setting("equispaced_fraction", 4, 0.08),
    Setting("random", 4, 0.08),
    Setting("equispaced_fraction", 8, 0.04),
)

Scores = dict[str, tuple[float, float]]


def score(scan: Scan, setting: Setting, model: LoadedModel) -> Scores:
    scores = {}
    for method in METHODS:
        volume = nm.reconstruct(
            scan, model, method, setting.accelerate, setting.mask, setting.center_fraction, setting.seed
        )
        result = nm.evaluate(volume, scan)
        scores[method] = (result.ssim, result.psnr)
    return scores


def line(name: str, scores: Scores) -> str:
    cells = []
    for place in range(2):
        best = max(METHODS, key=lambda method: scores[method][place])
        digits = 4 if place == 0 else 2
        cells += [
            f"**{scores[m][place]:.{digits}f}**" if m == best else f"{scores[m][place]:.{digits}f}" for m in METHODS
        ]
    return f"| {name} | " + " | ".join(cells) + " |\n"


def table(rows: list[tuple[str, Scores]]) -> str:
    head = "| sampling | " + " | ".join(f"{m} SSIM" for m in METHODS) + " | " + " | ".join(f"{m} PSNR" for m in METHODS)
    return head + " |\n|---" + "|---:" * 8 + "|\n" + "".join(line(name, scores) for name, scores in rows)


def wins(scores: Scores) -> bool:
    return all(scores["nirvana"][i] > max(scores[m][i] for m in CLASSICAL) for i in range(2))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--write", action="store_true", help="keep the figures in benchmarks/results/accuracy.md")
    options = parser.parse_args()
    model = nm.load_model(options.model)
    data = options.shared / "data"
    with tempfile.TemporaryDirectory() as folder:
        scan = nm.open_scan(write_brain8(data, Path(folder) / "brain8.h5"))
        real = [(str(setting), score(scan, setting, model)) for setting in REAL]
    simulated = []
    for name, slices in HELD_OUT.items():
        path = data / "volumes" / f"{name}.nii.gz"
        made = nm.simulate(path, coils=8, noise=0.01, seed=0, slices=slices)
        simulated += [(f"{name}: {setting}", score(made, setting, model)) for setting in SIMULATED]
    text = (
        "# The shipped model beside the classical methods\n\n"
        + heading("python benchmarks/accuracy.py SHARED --write", 0)
        + f"- model: {model.name}, sha256 {model.sha256[:12]}; protocol: fastMRI's rule, target RSS of all coils\n\n"
        "## Real k-space: one fully sampled 8-channel T1 brain slice, 230x180, thinned afterwards\n\n"
        + table(real)
        + "\nOne slice of one head: no interval can be given.\n\n"
        "## Simulated k-space from subjects that training never saw: 8 coils, noise 0.01, 6 slices each\n\n"
        + table(simulated)
        + "\nScores on simulated k-space say less than those on measured k-space. Higher is better; the best is bold.\n"
    )
    print(text)
    if options.write:
        RESULT.write_text(text)
    at_four = [scores for (_, scores), setting in zip(real, REAL, strict=True) if setting.accelerate == 4]
    return 0 if all(wins(scores) for scores in at_four) else 1


if __name__ == "__main__":
    sys.exit(main())
