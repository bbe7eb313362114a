"""The demonstration's material: a real brain, at its own resolution."""

from pathlib import Path

import numpy as np
import pytest

import nirvana_mri.report.demo as demo


def test_the_brain_is_real_and_not_interpolated() -> None:
    import nibabel

    pictures, source = demo.brain()
    stored = np.asarray(nibabel.load(Path(nibabel.__file__).parent / demo.BRAIN).dataobj)[..., 0]
    assert "real brain" in source
    assert pictures.shape == (len(demo.SLICES), *demo.FIELD)
    values, counts = np.unique(pictures[0][pictures[0] > 0], return_counts=True)
    wanted = stored[..., demo.SLICES[0]]
    assert np.isin(values, wanted).all()
    assert counts.sum() > 0.99 * np.count_nonzero(wanted)  # trimming the field cuts nothing off the head


@pytest.mark.parametrize("size", [(20, 10), (12, 16), (8, 8), (12, 26)])
def test_the_field_is_set_about_the_centre(size: tuple[int, int]) -> None:
    """Zero frequency's pixel n // 2 stays zero frequency's pixel."""
    picture = np.zeros((1, 12, 16), np.float32)
    picture[0, 6, 8] = 1
    moved = demo.set_field(picture, size)
    assert moved.shape == (1, *size)
    assert moved[0, size[0] // 2, size[1] // 2] == 1


def test_a_phantom_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "BRAIN", "tests/data/none.nii")
    pictures, source = demo.brain()
    assert "phantom" in source
    assert pictures.ndim == 3
    assert pictures.min() >= 0
