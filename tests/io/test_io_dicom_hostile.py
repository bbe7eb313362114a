"""DICOM that is damaged, made to do harm, or full of names: one line without them, before memory is spent."""

import os
import struct
import time
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_support import enhanced, save, single, write_series
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import RLELossless

from nirvana_mri.errors import DataError
from nirvana_mri.io.dicom.elements import read_header
from nirvana_mri.io.dicom.reader import is_dicom, read_dicom

CANARY = "CANARY"
# Every text that PS3.15 annex E wants out, and more: patient, study, series, place, people, device, order.
TEXTS = """
PatientName PatientID OtherPatientIDs OtherPatientNames PatientBirthName PatientMotherBirthName PatientAddress
PatientComments PatientTelephoneNumbers MilitaryRank BranchOfService EthnicGroup Occupation AdditionalPatientHistory
MedicalRecordLocator CountryOfResidence RegionOfResidence PatientReligiousPreference MedicalAlerts Allergies
ResponsiblePerson ResponsibleOrganization IssuerOfPatientID PatientInsurancePlanCodeSequence
InstitutionName InstitutionAddress InstitutionalDepartmentName StationName ReferringPhysicianName
ReferringPhysicianAddress PhysiciansOfRecord PerformingPhysicianName NameOfPhysiciansReadingStudy OperatorsName
RequestingPhysician RequestingService ConsultingPhysicianName ScheduledPerformingPhysicianName
StudyDescription SeriesDescription ProtocolName StudyID AccessionNumber AdmissionID AdmittingDiagnosesDescription
RequestedProcedureDescription RequestedProcedureID RequestedProcedureComments ReasonForTheRequestedProcedure
PerformedProcedureStepDescription PerformedProcedureStepID CommentsOnThePerformedProcedureStep StudyComments
ImageComments FrameComments DerivationDescription PerformedStationAETitle PerformedStationName PerformedLocation
DeviceSerialNumber DeviceID GantryID PlateID DetectorID SoftwareVersions ManufacturerModelName Manufacturer
SequenceName PulseSequenceName ReceiveCoilName TransmitCoilName CassetteID ContrastBolusAgent ClinicalTrialSubjectID
ClinicalTrialProtocolName ClinicalTrialSiteName TextComments ContentCreatorName VerifyingObserverName
PersonName PersonAddress BodyPartExamined ScanningSequence SequenceVariant ScanOptions
PatientBirthDate StudyDate SeriesDate AcquisitionDate ContentDate StudyTime SeriesTime AcquisitionTime ContentTime
""".split()  # noqa: SIM905


def planted(made: Dataset) -> Dataset:
    """Canaries wherever a name could be; the structure that reading needs stays."""
    for name in TEXTS:
        tag = Tag(name)
        kind = pydicom.datadict.dictionary_VR(tag)
        if kind != "SQ":
            made[tag] = pydicom.DataElement(tag, "LO" if kind in ("DA", "TM", "CS", "PN") else kind, CANARY)
    made.private_block(0x09, f"{CANARY} PRIVATE", create=True).add_new(1, "LO", CANARY)
    made.private_block(0x29, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", CANARY.encode() * 9)
    made.private_block(0x19, "SIEMENS MR HEADER", create=True).add_new(0x0C, "IS", "1000")
    made.RequestAttributesSequence = [Dataset()]
    made.RequestAttributesSequence[0].ScheduledProcedureStepDescription = CANARY
    made.StudyInstanceUID = made.FrameOfReferenceUID = "1.2.77777"
    made.ImageType = ["ORIGINAL", "PRIMARY", "M", CANARY]
    return made


def told(path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> str:
    """Everything that reading ``path`` says, in whatever way."""
    said = []
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(0):
        warnings.simplefilter("always")
        try:
            picture = read_dicom(path)
            said += [repr(picture), repr(picture.pixels), str(picture.metadata), picture.name, *picture.warnings]
            said += [repr(picture.geometry), repr(getattr(picture.pixels, "places", ""))]
            said.append(str(picture.pixels[0].sum()))
        except DataError as error:
            said += [str(error), repr(error), repr(error.__cause__), repr(error.__suppress_context__)]
        said += [str(warning.message) for warning in caught]
    out, err = capsys.readouterr()
    return "\n".join([*said, out, err, caplog.text]).replace(str(path), "")


@pytest.mark.parametrize(
    "fault",
    ["none", "gap", "two series", "cut short", "CT", "modality", "sizes", "colour", "syntax", "numbers", "twice"],
)
def test_no_canary_sings(
    tmp_path: Path, fault: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "in"
    for number in range(4):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = planted(single(number + (fault == "gap" and number > 2), number + 1))
            made.SOPInstanceUID, made.SeriesInstanceUID = f"1.2.77777.{number}", "1.2.77777.9"
            last = number == 3
            if fault == "two series" and last:
                made.SeriesInstanceUID = "1.2.77777.8"
            if fault in ("CT", "modality"):
                made["Modality"] = pydicom.DataElement("Modality", "LO", "CT" if fault == "CT" else CANARY)
            if fault == "sizes" and last:
                made.Rows, made.Columns = 6, 32
            if fault == "colour":
                made["PhotometricInterpretation"].value = CANARY
            if fault == "numbers" and last:
                for name in ("EchoTime", "SliceThickness", "ImagePositionPatient", "SeriesNumber", "InstanceNumber"):
                    made[name] = pydicom.DataElement(name, "LO", CANARY)
            if fault == "twice" and last:
                made.SOPInstanceUID = "1.2.77777.0"
            path = save(made, folder / f"{CANARY}-{number}.dcm")
            if fault == "syntax":
                path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.77777.1.2.3.4.5\0"))
            if fault == "cut short" and last:
                path.write_bytes(path.read_bytes()[:-9])
    said = told(folder, capsys, caplog)
    assert ("4 slices" in said) == (fault == "none")
    assert CANARY not in said
    assert "77777" not in said


def element(group: int, number: int, kind: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", group, number, kind, len(value)) + value


START = bytes(128) + b"DICM" + element(2, 0x10, b"UI", b"1.2.840.10008.1.2.1\0")
IMPLICIT = bytes(128) + b"DICM" + element(2, 0x10, b"UI", b"1.2.840.10008.1.2\0")
ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, 0)
OPEN_ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)


def sequence(group: int, number: int) -> bytes:
    return struct.pack("<HH2sHL", group, number, b"SQ", 0, 0xFFFFFFFF)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (START + (sequence(0x5200, 0x9230) + OPEN_ITEM) * 50_000, "nested more than 16 deep"),
        (START + (sequence(0x0009, 0x1001) + OPEN_ITEM) * 50_000, "nested more than 16 deep"),
        (START + element(9, 1, b"LO", b"") * 30_000, "more than 20000 elements"),
        (START + sequence(0x5200, 0x9230) + ITEM * 15_000, "more than 10000 values"),
        (START + struct.pack("<HH2sHL", 8, 8, b"UN", 0, 1 << 20) + bytes(1 << 20), "takes 1048576 bytes"),
        (START + struct.pack("<HH2sHL", 9, 8, b"UN", 0, 0xFFFFFFF0), "longer than what holds it"),
        (START + struct.pack("<HH2sHL", 8, 8, b"UN", 0, 0xFFFFFFF0), "longer than what holds it"),
        (START + element(8, 8, b"CS", b"A") + b"\x08\0", "no image"),
        (START + sequence(0x5200, 0x9230) + element(8, 8, b"CS", b""), "sequence in its header is damaged"),
        (START + sequence(0x5200, 0x9230) + OPEN_ITEM, "has no end"),
        (IMPLICIT + element(8, 0x60, b"CS", b"MR"), "longer than what holds it"),  # it is explicit
        (START + struct.pack("<HHL", 8, 0x60, 2) + b"MR", "not laid out as its transfer syntax"),  # it is implicit
        (bytes(128) + b"DICM", "no transfer syntax"),
        (bytes(128) + b"DICM" + element(2, 0x10, b"UI", b"CANARY"), "no transfer syntax"),
    ],
)
def test_harmful_headers_are_refused_at_once(
    tmp_path: Path, content: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nirvana_mri.io.dicom.elements.LARGEST_COUNT", 20_000)
    monkeypatch.setattr("nirvana_mri.io.dicom.elements.LARGEST_KEPT", 10_000)
    path = tmp_path / "x.dcm"
    path.write_bytes(content)
    assert is_dicom(path)
    start = time.process_time()  # other processes' work is no fault of the reader's
    with pytest.raises(DataError, match=message) as caught:
        read_dicom(path)
    assert "\n" not in str(caught.value)
    assert "CANARY" not in str(caught.value)
    assert time.process_time() - start < 5


def test_a_declared_size_beyond_the_file(tmp_path: Path) -> None:
    """Refused without making room for it."""
    made = single(0, 1)
    made.Rows = made.Columns = 8192
    made.BitsAllocated = made.BitsStored = 32
    made.HighBit = 31
    path = save(made, tmp_path / "x.dcm")
    tracemalloc.start()
    with pytest.raises(DataError, match="cut short: 268435072 bytes"):
        read_dicom(path)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_large_values_that_are_not_wanted_are_not_kept(tmp_path: Path) -> None:
    made = single(0, 1)
    made.private_block(0x09, "X", create=True).add_new(1, "OB", bytes(3 << 20))
    made.PatientName = "Doe^Jane"
    path = save(made, tmp_path / "x.dcm")
    kept = read_header(path).elements
    assert "PatientName" not in kept.values
    assert sum(len(value) for _, value in kept.values.values()) < 1000
    assert read_dicom(path).shape[0] == 1


def test_a_pipe_among_the_files_is_not_waited_for(tmp_path: Path) -> None:
    write_series(tmp_path)
    os.mkfifo(tmp_path / "pipe.dcm")
    assert read_dicom(tmp_path).shape[0] == 5
    assert read_dicom(tmp_path / "0001.dcm").shape[0] == 5


def test_a_damaged_file_is_named_by_its_number(tmp_path: Path) -> None:
    write_series(tmp_path)
    whole = (tmp_path / "0002.dcm").read_bytes()
    (tmp_path / "0002.dcm").write_bytes(whole[:400])
    with pytest.raises(DataError, match="file 3 in the order of names: "):
        read_dicom(tmp_path)
    (tmp_path / "0002.dcm").write_bytes(whole[:-1])
    with pytest.raises(DataError, match="file 3 in the order of names is cut short: 1 bytes"):
        read_dicom(tmp_path)


def test_damage_beside_a_series_is_told(tmp_path: Path) -> None:
    write_series(tmp_path)
    (tmp_path / "a.dcm").write_bytes(START + b"damaged header")
    assert "1 damaged DICOM files" in read_dicom(tmp_path / "0001.dcm").warnings[0]


def samples(folder: Path) -> list[bytes]:
    packed = enhanced()
    packed.compress(RLELossless)
    implicit = single(0, 1)
    implicit.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
    made = []
    for number, dataset in enumerate((single(0, 1), enhanced(), packed, implicit)):
        made.append(save(dataset, folder / f"{number}.dcm").read_bytes())
    return made


def damaged(whole: bytes, rng: np.random.Generator, case: int) -> bytes:
    """Cut, bytes changed, a length overwritten, or a piece taken out."""
    content = bytearray(whole)
    if case % 4 == 0:
        return bytes(content[: rng.integers(len(whole))])
    if case % 4 == 1:
        for place in rng.integers(132, len(whole), size=4):
            content[place] = rng.integers(256)
    elif case % 4 == 2:
        place = int(rng.integers(132, len(whole) - 4))
        content[place : place + 4] = (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\xfe\xff\x00\xe0")[case % 3]
    else:
        first, last = sorted(rng.integers(132, len(whole), size=2))
        del content[first:last]
    return bytes(content)


def outcome(path: Path) -> str:
    """The message of the DataError that reading ends with, empty where it succeeds; nothing else is caught."""
    try:
        for picture in read_dicom(path).pixels:
            assert np.isfinite(picture).all()
    except DataError as error:
        return str(error)
    return ""


def test_damage_gives_one_line_or_a_valid_read(tmp_path: Path) -> None:
    """200 seeded cases over four kinds of file; nothing but a DataError ever comes out."""
    whole = samples(tmp_path / "samples")
    rng = np.random.default_rng(11)
    path = tmp_path / "x.dcm"
    outcomes = {"read": 0, "refused": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for case in range(200):
            path.write_bytes(damaged(whole[case // 4 % len(whole)], rng, case))
            start = time.perf_counter()
            message = outcome(path)
            assert time.perf_counter() - start < 5
            assert "\n" not in message
            outcomes["refused" if message else "read"] += 1
    assert min(outcomes.values()) >= 20
