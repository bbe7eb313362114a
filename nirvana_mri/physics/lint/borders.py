"""Borders of k-space that hold nothing: an interpolated matrix, or half of one."""

import numpy as np
from jaxtyping import Bool, Complex, Float
from numpy import ndarray as Array
from numpy.typing import NDArray

NOTHING = 1e-12  # of the largest line's energy: what rounding leaves of a zero
NARROWEST = 2  # lines a side
REGULAR = 4  # gaps alike that make a pattern
CHANCE = 1e-6  # that lines drawn at random leave so wide a border
OUTERMOST = 0.35  # share of an axis, from either end, in which a step is looked for: interpolation up to 3.3x


def line_energy(kspace: Complex[Array, "coil ny nx"], axis: int) -> Float[Array, "line"]:
    """Mean energy of the samples that are not zero, for each row (axis 0) or column (axis 1)."""
    energy = np.square(np.abs(kspace / np.abs(kspace).max()), dtype=np.float64).sum(axis=0)
    energy = energy if axis == 0 else energy.T
    return np.asarray(energy.sum(axis=1) / np.maximum((energy > 0).sum(axis=1), 1))


def is_empty(energy: Float[Array, "line"]) -> Bool[Array, "line"]:
    """True for lines that hold nothing, or what rounding left of it."""
    return np.asarray(energy <= NOTHING * energy.max())


def empty_border(empty: Bool[Array, "line"]) -> int:
    """Lines that are empty at both ends; 0 where they are no wider than what undersampling leaves out anyway.

    That is its largest gap where it is regular, and what it leaves out by chance where it is not. An axis empty at one
    end only was acquired in part (partial Fourier, partial echo), not padded.
    """
    inside = np.flatnonzero(~empty)
    if inside.size == 0:
        return 0
    width = int(min(inside[0], empty.size - 1 - inside[-1]))
    gaps = np.diff(inside) - 1
    if width < NARROWEST or width <= gaps.max(initial=0):
        return 0
    wide = gaps[gaps > 0]
    if not wide.size or (wide.size >= REGULAR and np.ptp(wide) <= 1):
        return width
    share = wide.size / (wide.size + wide.sum() + 2 * width)  # of the lines outside the runs, those measured
    return width if (1 - share) ** (2 * width) < CHANCE else 0


def encoded_lines(measured: Bool[Array, "line"], declared: tuple[int, int] | None = None) -> int:
    """Lines that the scan encoded: the axis without its padding.

    Padding is what is ``declared`` outside [first, stop), or an empty border. It is the same on both sides, but for one
    line: what one side lacks beyond that, partial Fourier left out, and it counts as encoded.
    """
    n = measured.size
    found = n - 2 * empty_border(~measured)
    if declared is None:
        return found
    before, after = max(declared[0], 0), max(n - declared[1], 0)
    padding = before + after if abs(before - after) <= 1 else 2 * min(before, after)
    return min(found, n - padding)


def border_step(energy: Float[Array, "line"]) -> tuple[float, int]:
    """(decibel, lines a side) of the steepest fall of the energy towards both ends of an axis.

    A picture that was interpolated, and then made a magnitude, falls by a step where its measured k-space ended; noise
    has no step, and an object fades slowly.
    """
    n = energy.size
    filled = energy[~is_empty(energy)]
    width = max(2, n // 40)
    if filled.size < n or n < 16 * width:
        return 0.0, 0
    # the weaker of the ends says how much there is outside, the stronger of them nothing
    folded = 10 * np.log10(np.stack([energy, energy[::-1]]).mean(axis=0)[: n // 2])
    places = range(2 * width, max(int(OUTERMOST * n), 2 * width + 1))
    steps = [_level(folded, p + 1, p + 1 + width) - _level(folded, p - 1 - width, p - 1) for p in places]
    best = int(np.argmax(steps))
    return float(steps[best]), places[best]


def _level(decibel: NDArray[np.float64], start: int, stop: int) -> float:
    return float(np.median(decibel[start:stop]))
