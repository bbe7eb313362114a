"""models info and list: what a file says of itself, for people and for programs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nirvana_mri as nm

Run = Callable[..., Any]


def test_a_model_file_is_described(run: Run, model_file: Path) -> None:
    done = run("models", "info", model_file, "--json")
    assert done.exit_code == 0, done.stderr
    facts = json.loads(done.stdout)
    assert {"config", "backbone_sha256", "split", "mask_recipe", "steps", "metrics"} <= facts.keys()
    loaded = nm.load_model(model_file)
    assert (facts["sha256"], facts["backbone_sha256"]) == (loaded.sha256, loaded.backbone_sha256)
    assert facts["config"] == json.loads(json.dumps(loaded.model.config.as_dict()))
    assert sum(facts["parameters"].values()) == sum(p.numel() for p in loaded.model.parameters())
    assert facts["notice"] == "not for clinical use"


def test_the_shipped_model_says_how_it_was_trained(run: Run) -> None:
    facts = json.loads(run("models", "info", "nano", "--json").stdout)
    assert facts["steps"] > 0
    assert facts["split"]["training"]
    assert not set(facts["split"]["training"]) & set(facts["split"]["validation"])
    assert "random" in facts["mask_recipe"]["kinds"]
    shown = run("models", "info", "nano").stdout
    assert facts["sha256"][:12] in shown
    assert "not for clinical use" in shown
    assert all(name in shown for name in facts["split"]["validation"])
    assert json.loads(run("models", "list", "--json").stdout)["nano"] == facts
    assert facts["sha256"][:12] in run("models", "list").stdout


def test_what_is_no_model_is_one_line(run: Run, scan_file: Path, tmp_path: Path) -> None:
    for words, code, says in (
        ((tmp_path / "none",), 2, "neither a file nor a shipped model"),
        ((scan_file,), 1, "not a readable safetensors file"),
    ):
        done = run("models", "info", *words, "--json")
        assert done.exit_code == code
        assert says in done.stderr
        assert done.stderr.count("\n") == 1
        assert done.stdout == ""
