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
    claimed = inside if mask is None else mask & inside
    if not claimed.any():
        raise SamplingError("the mask is all False inside the padding: no sample measured; is it inverted?")
    if not carries.any():
        raise SamplingError("the k-space is all zero; export it again from the scanner")
    claimed2d = np.broadcast_to(claimed, carries.shape)
    notes = _ignored(carries, claimed2d, mask)
    found = carries & claimed2d
    if not found.any():
        what = "header's padding leaves" if mask is None else "mask claims"
        raise SamplingError(f"the {what} only samples that are zero; is it inverted?")
    if (found == claimed2d).all():
        return claimed, notes
    acquired, more = _from_zeros(found, claimed) if mask is None else _trimmed(found, claimed)
    return acquired, notes + more


def _from_zeros(found: NDArray[np.bool_], claimed: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], list[str]]:
    """The sampling of a file without mask, from where its k-space is zero."""
    columns = _along(found, axis=0)
    measured = found[:, columns]
    if _along(measured, axis=1).all() and measured.mean() >= 1 - SCATTERED:
        if (columns == claimed).all():
            return columns, []
        kept = f"{columns.sum()} of {columns.size} columns"
        return columns, [f"no mask in the file: {kept} carry samples and are taken as the measured ones"]
    kept = f"{found.sum()} of {found.size} samples"
    return found, [f"no mask in the file: {kept} are not zero and are taken as the measured ones"]


def _trimmed(found: NDArray[np.bool_], claimed: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], list[str]]:
    """The file's mask without the borders and rows where the k-space is zero."""
    notes = []
    claimed2d = np.broadcast_to(claimed, found.shape)
    columns, rows = _along(found, axis=0), _along(found, axis=1)
    first, last = np.flatnonzero(columns)[[0, -1]]
    between = np.zeros_like(columns)
    between[first : last + 1] = True
    kept = claimed & between
    if lost := int((_along(claimed2d, axis=0) & ~between).sum()):
        notes.append(f"the mask claims {lost} border columns where the k-space is zero: taken as padding")
    if lost := int((_along(claimed2d, axis=1) & ~rows).sum()):
        notes.append(f"the mask claims {lost} rows where the k-space is zero: taken as not measured (partial echo)")
        kept = np.broadcast_to(kept, found.shape) & rows[:, None]
    kept2d = np.broadcast_to(kept, found.shape)
    empty = np.flatnonzero(_along(kept2d, axis=0) & ~columns)
    if empty.size:
        raise SamplingError(
            f"the mask claims column {empty[0]}, where the k-space is zero in every coil; is it inverted?"
        )
    missing = int((kept2d & ~found).sum())
    if missing > SCATTERED * kept2d.sum():
        raise SamplingError(f"the mask claims {missing} samples that are zero in every coil; is it inverted?")
    return as_columns(kept), notes


def _along(flags: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    return np.asarray(flags.any(axis=axis))


def _ignored(carries: NDArray[np.bool_], claimed: NDArray[np.bool_], mask: NDArray[np.bool_] | None) -> list[str]:
    """A note where data is there that the sampling leaves out."""
    columns = int((carries & ~claimed).any(axis=0).sum())
    if not columns:
        return []
    what = "the header's padding" if mask is None else "the mask"
    return [f"{what} leaves out {columns} columns that carry data: they are not used"]
