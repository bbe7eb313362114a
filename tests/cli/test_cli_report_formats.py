"""nirvana-mri report in every format: the same facts, written whole, refused in one line."""

import json
from pathlib import Path

import pytest
from tiny import tiny_scan

FASTER = ("--method", "sense", "--accelerate", "4", "--center-fraction", "0.16", "--alone")


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "scan.h5"
    tiny_scan(out=path)
    return path


@pytest.mark.parametrize("name", ["r.dcm", "r.fhir.json", "r.pdf"])
def test_each_format_says_what_the_facts_say(run, scan: Path, tmp_path: Path, name: str) -> None:
    done = run("report", scan, "-o", tmp_path / name, "--json", tmp_path / "facts.json", *FASTER)
    assert done.exit_code == 0, done.stderr
    facts = json.loads((tmp_path / "facts.json").read_text())
    if name == "r.dcm":
        pydicom = pytest.importorskip("pydicom")
        said = str(pydicom.dcmread(tmp_path / name))
    elif name == "r.pdf":
        pypdf = pytest.importorskip("pypdf")
        said = "".join(page.extract_text() for page in pypdf.PdfReader(tmp_path / name).pages)
    else:
        said = (tmp_path / name).read_text(encoding="utf-8")
    assert "not for clinical use" in said.lower()
    assert f"{facts['scores'][0]['ssim']:.5g}" in said
    assert f"{100 * facts['null_space_fraction']:.5g}"[:5] in said
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "facts.json"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-o", "r.docx"), "cannot be a report"),
        (("-o", "r.html", "--keep-identifiers"), "name nobody"),
        (("-o", "r.json", "--json", "r.json"), "named twice"),
        (("-o", "r.dcm", "--keep-identifiers"), "reference"),
    ],
)
def test_what_cannot_be_written_is_said_before_any_work(
    run, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("report", scan, *words, *FASTER)
    assert done.exit_code == 2
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []
