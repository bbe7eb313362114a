"""Spikes: samples, or whole lines, far stronger than what lies round them in k-space."""

import numpy as np
from jaxtyping import Complex, Float
from numpy import ndarray as Array
from scipy.ndimage import uniform_filter

CENTRE = 0.15  # of the half axes: within it the object's own signal is steep
REACH = 5  # samples to each side that count as neighbourhood; the nearest ones may belong to the spike
FEWEST = 8  # measured neighbours
CANDIDATE = 6.0  # times the neighbourhood's mean energy: worth a closer look
MOST = 2000  # candidates looked at closely
TWIN = 0.25  # of a spike's ratio: what the opposite sample reaches where both are an object's
DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))
AXIS = 0.03  # of an axis: lines through the centre hold the edges of objects
FEWEST_IN_LINE = 32


def coil_energy(kspace: Complex[Array, "coil ny nx"]) -> Float[Array, "ny nx"]:
    """Energy of each sample over the coils, the largest sample being 1."""
    return np.asarray(np.square(np.abs(kspace / np.abs(kspace).max())).sum(axis=0, dtype=np.float64))


def strongest_spike(energy: Float[Array, "ny nx"]) -> tuple[float, tuple[int, int]]:
    """(energy over that of its surroundings, place) of the sample that stands out most; unmeasured samples are 0.

    The surroundings are the strongest of: the median of the neighbourhood, and the medians along rows, columns and both
    diagonals, because an object's edges make ridges in k-space, and these are no spikes. Nor is a sample whose opposite
    stands out as well: a grid in the object makes such pairs, while a spark strikes once.
    """
    columns = np.flatnonzero((energy > 0).any(axis=0))
    rows = np.flatnonzero((energy > 0).any(axis=1))
    if not columns.size:
        return 0.0, (0, 0)
    far = _radius(energy.shape)[np.ix_(rows, columns)] > CENTRE
    dense = energy[np.ix_(rows, columns)]  # columns left out are no neighbours
    box, own = (uniform_filter(dense, n, mode="constant") * n**2 for n in (2 * REACH + 1, 3))
    many, few = (uniform_filter((dense > 0) * 1.0, n, mode="constant") * n**2 for n in (2 * REACH + 1, 3))
    count = np.round(many - few)
    around = np.maximum(box - own, 0) / np.maximum(count, 1)
    ahead = far & (count >= FEWEST) & (dense > CANDIDATE * around)
    places = np.argwhere(ahead)
    if len(places) > MOST:
        places = places[np.argsort(dense[ahead] / np.maximum(around[ahead], 1e-300))[-MOST:]]
    ratios = [dense[y, x] / max(_surroundings(dense, int(y), int(x)), 1e-300) for y, x in places]
    for i in np.argsort(ratios)[::-1]:
        place = int(rows[places[i][0]]), int(columns[places[i][1]])
        if not _has_twin(energy, place, TWIN * ratios[i]):
            return float(ratios[i]), place
    return 0.0, (0, 0)


def strongest_line(energy: Float[Array, "ny nx"], axis: int) -> tuple[float, int]:
    """(energy over that of the lines beside it, number) of the row (axis 0) or column (axis 1) that stands out most.

    Compared are medians along the lines, away from the centre: a disturbance that lasts a whole readout raises them.
    A line whose opposite stands out half as much is the object's.
    """
    lines, far = (v if axis == 0 else v.T for v in (energy, _radius(energy.shape) > CENTRE))
    used = far & (lines > 0)
    numbers = np.flatnonzero(used.sum(axis=1) >= FEWEST_IN_LINE)
    numbers = numbers[np.abs(numbers - len(lines) // 2) > AXIS * len(lines)]
    medians = np.array([np.median(lines[n][used[n]]) for n in numbers])
    if len(medians) < 2 * REACH:
        return 0.0, 0
    ratios = np.zeros(len(lines))
    for i, median in enumerate(medians):
        beside = np.concatenate([medians[max(i - REACH, 0) : max(i - 1, 0)], medians[i + 2 : i + 1 + REACH]])
        ratios[numbers[i]] = median / max(beside.max(), 1e-300)
    opposite = (2 * (len(lines) // 2) - np.arange(len(lines))) % len(lines)
    alone = np.where((ratios[opposite] < ratios / 2) | (opposite == np.arange(len(lines))), ratios, 0)
    return float(alone.max()), int(alone.argmax())


def _has_twin(energy: Float[Array, "ny nx"], place: tuple[int, int], limit: float) -> bool:
    """True where the sample opposite, or one next to it, stands out by ``limit``: an object's own pattern has both."""
    y, x = ((2 * (n // 2) - k) % n for n, k in zip(energy.shape, place, strict=True))
    if (y, x) == place:  # the highest frequency of both axes is its own opposite
        return False
    near = energy[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
    around = energy[max(y - REACH, 0) : y + REACH + 1, max(x - REACH, 0) : x + REACH + 1]
    around = around[around > 0]
    return bool(around.size and near.max(initial=0) > limit * np.median(around))


def _surroundings(dense: Float[Array, "ny nx"], y: int, x: int) -> float:
    top, left = max(y - REACH, 0), max(x - REACH, 0)
    block = dense[top : y + REACH + 1, left : x + REACH + 1]
    outside = np.asarray(block > 0)
    outside[max(y - top - 1, 0) : y - top + 2, max(x - left - 1, 0) : x - left + 2] = False
    medians = [float(np.median(block[outside]))]
    steps = np.array([*range(-REACH, -1), *range(2, REACH + 1)])
    for dy, dx in DIRECTIONS:
        ys, xs = y + dy * steps, x + dx * steps
        inside = (ys >= 0) & (ys < dense.shape[0]) & (xs >= 0) & (xs < dense.shape[1])
        along = dense[ys[inside], xs[inside]]
        along = along[along > 0]
        if along.size >= 3:
            medians.append(float(np.median(along)))
    return max(medians)


def _radius(shape: tuple[int, ...]) -> Float[Array, "ny nx"]:
    y, x = ((np.arange(n) - n // 2) / (n / 2) for n in shape)
    return np.hypot(y[:, None], x[None, :])
