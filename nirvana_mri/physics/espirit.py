"""Coil sensitivity maps from the calibration region: ESPIRiT (Uecker 2014), first eigenvector."""

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from nirvana_mri.physics.coils import combine, power_iterate, rss, unit_norm
from nirvana_mri.physics.fourier import ifft2c

KERNEL = 6  # taps per axis; what BART's ecalib uses
SIGNAL_SPACE = 1e-3  # share of the largest Gram eigenvalue at which a direction counts half as signal
ROWS = 16  # of the picture whose coil matrices are held at once
COARSE = 4  # eigenvectors are first found on a grid this many times coarser, then refined


def estimate_maps(
    calibration: Complex[Tensor, "coil ky kx"], shape: tuple[int, int], rows: slice = slice(None)
) -> tuple[Complex[Tensor, "coil rows nx"], Float[Tensor, "rows nx"]]:
    """Coil maps for a picture of ``shape`` (ny, nx), of unit RSS everywhere, never cropped to zero, and their
    certainty; of a strip of its ``rows`` the same numbers (to rounding) for less work.

    The certainty is ESPIRiT's eigenvalue: near 1 where one set of maps explains the calibration data, small where there
    is only noise. BART's ``ecalib`` cuts its maps where it falls below 0.8; here the maps stay whole, and a method may
    use it as a prior.

    ``calibration`` is the fully sampled centre of k-space: its zero frequency sits at (ky // 2, kx // 2) and a step of
    one index is one step of the picture's k-space. The phase of the calibration picture is put into the maps, so that
    an image seen through them is nearly real. A block too small for a kernel gives the low-resolution coil pictures
    instead.
    """
    low = low_resolution(calibration, shape)
    if calibration.shape[0] == 1 or min(calibration.shape[1:]) < 3:
        maps = unit_norm(low[:, rows])
        return maps, torch.ones_like(maps[0].real)
    kernels = signal_kernels(calibration)
    coarse = (_coarse(shape[0]), _coarse(shape[1]))
    start = low_resolution(calibration, coarse)
    vectors = power_iterate(_to_grid(kernels, coarse), start, steps=20)
    vectors, certainty = _refine(kernels, _nearest(vectors, shape), rows)
    phase = combine(low[:, rows], vectors)
    size = phase.abs()
    floor = rss(low).max() * 1e-9  # of the whole picture, whichever rows are wanted
    turn = torch.where(size > floor, phase / size.clamp_min(floor), torch.ones_like(phase))
    return vectors * turn, certainty


def low_resolution(calibration: Complex[Tensor, "coil ky kx"], shape: tuple[int, int]) -> Complex[Tensor, "coil ny nx"]:
    """Coil pictures from the calibration region alone, Hann-weighted against ringing, on a grid of ``shape``."""
    ky, kx = (min(n, m) for n, m in zip(calibration.shape[1:], shape, strict=True))
    block = _centre(calibration, (ky, kx))
    weights = _hann(ky, block)[:, None] * _hann(kx, block)[None, :]
    full = block.new_zeros(block.shape[0], *shape)
    top, left = shape[0] // 2 - ky // 2, shape[1] // 2 - kx // 2
    full[:, top : top + ky, left : left + kx] = block * weights
    return ifft2c(full)


def signal_kernels(calibration: Complex[Tensor, "coil ky kx"]) -> Complex[Tensor, "coil coil ty tx"]:
    """Correlation kernels of the signal space: at a pixel their transform is the coil matrix whose main eigenvector is
    the map.

    Taps run from −(K−1) to K−1 on each axis. Directions are weighted softly, λ / (λ + τ), where ESPIRiT's paper cuts:
    a cut turns rounding errors of the data into steps of the maps.
    """
    coils = calibration.shape[0]
    size_y, size_x = (min(KERNEL, (n + 1) // 2) for n in calibration.shape[1:])
    # In double precision: what separates signal from noise is a thousandth of what is decomposed.
    patches = calibration.to(torch.complex128).unfold(1, size_y, 1).unfold(2, size_x, 1)
    rows = patches.permute(1, 2, 0, 3, 4).reshape(-1, coils * size_y * size_x)
    values, vectors = torch.linalg.eigh(rows.mT @ rows.conj())
    values = values.clamp_min(0)
    weights = values / (values + SIGNAL_SPACE * values[-1])
    projector = ((vectors * weights) @ vectors.mH).to(calibration.dtype)
    projector = projector.reshape(coils, size_y, size_x, coils, size_y, size_x)
    kernels = calibration.new_zeros(coils, coils, 2 * size_y - 1, 2 * size_x - 1)
    for dy in range(size_y):
        for dx in range(size_x):
            top, left = size_y - 1 - dy, size_x - 1 - dx
            kernels[:, :, top : top + size_y, left : left + size_x] += projector[:, :, :, :, dy, dx].permute(0, 3, 1, 2)
    return kernels / (size_y * size_x)


def _coarse(n: int) -> int:
    return max(math.ceil(n / COARSE), min(n, 2 * KERNEL))


def _refine(
    kernels: Complex[Tensor, "coil coil ty tx"], vectors: Complex[Tensor, "coil ny nx"], rows: slice
) -> tuple[Complex[Tensor, "coil rows nx"], Float[Tensor, "rows nx"]]:
    """Sharpen nearly right eigenvectors on the fine grid; and their eigenvalues. By a few rows at a time: the matrices
    of a whole picture would be a hundred times its size.
    """
    shape = (vectors.shape[1], vectors.shape[2])
    top, end, _ = rows.indices(shape[0])
    refined = torch.empty_like(vectors[:, rows])
    values = torch.empty_like(refined[0].real)
    for first in range(top, end, ROWS):
        few = slice(first, min(first + ROWS, end))
        here = slice(few.start - top, few.stop - top)
        matrices = _to_grid(kernels, shape, few)
        refined[:, here] = power_iterate(matrices, vectors[:, few], steps=3)
        values[here] = rss(torch.einsum("cdyx,dyx->cyx", matrices, refined[:, here])).clamp(0, 1)
    return refined, values


def _to_grid(
    kernels: Complex[Tensor, "coil coil ty tx"], shape: tuple[int, int], rows: slice = slice(None)
) -> Complex[Tensor, "coil coil rows nx"]:
    """Transform few taps to many pixels by two small matrix products, far cheaper than padded FFTs."""
    waves_y = _waves(kernels.shape[2], shape[0], kernels)[rows]
    waves_x = _waves(kernels.shape[3], shape[1], kernels)
    return torch.einsum("yt,cdts,xs->cdyx", waves_y, kernels, waves_x)


def _waves(taps: int, pixels: int, like: Tensor) -> Complex[Tensor, "pixels taps"]:
    tap = torch.arange(taps, dtype=torch.float64) - taps // 2
    place = (torch.arange(pixels, dtype=torch.float64) - pixels // 2) / pixels
    return torch.polar(torch.ones(pixels, taps, dtype=torch.float64), 2 * math.pi * place[:, None] * tap).to(like)


def _nearest(vectors: Complex[Tensor, "coil my mx"], shape: tuple[int, int]) -> Complex[Tensor, "coil ny nx"]:
    """Spread a coarse centred grid over a fine one."""
    (my, mx), (ny, nx) = vectors.shape[1:], shape
    rows = _nearest_index(my, ny)
    columns = _nearest_index(mx, nx)
    return vectors[:, rows][:, :, columns]


def _nearest_index(coarse: int, fine: int) -> Tensor:
    place = (torch.arange(fine) - fine // 2) * coarse / fine + coarse // 2
    return place.round().long().clamp(0, coarse - 1)


def _hann(n: int, like: Tensor) -> Float[Tensor, "n"]:
    return torch.hann_window(n + 2, periodic=False, dtype=torch.float64)[1:-1].to(like.real)


def _centre(x: Tensor, shape: tuple[int, int]) -> Tensor:
    top, left = (n // 2 - m // 2 for n, m in zip(x.shape[-2:], shape, strict=True))
    return x[..., top : top + shape[0], left : left + shape[1]]
