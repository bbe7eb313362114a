"""What scores of a few patients say of others: intervals and paired differences that count patients, not slices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST = 3  # patients of whom an interval can say anything
DRAWS, LEVEL = 2000, 0.95
AT_ONCE = 1 << 22  # counts held in memory


@dataclass(frozen=True)
class Paired:
    """How one method differs from another on the same volumes; None where too few patients tell.

    ``difference`` is the mean over volumes, ``interval`` its bootstrap over patients. ``p`` (two-sided Wilcoxon
    signed-rank) and ``effect_size`` (matched-pairs rank-biserial, -1 to 1: positive where the first is larger) are of
    the ``pairs`` patients' mean differences.
    """

    difference: float | None
    interval: tuple[float, float] | None
    p: float | None
    effect_size: float | None
    pairs: int


def mean(values: Sequence[float | None]) -> float | None:
    """The unweighted mean; None where a value is missing or not finite, for a mean of the others is another score."""
    if not values or any(value is None or not math.isfinite(value) for value in values):
        return None
    return float(np.mean(np.array(values, np.float64)))


def bootstrap(
    values: Sequence[float | None], patients: Sequence[str], *, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float] | None:
    """The 95 % interval of the mean over volumes: percentiles over draws of as many patients, with all their volumes.

    None for fewer than 3 patients, or where there is no mean.
    """
    if mean(values) is None:
        return None
    sums, counts = _by_patient(values, patients)
    if len(sums) < FEWEST:
        return None
    random = np.random.default_rng(seed)
    means: list[NDArray[np.float64]] = []
    left = draws
    while left:
        now = min(left, max(1, AT_ONCE // len(sums)))
        drawn = random.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=now)
        means.append((drawn @ sums) / (drawn @ counts))
        left -= now
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(np.concatenate(means), [tail, 100 - tail])
    return float(low), float(high)


def paired(
    first: Sequence[float | None],
    second: Sequence[float | None],
    patients: Sequence[str],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Paired:
    """First minus second, value by value of the same volumes."""
    if mean(first) is None or mean(second) is None:
        return Paired(None, None, None, None, len(set(patients)))
    differences = [float(a) - float(b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    sums, counts = _by_patient(differences, patients)
    enough = len(sums) >= FEWEST
    p, effect = _signed_rank(sums / counts) if enough else (None, None)
    interval = bootstrap(differences, patients, draws=draws, seed=seed)
    return Paired(mean(differences), interval, p, effect, len(sums))


def _signed_rank(differences: NDArray[np.float64]) -> tuple[float | None, float]:
    """(p, rank-biserial correlation) of Wilcoxon's test, differences of 0 left out; p is None where all are."""
    from scipy.stats import rankdata, wilcoxon

    moved = differences[differences != 0]
    if not moved.size:
        return None, 0.0
    ranks = rankdata(np.abs(moved))
    effect = float((ranks[moved > 0].sum() - ranks[moved < 0].sum()) / ranks.sum())
    return float(wilcoxon(moved).pvalue), effect


def _by_patient(
    values: Sequence[float | None], patients: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(sum of values, number of volumes) of each patient."""
    _, number = np.unique(np.array(patients), return_inverse=True)
    numbers = np.array(values, np.float64)
    return np.bincount(number, weights=numbers).astype(np.float64), np.bincount(number).astype(np.float64)
