"""Noise level from the measured samples themselves."""

import math

import torch
from jaxtyping import Bool, Complex, Float
from scipy.special import gammaincinv
from torch import Tensor

FEWEST = 64  # samples below which a quantile says little
QUIET = 0.1  # the quantile of corner energies that is looked at: what signal is left there sits in the loud samples


def noise_energy(kspace: Complex[Tensor, "coil ny nx"], mask: Bool[Tensor, "*mask"]) -> float:
    """Expected noise energy of one k-space sample, summed over the coils: 2 σ² times the number of coils."""
    return noise_from(sample_energy(kspace), mask, kspace.shape[0])


def sample_energy(kspace: Complex[Tensor, "coil ny nx"]) -> Float[Tensor, "ny nx"]:
    """Energy of each sample, summed over the coils."""
    return torch.view_as_real(kspace).square().sum(dim=(0, -1))


def noise_from(energy: Float[Tensor, "ny nx"], mask: Bool[Tensor, "*mask"], coils: int) -> float:
    """The noise energy of a sample that the energies of all samples show.

    Taken from the corners of k-space, where an object leaves least: a low quantile over measured samples outside the
    inscribed ellipse (further in where a mask leaves fewer than 64 there), divided by that quantile of a chi-square
    with two degrees of freedom per coil. What signal is left even there counts as noise. The orthonormal transform
    keeps it, so it is also the noise energy of one pixel of the coil images.
    """
    radius = _radius(energy.shape[0], energy.shape[1]).to(energy.device)
    usable = mask & (energy > 0)
    for rim in (1.0, 0.9, 0.8, 0.7):
        corner = energy[usable & (radius > rim)]
        if corner.numel() >= FEWEST:
            break
    else:
        corner = energy[usable]
    if corner.numel() == 0:
        return 0.0
    return float(corner.quantile(QUIET)) * coils / float(gammaincinv(coils, QUIET))


def _radius(ny: int, nx: int) -> Tensor:
    y = (torch.arange(ny) - ny // 2) / (ny / 2)
    x = (torch.arange(nx) - nx // 2) / (nx / 2)
    return torch.hypot(y[:, None], x[None, :])


def noise_sigma(energy: float, coils: int) -> float:
    """Standard deviation of the real (or imaginary) part of one sample of one coil."""
    return math.sqrt(energy / (2 * coils))
