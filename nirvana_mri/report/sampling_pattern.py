"""What a sampling mask looks like, in words: a guess from its spacing, for people to read."""

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.physics.sampling import calibration_region

Mask = NDArray[np.bool_]


def describe_pattern(mask: Mask) -> str:
    """The kind of mask [nx] or [ny nx], named as ``make_mask`` names it where one fits. True = measured."""
    if mask.ndim == 1:
        return _columns(mask)
    rows, columns = _touched(mask)
    if not np.array_equal(mask, _grid(rows, columns)):
        return _with_block(mask)
    if _without_gap(rows):
        kind = _columns(columns)
        return kind if rows.all() else f"{kind}, partial echo ({rows.sum()} of {rows.size} rows)"
    return f"two-dimensional, regular ({_columns(columns)} by rows {_columns(rows)})"


def _with_block(mask: Mask) -> str:
    """A mask that is no grid of rows and columns as a whole: is it one outside its calibration block?"""
    block = calibration_region(mask)
    outside = np.ones(mask.shape, bool)
    outside[block] = False
    rows, columns = _touched(mask & outside.all(axis=0))[0], _touched(mask & outside.all(axis=1, keepdims=True))[1]
    if np.array_equal(mask[outside], _grid(rows, columns)[outside]) and rows.any() and columns.any():
        spacing = " by ".join(f"{line.size / line.sum():.2g}" for line in (rows, columns))
        return f"two-dimensional, regular ({spacing}) round a calibration block"
    return "like poisson (two-dimensional, irregular)"


def _columns(measured: Mask) -> str:
    if _without_gap(measured):
        n = measured.size
        first, last = np.flatnonzero(measured)[[0, -1]]
        # a full scan reaches as far on both sides as its border allows; half Fourier and low resolution do not
        return "full" if measured.mean() > 0.5 and abs(first - (n - 1 - last)) <= 0.1 * n else "one block of columns"
    first, stop = _run_about(measured, measured.size // 2)
    left, right = np.flatnonzero(measured[:first]), np.flatnonzero(measured[stop:]) + stop
    gaps = np.concatenate([np.diff(left), np.diff(right)])
    if gaps.size == 0 or gaps.max() - gaps.min() > 1:
        return "like random (irregular columns)"
    if gaps.max() > gaps.min():
        return f"like equispaced_fraction (every {gaps.mean():.2f} columns)"
    step = int(gaps[0])
    if left.size and right.size and (right[0] - left[0]) % step:
        return f"like magic or equispaced_fraction (every {step} columns, shifted across the centre)"
    return f"like equispaced (every {step} columns)"


def _run_about(measured: Mask, centre: int) -> tuple[int, int]:
    """[first, stop) of the measured columns about ``centre`` without a gap: the calibration lines, be they uneven."""
    gaps = np.flatnonzero(~measured)
    below, above = gaps[gaps <= centre], gaps[gaps >= centre]
    first = int(below[-1]) + 1 if below.size else 0
    stop = int(above[0]) if above.size else measured.size
    return first, max(first, stop)


def _without_gap(line: Mask) -> bool:
    inside = np.flatnonzero(line)
    return inside.size > 0 and bool(inside[-1] - inside[0] + 1 == inside.size)


def _touched(mask: Mask) -> tuple[Mask, Mask]:
    """Rows and columns of which anything was measured."""
    return np.asarray(mask.any(axis=1)), np.asarray(mask.any(axis=0))


def _grid(rows: Mask, columns: Mask) -> Mask:
    return rows[:, None] & columns
