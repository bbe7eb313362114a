"""The FHIR report: valid by the library, preliminary, numbers in UCUM, nobody's unless asked."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fhir.resources", reason="no fhir.resources (extra fhir)")

from dicom_support import write_series
from fhir.resources.R4B.diagnosticreport import DiagnosticReport
from fhir.resources.R4B.observation import Observation
from report_facts import SHA256, WATERMARK, facts

from nirvana_mri.report.formats import write_report


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = write_report(facts(), tmp_path_factory.mktemp("fhir") / "r.fhir.json")
    return dict(json.loads(out.read_text("utf-8")))


@pytest.mark.parametrize("more", [{}, {"findings": []}, {"scores": [], "snr": None, "text": {}, "scan": {}}])
def test_it_comes_through_the_library_unchanged(tmp_path: Path, more: dict[str, Any]) -> None:
    text = write_report(facts(**more), tmp_path / "r.fhir.json").read_text("utf-8")
    assert json.loads(DiagnosticReport.model_validate_json(text).model_dump_json()) == json.loads(text)
    for resource in json.loads(text)["contained"]:
        if resource["resourceType"] == "Observation":
            Observation.model_validate(resource)


def test_it_is_preliminary_and_not_for_clinical_use(report: dict[str, Any]) -> None:
    assert (report["resourceType"], report["status"]) == ("DiagnosticReport", "preliminary")
    assert report["category"][0]["coding"][0]["code"] == "RAD"
    assert "NOT FOR CLINICAL USE" in report["conclusion"]
    assert WATERMARK in report["conclusion"]
    assert WATERMARK in report["text"]["div"]
    assert all(one["status"] == "preliminary" for one in _observations(report))
    assert "presentedForm" not in report


def test_contained_resources_are_referred_to_and_found(report: dict[str, Any]) -> None:
    ids = [one["id"] for one in report["contained"]]
    assert len(set(ids)) == len(ids)
    assert [one["reference"] for one in report["result"]] == [f"#{one['id']}" for one in _observations(report)]
    (device,) = (one for one in report["contained"] if one["resourceType"] == "Device")
    assert SHA256 in [version["value"] for version in device["version"]]
    assert {one["device"]["reference"] for one in _observations(report)} == {f"#{device['id']}"}


@pytest.mark.parametrize(
    ("code", "value", "unit"),
    [("acceleration", 3.8461538, "1"), ("snr", 41.72, "1"), ("null_space_fraction", 12.34, "%")],
)
def test_numbers_are_quantities_in_ucum(report: dict[str, Any], code: str, value: float, unit: str) -> None:
    (one,) = (one for one in _observations(report) if one["code"]["coding"][0]["code"] == code)
    quantity = one["valueQuantity"]
    assert quantity["value"] == pytest.approx(value, rel=1e-12)
    assert (quantity["system"], quantity["code"]) == ("http://unitsofmeasure.org", unit)


def test_scores_stand_under_their_protocol(report: dict[str, Any]) -> None:
    (score,) = (one for one in _observations(report) if one["code"]["text"] == "nirvana, protocol fastMRI 1a2b3c4d5e6f")
    values = {part["code"]["text"]: part["valueQuantity"] for part in score["component"]}
    assert values["SSIM"]["value"] == 0.91234
    assert values["PSNR"]["code"] == "dB"


def test_a_negated_finding_is_false(report: dict[str, Any]) -> None:
    found = {one["code"]["text"]: one for one in _observations(report) if "bodySite" in one}
    assert found["Nonspecific white matter lesion"]["valueBoolean"] is True
    assert found["Meniscus Tear"]["valueBoolean"] is False
    assert found["Meniscus Tear"]["bodySite"]["text"] == "posterior horn"
    assert all(WATERMARK in one["note"][0]["text"] for one in found.values())


def test_what_was_not_measured_has_a_reason(tmp_path: Path) -> None:
    out = write_report(facts(snr=None), tmp_path / "r.fhir.json")
    report = json.loads(out.read_text("utf-8"))
    (one,) = (one for one in _observations(report) if one["code"]["coding"][0]["code"] == "snr")
    assert one["dataAbsentReason"]["coding"][0]["code"] == "not-performed"
    assert not any(key.startswith("value") for key in one)


def test_the_patient_is_masked_unless_given(report: dict[str, Any], tmp_path: Path) -> None:
    assert report["subject"]["extension"][0]["valueCode"] == "masked"
    assert "imagingStudy" not in report

    def named(made: Any, *_: int) -> Any:
        made.PatientName, made.PatientID = "Doe^Jane", "77"
        return made

    series = write_series(tmp_path / "series", 2, change=named)
    out = write_report(facts(), tmp_path / "r.fhir.json", reference=series, keep_identifiers=True)
    given = json.loads(out.read_text("utf-8"))
    assert given["subject"] == {"identifier": {"value": "77"}, "display": "Doe Jane"}
    assert given["imagingStudy"][0]["identifier"]["value"] == "urn:oid:1.2.3"
    DiagnosticReport.model_validate(given)


def _observations(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in report["contained"] if one["resourceType"] == "Observation"]
