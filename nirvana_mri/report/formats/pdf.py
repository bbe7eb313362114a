"""Facts → a PDF report: A4, selectable text, the notice on every page; the same facts give the same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reportlab.lib.pagesizes import A4
from reportlab.platypus import BaseDocTemplate, Frame, PageTemplate

from nirvana_mri.atomic import atomic_path
from nirvana_mri.errors import DataError
from nirvana_mri.report.formats.content import (
    HEADLINES,
    Group,
    Section,
    Statement,
    notice_of,
    sections,
    title_of,
)
from nirvana_mri.report.formats.identity import Identity
from nirvana_mri.report.formats.pdf_page import CAUTION, HEADING, LEAD, MARGIN, TITLE, TOP, WIDTH, Paper, paragraph
from nirvana_mri.report.formats.pdf_tables import badge, facts_table, picture, scores_table, tiles, titled
from nirvana_mri.report.formats.rows import Row
from nirvana_mri.report.formats.text import clean, word


def write_pdf(facts: Mapping[str, Any], path: str | Path, identity: Identity, pictures: Mapping[str, bytes]) -> Path:
    """Write the report, whole or not at all; the path. ``pictures`` are PNG files by caption.

    Raises: DataError for facts or pictures that cannot be printed, or a full disk.
    """
    parts = sections(facts)
    caution = next((section.caution for section in parts if section.caution), "")
    version = word(facts.get("toolkit_version"))
    paper = Paper(notice_of(facts), title_of(facts), version, caution)
    story = list(_story(facts, parts, identity, pictures))
    try:
        with atomic_path(path) as temporary:
            _document(temporary, paper).build(story)
    except OSError as problem:
        raise DataError(f"{path}: cannot be written ({problem}); check space and permissions") from problem
    return Path(path)


def _document(path: Path, paper: Paper) -> BaseDocTemplate:
    document = BaseDocTemplate(
        str(path),
        pagesize=A4,
        title=paper.title,
        author="nirvana-mri",
        subject=paper.notice,
        creator="nirvana-mri",
        lang="en",
        invariant=1,  # no date, no random id
    )
    frame = Frame(MARGIN, TOP, WIDTH, A4[1] - 2 * TOP, leftPadding=0, rightPadding=0, topPadding=0, bottomPadding=0)
    document.addPageTemplates([PageTemplate("page", [frame], onPage=paper)])
    return document


def _story(
    facts: Mapping[str, Any], parts: tuple[Section, ...], identity: Identity, pictures: Mapping[str, bytes]
) -> Iterator[Any]:
    yield paragraph(title_of(facts), TITLE)
    yield paragraph(f"{word(facts.get('file'), 'scan')[:200]} · {notice_of(facts)}", LEAD)
    yield from facts_table([Row(label, clean(text), f"identity.{label}") for label, text in identity.rows])
    measured = {section.name: section for section in parts}.get("measures")
    if measured:
        yield from _headlines(measured)
    for caption, content in pictures.items():
        yield picture(clean(caption), content)
    for section in parts:
        yield paragraph(section.title, HEADING)
        if section.caution:
            yield paragraph(section.caution, CAUTION)
        for words in section.paragraphs:
            yield paragraph(words)
        yield from facts_table([row for row in section.rows if section is not measured or not _is_headline(row)])
        yield from _groups(section)
        for statement in section.statements:
            yield from titled(_as_group(statement))


def _headlines(measured: Section) -> Iterator[Any]:
    """The verdict and the headline numbers, which stand first."""
    rows = {row.field: row for row in measured.rows}
    if "residual.badge" in rows:
        yield badge(rows["residual.badge"], rows.get("residual.sentence"))
    yield from tiles([rows[name] for name in HEADLINES if name in rows])


def _is_headline(row: Row) -> bool:
    return row.field in (*HEADLINES, "residual.badge", "residual.sentence")


def _groups(section: Section) -> Iterator[Any]:
    scores = [group for group in section.groups if not _is_protocol(group)]
    yield from scores_table(scores)
    for group in section.groups:
        if _is_protocol(group):
            yield from titled(group)


def _is_protocol(group: Group) -> bool:
    return any(".protocol." in row.field for row in group.rows)


def _as_group(said: Statement) -> Group:
    where = [Row("structure", said.structure, f"{said.field}.structure")] if said.structure else []
    return Group(said.words, (*where, *said.rows))
