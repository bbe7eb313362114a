"""What a sampling mask is worth: its acceleration, its calibration block, its extent. True = measured."""

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.errors import DataError

Mask = NDArray[np.bool_]


def is_columns(mask: Mask) -> bool:
    """True where whole columns are measured or not: a mask [nx], or [ny nx] whose rows are all the same."""
    return mask.ndim == 1 or bool((mask == mask[:1]).all())


def phase_lines(mask: Mask) -> Mask | None:
    """bool ``[nx]``, the measured phase-encoding lines; None where single samples were measured (both axes encoded).

    A line may be measured in part (partial echo), but without a gap.
    """
    if mask.ndim == 1:
        return mask
    edges = np.diff(mask.astype(np.int8), axis=0, prepend=0)
    return None if ((edges == 1).sum(axis=0) > 1).any() else np.asarray(mask.any(axis=0))


def apply_within(mask: Mask, acquired: Mask) -> Mask:
    """The samples of `mask` that the scanner really measured: logical and of [nx] and [ny nx] in any mixture.

    Raises DataError where the sizes differ or nothing is left.
    """
    _check_sizes(mask, acquired)
    within = mask & acquired
    if not within.any():
        raise DataError(
            f"no sample of the mask {mask.shape} was acquired (the mask has {mask.sum()}, the scan {acquired.sum()}); "
            "is one of them inverted?"
        )
    return within


def achieved_acceleration(mask: Mask, acquired: Mask | None = None) -> float:
    """Samples of the full grid per measured sample.

    With `acquired`, both are counted inside the smallest box that holds every acquired sample, so that
    zero-padded borders, which nobody measured or skipped, do not count as acceleration.
    """
    if acquired is not None:
        mask = apply_within(mask, acquired)
        acquired = np.broadcast_to(acquired, mask.shape)
        for axis in range(mask.ndim):
            mask = mask.take(_extent(acquired, axis), axis)
    if not mask.any():
        raise DataError(f"the mask {mask.shape} measures nothing; is it inverted?")
    return mask.size / int(mask.sum())


def calibration_region(mask: Mask) -> tuple[slice, slice]:
    """(rows, columns) of the fully sampled block about the zero frequency n // 2.

    Of all such blocks the one whose shorter side is longest, and of these the largest: a lone measured row
    through the centre is longer than a real calibration block, but maps cannot be estimated from it. Rows are
    ``slice(None)`` for a mask [nx]. Where the zero frequency was not measured, the columns are empty.
    """
    if mask.ndim == 1:
        return slice(None), _central_block(mask.size, int(_central_runs(mask)))
    ny, nx = mask.shape
    # Widest block common to the h rows nearest the centre, for h = 1, 2, ...
    widths = np.minimum.accumulate(_central_runs(mask)[_outwards(ny)])
    heights = np.arange(1, ny + 1)
    best = max(range(ny), key=lambda i: (min(heights[i], widths[i]), heights[i] * widths[i]))
    return _central_block(ny, int(heights[best])), _central_block(nx, int(widths[best]))


def _check_sizes(mask: Mask, acquired: Mask) -> None:
    nx_differs = mask.shape[-1] != acquired.shape[-1]
    ny_differs = mask.ndim == acquired.ndim == 2 and mask.shape[0] != acquired.shape[0]
    if nx_differs or ny_differs:
        raise DataError(
            f"mask {mask.shape} does not fit k-space of which {acquired.shape} (ny, nx) was acquired; "
            "make one with as many columns, or name a mask kind"
        )


def _extent(acquired: Mask, axis: int) -> NDArray[np.intp]:
    """Indices along `axis` from the first to the last that holds an acquired sample."""
    lines = np.moveaxis(acquired, axis, 0).reshape(acquired.shape[axis], -1)
    inside = np.flatnonzero(np.any(lines, axis=1))
    return np.arange(inside[0], inside[-1] + 1)


def _outwards(n: int) -> NDArray[np.intp]:
    """All indices of an axis, nearest to n // 2 first: c, c-1, c+1, c-2, ..."""
    index = np.arange(n)
    return np.argsort(np.abs(2 * (index - n // 2) + 0.5), kind="stable")


def _central_runs(mask: Mask) -> NDArray[np.intp]:
    """How many samples along the last axis are measured without a gap, counted outwards from the centre."""
    return np.asarray(np.cumprod(mask[..., _outwards(mask.shape[-1])], axis=-1).sum(axis=-1))


def _central_block(n: int, size: int) -> slice:
    start = n // 2 - size // 2
    return slice(start, start + size)
