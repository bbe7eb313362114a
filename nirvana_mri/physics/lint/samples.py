"""What is wrong with the samples of a coil: a copy of another's, clipped, or with a constant added."""

import numpy as np
import torch
from jaxtyping import Complex, Float
from numpy import ndarray as Array

from nirvana_mri.physics.fourier import ifft2c

SAME = 1e-6  # of the largest: equal but for rounding
OUTER = 0.7  # of the half axes: beyond it an object leaves least
NEAR = 6  # pixels round the centre of the picture to compare it with


def coil_likeness(kspace: Complex[Array, "coil ny nx"]) -> Float[Array, "coil coil"]:
    """|⟨a, b⟩|² / (|a|² |b|²) for every two coils: 1 where one is the other times a number. 0 for empty ones."""
    scaled = (kspace / np.abs(kspace).max()).reshape(len(kspace), -1)
    norms = np.linalg.norm(scaled, axis=1)
    scaled = scaled / np.where(norms > 0, norms, 1)[:, None]
    products = scaled.astype(np.complex128) @ scaled.conj().T
    return np.square(np.abs(products))


def most_at_limit(kspace: Complex[Array, "coil ny nx"]) -> int:
    """How many samples of one coil share its largest |real|, |imaginary| or magnitude. 1 in a readout not clipped."""
    parts = (part for coil in kspace for part in (np.abs(coil.real), np.abs(coil.imag), np.abs(coil)))
    return max((int((part >= (1 - SAME) * part.max()).sum()) for part in parts if part.max() > 0), default=0)


def centre_pixel(kspace: Complex[Array, "coil ny nx"]) -> float:
    """Energy of the picture's centre over that of the brightest pixel near it, of the outer part of k-space.

    A constant added to every sample is a bright dot at pixel n // 2, whatever the object.
    """
    _, ny, nx = kspace.shape
    if min(ny, nx) < 4 * NEAR:
        return 0.0
    y, x = ((np.arange(n) - n // 2) / (n / 2) for n in (ny, nx))
    outer = np.hypot(y[:, None], x[None, :]) > OUTER
    scaled = np.where(outer, kspace / np.abs(kspace).max(), 0).astype(np.complex64)
    picture = ifft2c(torch.from_numpy(scaled)).abs().square().sum(dim=0).double().numpy()
    near = picture[ny // 2 - NEAR : ny // 2 + NEAR + 1, nx // 2 - NEAR : nx // 2 + NEAR + 1].copy()
    centre = near[NEAR, NEAR]
    near[NEAR - 1 : NEAR + 2, NEAR - 1 : NEAR + 2] = 0
    return float(centre / near.max()) if near.max() > 0 else 0.0
