"""Sampling masks: which part of k-space an accelerated scan measures. True = measured.

A new kind is a function here and a line in MASKS. The column kinds equal those of fastmri 0.3.0
(``fastmri.data.subsample``) bit for bit at the same seed; they are [nx], the same for every readout line.
"""

from collections.abc import Callable
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.errors import UsageError
from nirvana_mri.physics.poisson import poisson_disc
from nirvana_mri.physics.sampling import achieved_acceleration, apply_within, calibration_region, is_columns

__all__ = ["MASKS", "achieved_acceleration", "apply_within", "calibration_region", "is_columns", "make_mask"]

Mask = NDArray[np.bool_]
Number = int | float
Seed = int | tuple[int, ...]
MaskMaker = Callable[[tuple[int, int], Number, Number, np.random.RandomState], Mask]


def make_mask(
    kind: str, shape: tuple[int, int], acceleration: Number, center_fraction: Number = 0.08, seed: Seed = 0
) -> Mask:
    """A sampling mask for k-space of `shape` (ny, nx): bool [nx] for column kinds, bool [ny nx] for `poisson`.

    `acceleration` is nominal: `equispaced` and `magic` put the centre on top of their spacing and reach less
    (about 3.2 at a nominal 4); report `achieved_acceleration`. `center_fraction` is the share of the columns
    that is measured without gaps about the zero frequency; for `poisson`, of each side of the calibration
    block. The same arguments and seed (an int, or a tuple of them such as fastMRI's ``tuple(map(ord, name))``)
    give the same mask on every machine.

    Raises UsageError for a kind, size, number or seed that cannot work.
    """
    if kind not in MASKS:
        raise UsageError(f"unknown mask kind {kind!r}; choose one of: {', '.join(MASKS)}")
    _check_numbers(shape, acceleration, center_fraction)
    mask = MASKS[kind]((int(shape[0]), int(shape[1])), acceleration, center_fraction, _generator(seed))
    if not mask.any():
        raise UsageError(
            f"a {kind} mask with acceleration {acceleration:g} and center fraction {center_fraction:g} measures none "
            f"of {shape[1]} columns; lower the acceleration or raise the center fraction"
        )
    return mask


def random(shape: tuple[int, int], acceleration: Number, center_fraction: Number, rng: np.random.RandomState) -> Mask:
    """Columns drawn independently, so that nx / acceleration are *expected*, the centre included.

    Where the centre alone is more than that, nothing is added to it.
    """
    nx = shape[1]
    low = round(nx * center_fraction)
    if low == nx:
        raise UsageError(f"center fraction {center_fraction:g} takes all {nx} columns; choose a smaller one")
    probability = (nx / acceleration - low) / (nx - low)
    return _central_columns(nx, low) | (rng.uniform(size=nx) < probability)


def equispaced(
    shape: tuple[int, int], acceleration: Number, center_fraction: Number, rng: np.random.RandomState
) -> Mask:
    """Every acceleration-th column from a random first one, plus the centre. `acceleration` is a whole number."""
    nx = shape[1]
    step = _whole("equispaced", acceleration)
    mask = _central_columns(nx, round(nx * center_fraction))
    mask[rng.randint(0, high=step) :: step] = True
    return mask


def equispaced_fraction(
    shape: tuple[int, int], acceleration: Number, center_fraction: Number, rng: np.random.RandomState
) -> Mask:
    """The centre, plus columns so spaced that nx / acceleration are measured in all.

    The spacing is rarely a whole number, so neighbours differ by one column here and there, and the count may be
    two columns off: within 10 % from 96 columns on at up to 6x, from 176 on at up to 10x. This is the mask of
    fastMRI's brain test files. As there, the last column is never one of the spaced ones.
    """
    nx = shape[1]
    low = round(nx * center_fraction)
    if low * acceleration >= nx:
        raise UsageError(
            f"the centre ({low} of {nx} columns) uses up what acceleration {acceleration:g} may measure; "
            f"choose a center fraction below {1 / acceleration:.3g} or a lower acceleration"
        )
    step = (acceleration * (low - nx)) / (low * acceleration - nx)
    first = rng.randint(0, high=round(step))
    mask = _central_columns(nx, low)
    mask[np.around(np.arange(first, nx - 1, step)).astype(np.intp)] = True
    return mask


def magic(shape: tuple[int, int], acceleration: Number, center_fraction: Number, rng: np.random.RandomState) -> Mask:
    """Equally spaced columns, shifted on one side so that conjugate symmetry fills the other side's gaps.

    `acceleration` is a whole number. Source: Defazio, "Offset sampling improves deep learning based
    accelerated MRI reconstructions by exploiting symmetry", arXiv 1912.01101.
    """
    nx = shape[1]
    step = _whole("magic", acceleration)
    offset = rng.randint(0, high=step)
    first_positive, first_negative = (offset + 1, offset + 2) if offset % 2 == 0 else (offset + 2, offset - 1)
    positive = np.zeros((nx + 1) // 2, bool)
    negative = np.zeros(nx // 2, bool)
    positive[first_positive::step] = True
    negative[first_negative::step] = True
    spaced = np.fft.fftshift(np.concatenate((positive, negative[::-1])))
    return _central_columns(nx, round(nx * center_fraction)) | spaced


def poisson(shape: tuple[int, int], acceleration: Number, center_fraction: Number, rng: np.random.RandomState) -> Mask:
    """A variable-density Poisson disc [ny nx] with round(ny·nx / acceleration) samples, for two phase encodings.

    The calibration block about the zero frequency, round(ny·center_fraction) by round(nx·center_fraction) and
    at least 1x1, is fully sampled and counts among them.
    """
    sides = [max(1, round(n * center_fraction)) for n in shape]
    ny, nx = shape
    count = round(ny * nx / acceleration)
    if count < sides[0] * sides[1]:
        raise UsageError(
            f"the calibration block ({sides[0]}x{sides[1]}) is larger than 1/{acceleration:g} of {ny}x{nx} samples; "
            f"choose a center fraction below {acceleration**-0.5:.3g} or a lower acceleration"
        )
    starts = ny // 2 - sides[0] // 2, nx // 2 - sides[1] // 2
    block = slice(starts[0], starts[0] + sides[0]), slice(starts[1], starts[1] + sides[1])
    return poisson_disc(shape, count, block, rng)


MASKS: dict[str, MaskMaker] = {
    "random": random,
    "equispaced": equispaced,
    "equispaced_fraction": equispaced_fraction,
    "magic": magic,
    "poisson": poisson,
}


def _central_columns(nx: int, size: int) -> Mask:
    """As fastMRI places them: where nx is odd and `size` even, one more after the zero frequency than before."""
    start = (nx - size + 1) // 2
    mask = np.zeros(nx, bool)
    mask[start : start + size] = True
    return mask


def _whole(kind: str, acceleration: Number) -> int:
    if acceleration != int(acceleration):
        raise UsageError(
            f"{kind} needs a whole-number acceleration, not {acceleration:g}; "
            "random, equispaced_fraction and poisson take any"
        )
    return int(acceleration)


def _generator(seed: Seed) -> np.random.RandomState:
    """MT19937, numpy's generator of old, because fastMRI's published masks come from it."""
    numbers = seed if isinstance(seed, tuple) else (seed,)
    if not numbers or not all(0 <= n < 2**32 for n in numbers):
        raise UsageError(f"seed {seed!r} is not an integer from 0 to 2**32 - 1, nor a tuple of them")
    return np.random.RandomState(seed)


def _check_numbers(shape: tuple[int, int], acceleration: Number, center_fraction: Number) -> None:
    if min(shape) < 1:
        raise UsageError(f"mask shape {tuple(shape)!r} is not (ny, nx), two positive integers")
    if not (isfinite(acceleration) and acceleration >= 1):
        raise UsageError(f"acceleration {acceleration!r} is not a number of at least 1")
    if not 0 < center_fraction <= 1:
        raise UsageError(f"center fraction {center_fraction!r} is not in (0, 1]; fastMRI uses 0.08 at 4x, 0.04 at 8x")
