"""More noise than the scan has."""

import math

import numpy as np
import torch
from jaxtyping import Complex
from torch import Tensor

from nirvana_mri.eval.stress.bench import Level
from nirvana_mri.eval.stress.case import Case, Sampled
from nirvana_mri.eval.stress.criterion import loses_little
from nirvana_mri.eval.stress.stress import Stress


def added_noise(sampled: Sampled, level: Level, draw: np.random.Generator) -> Case:
    """Complex white noise of ``level`` times the scan's own on every measured sample; the target stays."""
    noisy = sampled.measured + white_noise(sampled, draw) * float(level)  # type: ignore[arg-type]
    return Case(noisy, sampled.mask, sampled.target, same_floor=True)


def white_noise(sampled: Sampled, draw: np.random.Generator) -> Complex[Tensor, "coil ny nx"]:
    """Noise of the scan's own level on the measured samples, zero elsewhere."""
    parts = draw.standard_normal((*sampled.kspace.shape, 2), dtype=np.float32)
    noise = torch.view_as_complex(torch.from_numpy(parts)) * (sampled.noise / math.sqrt(2))
    return torch.where(torch.from_numpy(sampled.mask), noise, torch.zeros((), dtype=noise.dtype))


NOISE = Stress(
    title="More noise",
    about="Complex white noise is added to every measured sample, in multiples of the scan's own noise (standard "
    "deviation, from the corners of k-space). The target is the picture without it.",
    source="Knoll et al. 2019, Magn Reson Med 81:116: a network trained at one signal-to-noise ratio may fail at "
    "another",
    unit="x the scan's noise",
    levels=(0.5, 1.0, 2.0, 4.0),
    quick=(1.0, 4.0),
    criterion=loses_little(),
    make=added_noise,
)
