"""A derived series beside its source: what is taken over, what never is, and whether both lie in one place."""

import re
import tarfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, generate_uid
from written import affine_of, images, volume

import nirvana_mri as nm
from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.io.writers.dicom_reference import CODES, read_reference

CANARY = "Canary"
TEXTS = (
    *("PatientName", "PatientID", "OtherPatientIDs", "PatientAddress", "PatientComments", "InstitutionName"),
    *("InstitutionAddress", "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "StationName"),
    *("StudyDescription", "SeriesDescription", "ProtocolName", "StudyID", "AccessionNumber", "DeviceSerialNumber"),
    *("PhysiciansOfRecord", "ImageComments", "RequestingPhysician", "RequestedProcedureDescription", "Manufacturer"),
    *("PatientMotherBirthName", "SequenceName", "IssuerOfPatientID", "NameOfPhysiciansReadingStudy"),
)


def source(tmp_path: Path, charset: str = "ISO_IR 100") -> Path:
    """A scanner's series in the place of `written.volume`, with a canary in every identifying field."""
    folder = nm.save(volume(), tmp_path / "source.dcm")
    for path in folder.iterdir():
        image = pydicom.dcmread(path)
        image.file_meta.ImplementationVersionName = "SCANNER"
        image.SpecificCharacterSet = charset
        for name in TEXTS:
            setattr(image, name, CANARY)
        image.PatientName = "Canäry^Ünö"
        image.ScanOptions = "CANARY"  # a code by its form, and none of the standard
        image.PatientBirthDate, image.StudyDate, image.SeriesDate = "19330303", "20010203", "20010203"
        image.PatientSex, image.PatientAge = "F", "068Y"
        image.ScanningSequence, image.SequenceVariant, image.MRAcquisitionType = ["GR", "IR"], "MP", "3D"
        image.RepetitionTime, image.EchoTime, image.InversionTime, image.EchoTrainLength = "2000", "2.5", "900", "1"
        image.FlipAngle, image.MagneticFieldStrength = "9", "3"
        image.BodyPartExamined, image.Laterality, image.PatientPosition = "KNEE", "R", "FFS"
        image.add_new(0x00091001, "LO", CANARY)
        image.save_as(path)
    return folder


def test_the_allow_list_is_taken_over_and_nothing_else(tmp_path: Path) -> None:
    origin = images(source(tmp_path))[0]
    out = nm.save(volume(), tmp_path / "x.dcm", reference_dicom=tmp_path / "source.dcm")
    for image in images(out):
        assert image.StudyInstanceUID != origin.StudyInstanceUID
        assert image.FrameOfReferenceUID != origin.FrameOfReferenceUID
        assert image.SeriesInstanceUID != origin.SeriesInstanceUID
        assert list(image.ScanningSequence) == ["GR", "IR"]
        assert (image.RepetitionTime, image.EchoTime, image.InversionTime) == (2000, 2.5, 900)
        assert (image.FlipAngle, image.MagneticFieldStrength, image.EchoTrainLength) == (9, 3, 1)
        assert (image.BodyPartExamined, image.Laterality, image.PatientPosition) == ("KNEE", "R", "FFS")
        assert image.Manufacturer == "nirvana-mri"
    for path in out.iterdir():
        content = path.read_bytes().lower()
        for secret in (b"canary", "canä".encode(), "canä".encode("latin-1"), b"19330303", b"20010203", b"068y"):
            assert secret not in content


@pytest.mark.parametrize("charset", ["ISO_IR 100", "ISO_IR 192"])
def test_identifiers_come_along_only_when_kept(tmp_path: Path, charset: str) -> None:
    reference = source(tmp_path, charset) / "00002.dcm"
    origin = pydicom.dcmread(reference)
    out = nm.save(volume(), tmp_path / "x.dcm", reference_dicom=reference, keep_identifiers=True)
    for image in images(out):
        assert image.StudyInstanceUID == origin.StudyInstanceUID
        assert image.FrameOfReferenceUID == origin.FrameOfReferenceUID
        assert str(image.PatientName) == "Canäry^Ünö"
        assert (image.PatientID, image.PatientBirthDate, image.PatientSex) == (CANARY, "19330303", "F")
        assert (image.StudyDate, image.AccessionNumber, image.StudyDescription) == ("20010203", CANARY, CANARY)
        assert "InstitutionName" not in image
        assert "DeviceSerialNumber" not in image
        assert (0x0009, 0x1001) not in image
        assert "NOT FOR CLINICAL USE" in image.SeriesDescription


def test_a_made_up_position_has_no_frame_of_reference(tmp_path: Path) -> None:
    origin = images(source(tmp_path))[0]
    made = volume(affine=np.diag([0.5, 0.75, 4, 1]), known=False)
    options = dict(reference_dicom=tmp_path / "source.dcm", assume_orientation="axial", keep_identifiers=True)
    out = nm.save(made, tmp_path / "x.dcm", **options)
    assert images(out)[0].FrameOfReferenceUID != origin.FrameOfReferenceUID
    assert images(out)[0].StudyInstanceUID == origin.StudyInstanceUID


def test_both_must_lie_in_one_place(tmp_path: Path) -> None:
    reference = source(tmp_path)
    affine = volume().affine
    tilt = np.eye(4)
    tilt[:2, :2] = [[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]]
    away = np.eye(4)
    away[:3, 3] = 30
    halfway = affine.copy()
    halfway[:3, 3] += 0.7 * affine[:3, 2]
    for place, match in (
        (tilt @ affine, "the slices are tilted by"),
        (away @ affine, "mm beside the reference's"),
        (halfway, r"a slice lies 2\.8 mm beside"),
    ):
        with pytest.raises(DataError, match=match) as caught:
            nm.save(volume(affine=place), tmp_path / "x.dcm", reference_dicom=reference)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "x.dcm").exists()
    part = replace(volume((1, 8, 6)), affine=affine @ _shift(2), slices=(2,))
    nm.save(part, tmp_path / "x.dcm", reference_dicom=reference)
    finer = volume((3, 16, 12), affine=affine @ np.diag([0.5, 0.5, 1, 1]) @ _shift(0, -0.5))
    nm.save(finer, tmp_path / "y.dcm", reference_dicom=reference / "00003.dcm")


def _shift(slices: float, plane: float = 0.0) -> np.ndarray:
    moved = np.eye(4)
    moved[:3, 3] = plane, plane, slices
    return moved


def test_references_that_cannot_be_used(tmp_path: Path) -> None:
    reference = source(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text(CANARY)
    whole = (reference / "00001.dcm").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(whole[:700])
    deflated = pydicom.dcmread(reference / "00001.dcm")
    deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    deflated.save_as(tmp_path / "deflated.dcm")
    broken = pydicom.dcmread(reference / "00001.dcm")
    broken.PixelSpacing = [1.0]
    broken.save_as(tmp_path / "broken.dcm")
    nowhere = pydicom.dcmread(reference / "00001.dcm")
    del nowhere.ImageOrientationPatient
    nowhere.save_as(tmp_path / "nowhere.dcm")
    other = pydicom.dcmread(reference / "00001.dcm")
    other.SeriesInstanceUID = generate_uid()
    other.save_as(reference / "other.dcm")
    for name, error, match in (
        ("missing", UsageError, "no such file or folder"),
        ("empty", UsageError, "no DICOM file"),
        ("text", UsageError, "not a DICOM file"),
        ("cut.dcm", DataError, "does not say where its slices lie|cannot be read"),
        ("deflated.dcm", DataError, "is deflated"),
        ("broken.dcm", DataError, "has values that DICOM does not allow there"),
        ("nowhere.dcm", DataError, "does not say where its slices lie"),
        ("source.dcm", DataError, "holds several series"),
    ):
        with pytest.raises(error, match=match) as caught:
            nm.save(volume(), tmp_path / "x.dcm", reference_dicom=tmp_path / name)
        assert "\n" not in str(caught.value)
        assert CANARY.lower() not in str(caught.value).lower()
        assert not (tmp_path / "x.dcm").exists()


def test_values_outside_the_standard_are_left_out_without_a_word(tmp_path: Path) -> None:
    path = source(tmp_path) / "00001.dcm"
    content = path.read_bytes()
    content = (
        content.replace(b"KNEE", b"KN\xcaE")
        .replace(b"DS\x04\x00900 ", b"DS\x04\x009e99")
        .replace(b"19330303", b"CANARY!!")
    )
    content = content.replace(b"\x18\x00\x91\x00IS\x02\x001 ", b"\x18\x00\x91\x00IS\x02\x001.")  # pydicom warns
    path.write_bytes(content)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        values = read_reference(path).values
    assert said == []
    assert "BodyPartExamined" not in values
    assert "InversionTime" not in values
    with pytest.raises(DataError, match="does not allow there") as caught:
        read_reference(path, keep_identifiers=True)
    assert "CANARY" not in str(caught.value)


def test_codes_are_those_of_the_standard() -> None:
    for allowed in CODES.values():
        assert all(re.fullmatch("[A-Z0-9_ ]{1,16}", code) for code in allowed)


def test_a_real_series_made_anew_lies_where_it_lay(shared_data: Path, tmp_path: Path) -> None:
    with tarfile.open(shared_data / "dicom" / "siemens_skyra_mprage_child.tar.xz") as packed:
        packed.extractall(tmp_path / "source", filter="data")
    folder = next(path for path in (tmp_path / "source").rglob("*") if path.is_dir())
    heads = [pydicom.dcmread(path, stop_before_pixels=True) for path in folder.glob("*.dcm")]
    normal = np.cross(*np.array(heads[0].ImageOrientationPatient, float).reshape(2, 3))
    heads.sort(key=lambda head: normal @ np.array(head.ImagePositionPatient, float))
    head = heads[0]
    head.SpacingBetweenSlices = heads[0].SliceThickness
    affine = affine_of(heads)
    coarse = affine @ np.diag([8, 8, 1, 1]) @ _shift(0, 7 / 16)  # the same field of view
    out = nm.save(volume((192, 32, 32), affine=coarse), tmp_path / "x.dcm", reference_dicom=folder)
    again = images(out)
    assert np.abs((affine_of(again) - coarse) @ [31, 31, 191, 1]).max() < 1e-4
    assert again[0].FrameOfReferenceUID != head.FrameOfReferenceUID
    assert again[0].PatientID != head.PatientID
