"""DICOM series of single frames: order, place, volumes, and what is refused."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from dicom_support import (
    ORIGIN,
    SHAPE,
    SPACING,
    STEP,
    TURN,
    expected_affine,
    orientation,
    pixels,
    position,
    save,
    single,
    write_series,
)
from pydicom.dataset import Dataset

from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.io.dicom.reader import is_dicom, read_dicom
from nirvana_mri.scan import Picture


def voxels(picture: Picture) -> np.ndarray:
    return np.stack(list(picture.pixels))


def stack(*instances: int) -> np.ndarray:
    return np.stack([pixels(number) for number in instances]).astype(np.float32)


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_dicom(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def test_slices_are_sorted_and_placed(tmp_path: Path) -> None:
    picture = read_dicom(write_series(tmp_path / "in"))
    assert picture.shape == (5, *SHAPE)
    np.testing.assert_array_equal(voxels(picture), stack(1, 2, 3, 4, 5))
    np.testing.assert_allclose(picture.geometry.affine, expected_affine(), atol=1e-6)
    assert picture.geometry.voxel_mm == pytest.approx((STEP, *SPACING))
    assert picture.geometry.field_of_view_mm == pytest.approx((STEP * 5, SPACING[0] * 12, SPACING[1] * 16))
    assert picture.geometry.orientation_known
    assert (picture.name, picture.file_format, picture.volumes, picture.warnings) == ("dicom-series-4", "DICOM", 1, ())
    facts = {"field_strength_t": 3, "tr_ms": 2000, "te_ms": 30, "flip_angle_deg": 90, "slice_thickness_mm": 3}
    assert picture.metadata == {**facts, "manufacturer": "SIEMENS", "sequence": "GR+EP"}


def test_slices_acquired_downwards_are_sorted_upwards(tmp_path: Path) -> None:
    def downwards(made: Dataset, number: int, _volume: int) -> Dataset:
        made.ImagePositionPatient = position(4 - number)
        return made

    picture = read_dicom(write_series(tmp_path, change=downwards))
    np.testing.assert_array_equal(voxels(picture), stack(5, 4, 3, 2, 1))
    np.testing.assert_allclose(picture.geometry.affine, expected_affine(), atol=1e-6)


def test_a_file_stands_for_its_series(tmp_path: Path) -> None:
    write_series(tmp_path)
    other = save(single(0, 1, series="1.2.9"), tmp_path / "other.dcm")
    (tmp_path / "notes.txt").write_text("no DICOM")
    assert read_dicom(tmp_path / "0003.dcm").shape == (5, *SHAPE)
    assert read_dicom(other).shape == (1, *SHAPE)
    assert read_dicom(other).geometry.voxel_mm == pytest.approx((3, *SPACING))  # its thickness


def test_pixels_are_fetched_late_and_the_picture_travels(tmp_path: Path) -> None:
    picture = read_dicom(write_series(tmp_path))
    travelled = pickle.loads(pickle.dumps(picture.pixels))
    np.testing.assert_array_equal(travelled[-1], pixels(5))
    with pytest.raises(IndexError):
        picture.pixels[5]
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(DataError, match="slice 2 changed its size"):
        picture.pixels[2]
    shutil.rmtree(tmp_path)
    with pytest.raises(DataError, match="slice 2 cannot be read"):
        picture.pixels[2]


def test_volumes_in_the_order_of_instances(tmp_path: Path) -> None:
    folder = write_series(tmp_path, slices=3, volumes=4)
    for volume in range(4):
        picture = read_dicom(folder, volume=volume)
        assert (picture.volume, picture.volumes) == (volume, 4)
        np.testing.assert_array_equal(voxels(picture), stack(*(volume * 3 + n for n in (1, 2, 3))))
    for wrong in (-1, 4):
        with pytest.raises(UsageError, match="from 0 to 3"):
            read_dicom(folder, volume=wrong)


@pytest.mark.parametrize("name", ["TemporalPositionIdentifier", "EchoTime", "DiffusionBValue", "TriggerTime"])
def test_volumes_are_told_apart_by_what_they_are(tmp_path: Path, name: str) -> None:
    """Time, echo and b-value go before the order of instances."""

    def backwards(made: Dataset, _slice: int, volume: int) -> Dataset:
        setattr(made, name, (3 - volume) * 10)
        return made

    folder = write_series(tmp_path, slices=3, volumes=3, change=backwards)
    np.testing.assert_array_equal(voxels(read_dicom(folder, volume=0)), stack(7, 8, 9))
    if name == "EchoTime":
        assert [read_dicom(folder, volume=n).metadata["te_ms"] for n in range(3)] == [10, 20, 30]


def test_private_b_values(tmp_path: Path) -> None:
    def diffusion(made: Dataset, _slice: int, volume: int) -> Dataset:
        made.private_block(0x19, "SIEMENS MR HEADER", create=True).add_new(0x0C, "IS", 1000 - 500 * volume)
        return made

    folder = write_series(tmp_path, slices=3, volumes=3, change=diffusion)
    assert [read_dicom(folder, volume=n).metadata["b_value"] for n in range(3)] == [0, 500, 1000]


@pytest.mark.parametrize("kind", ["P", "R", "PHASE MAP", "ADC", "T1 MAP"])
def test_other_parts_are_left_out_with_a_warning(tmp_path: Path, kind: str) -> None:
    def parts(made: Dataset, _slice: int, volume: int) -> Dataset:
        made.ImageType = ["ORIGINAL", "PRIMARY", kind if volume else "M", "ND"]
        return made

    picture = read_dicom(write_series(tmp_path / "both", slices=3, volumes=2, change=parts))
    np.testing.assert_array_equal(voxels(picture), stack(1, 2, 3))
    assert picture.volumes == 1
    assert "3 of" in picture.warnings[0]
    alone = write_series(tmp_path / "alone", slices=3, change=lambda made, number, _: parts(made, number, 1))
    assert "no magnitude images (3 of" in refusal(alone)


def test_signed_pixels_and_their_own_scales(tmp_path: Path) -> None:
    stored = np.array([[-2048, 2047], [0, -1]], np.int16)

    def signed(made: Dataset, number: int, _volume: int) -> Dataset:
        made.Rows, made.Columns = stored.shape
        made.PixelRepresentation, made.RescaleSlope, made.RescaleIntercept = 1, number + 0.5, 10 * number
        hidden = stored.view(np.uint16) & 0x0FFF | 0x3000  # bits above the stored ones hold an overlay
        made.PixelData = hidden.tobytes()
        return made

    picture = read_dicom(write_series(tmp_path, slices=3, change=signed))
    for number in range(3):
        np.testing.assert_array_equal(picture.pixels[number], stored * (number + 0.5) + 10 * number)


def test_ge_says_phase_in_a_private_number(tmp_path: Path) -> None:
    def phase(made: Dataset, _slice: int, volume: int) -> Dataset:
        made.private_block(0x43, "GEMS_PARM_01", create=True).add_new(0x2F, "SS", volume)
        return made

    picture = read_dicom(write_series(tmp_path, slices=3, volumes=2, change=phase))
    assert picture.volumes == 1
    np.testing.assert_array_equal(voxels(picture), stack(1, 2, 3))


def test_implicit_transfer_syntax(tmp_path: Path) -> None:
    def implicit(made: Dataset, _slice: int, _volume: int) -> Dataset:
        made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
        return made

    np.testing.assert_array_equal(voxels(read_dicom(write_series(tmp_path, change=implicit))), stack(1, 2, 3, 4, 5))


def test_other_files_are_counted(tmp_path: Path) -> None:
    write_series(tmp_path / "sub" / "deeper")
    (tmp_path / "a.txt").write_text("text")
    report = single(0, 1, series="1.2.8")
    del report.PixelData, report.Rows, report.Columns
    save(report, tmp_path / "report.dcm")
    picture = read_dicom(tmp_path)
    assert picture.shape[0] == 5
    assert "1 files that are no DICOM" in picture.warnings[0]
    assert "1 DICOM files without an image" in picture.warnings[1]
    assert is_dicom(tmp_path / "report.dcm")
    assert "it holds no image" in refusal(tmp_path / "report.dcm")


def test_several_series_are_listed(tmp_path: Path) -> None:
    write_series(tmp_path / "a", slices=3)

    def other(made: Dataset, _slice: int, _volume: int) -> Dataset:
        made.SeriesInstanceUID, made.Rows, made.Columns, made.SeriesDescription = "1.2.9", 6, 32, "SECRET"
        return made

    write_series(tmp_path / "b", slices=2, change=other)
    message = refusal(tmp_path)
    assert "3 images of 12 x 16" in message
    assert "2 images of 6 x 32, from file 4" in message
    assert "SECRET" not in message
    assert read_dicom(tmp_path / "a").shape[0] == 3


def without(number: int):
    return lambda made, found, _volume: None if found == number else made


def changed(number: int, **values: object):
    def change(made: Dataset, found: int, _volume: int) -> Dataset:
        for name, value in values.items() if found == number or number < 0 else ():
            setattr(made, name, value)
        return made

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without(2), r"4.000 mm apart but 8.000 mm between .* \(1 missing\?\)"),
        (changed(3, ImagePositionPatient=position(3.3)), "uneven spacing|missing"),
        (changed(3, ImagePositionPatient=position(2)), "missing"),
        (changed(4, ImagePositionPatient=[f"{n:.6f}" for n in ORIGIN + TURN @ [2, 0, 4 * STEP]]), "shifted|stacked"),
        (changed(1, Columns=6, Rows=32), "mixes sizes: 4 of 12 x 16, 1 of 32 x 6"),
        (changed(1, ImageOrientationPatient=[1, 0, 0, 0, 0, -1]), r"2 orientations \(4 \+ 1 images\)"),
        (changed(1, PixelSpacing=[1.5, 0.8]), "mixes pixel sizes"),
        (changed(1, EchoTime=40), "cannot be put into volumes"),
        (changed(-1, Modality="CT"), "modality is CT, expected MR"),
        (changed(-1, SOPClassUID="1.2.840.10008.5.1.4.1.1.7"), "no grey images"),
        (changed(-1, Modality="DOE^JANE"), "no modality that is known here"),
        (changed(-1, PhotometricInterpretation="MONOCHROME1"), "MONOCHROME1"),
        (changed(-1, PhotometricInterpretation="RGB"), "colour"),
        (changed(-1, RescaleSlope=0), "RescaleSlope"),
        (changed(-1, HighBit=15), "HighBit"),
        (changed(-1, BitsAllocated=1, BitsStored=1, HighBit=0), "1 of 1 bits"),
        (changed(-1, Rows=9000), "declares 9000 x 16"),
        (changed(-1, Rows=0), "declares 0 x 16"),
        (changed(-1, NumberOfFrames=2), "no place for each"),
        (changed(-1, ImagePositionPatient=None), "no usable ImagePositionPatient"),
        (changed(-1, ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "right angles"),
        (changed(-1, PixelSpacing=[0, 0]), "PixelSpacing"),
    ],
)
def test_series_that_are_no_volume_are_refused(tmp_path: Path, change, message: str) -> None:
    import re

    assert re.search(message, refusal(write_series(tmp_path, change=change)))


def test_a_volume_that_misses_a_slice(tmp_path: Path) -> None:
    folder = write_series(tmp_path, slices=4, volumes=3, change=lambda made, n, v: None if (n, v) == (2, 1) else made)
    assert "has 2 images at slice 2" in refusal(folder)


def test_copies_are_refused(tmp_path: Path) -> None:
    shutil.copy(write_series(tmp_path) / "0001.dcm", tmp_path / "copy.dcm")
    assert "1 images twice" in refusal(tmp_path)


def test_images_that_nothing_tells_apart_are_refused(tmp_path: Path) -> None:
    def again(made: Dataset, _slice: int, _volume: int) -> Dataset:
        del made.InstanceNumber
        return made

    assert "nothing tells apart" in refusal(write_series(tmp_path, slices=3, volumes=2, change=again))


def test_a_sheared_stack_is_refused(tmp_path: Path) -> None:
    def sheared(made: Dataset, number: int, _volume: int) -> Dataset:
        made.ImagePositionPatient = [f"{n:.6f}" for n in ORIGIN + TURN @ [0.3 * number, 0, STEP * number]]
        return made

    assert "not stacked along their normal" in refusal(write_series(tmp_path, change=sheared))


def test_one_slice_needs_a_thickness(tmp_path: Path) -> None:
    made = single(0, 1)
    del made.SliceThickness
    assert "without a thickness" in refusal(save(made, tmp_path / "one.dcm"))


def test_a_folder_without_dicom(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    assert "no DICOM images (1 other files)" in refusal(tmp_path)
    assert "no such file" in refusal(tmp_path / "nowhere")
    assert "does not start like DICOM" in refusal(tmp_path / "a.txt")
    assert not is_dicom(tmp_path)
    assert not is_dicom(tmp_path / "nowhere")
    assert is_dicom(write_series(tmp_path / "in"))
    assert orientation() != ["1", "0", "0", "0", "1", "0"]


def test_a_folder_of_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nirvana_mri.io.dicom.reader.LARGEST_FOLDER", 4)
    assert "more than 4 files" in refusal(write_series(tmp_path))
