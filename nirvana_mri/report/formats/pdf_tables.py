"""The tables and pictures of a PDF report."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.platypus import Image, KeepTogether, Table, TableStyle

from nirvana_mri.errors import DataError
from nirvana_mri.report.formats.content import Group
from nirvana_mri.report.formats.pdf_page import (
    BIG,
    CELL,
    CELL_BOLD,
    CELL_LABEL,
    LINE,
    NOTE,
    SUBHEADING,
    TINT,
    WIDTH,
    paragraph,
)
from nirvana_mri.report.formats.rows import Row
from nirvana_mri.report.formats.text import cut

SHORT = 34  # characters of a value that leaves room for a second one beside it
LONGEST_LABEL, LONGEST_VALUE = 160, 700  # characters of a cell, which may not outgrow a page
LARGEST_PICTURE = (WIDTH, 115 * mm)
LINES = TableStyle(
    [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, LINE),
        ("TOPPADDING", (0, 0), (-1, -1), 1.5),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
    ]
)
TILES = TableStyle(
    [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("TOPPADDING", (0, 1), (-1, 1), 0),
        ("BOTTOMPADDING", (0, 0), (-1, 0), 0),
    ]
)


def facts_table(rows: Sequence[Row]) -> list[Any]:
    """Labels and values; two short facts share a line."""
    cells: list[list[Any]] = []
    spans = []
    waiting: Row | None = None
    for row in rows:
        short = len(row.shown) <= SHORT and len(row.label) <= SHORT
        if waiting is not None:
            cells.append([*_pair(waiting), *(_pair(row) if short else ("", ""))])
            waiting = None
            if short:
                continue
        if short:
            waiting = row
        else:
            spans.append(("SPAN", (1, len(cells)), (3, len(cells))))
            cells.append([*_pair(row), "", ""])
    if waiting is not None:
        cells.append([*_pair(waiting), "", ""])
    widths = [WIDTH * share for share in (0.22, 0.28, 0.22, 0.28)]
    return [Table(cells, widths, style=TableStyle(spans, parent=LINES))] if cells else []


def scores_table(groups: Sequence[Group]) -> list[Any]:
    """One line for each score where all have the same figures; else a table for each."""
    labels = [row.label for row in groups[0].rows] if groups else []
    if not labels or len(labels) > 6 or any([row.label for row in group.rows] != labels for group in groups):
        return [piece for group in groups for piece in titled(group)]
    head = [paragraph(words, CELL_LABEL) for words in ("method and protocol", *labels)]
    body = [
        [
            paragraph(cut(words, LONGEST_LABEL), CELL_BOLD if number == 0 else CELL)
            for words in (group.title, *_shown(group))
        ]
        for number, group in enumerate(groups)
    ]
    widths = [WIDTH * 0.4, *[WIDTH * 0.6 / len(labels)] * len(labels)]
    return [Table([head, *body], widths, style=LINES, repeatRows=1)]


def titled(group: Group) -> list[Any]:
    """A group's title and facts."""
    return [paragraph(cut(group.title, LONGEST_VALUE), SUBHEADING), *facts_table(group.rows)]


def tiles(rows: Sequence[Row]) -> list[Any]:
    """The headline numbers, large."""
    if not rows:
        return []
    cells = [[paragraph(row.shown, BIG) for row in rows], [paragraph(row.label, CELL_LABEL) for row in rows]]
    return [Table(cells, [WIDTH / len(rows)] * len(rows), style=TILES)]


def badge(verdict: Row, sentence: Row | None) -> Any:
    """The verdict on the residual, in a frame, and what it means."""
    words = f"{verdict.label[:1].upper()}{verdict.label[1:]}: {verdict.shown}"
    inside = [paragraph(cut(words, LONGEST_VALUE), CELL_BOLD)]
    inside += [paragraph(cut(sentence.shown, LONGEST_VALUE), CELL)] if sentence else []
    frame = TableStyle([("BOX", (0, 0), (-1, -1), 0.8, NOTE), ("BACKGROUND", (0, 0), (-1, -1), TINT)])
    return Table([[inside]], [WIDTH], style=frame, spaceAfter=6)


def picture(caption: str, content: bytes) -> Any:
    """A PNG with its caption. Raises: DataError for what is no picture."""
    try:
        width, height = ImageReader(BytesIO(content)).getSize()
    except (OSError, ValueError):
        raise DataError(f"report: picture {cut(caption, 60)!r} cannot be read, expected PNG; nothing written") from None
    scale = min(LARGEST_PICTURE[0] / width, LARGEST_PICTURE[1] / height)
    drawn = Image(BytesIO(content), width * scale, height * scale)
    return KeepTogether([drawn, paragraph(cut(caption, LONGEST_VALUE), CELL_LABEL)])


def _pair(row: Row) -> tuple[Any, Any]:
    return paragraph(cut(row.label, LONGEST_LABEL), CELL_LABEL), paragraph(cut(row.shown, LONGEST_VALUE), CELL)


def _shown(group: Group) -> list[str]:
    return [row.shown for row in group.rows]
