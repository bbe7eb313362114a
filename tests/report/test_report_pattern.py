"""The kind of a mask, guessed from its spacing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nirvana_mri.physics.masks import MASKS, make_mask
from nirvana_mri.report.sampling_pattern import describe_pattern


@given(
    kind=st.sampled_from(sorted(MASKS)),
    acceleration=st.sampled_from([3, 4, 5, 6, 8]),
    width=st.integers(120, 400),
    seed=st.integers(0, 10**6),
)
def test_made_masks_are_recognised(kind: str, acceleration: int, width: int, seed: int) -> None:
    """Up to what the mask itself leaves open: halves, each equally spaced, may or may not fit together."""
    words = describe_pattern(make_mask(kind, (64, width), acceleration, 0.32 / acceleration, seed))
    alike = {"magic": {"magic", "equispaced"}, "equispaced_fraction": {"equispaced_fraction", "magic", "equispaced"}}
    assert any(words.startswith(f"like {name} ") for name in alike.get(kind, {kind})), words


def block(shape: tuple[int, ...], *places: slice) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[places] = True
    return mask


def test_what_is_no_made_mask() -> None:
    assert describe_pattern(np.ones(64, bool)) == "full"
    assert describe_pattern(np.ones((32, 64), bool)) == "full"
    assert describe_pattern(block((64,), slice(4, 60))) == "full"
    assert describe_pattern(block((64,), slice(24, 64))) == "one block of columns"
    assert describe_pattern(block((32, 64), slice(8, 32))) == "full, partial echo (24 of 32 rows)"


@pytest.mark.parametrize("calibrated", [True, False])
def test_a_grid_in_two_dimensions(calibrated: bool) -> None:
    mask = np.zeros((64, 64), bool)
    mask[::2, ::2] = True
    if calibrated:
        mask[20:44, 20:44] = True
    assert describe_pattern(mask).startswith("two-dimensional, regular")
    assert ("calibration block" in describe_pattern(mask)) == calibrated
