"""The PDF: A4, its notice on each page, selectable text, pictures, and no page that cannot be laid out."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("reportlab", reason="no reportlab (extra pdf)")
pypdf = pytest.importorskip("pypdf", reason="no pypdf")

from matplotlib.figure import Figure
from report_facts import WATERMARK, facts

from nirvana_mri.errors import DataError
from nirvana_mri.figures import png
from nirvana_mri.report.formats import write_report


def picture(shape: tuple[int, int] = (4, 4)) -> bytes:
    figure = Figure(figsize=(shape[1], shape[0]), dpi=20)
    figure.add_subplot().imshow(np.arange(16).reshape(4, 4))
    return png(figure)


def test_every_a4_page_has_notice_watermark_and_number(tmp_path: Path) -> None:
    pages = pypdf.PdfReader(write_report(facts(), tmp_path / "r.pdf")).pages
    assert 1 <= len(pages) <= 3
    for number, page in enumerate(pages, 1):
        said = page.extract_text()
        assert said.count("NOT FOR CLINICAL USE") == 2
        assert WATERMARK in said
        assert f"page {number}" in said
        assert [round(float(side) / 72 * 25.4) for side in page.mediabox[2:]] == [210, 297]


def test_a_technical_report_bears_no_watermark(tmp_path: Path) -> None:
    pages = pypdf.PdfReader(write_report(facts(findings=False), tmp_path / "r.pdf")).pages
    assert not any("draft" in page.extract_text().lower() for page in pages)


@pytest.mark.parametrize("shape", [(4, 4), (1, 10), (12, 1)])
def test_pictures_stand_with_their_captions(tmp_path: Path, shape: tuple[int, int]) -> None:
    out = write_report(facts(), tmp_path / "r.pdf", pictures={"Slice 7 & its <error>": picture(shape)})
    pages = pypdf.PdfReader(out).pages
    assert sum(len(page.images) for page in pages) == 1
    assert any("Slice 7 & its <error>" in page.extract_text() for page in pages)


def test_pictures_do_not_spoil_reproducibility(tmp_path: Path) -> None:
    shown = {"one": picture(), "two": picture((1, 4))}
    first, second = (write_report(facts(), tmp_path / f"{n}.pdf", pictures=shown).read_bytes() for n in "ab")
    assert first == second


def test_a_broken_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="picture 'one' cannot be read"):
        write_report(facts(), tmp_path / "r.pdf", pictures={"one": b"no picture"})
    assert list(tmp_path.iterdir()) == []


def test_many_facts_take_more_pages_and_none_is_lost(tmp_path: Path) -> None:
    more = {f"fact {number}": f"value {number}" for number in range(300)}
    text = {"limits": "many words " * 3000}
    pages = pypdf.PdfReader(write_report(facts(later=more, text=text), tmp_path / "r.pdf")).pages
    said = "\n".join(page.extract_text() for page in pages)
    assert all(f"value {number}\n" in said + "\n" for number in range(300))


def test_scores_of_different_kinds_still_stand(tmp_path: Path) -> None:
    scores = facts()["scores"]
    scores[1] = {"method": "sense", "ssim": 0.4567, "protocol": {"name": "per-slice", "hash": "ffff"}}
    said = "\n".join(
        p.extract_text() for p in pypdf.PdfReader(write_report(facts(scores=scores), tmp_path / "r.pdf")).pages
    )
    assert "0.4567" in said
    assert "sense, protocol per-slice ffff" in said
    assert "protocol fastMRI 1a2b3c4d5e6f" in said
