"""Brightness that varies over the picture."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nirvana_mri.eval.stress.bench import Level
from nirvana_mri.eval.stress.case import Case, Sampled, picture_of
from nirvana_mri.eval.stress.criterion import loses_little
from nirvana_mri.eval.stress.stress import Stress
from nirvana_mri.physics.fourier import fft2c, ifft2c
from nirvana_mri.physics.simulate import smooth_phase


def bias_field(sampled: Sampled, level: Level, draw: np.random.Generator) -> Case:
    """Every coil image times one smooth field whose brightest place is ``level`` times its darkest; the target too."""
    ny, nx = sampled.kspace.shape[1:]
    kspace = fft2c(ifft2c(sampled.kspace) * smooth_field((ny, nx), float(level), draw))  # type: ignore[arg-type]
    return Case(kspace, sampled.mask, picture_of(kspace, sampled.crop))


def smooth_field(shape: tuple[int, int], ratio: float, draw: np.random.Generator) -> Float[Tensor, "ny nx"]:
    """A positive field of a few slow waves, its largest value ``ratio`` times its smallest, of geometric mean 1."""
    wave = smooth_phase(shape, math.log(ratio), draw)
    return torch.exp(wave - wave.mean())


BIAS = Stress(
    title="A bias field",
    about="All coils are brighter in one part of the picture and darker in another, by one smooth field; the noise "
    "with them. The target changes alike. The level is the field's largest value over its smallest.",
    source="Sled et al. 1998, IEEE Trans Med Imaging 17:87 (intensity non-uniformity)",
    unit="(brightest over darkest)",
    levels=(1.5, 3.0),
    quick=(3.0,),
    criterion=loses_little(),
    make=bias_field,
)
