"""A coil that fails."""

import numpy as np
import torch

from nirvana_mri.eval.stress.bench import Level
from nirvana_mri.eval.stress.case import Case, Sampled, picture_of
from nirvana_mri.eval.stress.criterion import loses_little
from nirvana_mri.eval.stress.stress import Stress


def dropped(sampled: Sampled, level: Level, draw: np.random.Generator) -> Case:
    """The data with the ``level``-th loudest coil all zero; the target is what the others see."""
    lost = loudest_first(sampled)[int(level) - 1]  # type: ignore[arg-type]
    kspace = sampled.kspace.clone()
    kspace[lost] = 0
    return Case(kspace, sampled.mask, picture_of(kspace, sampled.crop), details=(("coil", lost),))


def loudest_first(sampled: Sampled) -> list[int]:
    """The coils in the order of their energy, which is their share of the picture."""
    energy = torch.view_as_real(sampled.kspace).square().sum(dim=(1, 2, 3))
    return [int(coil) for coil in energy.argsort(descending=True, stable=True)]


def _hindrance(level: Level, sampled: Sampled) -> str:
    coils = sampled.kspace.shape[0]
    return "" if coils > 1 and int(level) <= coils else f"the scan has {coils} coils"  # type: ignore[arg-type]


COIL_DROP = Stress(
    title="A coil lost",
    about="One coil gives nothing: its samples are zero, and nobody is told. The coils are taken in the order of their "
    "energy, the loudest first, up to eight. The target is the root sum of squares of those that are left.",
    source="A fault of the hardware, which training data do not show",
    unit="(rank of the coil's energy)",
    levels=(1, 2, 3, 4, 5, 6, 7, 8),
    quick=(1, 2),
    criterion=loses_little(),
    make=dropped,
    hindrance=_hindrance,
)
