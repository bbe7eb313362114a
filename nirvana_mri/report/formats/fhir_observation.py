"""A section of the report as FHIR Observations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nirvana_mri.report.formats.codes import FIELDS_UID, STRUCTURES, field_code
from nirvana_mri.report.formats.content import Section, Statement
from nirvana_mri.report.formats.rows import NOT_MEASURED, Row

Resource = dict[str, Any]
DEVICE = "device"
UCUM, SNOMED = "http://unitsofmeasure.org", "http://snomed.info/sct"
NOT_PERFORMED = {
    "system": "http://terminology.hl7.org/CodeSystem/data-absent-reason",
    "code": "not-performed",
    "display": "Not Performed",
}
BY_THEMSELVES = ("measures",)  # sections whose rows are observations each; those of the others are components of one


def observations(section: Section, subject: Resource) -> Iterator[Resource]:
    """What the section says, each as a preliminary Observation without an id."""
    words = [section.caution] if section.caution else []
    if section.paragraphs:
        text = "\n".join((*words, *section.paragraphs))
        yield _observation(section.title, f"text.{section.name}", subject, {"valueString": text})
    for row in section.rows if section.name in BY_THEMSELVES else ():
        yield _observation(row.label, row.field, subject, _value(row))
    if section.rows and section.name not in BY_THEMSELVES:
        yield _panel(section.title, section.name, section.rows, subject)
    for group in section.groups:
        yield _panel(group.title, section.name, group.rows, subject)
    for statement in section.statements:
        yield _finding(statement, section.caution, subject)


def _finding(said: Statement, caution: str, subject: Resource) -> Resource:
    """A draft finding: true or (where it is said to be absent) false, where, and with the watermark as its note."""
    made = _observation(said.label, said.field, subject, {"valueBoolean": not said.absent})
    if said.structure:
        known = STRUCTURES.get(said.structure.lower())
        coding = {"coding": [{"system": SNOMED, "code": known[0], "display": known[1]}]} if known else {}
        made["bodySite"] = {**coding, "text": said.structure}
    made["component"] = [_component(row) for row in said.rows]
    made["note"] = [{"text": f"{said.words}: {caution}"}]
    return {key: item for key, item in made.items() if item != []}


def _panel(title: str, field: str, rows: tuple[Row, ...], subject: Resource) -> Resource:
    return _observation(title, field, subject, {"component": [_component(row) for row in rows]})


def _observation(label: str, field: str, subject: Resource, value: Resource) -> Resource:
    return {
        "resourceType": "Observation",
        "status": "preliminary",
        "code": _code(label, field),
        "subject": subject,
        "device": {"reference": f"#{DEVICE}"},
        **value,
    }


def _component(row: Row) -> Resource:
    return {"code": _code(row.label, row.field), **_value(row)}


def _code(label: str, field: str) -> Resource:
    return {"coding": [{"system": f"urn:oid:{FIELDS_UID}", "code": field_code(field)}], "text": label}


def _value(row: Row) -> Resource:
    if row.number is not None and row.unit is not None:
        unit = row.unit
        return {
            "valueQuantity": {"value": row.number, "unit": unit.sign or unit.code, "system": UCUM, "code": unit.code}
        }
    if row.text == NOT_MEASURED:
        return {"dataAbsentReason": {"coding": [NOT_PERFORMED], "text": NOT_MEASURED}}
    return {"valueString": row.shown}
