"""The object a little to the side: the reconstruction should move along and not change."""

import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Complex
from torch import Tensor

from nirvana_mri.eval.stress.bench import REFUSED, Bench, Level, Measured, Values, difference
from nirvana_mri.eval.stress.case import Case, Sampled
from nirvana_mri.eval.stress.criterion import Criterion, Limits
from nirvana_mri.eval.stress.methods import NIRVANA
from nirvana_mri.eval.stress.stress import Stress
from nirvana_mri.physics.fourier import fft2c, ifft2c

KEY = "equivariance_error"


def shifted(sampled: Sampled, level: Level, draw: np.random.Generator) -> Case:
    """The object ``level`` pixels further along both axes; the images are moved back before they are compared."""
    step = float(level)  # type: ignore[arg-type]
    moved = turned(sampled.kspace, step, step)
    return Case(moved, sampled.mask, sampled.target, back=lambda images: ifft2c(turned(fft2c(images), -step, -step)))


def turned(kspace: Complex[Tensor, "*batch ny nx"], dy: float, dx: float) -> Complex[Tensor, "*batch ny nx"]:
    """K-space of the picture moved by (dy, dx) pixels, cyclically: exact, by the shift theorem."""
    return kspace * _ramp(kspace.shape[-2], dy)[:, None] * _ramp(kspace.shape[-1], dx)


def _ramp(n: int, step: float) -> Complex[Tensor, "n"]:
    angle = -2 * math.pi * step / n * (torch.arange(n, dtype=torch.float64) - n // 2)
    return torch.polar(torch.ones_like(angle), angle).to(torch.complex64)


def _measured(bench: Bench, level: Level, draw: np.random.Generator) -> Measured:
    """The scores after the way back, and how far each picture is from the one of the object in its old place."""
    found = bench.measure(shifted(bench.sampled, level, draw))
    values = {name: dict(figures) for name, figures in found.values.items()}
    for name, picture in found.pictures.items():
        values[name][KEY] = difference(torch.from_numpy(picture), bench.baseline_pictures[name])
    return replace(found, values=values)


def _margin(values: Values, change: Values, limits: Limits) -> float:
    if REFUSED in values[NIRVANA]:
        return -math.inf
    score = limits["ssim"] - abs(change[NIRVANA]["ssim"])
    return min(score, limits["error"] - values[NIRVANA][KEY])


SHIFT = Stress(
    title="One pixel, and less",
    about="The object is moved by a pixel or a part of one along both axes, exactly, by phase ramps in k-space; the "
    "samples that are measured stay the same. The reconstruction is moved back and compared: what differs is the "
    "equivariance error (norm of the difference over the norm of the picture).",
    source="Antun et al. 2020, PNAS 117:30088; Celledoni et al. 2021, Inverse Problems 37:085006 (equivariance)",
    unit="px",
    levels=(0.25, 0.5, 1.0),
    quick=(0.5, 1.0),
    criterion=Criterion(
        "after the way back SSIM differs by at most 0.005 either way, and the equivariance error is at most 0.03",
        {"ssim": 0.005, "error": 0.03},
        _margin,
    ),
    make=shifted,
    own=_measured,
    shows=("values", KEY, "equivariance error"),
)
