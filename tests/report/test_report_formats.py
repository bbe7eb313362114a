"""The clinic's formats say the same: every fact in each of them, whole or not at all, and nobody's name unasked."""

import itertools
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

for _library in ("highdicom", "fhir.resources", "reportlab", "pypdf"):
    pytest.importorskip(_library, reason=f"no {_library} (extras dicom, fhir, pdf)")

from dicom_support import write_series
from report_facts import WATERMARK, facts, leaves, renumbered, texts_of

from nirvana_mri.errors import DataError, MissingExtraError, UsageError
from nirvana_mri.report.formats import check_report, report_suffix, write_report
from nirvana_mri.report.formats.content import sections
from nirvana_mri.report.formats.identity import Identity, read_identity
from nirvana_mri.report.formats.text import clean

NAMES = ("r.dcm", "r.fhir.json", "r.pdf")
each = pytest.mark.parametrize("name", NAMES)
HOSTILE = (
    "back\\slash^caret=equals",
    "\x00\x1b[31m\r\n\x9f control",
    "<script>alert(1)</script> &amp; ]]> </td>",
    "Ελληνικά кириллица 日本語 עברית 🧠",
    "\ud800 lone, \u202e turned, \ufffe none",
    "x" * 10_000,
    "many words " * 1_000,
    " ",
)


@each
@pytest.mark.parametrize("findings", [True, False])
def test_every_number_is_in_every_format(tmp_path: Path, name: str, findings: bool) -> None:
    numbers = renumbered(facts(findings=findings), itertools.count(1))
    said = texts_of(write_report(numbers, tmp_path / name))
    found = {float(number) for number in re.findall(r"\d+(?:\.\d+)?(?:e-?\d+)?", said)}
    for path, value in leaves(numbers):
        if isinstance(value, int | float) and not isinstance(value, bool):
            shown = 100 * value if path == "null_space_fraction" else value
            assert any(abs(shown - number) < 1e-4 for number in found), path


@each
def test_every_word_is_in_every_format(tmp_path: Path, name: str) -> None:
    given = facts()
    said = re.sub(r"\s+", "", texts_of(write_report(given, tmp_path / name)))
    for path, value in leaves(given):
        if isinstance(value, str) and path not in ("scan.format", "scan.metadata"):
            assert re.sub(r"\s+", "", value) in said, path


@given(st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_fact_is_a_row_with_its_field_or_said_elsewhere(data: st.DataObject) -> None:
    plain = st.one_of(st.integers(-(10**9), 10**9), st.floats(-1e9, 1e9), st.booleans(), st.text(), st.none())
    keys = st.text(st.characters(exclude_characters="."), min_size=1, max_size=8)
    tree = st.recursive(plain, lambda kids: st.lists(kids, max_size=3) | st.dictionaries(keys, kids, max_size=3))
    more = data.draw(st.dictionaries(keys, tree, max_size=4))
    parts = sections(facts(later=more))
    fields = {row.field for part in parts for row in part.rows}
    for path, value in leaves(more, "later"):
        if value is not None:
            assert any(path == field or re.fullmatch(re.escape(field) + r"(\.\d+)+", path) for field in fields)


@each
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_kept_or_replaced(tmp_path: Path, name: str, text: str) -> None:
    said = texts_of(write_report(_with(text), tmp_path / name))
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", said)
    first = clean(text)[:30]
    if name != "r.pdf" or first.isascii():
        assert re.sub(r"\s+", "", first) in re.sub(r"\s+", "", said)


@each
@given(text=st.text(max_size=60))
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_can_be_written(tmp_path: Path, name: str, text: str) -> None:
    assert texts_of(write_report(_with(text), tmp_path / name))


@each
def test_watermark_and_notice_are_said(tmp_path: Path, name: str) -> None:
    draft = texts_of(write_report(facts(notice="", watermark=""), tmp_path / name))
    assert WATERMARK in re.sub(r"\s+", " ", draft)
    technical = texts_of(write_report(facts(findings=False), tmp_path / name))
    assert "machine draft" not in technical
    assert "not for clinical use" in technical.lower()


@each
def test_absent_is_not_present(tmp_path: Path, name: str) -> None:
    said = texts_of(write_report(facts(), tmp_path / name))
    assert "Meniscus Tear: absent" in said
    assert "Meniscus Tear: present" not in said
    assert "lesion: present" in said


@each
def test_what_was_not_measured_is_said_to_be_so(tmp_path: Path, name: str) -> None:
    none = dict.fromkeys(("snr", "residual_over_noise", "residual", "null_space_fraction", "error_bars"))
    said = texts_of(write_report(facts(**none, scores=[], findings=None), tmp_path / name))
    assert said.count("not measured") == 4
    assert "no target" in said


@each
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 10**400, {1, 2}])
def test_nothing_is_written_for_facts_that_cannot_be_reported(tmp_path: Path, name: str, bad: Any) -> None:
    out = tmp_path / name
    out.write_text("older")
    with pytest.raises(DataError, match="nothing written"):
        write_report(facts(snr=bad), out)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["older"]


@each
def test_nothing_is_half_written(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DataError, match="no space left"):
        write_report(facts(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["r.fhir.json", "r.pdf"])
def test_the_same_facts_give_the_same_bytes(tmp_path: Path, name: str) -> None:
    first, second = (write_report(facts(), tmp_path / f"{n}{name}").read_bytes() for n in "ab")
    assert first == second
    assert first != write_report(facts(snr=41.73), tmp_path / name).read_bytes()


def test_suffixes(tmp_path: Path) -> None:
    assert [report_suffix(name) for name in ("a.PDF", "a.fhir.json", "a.dcm")] == [".pdf", ".fhir.json", ".dcm"]
    assert [report_suffix(name) for name in ("a.json", "a.html", ".pdf", "fhir.json", "a")] == [None] * 5
    with pytest.raises(UsageError, match=r"NAME\.dcm, NAME\.fhir\.json, NAME\.pdf"):
        check_report(tmp_path / "a.json")
    (tmp_path / "folder.dcm").mkdir()
    with pytest.raises(UsageError, match="folder"):
        check_report(tmp_path / "folder.dcm")


def test_another_schema_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="schema"):
        write_report({**facts(), "schema": "another 1"}, tmp_path / "r.pdf")


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("r.dcm", "highdicom", "dicom"), ("r.fhir.json", "fhir.resources", "fhir"), ("r.pdf", "reportlab", "pdf")],
)
def test_a_missing_extra_is_named(
    tmp_path: Path, name: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"nirvana-mri\[{extra}\]") as caught:
        write_report(facts(), tmp_path / name)
    assert "\n" not in str(caught.value)


@each
def test_nobody_is_named_unless_asked(tmp_path: Path, name: str) -> None:
    series = _series(tmp_path / "series")
    with pytest.raises(UsageError, match="keep_identifiers"):
        write_report(facts(), tmp_path / name, reference=series)
    with pytest.raises(UsageError, match="reference"):
        write_report(facts(), tmp_path / name, keep_identifiers=True)
    unnamed = write_report(facts(), tmp_path / name)
    assert b"Canary" not in unnamed.read_bytes()
    assert "Canary" not in texts_of(unnamed)
    named = write_report(facts(), tmp_path / f"named{name}", reference=series, keep_identifiers=True)
    assert b"Canary" in named.read_bytes() if name != "r.pdf" else "Canary" in texts_of(named)


def test_an_identity_does_not_show_itself(tmp_path: Path) -> None:
    identity = read_identity(_series(tmp_path / "series"), keep_identifiers=True)
    assert len(identity.images) == 3
    assert "Canary" not in repr(identity)
    assert read_identity(None, keep_identifiers=False) == Identity()


def _series(folder: Path) -> Path:
    def named(made: Any, *_: int) -> Any:
        made.PatientName, made.PatientID, made.AccessionNumber = "Canary^Jane", "CanaryID", "77"
        made.SOPInstanceUID = f"1.2.3.4.{made.InstanceNumber}"
        return made

    return write_series(folder, 3, change=named)


def _with(text: str) -> dict[str, Any]:
    """Facts with ``text`` wherever a text can be."""
    made = facts(file=text, method=text, model=text, warnings=[text, "a warning"], later={text: text, "list": [text]})
    made["scan"] = {**made["scan"], "metadata": {text: text, "acquisition": text}}
    made["residual"] = {**made["residual"], "badge": text, "sentence": text}
    made["text"] = dict.fromkeys(made["text"], text)
    made["scores"] = [{**score, "method": text, "protocol": {"name": text, "hash": text}} for score in made["scores"]]
    made["findings"] = [{**found, "label": text, "structure": text} for found in made["findings"]]
    return {**made, "toolkit_version": text, "model_sha256": text, "notice": text, "watermark": text}
