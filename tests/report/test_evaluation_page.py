"""The page of an evaluation: every number is one of the JSON, what is not known is not claimed, text stays text."""

import re
from collections.abc import Mapping
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser_support import WIDTHS, at, open_page
from evaluation_support import METHODS, invented, pictures
from hypothesis import given, settings
from hypothesis import strategies as st

from nirvana_mri.report.evaluation_cases import ranked, worst_cases, worst_square
from nirvana_mri.report.evaluation_comparisons import comparisons
from nirvana_mri.report.evaluation_page import make_evaluation_page
from nirvana_mri.report.evaluation_tables import volumes
from nirvana_mri.report.evaluation_values import Values, written
from nirvana_mri.report.html import write_page

EMPTY = {"meta", "img", "br", "wbr"}
BAD = "_<script>alert(1)</script>&\"'$\\frac{</pre>"


class Reader(HTMLParser):
    """Collects tags, addresses, texts by data-field, and the words outside of them by section; checks the nesting."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[tuple[str, str]] = []
        self.seen: set[str] = set()
        self.addresses: list[str] = []
        self.fields: list[tuple[str, str]] = []
        self.words: dict[str, str] = {}
        self.section = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.seen.add(tag)
        self.addresses += [named[name] or "" for name in ("src", "href", "action", "data") if name in named]
        self.section = named["id"] or "" if tag == "h2" else self.section
        if tag not in EMPTY:
            self.open.append((tag, named.get("data-field") or ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1][1]:
            self.fields.append((self.open[-1][1], data))
        else:
            self.words[self.section] = self.words.get(self.section, "") + data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def check_numbers(page: str, result: Mapping[str, Any]) -> int:
    """Each number is the JSON's, rounded to the digits shown; their count."""
    fields = read(page).fields
    for field, text in fields:
        shown, held = Decimal(text.replace("−", "-")), Decimal(at(dict(result), field))
        assert abs(shown - held) <= Decimal(10) ** int(shown.as_tuple().exponent) / 2, field
        assert bool(shown) == bool(held), field
    return len(fields)


@pytest.fixture(scope="module")
def page() -> str:
    return make_evaluation_page(invented(), pictures)


def test_every_number_is_one_of_the_json_rounded_as_shown(page: str) -> None:
    result = invented()
    assert check_numbers(page, result) > 600
    shown = dict(read(page).fields)
    for place, row in enumerate(result["volumes"]):
        assert shown[f"volumes.{place}.ssim"] == f"{row['ssim']:.4f}"
    assert shown["by_method.0.intervals.ssim.0"] == f"{result['by_method'][0]['intervals']['ssim'][0]:.4f}"


def test_no_number_stands_beside_the_fields() -> None:
    """Names and groups without digits: what is left is what words say by themselves."""
    result = invented()
    for row in (*result["volumes"], *result["groups"], *result["regions"]):
        row.update({key: re.sub(r"\d", "n", row[key]) for key in ("file", "group") if key in row})
    words = read(make_evaluation_page(result)).words
    for section in ("summary", "paired-comparisons", "groups", "labelled-regions", "worst-cases"):
        text = re.sub("95 %|the axis does not start at 0|slices count from 0", "", words[section])
        assert not re.search(r"\d", text), section


def test_the_order_is_from_the_answer_to_its_grounds(page: str) -> None:
    found = re.findall(r'<h2 id="([^"]*)"', page)
    assert found == [
        "summary", "paired-comparisons", "groups", "labelled-regions", "distributions", "worst-cases", "all-volumes",
        "missing-and-extra", "provenance", "methods-paragraph",
    ]  # fmt: skip
    assert [link[1:] for link in read(page).addresses if link.startswith("#")] == found


def test_the_page_is_whole_in_itself(page: str) -> None:
    found = read(page)
    assert not found.seen & {"script", "link", "iframe", "object"}
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in found.addresses)
    assert "default-src 'none'" in page
    assert "file_brain_AXT2_209_2090112.h5" in page
    assert "patient-" not in page  # who they are stays in the JSON
    assert "Zbontar J" in page
    assert "--accelerate 4" in page
    assert "<li>p values are not corrected for the number of comparisons</li>" in page


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"difference": 0.012, "interval": [0.004, 0.02]}, "nirvana is above sense by 0.0120 SSIM [0.0040 to 0.0200]"),
        ({"difference": -0.012, "interval": [-0.02, -0.004]}, "nirvana is below sense with a difference of −0.0120"),
        ({"difference": 0.012, "interval": [-0.001, 0.02]}, "No difference shown between nirvana and sense: 0.0120"),
        ({"difference": 0.012, "interval": [0.0, 0.02]}, "No difference shown"),
        ({"difference": 0.012, "interval": None, "p": None}, "No difference shown"),
        ({"difference": 0.012, "interval": [0.004, 0.02], "p": 0.2}, "Undecided between nirvana and sense"),
        ({"difference": None, "interval": None, "pairs": 0}, "could not be compared"),
    ],
)  # fmt: skip
def test_a_difference_is_claimed_where_it_was_shown(change: dict[str, Any], said: str) -> None:
    result = invented(volumes=1)
    result["paired"] = [{**result["paired"][0], **change}]
    shown = comparisons(Values(result))
    assert said in re.sub("<[^>]*>", "", shown)
    check_numbers(shown, result)


@pytest.mark.parametrize(
    "result",
    [
        invented(METHODS[:1], volumes=1, intervals=False),
        invented(METHODS[:2], volumes=3, intervals=False),
        {**invented(METHODS[:1], volumes=1), "by_method": [], "volumes": [], "groups": [], "mean": {}, "paired": []},
    ],
    ids=["one volume", "no intervals", "nothing"],
)
def test_what_is_not_known_is_a_dash(result: dict[str, Any]) -> None:
    for row in result["volumes"][:1]:
        row.update(psnr=None, acceleration=None, group=None, worst_slice=None, haarpsi=float("nan"))
    result["mean"]["psnr"] = None
    result.pop("regions")
    page = make_evaluation_page(result)
    check_numbers(page, result)
    words = " ".join(read(page).words.values())
    assert not re.search(r"\b(nan|None|null|inf)\b", words)
    assert ("—" in words) == bool(result["volumes"])
    assert ("No volume could be scored" in words) == (not result["by_method"])
    assert "labelled-regions" not in page


def test_text_from_files_stays_text() -> None:
    result = invented(("nirvana", BAD), volumes=3)
    for row in (*result["volumes"], *result["groups"], *result["regions"]):
        row.update({key: BAD for key in ("file", "group", "label", "contrast", "patient") if key in row})
    result["protocol"] |= {"name": BAD, "window": BAD}
    result |= {"missing": [BAD], "extra": [BAD], "command": BAD, "methods_paragraph": BAD, "citations": [BAD]}
    result |= {"notice": BAD, "sampling": {BAD: BAD, "mask": {"a": BAD}}, "toolkit_version": BAD}
    page = make_evaluation_page(result, lambda row: (np.ones((16, 16)), {BAD: np.ones((16, 16))}))
    assert "script" not in read(page).seen
    assert "<script" not in page


def test_file_names_that_are_no_letters_do_not_stop_the_page(tmp_path: Path) -> None:
    result = invented(METHODS[:1], volumes=2)
    result["volumes"][0]["file"] = "scan\udcff.h5"
    write_page(volumes(Values(result)), tmp_path / "page.html")
    assert "scan\\udcff.h5" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_ten_thousand_rows_make_a_small_page() -> None:
    result = invented(METHODS[:1], volumes=10)
    result["volumes"] = [{**result["volumes"][place % 10]} for place in range(10_000)]
    page = volumes(Values(result))
    assert len(page) < 1_000_000
    assert "The first 500 of 10000 rows" in page
    assert "9500 more rows are in the CSV" in page
    assert page.count('data-field="volumes.499.psnr"') == 1
    assert 'data-field="volumes.500.psnr"' not in page


def test_only_the_worst_volumes_of_the_first_method_are_read() -> None:
    result, asked = invented(), []

    def look(row: Mapping[str, Any]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        asked.append((row["method"], row["ssim"]))
        return pictures(row)

    worst_cases(Values(result), look)
    worst = sorted(row["ssim"] for row in result["volumes"] if row["method"] == "nirvana")[:5]
    assert asked == [("nirvana", ssim) for ssim in worst]


def test_rows_without_a_score_come_last() -> None:
    result = invented(METHODS[:1], volumes=3)
    result["volumes"][1]["ssim"] = None
    assert ranked(Values(result))[-1] == 1


@settings(max_examples=30, deadline=None)
@given(st.integers(9, 60), st.integers(9, 60), st.integers(0, 2**32 - 1), st.sampled_from([1e-30, 1.0, 1e8]))
def test_the_zoom_shows_the_square_with_the_most_error(ny: int, nx: int, seed: int, scale: float) -> None:
    error = scale * np.random.default_rng(seed).standard_normal((ny, nx))
    row, column, side, width = worst_square(error)
    assert width == side
    squares = np.lib.stride_tricks.sliding_window_view((error / scale) ** 2, (side, side)).sum(axis=(2, 3))
    assert squares[row, column] == pytest.approx(squares.max())


def test_pictures_of_other_sizes_and_empty_ones_are_shown() -> None:
    result = invented(METHODS[:1], volumes=1)
    page = worst_cases(Values(result), lambda row: (np.zeros((20, 24)), {"nirvana": np.zeros((22, 20))}))
    assert page.count("<article") == 1
    assert "aspect-ratio:20/20" in page


def test_labelled_boxes_are_framed_in_their_own_slice_alone() -> None:
    result = invented(METHODS[:1], volumes=1)
    number, name = result["volumes"][0]["worst_slice"]["slice"], result["volumes"][0]["file"]
    box = {"file": name, "slice": number, "label": "cyst <2 mm", "box": [0, 0, 4, 5], "box_compared": [6, 3, 4, 5]}
    result["regions"] = [box, box | {"method": "another"}, box | {"slice": number + 1, "box_compared": [9, 9, 2, 2]}]
    page = worst_cases(Values(result), lambda row: (np.ones((20, 10)), {"nirvana": np.zeros((20, 10))}))
    frames = re.findall(r'<span class="mark labelled" style="([^"]*)">', page)
    assert frames == ["top:30.00%;left:30.00%;height:20.00%;width:50.00%"] * 3  # target, picture, error
    assert page.count("cyst &lt;2 mm") == 1
    cut = worst_cases(Values(result), lambda row: (np.ones((20, 10)), {"nirvana": np.zeros((18, 10))}))
    assert "top:27.78%;left:30.00%;height:22.22%;width:50.00%" in cut  # one row of the target is not shown


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["", ".4f", ".2f", ".2g"]))
def test_a_number_that_is_not_zero_is_not_written_as_zero(value: float, form: str) -> None:
    text = written(value, form)
    assert bool(float(text.replace("−", "-"))) == bool(value)
    assert "-" not in text


def clean(path: Path, width: int) -> bool:
    opened = open_page(path, width)
    return (opened.complaints, opened.requests, max(opened.overflow, 0)) == ((), (), 0)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_browser_has_nothing_to_complain_of(tmp_path: Path, page: str, width: int) -> None:
    assert clean(write_page(page, tmp_path / "page.html"), width)


def test_names_without_an_end_do_not_widen_the_page(tmp_path: Path) -> None:
    result = invented(("nirvana", "n" * 120), volumes=3)
    result["volumes"][0]["file"] = "f" * 200
    result["groups"][0]["group"] = result["protocol"]["window"] = result["command"] = "g" * 200
    assert clean(write_page(make_evaluation_page(result), tmp_path / "page.html"), 420)
