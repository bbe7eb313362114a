"""Several processes give what one gives; low precision; launchers told by what they announce."""

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_model, tiny_scan
from torch.distributed.tensor import DTensor

from nirvana_mri.backbone import sha256
from nirvana_mri.backbone.shards import cut_up
from nirvana_mri.errors import UsageError
from nirvana_mri.recon.checkpoint import backbone_sha256, save_checkpoint
from nirvana_mri.recon.frozen import stored_low
from nirvana_mri.train import TrainConfig, loop
from nirvana_mri.train.config import PARALLEL
from nirvana_mri.train.engine import Engine, _announced, make_engine
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
    chosen: dict[str, Any] = dict(max_steps=4, start_from=start, batch=4, workers=0, threads=1)
    return TrainConfig(folder / "data", out, **(chosen | options))


def rows(out: Path) -> list[dict[str, float]]:
    with (out / "metrics.csv").open(newline="") as file:
        return [
            {k: float(v) for k, v in row.items() if v and k not in ("seconds", "waited")}
            for row in csv.DictReader(file)
        ]


@pytest.fixture(scope="module")
def by_one(folder: Path) -> Path:
    """Four steps of one process, and a fifth after a pause."""
    train(config(folder, folder / "one", micro=1))
    train(config(folder, folder / "one", micro=1, resume=True, max_steps=5))
    return folder / "one"


@pytest.mark.slow
@pytest.mark.parametrize("parallel", PARALLEL)
def test_two_processes_give_what_one_gives(folder: Path, by_one: Path, tmp_path: Path, parallel: str) -> None:
    """Slow: it starts a second process. The other launchers are told apart below. The state goes on in one process."""
    words = ["-m", "nirvana_mri", "train", "--data", folder / "data", "--from", folder / "start.safetensors"]
    words += ["--out", tmp_path / "two", "--batch", 4, "--micro", 1, "--max-steps", 4, "--workers", 0]
    words += ["--devices", 2, "--log", "none", "--parallel", parallel]
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote ") == 1
    assert not done.stderr
    train(config(folder, tmp_path / "two", micro=1, resume=True, max_steps=5))
    one, two = rows(by_one), rows(tmp_path / "two")
    assert [row["step"] for row in two] == [1, 2, 3, 4, 5]
    for alone, shared in zip(one, two, strict=True):
        assert shared == {name: pytest.approx(value, rel=1e-5) for name, value in alone.items()}
    weights = [load_file(out / "last.safetensors") for out in (by_one, tmp_path / "two")]
    assert all((weights[0][name] - weights[1][name]).abs().max() < 1e-6 for name in weights[0])


@pytest.fixture
def alone_in_a_group() -> Iterator[None]:
    """A group of processes of which this is the only one."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("recompute", [False, True])
def test_a_cut_up_backbone_is_the_same_backbone(alone_in_a_group: None, recompute: bool) -> None:
    """Layers are cut up and nothing else; outputs, gradients and fingerprint are those of the whole one."""
    uncut, cut = tiny_model().backbone, tiny_model().backbone
    assert uncut is not None
    assert cut is not None
    cut.freeze(recompute)
    cut_up(cut, cut.layers, torch.device("cpu"), rest=False)
    for name, parameter in cut.named_parameters():
        assert isinstance(parameter, DTensor) == name.startswith("layers."), name
    found = []
    for model in (uncut, cut):
        x = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(1)).requires_grad_()
        hidden = model(inputs_embeds=x, compute_logits=False).final_hidden
        hidden.square().sum().backward()
        found.append((hidden.detach(), x.grad))
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-6)
    assert sha256(cut) == sha256(uncut)


def test_what_is_seen_again_for_the_others_counts_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where another process has more portions, this one calls the model as often."""
    train(config(folder, tmp_path / "as it is", max_steps=2, validate_every=9))
    monkeypatch.setattr(Engine, "rounds", lambda self, portions: portions + 2)
    train(config(folder, tmp_path / "more", max_steps=2, validate_every=9))
    assert rows(tmp_path / "more") == rows(tmp_path / "as it is")


def test_a_backbone_stored_low_changes_no_digit(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weights are exact in bfloat16, so that products see the same numbers; its fingerprint is the same."""
    train(config(folder, tmp_path / "stored low", precision="bf16", max_steps=2))
    monkeypatch.setattr(loop, "stored_low", lambda *_: False)
    train(config(folder, tmp_path / "stored wide", precision="bf16", max_steps=2))
    assert rows(tmp_path / "stored low") == rows(tmp_path / "stored wide")
    model = tiny_model()
    before = backbone_sha256(model)
    assert model.backbone is not None
    assert stored_low(model.backbone, torch.bfloat16)
    assert model.backbone.norm.weight.dtype is torch.bfloat16
    assert backbone_sha256(model) == before
    wide = tiny_model().backbone
    assert wide is not None
    with torch.no_grad():
        wide.norm.weight[0] += 1e-6
    assert not stored_low(wide, torch.bfloat16)
    assert wide.norm.weight.dtype is torch.float32


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
