"""The technical report: the contract's keys, a fact behind every figure, and what a reconstruction alone can tell."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser_support import WIDTHS, at, open_page
from tiny import tiny_model, tiny_scan
from typer.testing import CliRunner

import nirvana_mri as nm
from nirvana_mri.cli.app import app
from nirvana_mri.io.save import load_volume
from nirvana_mri.recon.checkpoint import save_checkpoint
from nirvana_mri.recon.errorbars import Subject, calibrate

Run = Callable[..., Any]
FASTER = ("--accelerate", "3", "--center-fraction", "0.2")
CONTRACT = {"residual_over_noise", "null_space_fraction", "model", "acceleration", "snr"}


def run(*words: Any) -> Any:
    done = CliRunner().invoke(app, [str(word) for word in words], prog_name="nirvana-mri")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan, a model, error bars for it, its report with the facts."""
    made = tmp_path_factory.mktemp("report")
    tiny_scan(slices=2, out=made / "head.h5")
    save_checkpoint(tiny_model(), made / "tiny.safetensors", covers={}, training={})
    loaded = nm.load_model(made / "tiny.safetensors")
    protocol = {"method": "nirvana", "model_sha256": loaded.sha256, "combine": "rss", "strength": 1.0}
    draw = np.random.default_rng(0)
    subjects = [Subject(draw.exponential(size=50), float(r)) for r in draw.uniform(2, 4, 12)]
    calibrate(subjects, 0.9, protocol).save(made / "bars.json")
    words = ("--model", made / "tiny.safetensors", *FASTER, "--error-bars", made / "bars.json")
    done = run("report", made / "head.h5", "-o", made / "page.html", "--json", made / "facts.json", *words)
    assert done.exit_code == 0, done.stderr
    return made


@pytest.fixture(scope="module")
def facts(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "facts.json").read_text())


def test_the_facts_are_the_contracts(facts: dict[str, Any]) -> None:
    assert facts.keys() >= CONTRACT
    assert facts["schema"] == "nirvana-mri report 1"
    assert facts["residual_over_noise"] == facts["residual"]["value"] > 0
    assert 0 < facts["null_space_fraction"] < 1
    assert facts["acceleration"] == facts["reconstruction"]["sampling"]["achieved_acceleration"]
    assert facts["snr"] == facts["scan"]["snr"] > 1
    assert facts["model"].startswith("tiny")
    assert len(facts["model_sha256"]) == 64
    assert facts["notice"] == "not for clinical use"
    assert [row["method"] for row in facts["scores"]] == ["nirvana", "zero-filled", "sense"]
    assert all(row["protocol"]["hash"] for row in facts["scores"])
    assert [row["residual_over_noise"] is None for row in facts["methods"]] == [False, True, False]
    assert facts["error_bars"]["level"] == 0.9
    assert "not promised" in facts["error_bars"]["promise"]
    assert facts["file"] == "head.h5"


def test_no_folder_is_told(facts: dict[str, Any], folder: Path) -> None:
    assert str(folder) not in json.dumps(facts)
    assert facts["commands"]["page"] == (
        "nirvana-mri report head.h5 --out page.html --json facts.json --model tiny.safetensors --accelerate 3 "
        "--center-fraction 0.2 --error-bars bars.json"
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_every_figure_on_the_page_has_its_fact(folder: Path, facts: dict[str, Any], width: int) -> None:
    opened = open_page(folder / "page.html", width)
    assert opened.complaints == ()
    assert opened.requests == ()
    assert opened.overflow <= 0
    assert opened.fields.keys() >= CONTRACT - {"model"}
    for field, text in opened.fields.items():
        value = at(facts, field)
        if isinstance(value, float):
            shown = float(text.strip(" %x"))
            assert shown == pytest.approx(100 * value if "%" in text else value, rel=0.06, abs=0.005)
    assert opened.fields["residual.sentence"] == facts["residual"]["sentence"]


def test_facts_alone_are_written_by_their_suffix(folder: Path, tmp_path: Path) -> None:
    words = ("--method", "sense", "--alone", *FASTER)
    assert run("report", folder / "head.h5", "-o", tmp_path / "facts.json", *words).exit_code == 0
    stored = json.loads((tmp_path / "facts.json").read_text())
    assert [row["method"] for row in stored["methods"]] == ["sense"]
    done = run("report", folder / "head.h5", "-o", tmp_path / "p.html", "--json", "-", *words)
    again = json.loads(done.stdout)
    assert {key: again[key] for key in CONTRACT} == {key: stored[key] for key in CONTRACT}


def test_a_full_scan_has_no_residual_and_says_why(folder: Path, tmp_path: Path) -> None:
    words = ("--model", folder / "tiny.safetensors", "--alone")
    assert run("report", folder / "head.h5", "-o", tmp_path / "facts.json", *words).exit_code == 0
    stored = json.loads((tmp_path / "facts.json").read_text())
    assert stored["residual_over_noise"] is None
    assert "fully sampled" in stored["residual"]["sentence"]
    assert stored["null_space_fraction"] <= 1e-3
    assert stored["acceleration"] == 1


def test_a_reconstruction_tells_what_it_knows(folder: Path, tmp_path: Path) -> None:
    words = ("--method", "sense", *FASTER)
    for name, more in (("plain.h5", ()), ("trusted.h5", ("--trust",))):
        assert run("reconstruct", folder / "head.h5", "-o", tmp_path / name, *words, *more).exit_code == 0
        done = run("report", tmp_path / name, "-o", tmp_path / "page.html", "--json", tmp_path / "facts.json")
        assert done.exit_code == 0
        stored = json.loads((tmp_path / "facts.json").read_text())
        assert stored["scan"] is None
        assert stored["snr"] is None
        assert stored["acceleration"] > 2
        trust = load_volume(tmp_path / name).provenance.get("trust")
        assert stored["residual_over_noise"] == (trust and trust["residual_over_noise"])
        assert ("without asking for trust" in stored["residual"]["sentence"]) == (not more)
        page = (tmp_path / "page.html").read_text()
        assert page.count("data:image/png;base64,") == (4 if more else 2)
    done = run("report", tmp_path / "plain.h5", "-o", tmp_path / "page.html", "--accelerate", "4")
    assert done.exit_code == 2
    assert "is a reconstruction; accelerate would make another" in done.stderr


def test_strength_is_for_the_network_alone(folder: Path, tmp_path: Path) -> None:
    done = run(
        "report", folder / "head.h5", "-o", tmp_path / "p.html", "--method", "sense", "--strength", "0.5", *FASTER
    )
    assert done.exit_code == 2
    assert "strength is for method nirvana" in done.stderr
    words = ("--model", folder / "tiny.safetensors", "--strength", "0.5", "--alone", *FASTER)
    assert run("report", folder / "head.h5", "-o", tmp_path / "facts.json", *words).exit_code == 0
    stored = json.loads((tmp_path / "facts.json").read_text())
    assert stored["reconstruction"]["strength"] == 0.5
    assert "--strength 0.5" in stored["commands"]["page"]


def test_a_report_never_replaces_its_input(folder: Path, tmp_path: Path) -> None:
    page = folder / "facts.json"
    done = run("report", folder / "head.h5", "-o", tmp_path / "page.html", "--json", folder / "head.h5", *FASTER)
    assert done.exit_code == 2
    assert "is the input" in done.stderr
    assert page.exists()
