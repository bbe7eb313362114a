"""The structured report: preliminary, of the standard's template, and clean for the validators."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pydicom
import pytest

pytest.importorskip("highdicom", reason="no highdicom (extra dicom)")

from dicom_support import write_series
from pydicom.dataset import Dataset
from report_facts import SHA256, facts, items
from written import needs_dicom3tools, volume

import nirvana_mri as nm
from nirvana_mri.errors import DataError
from nirvana_mri.report.formats import write_report

needs_dcmtk = pytest.mark.skipif(not shutil.which("dsrdump"), reason="no dsrdump (dcmtk); run: make peers")
NONE = dict.fromkeys(("model", "model_sha256", "snr", "residual_over_noise", "residual", "null_space_fraction"))
CASES: dict[str, dict[str, Any]] = {
    "draft": facts(),
    "technical": facts(findings=False),
    "sparse": facts(findings=False, **NONE, error_bars=None, scores=[], scan={}, reconstruction={}, text={}),
    "hostile": facts(warnings=["a\\b^c=d \x00\x1b", "日本語 עברית", "x" * 10_000], method="\ud800\\", model="y" * 200),
}


@needs_dicom3tools
@pytest.mark.parametrize("case", CASES)
def test_dciodvfy_finds_nothing(tmp_path: Path, case: str) -> None:
    assert _faults(write_report(CASES[case], tmp_path / "r.dcm")) == []


@needs_dicom3tools
def test_dciodvfy_finds_nothing_beside_the_source_series(tmp_path: Path) -> None:
    source = nm.save(volume(), tmp_path / "source.dcm")
    out = write_report(facts(), tmp_path / "r.dcm", reference=source, keep_identifiers=True)
    assert _faults(out) == []
    both = [out, next(source.iterdir())]
    done = subprocess.run(["dcentvfy", *both], capture_output=True, text=True, check=False)
    assert "Error" not in done.stdout + done.stderr, "patient and study are those of the source"


@needs_dicom3tools
def test_dciodvfy_would_see_a_fault(tmp_path: Path) -> None:
    out = write_report(facts(), tmp_path / "r.dcm")
    report = pydicom.dcmread(out)
    del report.VerificationFlag
    report.save_as(out)
    assert _faults(out)


@needs_dcmtk
@pytest.mark.parametrize("case", CASES)
def test_dsrdump_reads_it(tmp_path: Path, case: str) -> None:
    out = write_report(CASES[case], tmp_path / "r.dcm")
    done = subprocess.run(["dsrdump", out], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Diagnostic Imaging Report" in done.stdout
    assert not [line for line in done.stderr.splitlines() if line and "Character Set" not in line]


def test_it_is_preliminary_and_by_a_device(tmp_path: Path) -> None:
    report = pydicom.dcmread(write_report(facts(), tmp_path / "r.dcm"))
    assert report.SOPClassUID.name == "Comprehensive SR Storage"
    assert (report.CompletionFlag, report.PreliminaryFlag) == ("PARTIAL", "PRELIMINARY")
    assert report.VerificationFlag == "UNVERIFIED"
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "2000"
    assert "NOT FOR CLINICAL USE" in report.SeriesDescription
    names = {_name(item): item for item in report.ContentSequence}
    assert names["Observer Type"].ConceptCodeSequence[0].CodeMeaning == "Device"
    assert SHA256 in names["Device Observer Model Name"].TextValue
    assert names["Language of Content Item and Descendants"].ConceptCodeSequence[0].CodeValue == "en"
    assert "Procedure reported" in names
    assert {"Findings", "Impressions", "Current Procedure Descriptions", "Image Quality"} <= set(names)


@pytest.mark.parametrize(
    ("field", "value", "unit"),
    [
        ("acceleration", 3.8461538, "1"),
        ("snr", 41.72, "1"),
        ("residual_over_noise", 1.0837, "1"),
        ("null_space_fraction", 12.34, "%"),
        ("scores.0.ssim", 0.91234, "1"),
        ("scores.2.psnr", 32.8148, "dB"),
        ("scan.metadata.tr_ms", 4001.5, "ms"),
        ("findings.0.score", 0.731, "1"),
    ],
)
def test_numbers_are_exact_and_in_ucum(tmp_path: Path, field: str, value: float, unit: str) -> None:
    report = pydicom.dcmread(write_report(facts(), tmp_path / "r.dcm"))
    (measured,) = (item.MeasuredValueSequence[0] for item in _of_field(report, field) if item.ValueType == "NUM")
    assert measured.FloatingPointValue == pytest.approx(value, rel=1e-12)
    units = measured.MeasurementUnitsCodeSequence[0]
    assert (units.CodeValue, units.CodingSchemeDesignator) == (unit, "UCUM")


def test_a_finding_is_present_or_absent_by_its_modifier(tmp_path: Path) -> None:
    report = pydicom.dcmread(write_report(facts(), tmp_path / "r.dcm"))
    said = [item for item in items(report) if _name(item) == "Finding" and "ContentSequence" in item]
    assert [_child(item, "Presence of property") for item in said] == ["Present", "Absent"]
    sites = [child for item in said for child in item.ContentSequence if _name(child) == "Finding Site"]
    assert [site.ConceptCodeSequence[0].CodeMeaning for site in sites if "ConceptCodeSequence" in site] == ["Brain"]
    assert [site.TextValue for site in sites if "TextValue" in site] == ["brain", "posterior horn"]


def test_only_the_uids_and_dates_differ_between_two_writings(tmp_path: Path) -> None:
    one, two = (pydicom.dcmread(write_report(facts(), tmp_path / f"{n}.dcm")) for n in "ab")
    assert one.ContentSequence == two.ContentSequence
    assert one.SOPInstanceUID != two.SOPInstanceUID
    assert one.StudyInstanceUID != two.StudyInstanceUID


def test_without_a_reference_the_patient_is_nobody(tmp_path: Path) -> None:
    report = pydicom.dcmread(write_report(facts(), tmp_path / "r.dcm"))
    assert (str(report.PatientName), report.PatientBirthDate, report.AccessionNumber) == ("ANONYMOUS^NIRVANA", "", "")
    assert report.PatientID.startswith("NIRVANA-")
    assert "CurrentRequestedProcedureEvidenceSequence" not in report


def test_with_a_reference_it_joins_the_study_and_names_its_images(tmp_path: Path) -> None:
    report = pydicom.dcmread(_named(tmp_path, PatientName="Müller^Jane", PatientSex="F"))
    assert (str(report.PatientName), report.PatientSex, report.StudyInstanceUID) == ("Müller^Jane", "F", "1.2.3")
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    images = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert sorted(image.ReferencedSOPInstanceUID for image in images) == ["1.2.3.4.1", "1.2.3.4.2", "1.2.3.4.3"]


def test_an_identifier_that_is_not_allowed_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        _named(tmp_path, PatientSex="CANARY")
    assert "CANARY" not in str(caught.value)
    assert not (tmp_path / "r.dcm").exists()


def _named(folder: Path, **values: str) -> Path:
    def named(made: Dataset, *_: int) -> Dataset:
        made.SpecificCharacterSet = "ISO_IR 100"
        made.SOPInstanceUID = f"1.2.3.4.{made.InstanceNumber}"
        for name, value in values.items():
            setattr(made, name, value)
        return made

    series = write_series(folder / "series", 3, change=named)
    return write_report(facts(), folder / "r.dcm", reference=series, keep_identifiers=True)


def _faults(path: Path) -> list[str]:
    done = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)
    return [line for line in (done.stderr + done.stdout).splitlines() if line.startswith(("Error", "Warning"))]


def _name(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeMeaning)


def _child(item: Dataset, name: str) -> str:
    return next(str(one.ConceptCodeSequence[0].CodeMeaning) for one in item.ContentSequence if _name(one) == name)


def _of_field(report: Dataset, field: str) -> list[Dataset]:
    return [
        item
        for item in items(report)
        for child in item.get("ContentSequence", ())
        if _name(child) == "Tracking Identifier" and child.TextValue == field
    ]
