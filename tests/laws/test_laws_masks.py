"""Every kind of mask reaches what it promises and repeats with its seed; a new kind in MASKS is picked up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nirvana_mri.physics.masks import MASKS, achieved_acceleration, make_mask

WIDTHS = st.integers(96, 420)
ACCELERATIONS = st.integers(2, 10)
SEEDS = st.integers(0, 2**32 - 1)


def _fraction(acceleration):
    """fastMRI's centre: 0.08 at 4x, 0.04 at 8x, and so on."""
    return 0.32 / acceleration


@pytest.mark.parametrize("kind", MASKS)
@given(nx=WIDTHS, acceleration=ACCELERATIONS, seed=SEEDS)
def test_centre_is_always_measured(kind, nx, acceleration, seed):
    mask = make_mask(kind, (24, nx), acceleration, _fraction(acceleration), seed)
    middle = mask if mask.ndim == 1 else mask[12]
    # An even block lies one sample further to one side or the other.
    each_side = (round(nx * _fraction(acceleration)) - 1) // 2
    assert middle[nx // 2 - each_side : nx // 2 + each_side + 1].all()


@pytest.mark.parametrize("kind", MASKS)
@given(acceleration=st.integers(3, 10), seed=SEEDS)
def test_repeats_with_its_seed_and_differs_without(kind, acceleration, seed):
    first = make_mask(kind, (24, 128), acceleration, 0.04, seed)
    np.testing.assert_array_equal(first, make_mask(kind, (24, 128), acceleration, 0.04, seed))
    others = (make_mask(kind, (24, 128), acceleration, 0.04, other) for other in range(30))
    assert any(not np.array_equal(first, other) for other in others)


@pytest.mark.parametrize("kind", ["equispaced_fraction", "poisson"])
@given(nx=WIDTHS, acceleration=st.integers(2, 6) | st.floats(1.5, 6), seed=SEEDS)
def test_reaches_its_acceleration(kind, nx, acceleration, seed):
    mask = make_mask(kind, (32, nx), acceleration, _fraction(acceleration), seed)
    assert achieved_acceleration(mask) == pytest.approx(acceleration, rel=0.1)


@pytest.mark.parametrize("kind", ["equispaced_fraction", "poisson"])
@given(nx=WIDTHS, acceleration=st.integers(6, 10) | st.floats(6, 10), seed=SEEDS)
def test_reaches_a_high_acceleration_to_two_columns(kind, nx, acceleration, seed):
    """Where 10 % is less than that: there are only whole columns, and fastMRI rounds twice."""
    mask = make_mask(kind, (32, nx), acceleration, _fraction(acceleration), seed)
    columns = nx / acceleration
    assert nx * mask.mean() == pytest.approx(columns, abs=max(2, 0.1 * columns))


@given(nx=WIDTHS, acceleration=ACCELERATIONS)
def test_random_reaches_its_acceleration_in_expectation(nx, acceleration):
    masks = [make_mask("random", (1, nx), acceleration, _fraction(acceleration), seed) for seed in range(60)]
    assert 1 / np.mean(masks) == pytest.approx(acceleration, rel=0.1)


@pytest.mark.parametrize("kind", ["equispaced", "magic"])
@given(nx=WIDTHS, acceleration=ACCELERATIONS, seed=SEEDS)
def test_spaced_kinds_put_the_centre_on_top(kind, nx, acceleration, seed):
    """Documented: they stay below the nominal acceleration, 1 / (1/R + c (1 − 1/R))."""
    fraction = _fraction(acceleration)
    expected = 1 / (1 / acceleration + fraction * (1 - 1 / acceleration))
    mask = make_mask(kind, (1, nx), acceleration, fraction, seed)
    assert achieved_acceleration(mask) == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("kind", MASKS)
@given(seed=SEEDS)
def test_shape_and_type(kind, seed):
    mask = make_mask(kind, (40, 97), 4, 0.08, seed)
    assert mask.dtype == bool
    assert mask.shape == ((40, 97) if kind == "poisson" else (97,))
