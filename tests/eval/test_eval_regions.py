"""Boxes of fastMRI+: where they lie in the stored picture, and what is scored within them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nirvana_mri.errors import DataError
from nirvana_mri.eval.evaluate import score_volume
from nirvana_mri.eval.metrics import ssim_maps
from nirvana_mri.eval.protocol import FASTMRI, PER_SLICE
from nirvana_mri.eval.regions import Box, placed, read_annotations
from nirvana_mri.eval.target import open_target

HEAD = "file,slice,study_level,x,y,width,height,label\n"


def pictures(shape=(3, 40, 40), seed=0):
    return np.random.default_rng(seed).random(shape).astype(np.float32)


@given(st.data())
def test_a_box_encloses_in_the_stored_picture_what_it_encloses_in_the_flipped_one(data):
    ny, nx = data.draw(st.tuples(st.integers(8, 40), st.integers(8, 40)))
    width, height = data.draw(st.integers(1, nx)), data.draw(st.integers(1, ny))
    x, y = data.draw(st.integers(0, nx - width)), data.draw(st.integers(0, ny - height))
    stored = np.arange(ny * nx).reshape(ny, nx)
    row, column, rows, columns = placed(Box(0, x, y, width, height, "label", 2), (ny, nx), "file")
    flipped = stored[::-1]  # as fastmri_to_dicom.py of fastMRI+ shows it
    ours = stored[row : row + rows, column : column + columns]
    np.testing.assert_array_equal(ours[::-1], flipped[y : y + height, x : x + width])


def test_a_box_that_begins_one_pixel_above_is_cut_at_the_border():
    assert placed(Box(0, 2, -1, 5, 10, "effusion", 2), (40, 40), "file") == (31, 2, 9, 5)


def test_only_the_damaged_box_is_bad():
    target = pictures()
    prediction = target.copy()
    prediction[1, 4:14, 20:32] += 0.3  # in the stored picture; rows 26 to 36 of the flipped one
    boxes = [Box(1, 20, 26, 12, 10, "edema", 2), Box(1, 20, 4, 12, 10, "edema", 3), Box(2, 20, 26, 12, 10, "cyst", 4)]
    hit, same_slice, other_slice = score_volume("file", prediction, open_target(target), FASTMRI, boxes).regions
    assert (hit.box, hit.label) == ((4, 20, 10, 12), "edema")
    assert hit.nmse == pytest.approx(
        np.sum((prediction - target)[1] ** 2) / np.sum(target[1, 4:14, 20:32] ** 2), rel=1e-5
    )  # fmt: skip
    assert hit.ssim == pytest.approx(next(ssim_maps(target, prediction, [1]))[4:14, 20:32].mean(), abs=1e-6)
    assert hit.ssim < 0.95
    assert (same_slice.nmse, other_slice.nmse, other_slice.ssim) == (0, 0, 1)


def test_the_data_range_in_a_box_is_the_protocols():
    target = pictures() * np.array([1, 2, 9], np.float32)[:, None, None]
    prediction = target + 0.1 * pictures(seed=1)
    box = [Box(0, 5, 5, 20, 20, "edema", 2)]
    whole, alone = (
        score_volume("file", prediction, open_target(target), protocol, box).regions[0]
        for protocol in (FASTMRI, PER_SLICE)
    )
    assert whole.ssim > alone.ssim
    assert whole.nmse == pytest.approx(alone.nmse)


def test_boxes_follow_the_crop_of_tall_targets():
    target = pictures((1, 48, 40))  # rows 4 to 44 are compared
    prediction = target.copy()
    prediction[0, 10:20] += 0.5
    inside = Box(0, 3, 48 - 10 - 10, 30, 10, "edema", 2)
    region = score_volume("file", prediction, open_target(target), FASTMRI, [inside]).regions[0]
    assert region.box == (10, 3, 10, 30)
    assert region.box_compared == (6, 3, 10, 30)
    assert region.nmse == pytest.approx(0.25 * 300 / np.sum(target[0, 10:20, 3:33] ** 2), rel=1e-4)
    with pytest.raises(DataError, match="line 7 lies outside"):
        score_volume("file", prediction, open_target(target), FASTMRI, [Box(0, 3, 0, 5, 6, "edema", 7)])


@pytest.mark.parametrize("box", [Box(0, 35, 0, 6, 5, "a", 9), Box(0, 0, 36, 5, 5, "a", 9)])
def test_pictures_of_another_size_are_refused(box):
    target = pictures()
    with pytest.raises(DataError, match=r"line 9 .*40x40.*320x320"):
        score_volume("file", target, open_target(target), FASTMRI, [box])


def test_the_table_is_read_once_per_box(tmp_path):
    path = tmp_path / "knee.csv"
    path.write_text(
        HEAD + "a,3,No,1,2,3,4,Edema \na,3,No,1,2,3,4,Edema\na,0,Yes,,,,,Normal\nb,1,No,1,2,0,4,Cyst\n",
        encoding="utf-8",
    )
    found = read_annotations(path)
    assert found.boxes == {"a": (Box(3, 1, 2, 3, 4, "Edema", 2),), "b": ()}
    assert [note.split()[0] for note in found.notes] == ["1", "1"]


@pytest.mark.parametrize(
    "text", ["", "file,slice\na,1\n", HEAD + "a,1,No,1,2,x,4,Edema\n", HEAD + "a,1,No,1,2,3,4,\n", HEAD + "a,1\n", "\0"]
)
def test_other_tables_are_refused(tmp_path, text):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=r"bad\.csv"):
        read_annotations(path)


@pytest.mark.parametrize("part", ["knee", "brain"])
def test_the_published_boxes_lie_in_pictures_of_320(shared_data, part):
    found = read_annotations(shared_data / "annotations" / f"{part}.csv")
    boxes = [box for each in found.boxes.values() for box in each]
    assert len(boxes) > 7000
    assert not any(label != label.strip() for label in {box.label for box in boxes})
    for box in boxes:
        row, column, height, width = placed(box, (320, 320), "file")
        assert row >= 0
        assert column >= 0
        assert row + height <= 320
        assert column + width <= 320
