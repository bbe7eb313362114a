"""The classical methods that every result is compared with, beside zero-filled RSS: CG-SENSE and L1-wavelet."""

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from nirvana_mri.physics.consistency import conjugate_gradient
from nirvana_mri.physics.sense import SenseOperator
from nirvana_mri.recon.problem import SliceProblem
from nirvana_mri.recon.wavelet import Wavelets

CG_WEIGHT = 0.01
CG_STEPS = 20
WAVELET_WEIGHT = 0.003
WAVELET_STEPS = 60
WAVELET_LEVELS = 3
OUTSIDE = 0.1


def cg_sense(problem: SliceProblem) -> Complex[Tensor, "ny nx"]:
    """Least squares through the coil maps with a quadratic prior, by conjugate gradients (Pruessmann 2001)."""
    operator, inside = _support(problem)
    start = torch.zeros_like(problem.data[0])

    def system(x: Tensor) -> Tensor:
        return operator.normal(x) + CG_WEIGHT * x

    return conjugate_gradient(system, operator.adjoint(problem.data), start, CG_STEPS) * inside


def l1_wavelet(problem: SliceProblem) -> Complex[Tensor, "ny nx"]:
    """Compressed sensing: sparse in wavelets, by FISTA with cycle spinning (Lustig 2007, Beck 2009)."""
    operator, inside = _support(problem)
    ny, nx = inside.shape
    cell = 1 << WAVELET_LEVELS
    wavelets = Wavelets((-(-ny // cell) * cell, -(-nx // cell) * cell), WAVELET_LEVELS)
    target = operator.adjoint(problem.data)
    threshold = WAVELET_WEIGHT * float(target.abs().max())
    shifts = np.random.default_rng(0).integers(0, cell, (WAVELET_STEPS, 2)).tolist()
    x = previous = torch.zeros_like(target)
    momentum = 1.0
    for shift in shifts:
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = x + ((momentum - 1) / following) * (x - previous)
        momentum, previous = following, x
        x = _shrink(ahead - operator.normal(ahead) + target, wavelets, shift, threshold)
    return x * inside


def _shrink(image: Tensor, wavelets: Wavelets, shift: list[int], threshold: float) -> Tensor:
    ny, nx = image.shape
    padded = image.new_zeros(wavelets.shape)
    padded[:ny, :nx] = image
    coefficients = wavelets.forward(padded.roll(shift, (0, 1)))
    size = coefficients.abs()
    factor = (size - threshold).clamp_min(0) / torch.where(size > 0, size, torch.ones_like(size))
    back = wavelets.inverse(coefficients * factor)
    return back.roll([-s for s in shift], (0, 1))[:ny, :nx]


def _support(problem: SliceProblem) -> tuple[SenseOperator, Float[Tensor, "ny nx"]]:
    """The operator with maps faded where one set does not explain the calibration data, and the fading."""
    inside = torch.where(problem.certainty < 0.9, OUTSIDE, 1.0).to(problem.certainty)
    return SenseOperator(problem.operator.maps * inside, problem.operator.mask), inside
