"""Noise level from the measured samples themselves."""

import math

import torch
from jaxtyping import Bool, Complex
from torch import Tensor

FEWEST = 64  # samples per coil below which a median says little


def noise_energy(kspace: Complex[Tensor, "coil ny nx"], mask: Bool[Tensor, "*mask"]) -> float:
    """Expected noise energy of one k-space sample, summed over the coils: 2 σ² times the number of coils.

    Taken from the corners of k-space, where an object leaves least: the median over measured samples outside the
    inscribed ellipse (the outer rim where a mask leaves fewer than 64 there), corrected from median to mean of a
    chi-square with two degrees of freedom per coil. An upper bound in the sense that what signal is left there counts
    as noise. The orthonormal transform keeps it, so it is also the noise energy of one pixel of the coil images.
    """
    coils, ny, nx = kspace.shape
    measured = mask.expand(ny, nx)
    radius = _radius(ny, nx).to(kspace.device)
    energy = torch.view_as_real(kspace).square().sum(dim=(0, -1))
    usable = measured & (energy > 0)
    for rim in (1.0, 0.9, 0.8, 0.7):
        corner = energy[usable & (radius > rim)]
        if corner.numel() >= FEWEST:
            break
    else:
        corner = energy[usable]
    if corner.numel() == 0:
        return 0.0
    degrees = 2 * coils
    median_to_mean = 1 / (1 - 2 / (9 * degrees)) ** 3  # Wilson and Hilferty 1931
    return float(corner.median()) * median_to_mean


def _radius(ny: int, nx: int) -> Tensor:
    y = (torch.arange(ny) - ny // 2) / (ny / 2)
    x = (torch.arange(nx) - nx // 2) / (nx / 2)
    return torch.hypot(y[:, None], x[None, :])


def noise_sigma(energy: float, coils: int) -> float:
    """Standard deviation of the real (or imaginary) part of one sample of one coil."""
    return math.sqrt(energy / (2 * coils))
