"""A whole slice in hybrid space: what the problems of all its column masks begin with, worked out once."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Complex64, Float32
from torch import Tensor

from nirvana_mri.physics.coils import rss
from nirvana_mri.physics.fourier import fft1c, ifft1c
from nirvana_mri.physics.noise import noise_from, sample_energy
from nirvana_mri.physics.sampling import calibration_region
from nirvana_mri.recon.problem import (
    SliceProblem,
    assemble,
    central,
    centre_crop,
    exponent_of,
    require_calibration,
    to_hybrid,
)


@dataclass(frozen=True, eq=False)
class HybridSlice:
    """A fully sampled slice, divided by ``2**exponent``, its readout transformed and cropped to the picture's rows.

    ``centre`` is the middle of the k-space of ``data``, all that maps are estimated from. Of the samples as measured
    ``energy`` is that of all coils, ``peaks`` the largest real or imaginary part in each column. ``target`` is the RSS
    picture, cropped. Columns that were not acquired are zero.
    """

    data: Complex64[np.ndarray, "coil rows nx"]
    centre: Complex64[np.ndarray, "coil ky kx"]
    energy: Float32[np.ndarray, "ny nx"]
    peaks: Float32[np.ndarray, "nx"]
    target: Float32[np.ndarray, "rows columns"]
    exponent: int


def hybrid_slice(
    kspace: Complex64[np.ndarray, "coil ny nx"], acquired: Bool[np.ndarray, "nx"], crop: tuple[int, int]
) -> HybridSlice:
    """Transform what was acquired of k-space. Raises: ScanError where that is zero or not finite."""
    raw = torch.from_numpy(np.where(acquired, kspace, np.complex64(0)))
    peaks = torch.view_as_real(raw).abs().flatten(0, 1).amax(0).amax(-1)
    exponent = exponent_of(float(peaks.max()))
    factor = math.ldexp(1.0, -exponent)
    raw *= factor
    data, keep = to_hybrid(raw, crop[0])
    target = centre_crop(rss(ifft1c(data)), (keep, min(crop[1], raw.shape[2])))
    return HybridSlice(
        data=data.numpy(),
        centre=central(fft1c(central(data, dims=(-1,)), dim=-2)).contiguous().numpy(),
        energy=sample_energy(raw).numpy(),
        peaks=(peaks * factor).numpy(),
        target=target.contiguous().numpy(),
        exponent=exponent,
    )


def prepare_hybrid(whole: HybridSlice, mask: Bool[np.ndarray, "nx"], rows: slice = slice(None)) -> SliceProblem:
    """The problem that ``prepare_slice`` makes of the masked k-space, to rounding; of ``rows`` alone for less work:
    each row of hybrid space is a problem of its own, so nothing is approximated.

    Raises: ScanError as ``prepare_slice``.
    """
    exponent = exponent_of(float(whole.peaks[mask].max(initial=0)))
    factor = math.ldexp(1.0, -exponent)
    sampled = torch.from_numpy(np.ascontiguousarray(mask))
    coils, ny, nx = whole.data.shape
    columns = calibration_region(mask)[1]
    outside = nx // 2 - whole.centre.shape[2] // 2  # columns left of the centre that was kept
    block = _copied(whole.centre[..., max(columns.start - outside, 0) : max(columns.stop - outside, 0)])
    require_calibration(block, mask)
    strip = _copied(whole.data[:, rows])
    strip = torch.where(sampled, strip, torch.zeros((), dtype=strip.dtype)) * factor
    noise = noise_from(_copied(whole.energy) * factor**2, sampled, coils)
    crop = (strip.shape[1], whole.target.shape[1])
    return assemble(strip, block * factor, sampled, noise, whole.exponent + exponent, (ny, nx), crop, rows=rows)


def _copied(part: np.ndarray) -> Tensor:
    """In torch's own memory, whose alignment decides how products are summed: the same bits wherever it came from."""
    copy = torch.empty(part.shape, dtype=torch.complex64 if part.dtype.kind == "c" else torch.float32)
    copy.numpy()[...] = part
    return copy
