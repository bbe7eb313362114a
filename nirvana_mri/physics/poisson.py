"""Variable-density Poisson disc: samples that are random, yet never crowd each other."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# The exclusion radius grows by this factor from the calibration block to the middle of an edge.
EDGE_TO_CENTRE_RADIUS = 2.5
# Dart throwing fills this share of the plane: density ~ 0.7 / radius² (random sequential adsorption of discs).
_DARTS_PER_RADIUS_SQUARED = 0.7
_SHRINK = 0.93


def poisson_disc(
    shape: tuple[int, int], count: int, calibration: tuple[slice, slice], rng: np.random.RandomState
) -> NDArray[np.bool_]:
    """Exactly `count` samples, bool [ny nx]: the calibration block, and outside it a Poisson disc.

    Two samples p, q keep the distance s·radius(p), where the radius grows linearly with the distance from the
    block (so the density falls as its square) and s is as large as `count` allows. Instead of searching for s,
    darts are thrown over the grid in one random order while s shrinks step by step until `count` of them
    stick, so the acceleration is met exactly. `count` must be at least the size of the block.

    Source: McCool and Fiume, "Hierarchical Poisson disk sampling distributions", Graphics Interface 1992;
    variable density for MRI: Lustig et al., Magn Reson Med 58 (2007).
    """
    mask = np.zeros(shape, bool)
    mask[calibration] = True
    missing = count - int(mask.sum())
    if missing < 0:
        raise ValueError(f"{count} samples cannot hold a calibration block of {mask.sum()}")
    radius = _relative_radius(shape, calibration)
    scale = _largest_scale(radius[~mask], missing)
    darts = _Darts(radius, scale)
    # The block keeps darts away from its rim only: what lies inside is taken already.
    for sample in np.flatnonzero(mask & ~_interior(mask)).tolist():
        darts.stick(sample)
    order = rng.permutation(mask.size)
    order = order[~mask.ravel()[order]]
    while missing:
        stuck = darts.throw(order, scale, missing)
        mask.ravel()[stuck] = True
        missing -= len(stuck)
        order = order[~mask.ravel()[order]]
        scale *= _SHRINK
    return mask


class _Darts:
    """How close the nearest sample lies to each grid point, in units of that sample's radius, squared."""

    def __init__(self, radius: NDArray[np.float64], largest_scale: float) -> None:
        ny, nx = radius.shape
        self.reach = int(np.ceil(largest_scale * radius.max()))
        self.width = nx
        self.nearest = np.full((ny + 2 * self.reach, nx + 2 * self.reach), np.inf, np.float32)
        self.per_radius: list[float] = (1 / radius.ravel() ** 2).tolist()
        self.half: list[int] = np.ceil(largest_scale * radius.ravel()).astype(int).tolist()
        steps = [np.arange(-h, h + 1, dtype=np.float32) ** 2 for h in range(self.reach + 1)]
        self.squared_distance = [s[:, None] + s for s in steps]

    def stick(self, sample: int) -> None:
        h = self.half[sample]
        y, x = divmod(sample, self.width)
        y, x = y + self.reach - h, x + self.reach - h
        around = self.nearest[y : y + 2 * h + 1, x : x + 2 * h + 1]
        np.minimum(around, self.squared_distance[h] * np.float32(self.per_radius[sample]), out=around)

    def throw(self, order: NDArray[np.intp], scale: float, at_most: int) -> list[int]:
        """Points of `order`, taken in turn, that are at least `scale` radii away from every sample so far."""
        limit = float(scale) ** 2
        y, x = np.divmod(order, self.width)
        address = (y + self.reach) * self.nearest.shape[1] + x + self.reach
        free = self.nearest.ravel()[address] >= limit
        look = self.nearest.reshape(-1).data  # one element costs half of what numpy's indexing does
        stuck: list[int] = []
        for sample, where in zip(order[free].tolist(), address[free].tolist(), strict=True):
            if look[where] >= limit:
                self.stick(sample)
                stuck.append(sample)
                if len(stuck) == at_most:
                    break
        return stuck


def _relative_radius(shape: Sequence[int], calibration: tuple[slice, slice]) -> NDArray[np.float64]:
    """1 at the calibration block, EDGE_TO_CENTRE_RADIUS in the middle of an edge; ellipses between."""
    axes = []
    for n, block in zip(shape, calibration, strict=True):
        index = np.arange(n)
        beyond = np.maximum(np.maximum(block.start - index, index - (block.stop - 1)), 0)
        axes.append(beyond / max(1, beyond.max()))
    distance = np.sqrt(axes[0][:, None] ** 2 + axes[1] ** 2)
    return 1 + (EDGE_TO_CENTRE_RADIUS - 1) * distance


def _largest_scale(radius: NDArray[np.float64], count: int) -> float:
    """A scale at which somewhat fewer than `count` darts stick: where the shrinking starts."""
    low, high = 1e-3, float(max(radius.size, 2))
    for _ in range(40):
        middle = np.sqrt(low * high)
        expected = np.minimum(1, _DARTS_PER_RADIUS_SQUARED / (middle * radius) ** 2).sum()
        low, high = (middle, high) if expected > count else (low, middle)
    return float(min(1.3 * high, np.sqrt(radius.size)))


def _interior(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Samples whose four neighbours are samples too."""
    inside = mask.copy()
    for axis in (0, 1):
        for step in (-1, 1):
            inside &= np.roll(mask, step, axis)
    return inside
