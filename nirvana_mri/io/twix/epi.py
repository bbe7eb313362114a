"""What echo-planar lines need before they lie on a grid: ramps made even, odd lines brought in line with even ones.

Samples on the gradient's ramps are not evenly spaced in k; navigator lines without phase encoding show the phase,
linear along the readout, by which lines of either direction differ (Bruder et al., MRM 1992; 23:311).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Complex, Float
from numpy import ndarray as Array
from numpy.typing import NDArray

from nirvana_mri.io.twix import header as name
from nirvana_mri.io.twix.header import Protocol

TRAPEZOID, SINUSOID = 2, 4
SUPPORT = 0.8  # share of the oversampled field that can hold anything
SMALLEST = 1e-3  # singular values below this share are noise


def ramp_positions(protocol: Protocol, samples: int) -> Float[Array, " ny"] | None:
    """Where the samples of a line lie, in steps of the even grid about its centre; None where they lie on it.

    The gradient is a trapezoid (or has sinusoidal ramps) whose times the header names in µs.
    """
    mode = protocol.values.get(name.REGRID_MODE)
    if mode not in (TRAPEZOID, SINUSOID):
        return None
    up, flat, down, delay, duration = (protocol.get(key, -1e-9, 1e6) or 0.0 for key in name.REGRID_TIMES)
    if up <= 0 or down <= 0 or duration <= 0 or delay + duration > 1.05 * (up + flat + down):
        return None
    fine = 64  # steps for each sample
    times = delay + duration * (np.arange(samples * fine) + 0.5) / (samples * fine)
    rising, falling = np.clip(times / up, 0, 1), np.clip((up + flat + down - times) / down, 0, 1)
    gradient = np.minimum(rising, falling)
    if mode == SINUSOID:
        gradient = np.sin(0.5 * np.pi * gradient)
    area = np.concatenate([[0.0], np.cumsum(gradient)])
    at = area[fine // 2 :: fine][:samples]
    return np.asarray((at / area[-1] - 0.5) * samples)


def regridding(positions: Float[Array, " ny"], shift: float) -> Complex[Array, "even ny"]:
    """The matrix that takes samples at ``positions`` to the even grid ``n - N // 2``.

    The least-squares image of the central 80 % of the oversampled field is transformed. ``shift`` is how far the
    receiver's frequency moved the field, in pixels: that phase grew with time, not with k, and is made even.
    """
    size = positions.size
    even = np.arange(size) - size // 2
    pixels = even[np.abs(even) <= SUPPORT * size / 2]
    measured = np.exp(-2j * np.pi * np.outer(positions, pixels) / size)
    wanted = np.exp(-2j * np.pi * np.outer(even, pixels) / size)
    step = np.diff(positions)[size // 2 - 1]  # the plateau's
    drift = np.exp(2j * np.pi * shift * (step * (np.arange(size) - (size - 1) / 2) - positions) / size)
    return np.asarray(wanted @ np.linalg.pinv(measured, rcond=SMALLEST) * drift, np.complex64)


def line_phase(forward: Complex[Array, "coil ny"], reflected: Complex[Array, "coil ny"]) -> Complex[Array, " ny"]:
    """The factors, along the readout's image, that bring reflected lines to the phase of forward ones.

    Both are navigators in k-space, the reflected already turned round; the phase is fitted by a line.
    """
    product = (_to_image(forward) * _to_image(reflected).conj()).sum(axis=0)
    slope = np.angle((product[1:] * product[:-1].conj()).sum())
    along = np.arange(product.size) - product.size // 2
    offset = np.angle((product * np.exp(-1j * slope * along)).sum())
    return np.asarray(np.exp(1j * (slope * along + offset)), np.complex64)


def apply_phase(samples: Complex[Array, "coil ny"], factors: Complex[Array, " ny"]) -> Complex[Array, "coil ny"]:
    """A line in k-space whose image along the readout is multiplied by ``factors``."""
    turned = np.fft.fft(np.fft.ifftshift(_to_image(samples) * factors, axes=-1), norm="ortho")
    return np.asarray(np.fft.fftshift(turned, axes=-1), np.complex64)


def _to_image(samples: NDArray[Any]) -> NDArray[Any]:
    return np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(samples, axes=-1), norm="ortho"), axes=-1)
