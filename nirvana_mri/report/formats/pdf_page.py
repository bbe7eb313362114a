"""The paper of a PDF report: fonts, styles, and what stands on every page."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import matplotlib
from reportlab.lib.colors import Color, HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Paragraph

INK, SOFT, LINE, NOTE, TINT = (HexColor(code) for code in ("#1c2024", "#5b6570", "#d9dcdf", "#8a4b00", "#fff4e2"))
MARGIN, TOP = 18 * mm, 22 * mm
WIDTH = A4[0] - 2 * MARGIN
REGULAR, BOLD = "DejaVuSans", "DejaVuSans-Bold"  # they come with matplotlib, and know Latin, Greek, Cyrillic and more
UNKNOWN = "\u25a1"


def style(size: float, font: str = REGULAR, color: Color = INK, before: float = 0, after: float = 0) -> ParagraphStyle:
    """A style of running text; words too long for a line are broken."""
    return ParagraphStyle(
        f"{font}{size}",
        fontName=font,
        fontSize=size,
        leading=size * 1.35,
        textColor=color,
        spaceBefore=before,
        spaceAfter=after,
        splitLongWords=1,
    )


TITLE = style(17, BOLD, after=2)
LEAD = style(9, color=SOFT, after=6)
HEADING = style(11, BOLD, before=11, after=3)
HEADING.keepWithNext = 1
SUBHEADING = style(8.5, BOLD, before=3, after=1)
SUBHEADING.keepWithNext = 1
TEXT = style(8.5, after=2)
CAUTION = style(9, BOLD, NOTE, after=3)
CELL, CELL_BOLD, CELL_LABEL = style(7.5), style(7.5, BOLD), style(7.5, color=SOFT)
BIG = style(13, BOLD)


@cache
def _glyphs() -> frozenset[int]:
    """Code points that both fonts can draw; the fonts are made known on the way."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    for name in (REGULAR, BOLD):
        pdfmetrics.registerFont(TTFont(name, str(folder / f"{name}.ttf")))
    known = [set(pdfmetrics.getFont(name).face.charToGlyph) for name in (REGULAR, BOLD)]
    return frozenset(known[0] & known[1])


def drawable(text: str) -> str:
    """The text with a box in place of each sign that the fonts lack."""
    glyphs = _glyphs()
    return "".join(sign if ord(sign) in glyphs else UNKNOWN for sign in text)


def paragraph(text: str, kind: ParagraphStyle = TEXT) -> Any:
    """Plain text as a paragraph."""
    return Paragraph(escape(drawable(text)), kind)


@dataclass(frozen=True)
class Paper:
    """What is printed on each page: the notice above and below, and a watermark across where a machine wrote it."""

    notice: str
    title: str
    version: str
    watermark: str = ""

    def __call__(self, canvas: Canvas, _document: Any) -> None:
        width, height = A4
        canvas.saveState()
        if self.watermark:
            self._across(canvas)
        canvas.setFont(BOLD, 8)
        canvas.setFillColor(NOTE)
        canvas.drawString(MARGIN, height - 13 * mm, drawable(self.notice.upper()))
        canvas.drawString(MARGIN, 11 * mm, drawable(self.notice.upper()))
        canvas.setFont(REGULAR, 8)
        canvas.setFillColor(SOFT)
        canvas.drawRightString(width - MARGIN, height - 13 * mm, drawable(self.title))
        canvas.drawRightString(
            width - MARGIN, 11 * mm, f"nirvana-mri {drawable(self.version)} · page {canvas.getPageNumber()}"
        )
        canvas.setStrokeColor(LINE)
        for level in (height - 15 * mm, 15 * mm):
            canvas.line(MARGIN, level, width - MARGIN, level)
        canvas.restoreState()

    def _across(self, canvas: Canvas) -> None:
        width, height = A4
        words = drawable(self.watermark)
        size = 26.0
        size *= min(1.0, 700 / max(pdfmetrics.stringWidth(words, BOLD, size), 1))
        canvas.saveState()
        canvas.setFillColor(HexColor("#f5eee3"))
        canvas.setFont(BOLD, size)
        canvas.translate(width / 2, height / 2)
        canvas.rotate(52)
        for line in (-1, 0, 1):
            canvas.drawCentredString(0, line * 210, words)
        canvas.restoreState()
