"""nirvana-mri stress: a page, a JSON, a table for the model card; what cannot work is said before the work."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from browser_support import WIDTHS, at, open_page
from tiny import tiny_scan

from nirvana_mri.io.writers.fastmri import write_fastmri

OPTIONS = ("--center-fraction", "0.16", "--only", "noise,shift,wrong-mask,lesions,acceleration", "--quick")


@pytest.fixture(scope="module")
def made(run, tmp_path_factory, model_file) -> tuple[Path, dict, str]:  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("stress")
    tiny_scan(32, 32, slices=3, out=folder / "head.h5")
    page, file = folder / "stress.html", folder / "stress.json"
    done = run("stress", folder / "head.h5", "--model", model_file, "-o", page, "--json", file, *OPTIONS)
    assert done.exit_code == 0, done.stderr
    return page, json.loads(file.read_text()), done.stdout


def test_it_tells_how_it_went(made: tuple[Path, dict, str]) -> None:
    _, result, said = made
    assert f"{result['summary']['passed']} of {result['summary']['total']} levels passed" in said
    assert "not for clinical use" in said
    assert result["scans"] == ["head"]
    assert result["slices"] == {"head": [1]}
    assert result["sampling"]["acceleration"] == 4
    assert list(result["stresses"]) == ["noise", "shift", "wrong-mask", "acceleration", "lesions"]


def test_the_command_in_the_json_gives_the_same_figures(run, made, model_file, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    page, result, _ = made
    (tmp_path / "head.h5").write_bytes((page.parent / "head.h5").read_bytes())
    monkeypatch.chdir(tmp_path)
    (tmp_path / model_file.name).write_bytes(model_file.read_bytes())
    words = result["command"].split()
    assert words[:2] == ["nirvana-mri", "stress"]
    assert str(page.parent) not in result["command"]
    only = words.index("--only") + 1
    words[only] = "noise"
    again = json.loads(run(*words[1:], "--json", "-").stdout)
    assert again["tests"] == [test for test in result["tests"] if test["name"] == "noise"]


def test_the_card_is_all_that_is_printed(run, model_file, tmp_path) -> None:  # type: ignore[no-untyped-def]
    tiny_scan(32, 32, out=tmp_path / "head.h5")
    done = run(
        "stress", tmp_path / "head.h5", "--model", model_file, "--card", "--only", "bias", "--quick",
        "--center-fraction", "0.16",
    )  # fmt: skip
    assert done.stdout.startswith("| stress | passed |")
    assert done.stdout.count("\n") == 5


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_opens_and_every_number_is_in_the_json(made: tuple[Path, dict, str], width: int) -> None:
    page, result, _ = made
    opened = open_page(page, width)
    assert opened.complaints == ()
    assert opened.requests == ()
    assert opened.overflow <= 0
    assert len(opened.fields) > 50
    for field, text in opened.fields.items():
        assert float(at(result, field)) == pytest.approx(float(text), abs=0.00501), field


def test_the_page_says_what_passed_and_where_it_comes_from(made: tuple[Path, dict, str]) -> None:
    page, result, _ = made
    text = page.read_text()
    assert "not for clinical use" in text
    assert result["model_sha256"] in text
    assert result["protocol"]["hash"] in text
    assert "simulated from pictures" in text
    assert text.index("Passed and failed") < text.index("More noise</h2>")
    for stress in result["stresses"].values():
        assert stress["source"].split(";")[0] in text
    assert ("✗ fail" in text) == (result["summary"]["failed"] > 0)


def test_an_unknown_stress_is_refused_with_those_there_are(run) -> None:  # type: ignore[no-untyped-def]
    done = run("stress", "--only", "noise,earthquake")
    assert done.exit_code == 2
    assert "'earthquake' is no stress" in done.stderr
    assert "lesions" in done.stderr


def test_an_undersampled_scan_is_refused(run, model_file, tmp_path) -> None:  # type: ignore[no-untyped-def]
    whole = tiny_scan(32, 32)
    mask = np.arange(32) % 2 == 0
    write_fastmri(tmp_path / "half.h5", whole.kspace[0][None] * mask, mask=mask)
    done = run("stress", tmp_path / "half.h5", "--model", model_file, "-o", tmp_path / "page.html")
    assert done.exit_code == 1
    assert "undersampled" in done.stderr
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("-o", "page.pdf"), ".html"),
        (("--card", "--json", "-"), "standard output"),
        (("--slices", "a"), "--slices"),
        (("--mask", "nonsense"), "neither a file nor one of"),
        (("--slices", "9"), "0:6"),
    ],
)
def test_what_cannot_work_is_said_at_once(run, words: tuple[str, ...], says: str) -> None:  # type: ignore[no-untyped-def]
    done = run("stress", *words)
    assert done.exit_code == 2
    assert says in done.stderr


def test_pictures_are_sent_to_simulate(run, tmp_path) -> None:  # type: ignore[no-untyped-def]
    nibabel.save(nibabel.Nifti1Image(np.ones((32, 32, 2), np.float32), np.eye(4)), tmp_path / "head.nii.gz")
    done = run("stress", tmp_path / "head.nii.gz")
    assert done.exit_code == 1
    assert "nirvana-mri simulate" in done.stderr
