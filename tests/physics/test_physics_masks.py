import re
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.physics.masks import (
    MASKS,
    achieved_acceleration,
    apply_within,
    calibration_region,
    is_columns,
    make_mask,
)

FASTMRI_KINDS = ["random", "equispaced", "equispaced_fraction", "magic"]
seeds = st.integers(0, 2**32 - 1) | st.text(min_size=1, max_size=20).map(lambda name: tuple(map(ord, name)))


@pytest.mark.parametrize("kind", FASTMRI_KINDS)
@given(
    nx=st.integers(8, 420),
    acceleration=st.integers(1, 12) | st.floats(1, 12),
    center_fraction=st.sampled_from([0.04, 0.08, 0.16, 0.32]),
    seed=seeds,
)
def test_equals_fastmri_bit_for_bit(kind, nx, acceleration, center_fraction, seed):
    subsample = pytest.importorskip("fastmri.data.subsample")
    make = subsample.create_mask_for_mask_type(kind, [center_fraction], [acceleration])
    try:
        expected = make((1, 5, nx, 2), seed=seed)[0].numpy().ravel() > 0
    except (TypeError, ValueError, ZeroDivisionError):
        expected = None  # fastmri cannot make this one either
    if expected is None or not expected.any():
        if acceleration == int(acceleration) and isinstance(acceleration, float):
            return  # 4.0 is a whole number for us, not for fastmri
        with pytest.raises(UsageError):
            make_mask(kind, (5, nx), acceleration, center_fraction, seed)
    else:
        np.testing.assert_array_equal(make_mask(kind, (5, nx), acceleration, center_fraction, seed), expected)


def test_whole_number_written_as_float_is_whole():
    np.testing.assert_array_equal(make_mask("magic", (5, 96), 4.0), make_mask("magic", (5, 96), 4))


@pytest.mark.parametrize("shape", [(96, 96), (129, 64), (160, 93)])
@pytest.mark.parametrize("acceleration", [1.0, 1.7, 4, 12])
def test_poisson_meets_its_acceleration_and_measures_its_block(shape, acceleration):
    mask = make_mask("poisson", shape, acceleration, 0.08, seed=1)
    assert mask.sum() == round(mask.size / acceleration)
    rows, columns = calibration_region(mask)
    assert rows.stop - rows.start >= round(shape[0] * 0.08)
    assert columns.stop - columns.start >= round(shape[1] * 0.08)


def test_poisson_samples_do_not_crowd_and_thin_out_to_the_edge():
    mask = make_mask("poisson", (120, 120), 10, 0.05, seed=3)
    edge = mask[:20]
    touching = (edge[:, 1:] & edge[:, :-1]).sum() + (edge[1:] & edge[:-1]).sum()
    assert touching == 0
    assert mask[40:80, 40:80].mean() > 2.5 * edge.mean()
    by_chance = np.random.default_rng(0).random(edge.shape) < edge.mean()
    assert (by_chance[:, 1:] & by_chance[:, :-1]).sum() > 0


def test_poisson_is_fast_enough_to_make_on_the_fly():
    start = time.process_time()
    make_mask("poisson", (320, 320), 4)
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("arguments", "tells"),
    [
        (("equispacd", (9, 96), 4), "random, equispaced, equispaced_fraction, magic, poisson"),
        (("random", (9, 96), 0.5), "0.5"),
        (("random", (9, 96), float("nan")), "nan"),
        (("random", (9, 0), 4), "(9, 0)"),
        (("random", (9, 96), 4, 0.0), "0.0"),
        (("random", (9, 96), 4, 1.5), "1.5"),
        (("random", (9, 96), 4, 1.0), "all 96 columns"),
        (("random", (9, 96), 4, 0.08, -1), "-1"),
        (("random", (9, 96), 4, 0.08, ()), "()"),
        (("equispaced", (9, 96), 4.5), "4.5"),
        (("equispaced_fraction", (9, 96), 8, 0.2), "19 of 96"),
        (("poisson", (96, 96), 30, 0.25), "24x24"),
        (("equispaced", (9, 2), 12, 0.1), "none of 2 columns"),
    ],
)
def test_what_cannot_work_is_a_usage_error(arguments, tells):
    with pytest.raises(UsageError, match=re.escape(tells)) as caught:
        make_mask(*arguments)
    assert "\n" not in str(caught.value)


def test_every_kind_is_documented():
    assert all(maker.__doc__ for maker in MASKS.values())


def test_achieved_acceleration_leaves_padding_out():
    acquired = np.zeros(100, bool)
    acquired[10:90] = True
    mask = np.zeros(100, bool)
    mask[::4] = True
    assert achieved_acceleration(mask) == 4
    assert achieved_acceleration(mask, acquired) == 4  # 20 of 80, not 20 of 100
    rows = np.zeros((50, 100), bool)
    rows[5:45, 10:90] = True
    assert achieved_acceleration(mask, rows) == 4
    assert achieved_acceleration(np.broadcast_to(mask, (50, 100)), acquired) == 4
    with pytest.raises(DataError, match="inverted"):
        achieved_acceleration(np.zeros(4, bool))


def test_apply_within_mixes_columns_and_planes():
    columns = np.array([True, False, True])
    plane = np.array([[True, True, False], [False, True, True]])
    np.testing.assert_array_equal(apply_within(columns, plane), [[True, False, False], [False, False, True]])
    np.testing.assert_array_equal(apply_within(plane, columns), apply_within(columns, plane))
    np.testing.assert_array_equal(apply_within(columns, columns), columns)
    with pytest.raises(DataError, match=re.escape("(4,)")):
        apply_within(np.ones(4, bool), columns)
    with pytest.raises(DataError, match=re.escape("(3, 3)")):
        apply_within(np.ones((3, 3), bool), plane)
    with pytest.raises(DataError, match="no sample"):
        apply_within(columns, ~columns)


def test_is_columns():
    plane = np.array([[True, False, True], [True, False, True]])
    assert is_columns(plane[0])
    assert is_columns(plane)
    plane[1, 1] = True
    assert not is_columns(plane)


def test_calibration_region_of_fastmri_columns_is_their_centre():
    mask = make_mask("random", (9, 368), 8, 0.08, seed=5)
    mask[:170] = mask[199:] = False
    assert calibration_region(mask) == (slice(None), slice(170, 199))


def test_calibration_region_prefers_a_square_to_a_line():
    mask = np.zeros((64, 48), bool)
    mask[29:36, 21:27] = True  # 7 x 6 about (32, 24)
    mask[32] = True  # 48 samples, more than the block's 42
    assert calibration_region(mask) == (slice(29, 36), slice(21, 27))
    assert calibration_region(np.ones((6, 5), bool)) == (slice(0, 6), slice(0, 5))
    columns = np.broadcast_to(mask[30], mask.shape)
    assert calibration_region(columns) == (slice(0, 64), slice(21, 27))


def test_calibration_region_without_a_centre_is_empty():
    mask = np.ones(16, bool)
    mask[8] = False
    _, columns = calibration_region(mask)
    assert columns.start == columns.stop
    plane = np.broadcast_to(mask, (12, 16))
    _, columns = calibration_region(plane)
    assert columns.start == columns.stop
