"""SSIM and PSNR of the shipped model beside the classical methods, on real k-space and on held-out simulated subjects.

python benchmarks/accuracy.py SHARED [--model nano] [--beside FILE] [--write]

SHARED is the folder that holds data/kspace and data/volumes (the tests' shared data). All methods see the same samples,
go through the same coil maps and the same combination, and are scored by the same protocol. ``--beside`` is a model
trained in the same way without a language model, which then stands beside. Gate: on every real 4x
setting the model is above every classical method in SSIM and PSNR; exit code 1 where it is not.
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from machine import heading, keep

import nirvana_mri as nm
from nirvana_mri.eval.statistics import bootstrap
from nirvana_mri.recon.checkpoint import LoadedModel
from nirvana_mri.recon.simulate import simulate
from nirvana_mri.report.demo import VOXEL_MM, brain
from nirvana_mri.scan import Scan

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support import write_brain8

RESULT = Path(__file__).parent / "results" / "accuracy.md"
METHODS = ("zero-filled", "sense", "wavelet", "nirvana")
BESIDE = "nirvana-none"
DEMO = "demonstration brain (echo-planar)"
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


def score(scan: Scan, setting: Setting, model: LoadedModel, beside: LoadedModel | None) -> Scores:
    scores = {}
    for method in METHODS if beside is None else (*METHODS, BESIDE):
        used, name = (beside, "nirvana") if method == BESIDE else (model, method)
        volume = nm.reconstruct(
            scan, used, name, setting.accelerate, setting.mask, setting.center_fraction, setting.seed
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
            f"**{scores[m][place]:.{digits}f}**" if m == best else f"{scores[m][place]:.{digits}f}" for m in scores
        ]
    return f"| {name} | " + " | ".join(cells) + " |\n"


def table(rows: list[tuple[str, Scores]]) -> str:
    methods = list(rows[0][1])
    head = "| sampling | " + " | ".join(f"{m} SSIM" for m in methods) + " | " + " | ".join(f"{m} PSNR" for m in methods)
    head += " |\n|---" + "|---:" * 2 * len(methods) + "|\n"
    return head + "".join(line(name, scores) for name, scores in rows)


def over_subjects(by_setting: dict[str, list[Scores]]) -> str:
    """Differences to the others, mean over subjects with intervals over them."""
    others = [name for name in next(iter(by_setting.values()))[0] if name not in ("nirvana", "zero-filled")]
    lines = [f"| sampling | {' | '.join(f'to {name}' for name in others)} |", "|---" * (1 + len(others)) + "|"]
    for setting, subjects in by_setting.items():
        cells = []
        for other in others:
            parts = []
            for place, digits, unit in ((0, 4, ""), (1, 2, " dB")):
                differences = [scores["nirvana"][place] - scores[other][place] for scores in subjects]
                found = bootstrap(differences, [str(number) for number in range(len(subjects))])
                assert found is not None
                low, high = found
                mean = sum(differences) / len(differences)
                parts.append(f"{mean:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f}){unit}")
            cells.append(", ".join(parts))
        lines.append(f"| {setting} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def wins(scores: Scores) -> bool:
    return all(scores["nirvana"][i] > max(scores[m][i] for m in CLASSICAL) for i in range(2))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--beside", type=Path, help="a model trained in the same way without a language model")
    parser.add_argument("--write", action="store_true", help="keep the figures in benchmarks/results/accuracy.md")
    options = parser.parse_args()
    model = nm.load_model(options.model)
    beside = None if options.beside is None else nm.load_model(options.beside)
    data = options.shared / "data"
    with tempfile.TemporaryDirectory() as folder:
        scan = nm.open_scan(write_brain8(data, Path(folder) / "brain8.h5"))
        real = [(setting, score(scan, setting, model, beside)) for setting in REAL]
    made = {
        name: nm.simulate(data / "volumes" / f"{name}.nii.gz", coils=8, noise=0.01, seed=0, slices=slices)
        for name, slices in HELD_OUT.items()
    }
    made[DEMO] = simulate(brain()[0], coils=8, noise=0.01, seed=0, voxel_mm=VOXEL_MM, name="demonstration brain")
    simulated = [
        (name, setting, score(each, setting, model, beside)) for name, each in made.items() for setting in SIMULATED
    ]
    alike = {
        str(setting): [
            *(scores for other, scores in real if other == setting),
            *(scores for _, other, scores in simulated if other == setting),
        ]
        for setting in SIMULATED
    }
    told = (
        ""
        if beside is None
        else f"- {BESIDE}: sha256 {beside.sha256[:12]}, trained in the same way without a language model\n"
    )
    text = (
        "# The shipped model beside the classical methods\n\n"
        + heading("python benchmarks/accuracy.py SHARED --write" + (" --beside FILE" if beside else ""), 0)
        + f"- model: {model.name}, sha256 {model.sha256[:12]}; protocol: fastMRI's rule, target RSS of all coils\n"
        + told
        + "\n## Real k-space: one fully sampled 8-channel T1 brain slice, 230x180, thinned afterwards\n\n"
        + table([(str(setting), scores) for setting, scores in real])
        + "\nOne slice of one head: no interval can be given.\n\n"
        "## Simulated k-space from subjects that training never saw: 8 coils, noise 0.01, 6 slices each\n\n"
        + table([(f"{name}: {setting}", scores) for name, setting, scores in simulated])
        + "\nScores on simulated k-space say less than those on measured k-space. Higher is better; the best of the "
        "methods that come with the package is bold.\n\n"
        f"## SSIM and PSNR of nirvana less those of the others: mean over the {len(made) + 1} subjects above\n\n"
        + over_subjects(alike)
        + "\nIn brackets 95 % bootstrap intervals over subjects, of whom there are few.\n"
    )
    print(text)
    if options.write:
        keep(RESULT, text)
    at_four = [scores for setting, scores in real if setting.accelerate == 4]
    return 0 if all(wins(scores) for scores in at_four) else 1


if __name__ == "__main__":
    sys.exit(main())
