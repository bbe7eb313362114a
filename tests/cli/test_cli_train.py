"""The engine's options of nirvana-mri train reach the run, or the job."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nirvana_mri.train import TrainConfig, cluster
from nirvana_mri.train.cluster import ClusterConfig


def test_the_very_run_is_submitted(run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def submit(config: TrainConfig, where: str, wanted: ClusterConfig) -> tuple[str, Path]:
        asked.append((config, where, wanted))
        return "17", tmp_path / "17.out"

    monkeypatch.setattr(cluster, "submit", submit)
    words = ["train", "--data", tmp_path, "--out", tmp_path / "run", "--preset", "base"]
    words += ["--backbone-file", tmp_path / "lm.safetensors", "--parallel", "fsdp", "--keep-activations"]
    done = run(*words, "--submit", "slurm", "--cluster", "hours=2", "--cluster", "partition=gpu")
    assert done.exit_code == 0
    assert "submitted job 17" in done.stdout
    config, where, wanted = asked[0]
    assert (where, wanted) == ("slurm", ClusterConfig(partition="gpu", hours=2.0))
    assert (config.preset, config.parallel, config.recompute) == ("base", "fsdp", False)
    assert config.backbone_file == tmp_path / "lm.safetensors"
    assert not config.out.exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--cluster", "hours=2"], "--cluster hours=2 says what a job asks for; say --submit slurm too"),
        (["--parallel", "pipeline"], "parallel is 'pipeline'; expected one of ddp, fsdp"),
    ],
)
def test_what_cannot_be_is_one_line(run: Callable[..., Any], tmp_path: Path, words: list[str], says: str) -> None:
    done = run("train", "--data", tmp_path, "--out", tmp_path / "run", *words)
    assert done.exit_code == 2
    assert says in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        ("joint", "reconstruct --model"),
        ("decoder", "reconstruct --model"),
        ("encoder", "report SCAN -o page.html --findings"),
    ],
)
def test_the_last_line_says_what_the_model_is_for(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, says: str
) -> None:
    monkeypatch.setattr("nirvana_mri.train.loop.train", lambda config, *_: config.out / "best.safetensors")
    done = run("train", "--data", tmp_path, "--out", tmp_path / "run", "--stage", stage)
    last = done.stdout.splitlines()[-1]
    assert f"use it with nirvana-mri {says}" in last
    assert last.endswith("not for clinical use")
