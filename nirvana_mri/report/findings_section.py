"""Draft findings as a section of a page: the watermark on every piece, texts, a table, boxes on the slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from nirvana_mri.figures import BRIGHTEST, COLUMN, INK, PAPER
from nirvana_mri.report.html import details, figure, number, paragraph, scores_table, section

BOX = "#ffb000"
ACROSS = 3  # pictures in a row


def findings_section(findings: Mapping[str, Any], pictures: Mapping[int, NDArray[np.floating]] | None = None) -> str:
    """HTML of ``Findings.as_dict()``. ``pictures`` are finished slices ``[ny nx]`` by number: those with a finding are
    shown with its box. Numbers name the fields of that dictionary, which stands under ``findings`` in the page's JSON.
    """
    mark = findings["watermark"]
    stated = list(findings["findings"])
    texts = "".join(
        f"<h3>{escape(name.capitalize())}</h3>" + "".join(paragraph(line) for line in text.splitlines())
        for name, text in findings["text"].items()
    )
    return section(
        f"Draft findings: {mark}",
        f'<p class="notice">{escape(mark)}</p>',
        texts,
        _table(stated),
        paragraph(f"Box: x, y, width, height in the finished picture. Score: {findings['score']}. [{mark}]", "soft"),
        _figure(stated, pictures or {}, mark),
        details(f"draft findings as data: {mark}", findings),
    )


def _table(stated: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for place, each in enumerate(stated):
        field = f"findings.findings.{place}"
        numbers = [number(str(value), f"{field}.slices.{at}") for at, value in enumerate(each["slices"])]
        box = [number(str(value), f"{field}.box.{at}") for at, value in enumerate(each["box"])]
        words = escape(f"{'no ' if each['negated'] else ''}{each['label']} ({each['structure']})")
        rows.append(
            (
                f'<span style="white-space: nowrap">{words}</span>',  # a narrow window scrolls instead
                ", ".join(numbers),
                "everywhere" if each["negated"] else ", ".join(box),
                number(f"{each['score']:.2f}", f"{field}.score"),
            )
        )
    return scores_table(("machine draft, unverified", "slices", "box [pixels]", "score"), rows, main=None)


def _figure(stated: Sequence[Mapping[str, Any]], pictures: Mapping[int, NDArray[np.floating]], mark: str) -> str:
    """The slices with findings, boxes drawn; nothing where there is none to show."""
    present = [each for each in stated if not each["negated"]]
    shown = sorted({slice_ for each in present for slice_ in each["slices"]} & set(pictures))
    if not shown:
        return ""
    rows = -(-len(shown) // ACROSS)
    columns = min(ACROSS, len(shown))
    drawn = Figure(figsize=(COLUMN * columns, (COLUMN + 0.35) * rows), facecolor=PAPER, dpi=140)
    for place, slice_ in enumerate(shown):
        axes = drawn.add_subplot(rows, columns, place + 1)
        picture = np.abs(pictures[slice_])
        axes.imshow(picture, cmap="gray", vmin=0, vmax=float(np.percentile(picture, BRIGHTEST)) or 1.0)
        axes.set_title(f"slice {slice_}", color=INK, fontsize=9)
        axes.set_axis_off()
        for each in (each for each in present if slice_ in each["slices"]):
            x, y, width, height = each["box"]
            axes.add_patch(Rectangle((x - 0.5, y - 0.5), width, height, fill=False, edgecolor=BOX, linewidth=1.2))
            axes.text(x, y - 1, each["label"], color=BOX, fontsize=6, va="bottom")
        axes.text(0.5, 0.02, mark, color=BOX, fontsize=5.5, ha="center", transform=axes.transAxes)
    drawn.tight_layout()
    return figure(drawn, f"slices with the boxes of draft findings: {mark}")
