"""Intervals and tests count patients; scipy and brute force are the oracles."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wilcoxon

from nirvana_mri.eval.statistics import bootstrap, mean, paired


def people(count, volumes=1):
    return [f"p{n}" for n in range(count) for _ in range(volumes)]


@given(st.integers(3, 12), st.integers(0, 99))
def test_the_interval_holds_the_mean_and_repeats_with_its_seed(count, seed):
    values = list(np.random.default_rng(seed).normal(size=count))
    low, high = bootstrap(values, people(count), draws=400, seed=seed)
    rounding = 1e-12
    assert min(values) - rounding <= low <= mean(values) <= high <= max(values) + rounding
    assert bootstrap(values, people(count), draws=400, seed=seed) == (low, high)


def test_the_interval_is_that_of_all_draws():
    """Three patients: 27 equally likely draws, whose percentiles can be counted."""
    values = [0.0, 1.0, 5.0]
    all_means = [np.mean(draw) for draw in itertools.product(values, repeat=3)]
    expected = np.percentile(np.repeat(all_means, 1000), [2.5, 97.5])
    np.testing.assert_allclose(bootstrap(values, people(3), draws=20000), expected, atol=0.35)


def test_volumes_of_one_patient_are_no_more_patients():
    values = list(np.random.default_rng(0).normal(size=6))
    repeated = [value for value in values for _ in range(10)]
    assert bootstrap(repeated, people(6, 10), draws=500) == pytest.approx(bootstrap(values, people(6), draws=500))
    low, high = bootstrap(repeated, people(60), draws=500)  # as if they were sixty
    wide = np.subtract(*bootstrap(values, people(6), draws=500)[::-1])
    assert high - low < wide / 2


def test_few_patients_have_no_interval():
    assert bootstrap([1.0, 2.0, 3.0, 4.0], ["a", "a", "b", "b"]) is None
    told = paired([1.0, 2.0], [0.0, 0.0], ["a", "b"])
    assert (told.difference, told.interval, told.p, told.effect_size, told.pairs) == (1.5, None, None, None, 2)


@pytest.mark.parametrize("bad", [None, float("inf"), float("nan")])
def test_a_missing_value_leaves_no_mean_of_the_others(bad):
    values = [1.0, bad, 3.0]
    assert mean(values) is None
    assert bootstrap(values, people(3)) is None
    assert paired(values, [1.0, 2.0, 3.0], people(3)).difference is None


@given(st.integers(6, 20), st.integers(0, 99))
def test_paired_is_wilcoxon_of_patient_means(count, seed):
    random = np.random.default_rng(seed)
    first, second = random.normal(0.3, 1, 2 * count), random.normal(size=2 * count)
    told = paired(list(first), list(second), people(count, 2), draws=50)
    each = (first - second).reshape(count, 2).mean(axis=1)
    assert told.p == pytest.approx(wilcoxon(each).pvalue)
    assert told.pairs == count
    assert told.difference == pytest.approx(np.mean(first - second))
    back = paired(list(second), list(first), people(count, 2), draws=50)
    assert back.effect_size == pytest.approx(-told.effect_size)


def test_effect_size_is_the_rank_biserial_correlation():
    differences = [1.0, -2.0, 3.0, 4.0, 0.0]  # ranks 1, 2, 3, 4; the tie is left out
    told = paired(differences, [0.0] * 5, people(5), draws=50)
    assert told.effect_size == pytest.approx((1 + 3 + 4 - 2) / 10)
    same = paired([1.0] * 4, [1.0] * 4, people(4), draws=50)
    assert (same.p, same.effect_size, same.interval) == (None, 0.0, (0.0, 0.0))
