"""Which samples a file really measured: from its mask, its header's padding, and the zeros in its k-space."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SCATTERED = 0.01  # exact zeros up to this share of otherwise measured columns are chance, not sampling


class SamplingError(ValueError):
    """What is wrong with the mask, in words; the reader adds the path."""


def read_mask(values: NDArray[np.generic], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """bool ``[nx]`` or ``[ny, nx]`` from a mask as stored, for k-space of ``shape`` (ny, nx).

    Singleton axes are dropped (fastMRI also writes (1, 1, nx, 1)); a full matrix whose rows are all alike is
    the mask of its columns. Raises: SamplingError for another shape, or values other than 0 and 1.
    """
    ny, nx = shape
    if not np.isin(values, (0, 1)).all():
        raise SamplingError("mask has values other than 0 and 1; store True where a sample was measured")
    mask = values.astype(bool)
    if mask.size == nx and nx in mask.shape:
        mask = mask.reshape(nx)
    elif mask.size == ny * nx and tuple(n for n in mask.shape if n != 1) == tuple(n for n in shape if n != 1):
        mask = mask.reshape(ny, nx)
    else:
        raise SamplingError(f"mask is {values.shape}, expected ({nx},) columns or ({ny}, {nx}), alike for every slice")
    return as_columns(mask)


def as_columns(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """``[nx]`` where every row of a ``[ny, nx]`` mask is alike, else the mask itself."""
    return mask[0].copy() if mask.ndim == 2 and (mask == mask[0]).all() else mask


def inside_padding(nx: int, padding: tuple[int, int] | None) -> NDArray[np.bool_]:
    """bool ``[nx]``, True between the zero-padded borders."""
    inside = np.ones(nx, bool)
    if padding is not None:
        inside[: max(padding[0], 0)] = False
        inside[max(padding[1], 0) :] = False
    return inside


def settle(
    carries: NDArray[np.bool_], mask: NDArray[np.bool_] | None, inside: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], list[str]]:
    """What was acquired, and what had to be concluded rather than read.

    ``carries`` ``[ny, nx]`` is True where a coil of the inspected slice is not exactly zero, ``mask`` the
    file's own (None: it has none), ``inside`` ``[nx]`` False in padding that the header names. A mask wins,
    but zero rows and zero borders that it claims are not measured samples.

    Raises: SamplingError where nothing was acquired, or a mask claims zeros between measured samples.
    """
    claimed: NDArray[np.bool_] = inside if mask is None else np.logical_and(mask, inside)
    if not claimed.any():
        raise SamplingError("the mask is all False inside the padding: no sample measured; is it inverted?")
    if not carries.any():
        raise SamplingError("the k-space is all zero; export it again from the scanner")
    claimed2d = np.broadcast_to(claimed, carries.shape)
    if (carries | ~claimed2d).all():
        return claimed, _ignored(carries, claimed2d, mask)
    if mask is None:
        return _from_zeros(carries & claimed2d, claimed)
    return _trimmed(carries, claimed, mask)


def _from_zeros(carries: NDArray[np.bool_], claimed: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], list[str]]:
    """The sampling of a file without mask, from where its k-space is zero."""
    columns = carries.any(axis=0)
    measured = carries[:, columns]
    if measured.any(axis=1).all() and measured.mean() >= 1 - SCATTERED:
        if (columns == claimed).all():
            return columns, []
        kept = f"{columns.sum()} of {columns.size} columns"
        return columns, [f"no mask in the file: {kept} carry samples and are taken as the measured ones"]
    kept = f"{carries.sum()} of {carries.size} samples"
    return carries, [f"no mask in the file: {kept} are not zero and are taken as the measured ones"]


def _trimmed(
    carries: NDArray[np.bool_], claimed: NDArray[np.bool_], mask: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], list[str]]:
    """The file's mask without the borders and rows where the k-space is zero."""
    claimed2d = np.broadcast_to(claimed, carries.shape)
    found = carries & claimed2d
    if not found.any():
        raise SamplingError("the mask is True only where the k-space is zero; is it inverted?")
    between = np.logical_or.accumulate(found.any(axis=0)) & np.logical_or.accumulate(found.any(axis=0)[::-1])[::-1]
    rows = found.any(axis=1)
    notes = _ignored(carries, claimed2d, mask)
    kept = claimed & between
    if (kept != claimed).any():
        lost = int((claimed2d.any(axis=0) & ~between).sum())
        notes.append(f"the mask claims {lost} border columns where the k-space is zero: taken as padding")
    if not rows[claimed2d.any(axis=1)].all():
        lost = int((claimed2d.any(axis=1) & ~rows).sum())
        notes.append(f"the mask claims {lost} rows where the k-space is zero: taken as not measured (partial echo)")
        kept = np.broadcast_to(kept, carries.shape) & rows[:, None]
    missing = np.broadcast_to(kept, carries.shape) & ~carries
    empty = np.flatnonzero(np.broadcast_to(kept, carries.shape).any(axis=0) & ~found.any(axis=0))
    if empty.size or missing.sum() > SCATTERED * np.broadcast_to(kept, carries.shape).sum():
        where = f"column {empty[0]}" if empty.size else f"{missing.sum()} samples"
        raise SamplingError(f"the mask claims {where} where the k-space is zero in every coil; is it inverted?")
    return as_columns(kept), notes


def _ignored(carries: NDArray[np.bool_], claimed: NDArray[np.bool_], mask: NDArray[np.bool_] | None) -> list[str]:
    """A note where data is there that the sampling leaves out."""
    columns = int((carries & ~claimed).any(axis=0).sum())
    if not columns:
        return []
    what = "the header's padding" if mask is None else "the mask"
    return [f"{what} leaves out {columns} columns that carry data: they are not used"]
