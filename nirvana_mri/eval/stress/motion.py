"""The object moves between lines. Simulated: rigid, in the plane, the coils' fields moving along."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Complex
from torch import Tensor

from nirvana_mri.eval.stress.bench import Level
from nirvana_mri.eval.stress.case import Case, Sampled
from nirvana_mri.eval.stress.criterion import loses_little
from nirvana_mri.eval.stress.shift import turned
from nirvana_mri.eval.stress.stress import Stress
from nirvana_mri.physics.fourier import fft2c, ifft2c

BLOCKS = 7  # runs of phase-encoding lines during which nothing moves; the middle one, the centre's, stays in place
WORDS = (
    "The phase-encoding lines are measured in seven runs from one side to the other; the object lies elsewhere in each "
    "but the middle one, at random up to the level. {how} Simulated: rigid, in the plane, and the coils' fields move "
    "with the object, which they would not in a scanner. The target is the object at rest. Neither method corrects "
    "motion."
)
SOURCE = "Zaitsev et al. 2015, J Magn Reson Imaging 42:887 (motion in MRI); Darestani et al. 2021, ICML"


def translated(sampled: Sampled, level: Level, draw: np.random.Generator) -> Case:
    """Runs of lines of the object moved by up to ``level`` pixels along each axis; the target stays."""
    most = float(level)  # type: ignore[arg-type]
    return _in_runs(sampled, lambda kspace: turned(kspace, *draw.uniform(-most, most, 2)))


def rotated(sampled: Sampled, level: Level, draw: np.random.Generator) -> Case:
    """Runs of lines of the object turned by up to ``level`` degrees about the centre; the target stays."""
    most = float(level)  # type: ignore[arg-type]
    return _in_runs(sampled, lambda kspace: fft2c(rotation(ifft2c(kspace), float(draw.uniform(-most, most)))))


def rotation(images: Complex[Tensor, "coil ny nx"], degrees: float) -> Complex[Tensor, "coil ny nx"]:
    """Images turned about their middle pixel n // 2, by bicubic interpolation; what comes from outside is zero."""
    ny, nx = images.shape[-2:]
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) - n // 2 for n in (ny, nx)), indexing="ij")
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    from_y, from_x = cosine * y + sine * x, cosine * x - sine * y
    grid = torch.stack([(2 * (f + n // 2) + 1) / n - 1 for f, n in ((from_x, nx), (from_y, ny))], dim=-1)
    planes = torch.view_as_real(images).movedim(-1, 1)
    turned_planes = torch.nn.functional.grid_sample(
        planes, grid.expand(len(images), -1, -1, -1), mode="bicubic", align_corners=False
    )
    return torch.view_as_complex(turned_planes.movedim(1, -1).contiguous())


def _in_runs(sampled: Sampled, move: Callable[[Tensor], Tensor]) -> Case:
    kspace = sampled.kspace.clone()
    for place, lines in enumerate(np.array_split(np.arange(kspace.shape[-1]), BLOCKS)):
        if place != BLOCKS // 2:
            run = slice(int(lines[0]), int(lines[-1]) + 1)
            kspace[..., run] = move(sampled.kspace)[..., run]
    return Case(kspace, sampled.mask, sampled.target)


MOTION = Stress(
    title="Motion between lines: translation",
    about=WORDS.format(how="It is moved exactly, by phase ramps."),
    source=SOURCE,
    unit="px at most",
    levels=(0.5, 1.0, 2.0),
    quick=(0.5, 2.0),
    criterion=loses_little(),
    make=translated,
)
ROTATION = Stress(
    title="Motion between lines: rotation",
    about=WORDS.format(how="It is turned by bicubic interpolation of the coil images."),
    source=SOURCE,
    unit="° at most",
    levels=(1.0, 3.0),
    quick=(2.0,),
    criterion=loses_little(),
    make=rotated,
)
