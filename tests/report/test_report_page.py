"""The page: whole in itself, safe against what files say, honest about what it shows."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from browser_support import WIDTHS, open_page
from tiny import tiny_scan

import nirvana_mri as nm
from nirvana_mri.errors import ProtocolError
from nirvana_mri.report.html import write_page
from nirvana_mri.report.page import make_page
from nirvana_mri.scan import Scan
from nirvana_mri.volume import Volume

EMPTY = {"meta", "img", "br", "hr", "link", "input"}


class Balanced(HTMLParser):
    """Collects tags and sources; complains of tags that do not close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(page: str) -> Balanced:
    parser = Balanced()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


@pytest.fixture(scope="module")
def scan() -> Scan:
    return tiny_scan(slices=3)


@pytest.fixture(scope="module")
def volumes(scan: Scan) -> list[Volume]:
    return [
        nm.reconstruct(scan, method=method, accelerate=4, center_fraction=0.16) for method in ("sense", "zero-filled")
    ]


def test_the_page_is_whole_in_itself(scan: Scan, volumes: list[Volume]) -> None:
    page = make_page(scan, volumes)
    found = parsed(page)
    assert not found.seen & {"script", "link", "iframe", "object"}
    assert len(found.addresses) == 3
    assert all(address.startswith("data:image/png;base64,") for address in found.addresses)
    assert base64.b64decode(found.addresses[0].split(",")[1]).startswith(b"\x89PNG")
    assert not re.search(r"https?://|url\(|@import", page)
    assert "default-src 'none'" in page


def test_the_page_says_how_and_how_well(scan: Scan, volumes: list[Volume]) -> None:
    page = make_page(scan, volumes)
    for volume in volumes:
        score = nm.evaluate(volume, scan)
        assert f"{score.ssim:.4f}" in page
        assert f"{score.psnr:.2f}" in page
    assert score.protocol.hash in page
    assert "equispaced_fraction 4x" in page
    assert page.count("not for clinical use") > 1
    assert "k-space simulated from a picture" in page
    assert "3 slices, 4 coils" in page


def test_the_model_is_named_by_its_hash(scan: Scan, volumes: list[Volume]) -> None:
    made = {**volumes[0].provenance, "method": "nirvana", "model": "tiny", "model_sha256": "ab" * 32}
    assert "ab" * 32 in make_page(scan, [replace(volumes[0], provenance=made)])


def test_what_files_say_is_escaped(scan: Scan, volumes: list[Volume]) -> None:
    bad = "<script>alert(1)</script>&\"'"
    named = replace(scan, name=bad, warnings=(bad,), metadata={"acquisition": bad})
    volume = replace(
        volumes[0], warnings=(bad,), provenance={**volumes[0].provenance, "model": bad, "model_sha256": bad}
    )
    page = make_page(named, [volume])
    assert "script" not in parsed(page).seen
    assert "<script" not in page


def test_without_a_target_there_are_no_scores(scan: Scan, volumes: list[Volume]) -> None:
    mask = volumes[0].mask
    kspace = np.stack([np.where(mask, scan.kspace[i], 0) for i in range(3)]).astype(np.complex64)
    under = replace(scan, kspace=kspace, acquired=mask, reference=None)
    page = make_page(under, volumes)
    parsed(page)
    assert "no scores: the scan holds no target" in page
    assert "SSIM" not in page
    scored = make_page(under, volumes, target=scan)
    assert f"{nm.evaluate(volumes[0], scan).ssim:.4f}" in scored


def test_pictures_wider_than_high_are_shown_without_scores() -> None:
    wide = tiny_scan(48, 64)
    volume = nm.reconstruct(wide, method="sense", accelerate=3, center_fraction=0.16)
    page = make_page(wide, [volume])
    assert "no scores: " in page
    assert len(parsed(page).addresses) == 1
    with pytest.raises(ProtocolError):
        make_page(wide, [volume], target=wide)


def test_some_slices_are_shown_as_what_they_are(scan: Scan) -> None:
    volume = nm.reconstruct(scan, method="sense", accelerate=4, center_fraction=0.16, slices=[2])
    page = make_page(scan, [volume])
    assert "Slice 2: sense" in page
    assert "1 of 3 slices" in page


def test_a_fully_sampled_scan_scored_with_itself_is_said(scan: Scan) -> None:
    assert "nothing was left out" in make_page(scan, [nm.reconstruct(scan, method="sense")])


def test_the_page_is_written_whole(tmp_path: Path, scan: Scan, volumes: list[Volume]) -> None:
    page = make_page(scan, volumes[:1])
    assert write_page(page, tmp_path / "page.html").read_text(encoding="utf-8") == page
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_browser_has_nothing_to_complain_of(tmp_path: Path, scan: Scan, volumes: list[Volume], width: int) -> None:
    write_page(make_page(scan, volumes), tmp_path / "page.html")
    opened = open_page(tmp_path / "page.html", width)
    assert opened.complaints == ()
    assert opened.requests == ()
    assert opened.overflow <= 0
