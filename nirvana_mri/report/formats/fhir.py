"""Facts → a FHIR DiagnosticReport (R4, by the classes of R4B, which read alike): preliminary, in one JSON file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from fhir.resources.R4B.diagnosticreport import DiagnosticReport

from nirvana_mri.atomic import atomic_path
from nirvana_mri.errors import DataError
from nirvana_mri.report.formats.codes import FIELDS_UID
from nirvana_mri.report.formats.content import Section, notice_of, sections, title_of
from nirvana_mri.report.formats.fhir_observation import DEVICE, Resource, observations
from nirvana_mri.report.formats.identity import Identity
from nirvana_mri.report.formats.text import word

ABSENT_REASON = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
IMAGING = {"system": "http://loinc.org", "code": "18748-4", "display": "Diagnostic imaging study"}
RADIOLOGY = {"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD", "display": "Radiology"}


def write_fhir(facts: Mapping[str, Any], path: str | Path, identity: Identity) -> Path:
    """Write the report as FHIR JSON, whole or not at all; the path. The same facts give the same bytes.

    Raises: DataError for facts that FHIR cannot hold, or a full disk.
    """
    content = json.dumps(diagnostic_report(facts, identity), indent=2, ensure_ascii=False, allow_nan=False)
    try:
        with atomic_path(path) as temporary:
            temporary.write_text(content + "\n", encoding="utf-8")
    except OSError as problem:
        raise DataError(f"{path}: cannot be written ({problem}); check space and permissions") from problem
    return Path(path)


def diagnostic_report(facts: Mapping[str, Any], identity: Identity) -> Resource:
    """The report as the library has checked it. Raises: DataError."""
    parts = sections(facts)
    subject = _subject(identity)
    made = [resource for section in parts for resource in observations(section, subject)]
    for number, resource in enumerate(made, 1):
        resource["id"] = f"o{number}"
    notice = notice_of(facts)
    report: Resource = {
        "resourceType": "DiagnosticReport",
        "meta": {"tag": [{"system": f"urn:oid:{FIELDS_UID}", "code": "notice", "display": notice}]},
        "language": "en",
        "text": {"status": "generated", "div": _narrative(facts, parts)},
        "contained": [_device(facts), *made],
        "status": "preliminary",
        "category": [{"coding": [RADIOLOGY]}],
        "code": {"coding": [IMAGING], "text": title_of(facts)},
        "subject": subject,
        "result": [{"reference": f"#{resource['id']}"} for resource in made],
        "conclusion": "; ".join(_conclusion(parts, notice)),
    }
    if study := identity.values.get("StudyInstanceUID"):
        uid = {"system": "urn:dicom:uid", "value": f"urn:oid:{study}"}
        report["imagingStudy"] = [{"type": "ImagingStudy", "identifier": uid}]
    try:
        checked = DiagnosticReport.model_validate(report)
    except ValueError:  # the library's words repeat values, a name among them
        raise DataError("report: the facts make no valid FHIR; write .pdf or .json; nothing written") from None
    return dict(json.loads(checked.model_dump_json()))


def _device(facts: Mapping[str, Any]) -> Resource:
    """The toolkit, by version and model."""
    versions = [{"type": {"text": "toolkit"}, "value": word(facts.get("toolkit_version"))}]
    if facts.get("model_sha256"):
        versions.append({"type": {"text": "model sha256"}, "value": word(facts["model_sha256"])})
    return {
        "resourceType": "Device",
        "id": DEVICE,
        "manufacturer": "nirvana-mri",
        "deviceName": [{"name": "nirvana-mri", "type": "manufacturer-name"}],
        "modelNumber": word(facts.get("model"), "no model"),
        "version": versions,
    }


def _subject(identity: Identity) -> Resource:
    """The patient that was given, else that there is one who is not named."""
    known = {name: str(identity.values.get(name) or "").strip() for name in ("PatientID", "PatientName")}
    subject: Resource = {}
    if known["PatientID"]:
        subject["identifier"] = {"value": known["PatientID"]}
    if known["PatientName"]:
        subject["display"] = known["PatientName"].replace("^", " ").strip()
    return subject or {"extension": [{"url": ABSENT_REASON, "valueCode": "masked"}]}


def _conclusion(parts: tuple[Section, ...], notice: str) -> Iterator[str]:
    """The notice, the impression under its watermark, and the verdict on the residual."""
    yield notice.upper()
    for section in parts:
        if section.caution:
            yield section.caution
            break
    for section in parts:
        if section.name == "impression":
            yield from section.paragraphs
        if section.name == "measures":
            yield from (row.text for row in section.rows if row.field in ("residual.badge", "residual.sentence"))


def _narrative(facts: Mapping[str, Any], parts: tuple[Section, ...]) -> str:
    """The report as XHTML for people: the words; the numbers are in the observations, the headlines here too."""
    pieces = [f"<h1>{escape(title_of(facts))}</h1>", f"<p><b>{escape(notice_of(facts))}</b></p>"]
    for section in parts:
        pieces.append(f"<h2>{escape(section.title)}</h2>")
        pieces += [f"<p><b>{escape(section.caution)}</b></p>"] if section.caution else []
        pieces += [
            f"<p>{escape(words)}</p>" for words in (*section.paragraphs, *(one.words for one in section.statements))
        ]
        rows = [*section.rows, *(row for group in section.groups for row in group.rows)]
        cells = [f"<tr><td>{escape(row.label)}</td><td>{escape(row.shown)}</td></tr>" for row in rows]
        pieces += [f"<table><tbody>{''.join(cells)}</tbody></table>"] if cells else []
    return f'<div xmlns="http://www.w3.org/1999/xhtml">{"".join(pieces)}</div>'
