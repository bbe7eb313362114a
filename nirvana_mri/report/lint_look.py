"""One slice's numbers for the lint."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from nirvana_mri.physics.coils import rss
from nirvana_mri.physics.fourier import fft2c, ifft2c
from nirvana_mri.physics.lint.borders import border_step, empty_border, is_empty, line_energy
from nirvana_mri.physics.lint.hermitian import hermitian_coherence
from nirvana_mri.physics.lint.levels import MOST_VALUES, block_score, grey_levels
from nirvana_mri.physics.lint.samples import centre_pixel, coil_likeness, most_at_limit
from nirvana_mri.physics.lint.spikes import coil_energy, strongest_line, strongest_spike
from nirvana_mri.physics.lint.wrap import wrapped_share
from nirvana_mri.physics.noise import noise_energy
from nirvana_mri.report.encoding import declared_box
from nirvana_mri.scan import Scan

SMALLEST = 32  # lines along an axis: fewer are too coarse to tell an edge


@dataclass(frozen=True)
class Border:
    """Both ends of an axis: empty lines, and where and by how much (dB) the energy falls."""

    empty: int
    step: float
    step_width: int


@dataclass(frozen=True, eq=False)
class Close:
    """What needs transforms. ``levels`` are counts of grey levels where they can be told apart."""

    coherence: float | None
    likeness: NDArray[np.float64]
    borders: tuple[Border, Border]
    values: NDArray[np.float64]
    levels: tuple[int, ...]
    blocks: float
    centre: float
    wrapped: float | None


@dataclass(frozen=True, eq=False)
class Look:
    """A slice's numbers: of every slice that is screened, and with ``close`` of one that is looked at in every way."""

    number: int
    spike: float = 0.0
    spike_place: tuple[int, int] = (0, 0)
    line: float = 0.0
    line_name: str = ""
    at_limit: int = 0
    close: Close | None = None


def look_at(scan: Scan, number: int, closely: bool) -> Look:
    """The numbers of one slice: of its k-space, or of the picture where the file holds pictures."""
    if not scan.raw and scan.reference is not None:
        picture = np.abs(np.asarray(scan.reference[number])).astype(np.float64)
        return Look(number, close=_of_picture(picture) if picture.any() else None)
    kspace = np.where(scan.acquired, scan.kspace[number], 0)
    if not kspace.any():
        return Look(number)
    energy = coil_energy(kspace)
    spike, place = strongest_spike(energy)
    (row, y), (column, x) = strongest_line(energy, 0), strongest_line(energy, 1)
    return Look(
        number,
        spike,
        place,
        max(row, column),
        f"row {y}" if row > column else f"column {x}",
        most_at_limit(kspace),
        _of_kspace(scan, kspace) if closely else None,
    )


def _of_kspace(scan: Scan, kspace: NDArray[np.complex64]) -> Close:
    samples = torch.from_numpy(kspace / np.abs(kspace).max())
    coils = ifft2c(samples)
    picture = rss(coils).double().numpy()
    strongest = int(samples.abs().square().sum(dim=(-2, -1)).argmax())
    alone = coils[strongest].abs().double().numpy()
    counts = (grey_levels(values.ravel()) for values in (picture, alone))
    rows, columns = declared_box(scan)
    wrapped = None
    if scan.fully_sampled and min(picture.shape) >= SMALLEST:
        start = (picture.shape[0] - scan.crop[0]) // 2
        floor = noise_energy(samples, torch.from_numpy(scan.acquired)) ** 0.5
        wrapped = wrapped_share(picture[start : start + scan.crop[0]], floor)
    return Close(
        hermitian_coherence(kspace),
        coil_likeness(kspace),
        (_border(kspace, 0, rows), _border(kspace, 1, columns)),
        np.zeros(0),
        tuple(count for count in counts if count is not None),
        block_score(picture),
        centre_pixel(kspace),
        wrapped,
    )


def _of_picture(picture: NDArray[np.float64]) -> Close:
    kspace = fft2c(torch.from_numpy(picture / picture.max()).to(torch.complex64)).numpy()[None]
    whole = slice(None)
    return Close(
        None,
        np.ones((1, 1)),
        (_border(kspace, 0, whole), _border(kspace, 1, whole)),
        picture.ravel()[:: -(-picture.size // (MOST_VALUES // 8))],
        (),
        block_score(picture),
        0.0,
        max(wrapped_share(picture), wrapped_share(picture.T)) if min(picture.shape) >= SMALLEST else None,
    )


def _border(kspace: NDArray[np.complex64], axis: int, declared: slice) -> Border:
    energy = line_energy(kspace, axis)[declared]
    return Border(empty_border(is_empty(energy)), *border_step(energy))
