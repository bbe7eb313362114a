"""The content tree of a DICOM structured report: TID 2000, Basic Diagnostic Imaging Report (PS3.16).

All concept names are of the standard, because validators warn of others and readers may drop them. A fact is a text
("signal over noise: 41.7"), inferred from a Quantity where it is a number, with its name as Short Label and the path of
its JSON field as Tracking Identifier.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from highdicom.sr import (
    CodeContentItem,
    CodedConcept,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    LanguageOfContentItemAndDescendants,
    NumContentItem,
    ObserverContext,
    TextContentItem,
)
from pydicom.sr.codedict import codes

from nirvana_mri.io.writers.dicom_series import IMPLEMENTATION
from nirvana_mri.report.formats.codes import ABSENT, MR_IMAGING, PRESENT, STRUCTURES
from nirvana_mri.report.formats.content import Section, Statement, notice_of, sections
from nirvana_mri.report.formats.rows import Row
from nirvana_mri.report.formats.text import clean, word

COMMENT, QUANTITY = codes.DCM.Comment, codes.SCT.Quantity
PROCEDURE = (codes.LN.CurrentProcedureDescriptions, codes.DCM.ProcedureDescription)
# (heading, name of its paragraphs) of each section; Comment for the others
HEADINGS = {
    "exam": PROCEDURE,
    "technique": PROCEDURE,
    "measures": (codes.DCM.ImageQuality, COMMENT),
    "scores": (codes.DCM.ImageQuality, COMMENT),
    "findings": (codes.LN.Findings, codes.DCM.Finding),
    "impression": (codes.LN.Impressions, codes.DCM.Impression),
    "scan": PROCEDURE,
    "reconstruction": PROCEDURE,
}


def content_tree(facts: Mapping[str, Any]) -> ContainerContentItem:
    """The root container. Raises: DataError, as `sections`."""
    root = ContainerContentItem(name=codes.LN.DiagnosticImagingReport, template_id="2000")
    _fill(root, _items(facts))
    return root


def _items(facts: Mapping[str, Any]) -> Iterator[ContentItem]:
    yield from LanguageOfContentItemAndDescendants(CodedConcept("en", "RFC5646", "English"))
    yield _code(codes.DCM.ProcedureReported, MR_IMAGING, "HAS CONCEPT MOD")
    yield from _observer(facts)
    yield _container(codes.LN.Summary, "Notice", [_text(codes.LN.Summary, notice_of(facts))])
    for section in sections(facts):
        heading, paragraph = HEADINGS.get(section.name, (COMMENT, COMMENT))
        yield _container(heading, section.title, _section(section, paragraph))


def _observer(facts: Mapping[str, Any]) -> ObserverContext:
    """Who says so: the toolkit, by version and model."""
    model = f"{word(facts.get('model'), 'none')}, sha256 {word(facts.get('model_sha256'), 'none')}"
    device = DeviceObserverIdentifyingAttributes(
        uid=IMPLEMENTATION,
        name="nirvana-mri",
        manufacturer_name="nirvana-mri",
        model_name=f"nirvana-mri {word(facts.get('toolkit_version'))}, model {model}",
    )
    return ObserverContext(CodedConcept.from_code(codes.DCM.Device), device)


def _section(section: Section, paragraph: Any) -> Iterator[ContentItem]:
    if section.caution:
        yield _text(COMMENT, section.caution)
    for words in section.paragraphs:
        yield _text(paragraph, words)
    yield from (_fact(row, paragraph) for row in section.rows)
    for group in section.groups:
        yield _container(COMMENT, group.title, (_fact(row, paragraph) for row in group.rows))
    yield from map(_finding, section.statements)


def _finding(said: Statement) -> ContentItem:
    """A finding in words; whether present or absent is a modifier of its name, so that it cannot be read without."""
    item = _text(codes.DCM.Finding, said.words)
    children = [_code(codes.DCM.PresenceOfProperty, ABSENT if said.absent else PRESENT, "HAS CONCEPT MOD")]
    children += _names(said.label, said.field)
    if said.structure:
        known = STRUCTURES.get(said.structure.lower())
        site = codes.SCT.FindingSite
        if known:
            children.append(_code(site, known, "HAS PROPERTIES"))
        children.append(_text(site, said.structure, "HAS PROPERTIES"))
    children += [_fact(row, COMMENT, "HAS PROPERTIES") for row in said.rows]
    _fill(item, children)
    return item


def _fact(row: Row, name: Any, relationship: str = "CONTAINS") -> ContentItem:
    """A fact in words, as every viewer shows it; where it is a number, inferred from the exact one."""
    item = _text(name, f"{row.label}: {row.shown}", relationship)
    if row.number is None or row.unit is None:
        _fill(item, _names(row.label, row.field))
        return item
    unit = CodedConcept(row.unit.code, "UCUM", row.unit.name)
    number = NumContentItem(QUANTITY, row.number, unit, relationship_type="INFERRED FROM")
    _fill(number, _names(row.label, row.field))
    _fill(item, [number])
    return item


def _names(label: str, field: str) -> list[ContentItem]:
    return [
        _text(codes.DCM.ShortLabel, label, "HAS CONCEPT MOD"),
        _text(codes.DCM.TrackingIdentifier, clean(field), "HAS OBS CONTEXT"),
    ]


def _container(name: Any, title: str, items: Iterable[ContentItem]) -> ContainerContentItem:
    made = ContainerContentItem(name=name, relationship_type="CONTAINS")
    _fill(made, [_text(codes.DCM.ShortLabel, title, "HAS CONCEPT MOD"), *items])
    return made


def _text(name: Any, words: str, relationship: str = "CONTAINS") -> ContentItem:
    return TextContentItem(name, words, relationship)


def _code(name: Any, value: tuple[str, str], relationship: str) -> ContentItem:
    return CodeContentItem(name, CodedConcept(value[0], "SCT", value[1]), relationship)


def _fill(item: ContentItem, children: Iterable[ContentItem]) -> None:
    item.ContentSequence = ContentSequence(list(children), is_root=False, is_sr=True)
