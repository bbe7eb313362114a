"""Choose the constants of the classical methods on k-space simulated from training subjects.

python benchmarks/tune_baselines.py SHARED [--write]

SHARED is the folder that holds data/volumes. Every combination of a small grid is scored on ten slices of subjects that
no other benchmark scores, with 4 to 12 coils, noise 0.005 to 0.03 and 3x to 8x, mostly of columns. Chosen is the
combination with the highest mean SSIM among those within 0.05 dB of the highest mean PSNR.
"""

import argparse
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from machine import heading, keep
from torch.nn.functional import interpolate

import nirvana_mri as nm
from nirvana_mri.eval.metrics import psnr, ssim
from nirvana_mri.io.nifti import read_image_volume
from nirvana_mri.physics.masks import make_mask
from nirvana_mri.recon.baselines import SenseSettings, WaveletSettings, cg_sense, l1_wavelet
from nirvana_mri.recon.problem import SliceProblem, prepare_slice

RESULT = Path(__file__).parent / "results" / "tune_baselines.md"
LARGEST = 192  # pixels a side; larger pictures are averaged down
NEAR_BEST = 0.05  # dB


@dataclass(frozen=True)
class Case:
    """A slice at ``height`` (share of the volume, from the feet) and how it is measured."""

    volume: str
    height: float
    coils: int
    noise: float
    mask: str
    acceleration: float
    center_fraction: float


CASES = (
    Case("colin27_ch2", 0.50, 8, 0.011, "equispaced_fraction", 4, 0.08),
    Case("colin27_ch2", 0.62, 4, 0.020, "random", 3, 0.10),
    Case("siemens_skyra_adult_t2_5mm", 0.55, 12, 0.006, "equispaced_fraction", 4, 0.08),
    Case("siemens_skyra_adult_t2_5mm", 0.40, 6, 0.012, "poisson", 6, 0.10),
    Case("torchio_t2", 0.60, 8, 0.015, "equispaced_fraction", 6, 0.06),
    Case("torchio_t2", 0.45, 12, 0.005, "random", 5, 0.08),
    Case("MR_Gd", 0.50, 8, 0.011, "equispaced_fraction", 8, 0.04),
    Case("M2208_T2w", 0.50, 8, 0.030, "equispaced_fraction", 4, 0.08),
    Case("pysynthsr_FLAIR", 0.55, 10, 0.010, "random", 4, 0.08),
    Case("inia19-t1-brain", 0.50, 4, 0.020, "equispaced_fraction", 3, 0.10),
)
MODEL = (0.0005, 0.001, 0.002)  # never 0: noiseless data need a prior too
SENSE_GRID = [
    SenseSettings(model, noise, fading)
    for model, noise, fading in itertools.product(MODEL, (0.2, 0.4, 0.8), (4, 8, 16))
]
WAVELET_GRID = [
    WaveletSettings(model, noise, coarser)
    for model, noise, coarser in itertools.product(MODEL, (0.13, 0.2, 0.3), (0.35, 0.6))
]
Problems = list[tuple[SliceProblem, np.ndarray]]
Settings = SenseSettings | WaveletSettings


def picture(folder: Path, case: Case) -> np.ndarray:
    """One axial slice, float32 [1, ny, nx], at most LARGEST pixels a side."""
    volume, _ = read_image_volume(folder / f"{case.volume}.nii.gz")
    chosen = torch.from_numpy(volume[int(case.height * len(volume))].clip(min=0))[None, None]
    shrink = min(1.0, LARGEST / max(chosen.shape))
    return interpolate(chosen, [round(n * shrink) for n in chosen.shape[2:]], mode="area")[0].numpy()


def problems(folder: Path) -> Problems:
    """What each case measured, and its target [1, ny, nx]."""
    found = []
    for seed, case in enumerate(CASES):
        scan = nm.simulate(picture(folder, case), coils=case.coils, noise=case.noise, seed=seed)
        shape = scan.kspace.shape[2:]
        mask = make_mask(case.mask, shape, case.acceleration, case.center_fraction, seed)
        assert scan.reference is not None
        found.append((prepare_slice(scan.kspace[0], mask, shape), scan.reference[0][None]))
    return found


def scores(made: Problems, solve: Callable[[SliceProblem], torch.Tensor]) -> tuple[float, float]:
    """Mean PSNR [dB] and mean SSIM."""
    pictures = [(target, problem.finish(solve(problem)).numpy()[None]) for problem, target in made]
    return float(np.mean([psnr(*pair) for pair in pictures])), float(np.mean([ssim(*pair) for pair in pictures]))


def search(
    made: Problems, method: Callable[[SliceProblem, Settings], torch.Tensor], grid: Iterable[Settings]
) -> tuple[Settings, str]:
    """The chosen settings, and all that were tried as a table."""
    tried = [
        (settings, *scores(made, lambda problem, settings=settings: method(problem, settings))) for settings in grid
    ]
    highest = max(row[1] for row in tried)
    chosen = max((row for row in tried if row[1] >= highest - NEAR_BEST), key=lambda row: row[2])[0]
    lines = [
        f"| {settings}{' **chosen**' if settings == chosen else ''} | {decibel:.2f} | {similar:.4f} |\n"
        for settings, decibel, similar in sorted(tried, key=lambda row: -row[1])
    ]
    return chosen, "| settings | PSNR [dB] | SSIM |\n|---|---:|---:|\n" + "".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--write", action="store_true", help="keep the figures in benchmarks/results/tune_baselines.md")
    options = parser.parse_args()
    made = problems(options.shared / "data" / "volumes")
    text = "# Constants of the classical methods\n\n" + heading("python benchmarks/tune_baselines.py SHARED --write", 0)
    text += (
        f"- data: {len(CASES)} simulated slices of {len({c.volume for c in CASES})} training subjects; means over all\n"
    )
    for name, method, grid in (("CG-SENSE", cg_sense, SENSE_GRID), ("L1-wavelet", l1_wavelet, WAVELET_GRID)):
        chosen, table = search(made, method, grid)
        text += f"\n## {name}: `{chosen}`\n\n{table}"
    print(text)
    if options.write:
        keep(RESULT, text)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
