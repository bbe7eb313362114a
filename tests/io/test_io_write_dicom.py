"""Volumes to DICOM series: their place, their one scale, what they say, and nothing half-written."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import FileDataset
from written import SHA256, affine_of, affines, images, oblique, volume

import nirvana_mri as nm
from nirvana_mri.errors import DataError, MissingExtraError, UsageError
from nirvana_mri.io.dicom.reader import read_dicom
from nirvana_mri.io.nifti import read_nifti
from nirvana_mri.io.writers.dicom import write_dicom
from nirvana_mri.io.writers.folder import atomic_folder

DIAGONAL = np.diag([0.5, 0.75, 4.0, 1.0])
needs_highdicom = pytest.mark.skipif(not importlib.util.find_spec("highdicom"), reason="no highdicom (extra dicom)")


@given(affines, st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)))
def test_the_place_comes_back(affine, shape) -> None:
    with TemporaryDirectory() as folder:
        series = images(nm.save(volume(shape, affine), f"{folder}/x.dcm"))
        found = affine_of(series)
        if shape[0] == 1 and np.linalg.det(affine[:3, :3]) > 0:  # one slice has no direction: its normal stands in
            found[:3, 2] *= np.sign(found[:3, 2] @ affine[:3, 2])
        ends = np.array([[0, 0, 0, 1], [shape[2], shape[1], shape[0], 1], [512, 512, 0, 1]]).T
        if shape[0] == 1:
            ends[2] = 0
        assert np.abs((found - affine) @ ends).max() < 1e-4
        for image in series:
            assert (image.Rows, image.Columns) == shape[1:]
            assert all(len(str(value)) <= 16 for value in _decimals(image))


def _decimals(image: pydicom.Dataset) -> list[str]:
    numbers = []
    for element in image:
        if element.VR == "DS":
            many = element.value if element.VM > 1 else [element.value]
            numbers += [value.original_string if hasattr(value, "original_string") else str(value) for value in many]
    return numbers


@given(st.integers(0, 1000), st.sampled_from([1e-9, 1.0, 1e9]))
def test_all_voxels_of_a_series_share_one_scale(seed: int, size: float) -> None:
    both = [volume((2, 5, 4), seed=seed), volume((2, 5, 4), seed=seed + 1)]
    both = [replace(made, voxels=made.voxels * np.float32(size)) for made in both]
    with TemporaryDirectory() as folder:
        series = images(nm.save(both, f"{folder}/x.dcm"))
        stored = np.stack([image.pixel_array for image in series]).astype(float)
        voxels = np.concatenate([made.voxels for made in both]).astype(float)
        assert stored.max() == 32767
        scale = 32767 / voxels.max()
        assert np.abs(stored - voxels * scale).max() <= 0.5
        said = float(series[0].DerivationDescription.split("stored value = ")[1].split(" x")[0])
        assert said == pytest.approx(scale, rel=1e-8)
        assert all("RescaleSlope" not in image and image.WindowWidth >= 1 for image in series)


def test_several_volumes_are_temporal_positions(tmp_path: Path) -> None:
    series = images(nm.save([volume(seed=0), volume(seed=1)], tmp_path / "x.dcm"))
    assert [int(image.TemporalPositionIdentifier) for image in series] == [1, 1, 1, 2, 2, 2]
    assert [int(image.AcquisitionNumber) for image in series] == [1, 1, 1, 2, 2, 2]
    assert {int(image.NumberOfTemporalPositions) for image in series} == {2}
    assert len({image.SeriesInstanceUID for image in series}) == 1
    assert series[0].ImagePositionPatient == series[3].ImagePositionPatient


def test_every_image_says_what_it_is(tmp_path: Path) -> None:
    for image in images(nm.save(volume(simulated=True), tmp_path / "x.dcm")):
        assert list(image.ImageType) == ["DERIVED", "SECONDARY", "OTHER"]
        assert "NOT FOR CLINICAL USE" in image.SeriesDescription
        assert "SYNTHETIC K-SPACE" in image.SeriesDescription
        for text in (image.DerivationDescription, image.ContributingEquipmentSequence[0].ContributionDescription):
            assert "equispaced_fraction 4x" in text
            assert "achieved 3.98x" in text
            assert "nano ab12ab12ab12" in text
            assert "synthetic k-space" in text
        assert SHA256 in image.DerivationDescription
        assert "a warning of the scan's" in image.ImageComments
        assert image.ContributingEquipmentSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
        assert str(image.PatientName).startswith("ANONYMOUS")
        assert image.PatientBirthDate == ""
    for image in images(nm.save(volume(), tmp_path / "y.dcm")):
        assert "SYNTHETIC" not in str(image).upper()


def test_uids_are_new_each_time(tmp_path: Path) -> None:
    one = images(nm.save(volume(), tmp_path / "one.dcm"))
    two = images(nm.save(volume(), tmp_path / "two.dcm"))
    for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert not {image[name].value for image in one} & {image[name].value for image in two}
    assert len({image.SOPInstanceUID for image in one}) == 3
    assert all(image.file_meta.MediaStorageSOPInstanceUID == image.SOPInstanceUID for image in one)


@pytest.mark.parametrize(
    ("orientation", "cosines", "slices"),
    [
        ("axial", [1, 0, 0, 0, 1, 0], [0, 0, 1]),
        ("sagittal", [0, 1, 0, 0, 0, -1], [-1, 0, 0]),
        ("coronal", [1, 0, 0, 0, 0, -1], [0, 1, 0]),
    ],
)
def test_an_assumed_orientation_is_stamped(tmp_path: Path, orientation: str, cosines: list, slices: list) -> None:
    made = volume(affine=DIAGONAL, known=False)
    series = images(nm.save(made, tmp_path / "x.dcm", assume_orientation=orientation))
    positions = np.array([image.ImagePositionPatient for image in series], float)
    assert np.allclose(positions[1] - positions[0], np.array(slices) * 4.0)
    for image in series:
        assert np.allclose(image.ImageOrientationPatient, cosines)
        assert list(image.PixelSpacing) == [0.75, 0.5]
        assert f"orientation ASSUMED {orientation}" in image.ImageComments
        assert f"orientation assumed {orientation}, not from the scan" in image.DerivationDescription
    middle = positions[1] + np.array(cosines[:3]) * 0.5 * 2.5 + np.array(cosines[3:]) * 0.75 * 3.5
    assert np.allclose(middle, 0)


def test_without_orientation_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"give assume_orientation \(axial, sagittal, coronal\)") as caught:
        nm.save(volume(affine=DIAGONAL, known=False), tmp_path / "x.dcm")
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="has its own orientation"):
        nm.save(volume(), tmp_path / "x.dcm", assume_orientation="axial")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("acquisition", "part", "laterality"),
    [("AXT2", "BRAIN", False), ("CORPD_FBK", "KNEE", True), ("secret words", None, True)],
)
def test_laterality_is_for_paired_and_unknown_parts(
    tmp_path: Path, acquisition: str, part: str | None, laterality: bool
) -> None:
    made = volume(metadata={"acquisition": acquisition, "tr_ms": 2000.0, "te_ms": "secret", "ti_ms": float("inf")})
    made = replace(made, provenance={**made.provenance})
    image = next(iter(images(write_dicom(made, tmp_path / "x.dcm"))))
    assert image.get("BodyPartExamined") == part
    assert ("Laterality" in image) == laterality
    assert float(image.RepetitionTime) == 2000.0
    assert image.EchoTime is None
    assert "secret" not in str(image)


def test_codes_of_the_scan_come_along(tmp_path: Path) -> None:
    known = {"body_part": "HEAD", "sequence": "GR+IR", "encoding": "3D", "flip_angle_deg": 9.0, "ti_ms": 900.0}
    image = images(nm.save(volume(metadata=known), tmp_path / "x.dcm"))[0]
    assert (image.BodyPartExamined, list(image.ScanningSequence)) == ("HEAD", ["GR", "IR"])
    assert (image.MRAcquisitionType, image.FlipAngle, image.InversionTime) == ("3D", 9, 900)
    unknown = {"body_part": "Canary", "sequence": "XX", "encoding": "Canary"}
    image = images(nm.save(volume(metadata=unknown), tmp_path / "y.dcm"))[0]
    assert (image.ScanningSequence, image.SequenceVariant) == ("RM", "NONE")
    assert "CANARY" not in str(image).upper()


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("name", ["x.dcm", "x.nii.gz"])
def test_our_own_readers_find_the_same_place_and_voxels(tmp_path: Path, name: str, flip: bool) -> None:
    affine = oblique((0.2, -0.1, 0.15), (0.5, 0.75, 4.0), (-40.0, 12.5, 30.0), flip)
    both = [volume((5, 9, 7), affine, seed=seed) for seed in (0, 1)]
    path = nm.save(both, tmp_path / name)
    for number, made in enumerate(both):
        found = read_dicom(path, volume=number) if name == "x.dcm" else read_nifti(path, volume=number)
        assert found.volumes == 2
        assert found.geometry.orientation_known
        stored = np.stack([found.pixels[n] for n in range(len(found.pixels))])
        scale = 32767 / max(one.voxels.max() for one in both) if name == "x.dcm" else 1.0
        theirs, ours = (
            nib.as_closest_canonical(nib.Nifti1Image(voxels.T.astype(np.float32), place))
            for voxels, place in ((stored, found.geometry.affine), (made.voxels * scale, affine))
        )
        assert np.abs(theirs.affine - ours.affine).max() < 1e-4
        assert np.abs(theirs.get_fdata() - ours.get_fdata()).max() < (0.51 if name == "x.dcm" else 1e-9)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"voxels": np.ones((3, 8, 6), np.complex64)}, "voxels are complex"),
        ({"voxels": -np.ones((3, 8, 6), np.float32)}, "below zero"),
        ({"affine": np.array([[1, 0.01, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])}, "skewed"),
        ({"affine": np.array([[1, 0, 0.01, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])}, "skewed"),
        ({"affine": np.diag([1.0, 0, 1, 1])}, "no finite, positive voxel sizes"),
        ({"affine": np.full((4, 4), np.inf)}, "no finite, positive voxel sizes"),
        ({"slices": (4, 5, 9)}, "unevenly spaced"),
        ({"voxels": np.zeros((1, 65536, 1), np.float32), "slices": (0,)}, "at most 20000 of 65535 a side"),
    ],
)
def test_what_dicom_cannot_hold(tmp_path: Path, change: dict[str, object], match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        nm.save(replace(volume(), **change), tmp_path / "x.dcm")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_picture_without_contrast_is_written(tmp_path: Path) -> None:
    series = images(nm.save(replace(volume(), voxels=np.zeros((3, 5, 7), np.float32)), tmp_path / "x.dcm"))
    assert all(not image.pixel_array.any() and image.WindowWidth >= 1 for image in series)
    assert all(len(image.PixelData) % 2 == 0 for image in series)


def test_a_full_disk_leaves_the_old_series_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = nm.save(volume(), tmp_path / "x.dcm")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    write, written = FileDataset.save_as, []

    def full(image: FileDataset, *args: object, **options: object) -> None:
        if len(written) == 2:
            raise OSError("No space left on device")
        written.append(image)
        write(image, *args, **options)

    monkeypatch.setattr(FileDataset, "save_as", full)
    with pytest.raises(DataError, match="cannot be written"):
        nm.save(volume(), folder)
    assert len(written) == 2
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert list(tmp_path.iterdir()) == [folder]


def test_an_old_series_of_ours_is_replaced_whole(tmp_path: Path) -> None:
    folder = nm.save(volume((5, 8, 6)), tmp_path / "x.dcm")
    nm.save(volume((2, 8, 6)), folder)
    assert len(list(folder.iterdir())) == 2
    assert list(tmp_path.iterdir()) == [folder]
    with pytest.raises(UsageError, match="exists already"):
        nm.save(volume(), folder, overwrite=False)


def test_foreign_files_are_never_deleted(tmp_path: Path) -> None:
    folder = nm.save(volume(), tmp_path / "x.dcm")
    foreign = images(folder)[0]
    foreign.file_meta.ImplementationVersionName = "SCANNER"
    for make in (
        lambda: (folder / "notes.txt").write_text("mine"),
        lambda: foreign.save_as(folder / "other.dcm"),
        lambda: (folder / "inside").mkdir(),
        lambda: (folder / "link.dcm").symlink_to(folder / "00001.dcm"),
    ):
        make()
        count = len(list(folder.iterdir()))
        with pytest.raises(UsageError, match="that nirvana-mri did not write as DICOM"):
            nm.save(volume(), folder)
        assert len(list(folder.iterdir())) == count
        extra = next(path for path in folder.iterdir() if path.name[:3] != "000")
        extra.rmdir() if extra.is_dir() else extra.unlink()
    nm.save(volume(), folder)


def test_targets_that_are_no_folders(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "x.dcm", tmp_path / "file"):
        with pytest.raises(UsageError, match="choose another output path"):
            nm.save(volume(), path, format="dicom")
    assert nm.save(volume(), f"{tmp_path}/new/deep/").is_dir()


def test_a_folder_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = nm.save(volume(), tmp_path / "x.dcm")
    before = sorted(file.read_bytes() for file in folder.iterdir())

    def fail() -> None:
        with atomic_folder(folder) as temporary:
            (temporary / "half").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert sorted(file.read_bytes() for file in folder.iterdir()) == before
    assert list(tmp_path.iterdir()) == [folder]


@needs_highdicom
def test_floats_are_a_parametric_map(tmp_path: Path) -> None:
    affine = oblique((0.4, -0.3, 0.8), (0.5, 0.75, 4.0), (-40.0, 12.5, 30.0))
    both = [volume(affine=affine), replace(volume(affine=affine, seed=1, simulated=True))]
    both[0].voxels[0, 0, 0] = -1.5
    maps = images(nm.save(both, tmp_path / "x.dcm", floating=True))
    assert len(maps) == 2
    assert len({one.SeriesInstanceUID for one in maps}) == 1
    for one, made in zip(maps, both, strict=True):
        assert one.SOPClassUID.name == "Parametric Map Storage"
        assert "NOT FOR CLINICAL USE" in one.SeriesDescription
        assert "NOT FOR CLINICAL USE" in one.ImageComments
        assert "ReferencedSeriesSequence" not in one
        for frame, group in zip(one.pixel_array, one.PerFrameFunctionalGroupsSequence, strict=True):
            position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float) * (-1, -1, 1)
            steps = [np.abs(affine[:3] @ [0, 0, number, 1] - position).max() for number in range(3)]
            assert min(steps) < 1e-4
            assert np.array_equal(frame, made.voxels[int(np.argmin(steps))])


def test_without_highdicom_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"nirvana-mri\[dicom\]"):
        nm.save(volume(), tmp_path / "x.dcm", floating=True)
    assert list(tmp_path.iterdir()) == []
