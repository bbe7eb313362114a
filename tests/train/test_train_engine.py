"""Several processes give what one gives; low precision; launchers told by what they announce."""

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_model, tiny_scan

from nirvana_mri.errors import UsageError
from nirvana_mri.recon.checkpoint import save_checkpoint
from nirvana_mri.train import TrainConfig
from nirvana_mri.train.engine import _announced, make_engine
from nirvana_mri.train.loop import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scans, and a tiny model to begin with."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "data").mkdir()
    for seed, name in enumerate("abc"):
        tiny_scan(64, 56, slices=2, out=folder / "data" / f"{name}.h5", seed=seed)
    save_checkpoint(tiny_model(), folder / "start.safetensors", covers={}, training={})
    return folder


def config(folder: Path, out: Path, **options: Any) -> TrainConfig:
    start = str(folder / "start.safetensors")
    return TrainConfig(folder / "data", out, max_steps=4, start_from=start, batch=4, workers=0, threads=1, **options)


def rows(out: Path) -> list[dict[str, float]]:
    with (out / "metrics.csv").open(newline="") as file:
        return [
            {k: float(v) for k, v in row.items() if v and k not in ("seconds", "waited")}
            for row in csv.DictReader(file)
        ]


@pytest.mark.slow
def test_two_processes_give_what_one_gives(folder: Path, tmp_path: Path) -> None:
    """Slow: it starts a second process. The other launchers are told apart below."""
    train(config(folder, tmp_path / "one", micro=1))
    words = ["-m", "nirvana_mri", "train", "--data", folder / "data", "--from", folder / "start.safetensors"]
    words += ["--out", tmp_path / "two", "--batch", 4, "--micro", 1, "--max-steps", 4, "--workers", 0]
    words += ["--devices", 2, "--log", "none"]
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote ") == 1
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert [row["step"] for row in two] == [1, 2, 3, 4]
    for alone, shared in zip(one, two, strict=True):
        assert shared == {name: pytest.approx(value, rel=1e-5) for name, value in alone.items()}
    weights = [load_file(tmp_path / name / "last.safetensors") for name in ("one", "two")]
    assert all((weights[0][name] - weights[1][name]).abs().max() < 1e-6 for name in weights[0])


def test_low_precision_stays_near(folder: Path, tmp_path: Path) -> None:
    train(config(folder, tmp_path / "exact"))
    train(config(folder, tmp_path / "low", precision="bf16"))
    for exact, low in zip(rows(tmp_path / "exact"), rows(tmp_path / "low"), strict=True):
        assert low["loss"] == pytest.approx(exact["loss"], rel=2e-2)
        assert low["loss"] != exact["loss"]
    assert load_file(tmp_path / "low" / "last.safetensors")["decoder.reduce.weight"].dtype is torch.float32


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, (3, 1)),
        ({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}, (4, 2)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "6", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "fit"}, (3, 2)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "fit"}, (3, 1)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "6", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "bash"}, (3, 1)),
    ],
)
def test_launchers_are_told_by_what_they_announce(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], wanted: tuple[int, int]
) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "TORCHELASTIC_"))]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert _announced(3) == wanted


def test_what_cannot_be_shared_or_computed_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="batch is 4, on 3 processes"):
        make_engine(config(folder, tmp_path, devices=3))
    with pytest.raises(UsageError, match="fp16 needs a CUDA GPU"):
        make_engine(config(folder, tmp_path, precision="fp16"))
    with pytest.raises(UsageError, match="precision is 'int8'"):
        config(folder, tmp_path, precision="int8")
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(UsageError, match=r"nirvana-mri\[train\]"):
        make_engine(config(folder, tmp_path, devices=2))
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="no CUDA GPU"):
            make_engine(config(folder, tmp_path, device="cuda"))
