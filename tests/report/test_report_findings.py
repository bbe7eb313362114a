"""Draft findings on a page: marked throughout, every number traced, text escaped, boxes drawn."""

import re
from pathlib import Path

import numpy as np
import pytest
from browser_support import WIDTHS, at, open_page

from nirvana_mri.findings.constrained import Said
from nirvana_mri.findings.finding import WATERMARK, Findings, collect
from nirvana_mri.findings.statement import Cells, Statement
from nirvana_mri.findings.text import Exam, limits_of, sections
from nirvana_mri.findings.vocabulary import vocabulary
from nirvana_mri.report.findings_section import findings_section
from nirvana_mri.report.html import document, write_page


def some_findings(contrast: str = "CORPD_FBK") -> Findings:
    spoken, matrix = vocabulary("knee"), (320, 300)
    slices = (3, 4, 6)
    tear = Said(Statement("meniscus tear", Cells(5, 6, 7, 9)), 0.41)
    said = [(number, [*([tear] if number < 5 else []), Said(Statement("joint effusion"), 0.7)]) for number in slices]
    found = collect(said, spoken, matrix)
    limits = limits_of(spoken, {}, ("nothing to add",))
    exam = Exam(contrast, slices, 15, matrix, 4.04, "retrospective", False)
    text = sections(exam, found, spoken, "words", "ab" * 32, limits)
    return Findings(found, spoken, "words", "ab" * 32, slices, matrix, text, limits)


def test_findings_are_collected_by_label_and_slice() -> None:
    found = some_findings().findings
    assert [(each.label, each.slices, each.negated) for each in found] == [
        ("meniscus tear", (3,), False), ("meniscus tear", (4,), False), ("joint effusion", (3, 4, 6), True),
    ]  # fmt: skip
    assert found[0].box == (112, 80, 57, 40)
    text = some_findings().text
    assert "Meniscus: Meniscus tear in slice 3" in text["findings"]
    assert "No joint effusion in slices 3–4, 6" in text["findings"]
    assert "meniscus tear (slices 3–4)" in text["impression"]


def test_every_piece_is_marked_and_text_is_escaped() -> None:
    page = findings_section(some_findings("<script>").as_dict())
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    for piece in re.split(r"<h3>", page):
        assert WATERMARK in piece
    assert "<img" not in page


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_opens_and_its_numbers_are_the_datas(tmp_path: Path, width: int) -> None:
    told = some_findings().as_dict()
    picture = np.random.default_rng(0).random((320, 300)).astype(np.float32)
    section = findings_section(told, {3: picture, 4: picture, 5: picture})
    path = write_page(document("A scan", "a lead", [section]), tmp_path / "page.html")
    opened = open_page(path, width, tmp_path / "page.png")
    assert (opened.complaints, opened.requests, opened.overflow) == ((), (), 0)
    assert len(opened.fields) > 10
    for field, shown in opened.fields.items():
        assert float(shown) == pytest.approx(float(at(told, field)), abs=0.005)  # type: ignore[arg-type]
