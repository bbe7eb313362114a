"""Pretraining: it learns, goes on after a kill to the last digit, and is the same on one process or two."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from language_support import some_text, tiny_language_model, tiny_tokenizer, write_jsonl

from nirvana_mri.backbone import load_backbone
from nirvana_mri.backbone.file import inspect_backbone, stored_tokenizer
from nirvana_mri.errors import CheckpointError, DataError, UsageError
from nirvana_mri.language.pretrain import PretrainConfig, pretrain

OPTIONS: dict[str, Any] = dict(max_steps=12, length=32, batch_tokens=128, buffer_rows=16, warm_up=4, checkpoint_every=3)
CHILD = """
import json, sys
from pathlib import Path
from language_support import tiny_language_model, tiny_tokenizer
from nirvana_mri.language.pretrain import PretrainConfig, pretrain
for out, options in json.loads(sys.argv[2]).items():
    config = PretrainConfig((Path(sys.argv[1]),), Path(out), threads=1, **options)
    pretrain(config, tiny_language_model(), tiny_tokenizer())
"""
SHARED: dict[str, dict[str, Any]] = {
    "muon": {"optimizer": "muon"},
    "fsdp": {"parallel": "fsdp"},
    "portions": {"micro_tokens": 32},
    "sharded": {"parallel": "fsdp", "max_steps": 6},
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("text") / "a.jsonl", [some_text(30, n) for n in range(20)])


def run(corpus: Path, out: Path, **options: Any) -> list[dict[str, str]]:
    pretrain(PretrainConfig((corpus,), out, **(OPTIONS | options)), tiny_language_model(), tiny_tokenizer())
    return rows(out)


def rows(out: Path) -> list[dict[str, str]]:
    """metrics.csv without what time it took."""
    with (out / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "tokens_per_second"} for row in csv.DictReader(file)]


def child(corpus: Path, runs: dict[Path, dict[str, Any]], processes: int = 1) -> subprocess.Popen[bytes]:
    """Other processes that do these runs (folder, options), one after another."""
    script = next(iter(runs)).with_suffix(".py")
    script.write_text(CHILD)
    words = [str(script), str(corpus), json.dumps({str(out): OPTIONS | options for out, options in runs.items()})]
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", "0"]
        launcher += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    paths = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen([*launcher, *words], env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)})


@pytest.fixture(scope="module")
def plain(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one run with OPTIONS, which several tests compare theirs with; nobody writes there."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    run(corpus, folder)
    return folder


@pytest.fixture(scope="module")
def by_two(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs of SHARED, each done by two processes that torchrun started once."""
    folder = tmp_path_factory.mktemp("two")
    assert child(corpus, {folder / name: options for name, options in SHARED.items()}, 2).wait() == 0
    return folder


@pytest.mark.parametrize(("optimizer", "rate"), [("adamw", 0.01), ("muon", 0.1)])
def test_it_learns(corpus: Path, tmp_path: Path, optimizer: str, rate: float) -> None:
    options = dict(max_steps=40, checkpoint_every=40, learning_rate=rate)
    found = run(corpus, tmp_path / "run", **options, optimizer=optimizer, held_out=corpus)
    assert float(found[-1]["loss"]) < 0.75 * float(found[0]["loss"])
    assert float(found[-1]["held_out_loss"]) == pytest.approx(float(found[-1]["loss"]), rel=0.3)
    assert [int(row["step"]) for row in found] == list(range(1, 41))
    assert int(found[-1]["tokens"]) == 40 * 128


def test_the_file_it_leaves_is_a_backbone_with_its_tokenizer(plain: Path) -> None:
    last = plain / "last.safetensors"
    about = inspect_backbone(last)
    assert about.source["tokens"] == 12 * 128
    assert load_backbone(last).config == tiny_language_model().config
    held = stored_tokenizer(last)
    assert held is not None
    assert held.sha256 == tiny_tokenizer().sha256


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_last_digit(corpus: Path, tmp_path: Path) -> None:
    """Slow: it starts a process of its own, which is killed without warning."""
    options = dict(max_steps=60, checkpoint_every=7, optimizer="muon")
    unbroken = run(corpus, tmp_path / "unbroken", **options)
    out = tmp_path / "killed"
    process = child(corpus, {out: options})
    while process.poll() is None and not ((out / "metrics.csv").exists() and len(rows(out)) >= 10):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 10 <= len(rows(out)) < 60
    assert run(corpus, out, **options, resume=True) == unbroken
    weights = [inspect_backbone(tmp_path / name / "last.safetensors").sha256 for name in ("unbroken", "killed")]
    assert weights[0] == weights[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["muon", "fsdp", "portions"])
def test_two_processes_give_what_one_gives(corpus: Path, plain: Path, by_two: Path, tmp_path: Path, name: str) -> None:
    """Slow: torchrun starts two processes."""
    alone = plain
    if "optimizer" in SHARED[name]:
        run(corpus, alone := tmp_path / "one", optimizer=SHARED[name]["optimizer"])
    for one, two in zip(rows(alone), rows(by_two / name), strict=True):
        assert float(two["loss"]) == pytest.approx(float(one["loss"]), rel=1e-5)
        assert float(two["gradient_norm"]) == pytest.approx(float(one["gradient_norm"]), rel=1e-4)
    models = [load_backbone(folder / "last.safetensors") for folder in (alone, by_two / name)]
    for one, two in zip(*(model.parameters() for model in models), strict=True):
        assert (one - two).abs().max() <= 1e-4 * max(1.0, float(one.abs().max()))


@pytest.mark.slow
def test_a_sharded_run_goes_on_alone(corpus: Path, by_two: Path, tmp_path: Path) -> None:
    """Slow: torchrun starts two processes. The state holds whole tensors, so that one process can take it up."""
    shutil.copytree(by_two / "sharded", tmp_path / "two")
    short = run(corpus, tmp_path / "short", max_steps=6)
    went_on = [run(corpus, tmp_path / name, resume=True) for name in ("two", "short")]
    assert len(went_on[0]) == 12
    assert [float(row["loss"]) for row in went_on[0]] == pytest.approx([float(row["loss"]) for row in went_on[1]], 1e-5)
    assert len(short) == 6


@pytest.mark.parametrize("options", [{"micro_tokens": 32}, {"recompute": True}])
def test_portions_and_recomputing_change_nothing_but_the_last_digits(
    corpus: Path, plain: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    for one, two in zip(rows(plain), run(corpus, tmp_path / "b", **options), strict=True):
        assert float(two["loss"]) == pytest.approx(float(one["loss"]), rel=1e-5)


def test_short_rows_are_the_same_text_cut(corpus: Path, plain: Path, tmp_path: Path) -> None:
    found, whole = run(corpus, tmp_path / "a", short_length=8, long_share=0.5), rows(plain)
    assert int(found[-1]["tokens"]) == int(whole[-1]["tokens"])
    assert found[0]["loss"] != whole[0]["loss"]
    assert float(found[0]["loss"]) == pytest.approx(float(whole[0]["loss"]), rel=0.02)


def test_bfloat16_products_keep_float32_weights(corpus: Path, tmp_path: Path) -> None:
    found = run(corpus, tmp_path / "a", precision="bf16", max_steps=3)
    exact = run(corpus, tmp_path / "b", max_steps=3)
    assert load_backbone(tmp_path / "a" / "last.safetensors").norm.weight.dtype is torch.float32
    assert float(found[-1]["loss"]) == pytest.approx(float(exact[-1]["loss"]), rel=2e-2)


def test_a_run_of_another_recipe_is_named(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "a", max_steps=3)
    with pytest.raises(UsageError, match="holds a run already"):
        run(corpus, tmp_path / "a")
    with pytest.raises(CheckpointError, match="seed 0, now it is 1"):
        run(corpus, tmp_path / "a", resume=True, seed=1)
    config = PretrainConfig((corpus,), tmp_path / "a", **OPTIONS, resume=True)
    with pytest.raises(CheckpointError, match="begun with model"):
        pretrain(config, tiny_language_model(num_layers=4), tiny_tokenizer())
    with pytest.raises(CheckpointError, match="begun with tokenizer"):
        pretrain(config, tiny_language_model(), tiny_tokenizer(310))
    with pytest.raises(CheckpointError, match="nothing to resume"):
        run(corpus, tmp_path / "none", resume=True)


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_anew(
    corpus: Path, plain: Path, tmp_path: Path
) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "metrics.csv").write_text((plain / "metrics.csv").read_text()[:150])
    assert run(corpus, tmp_path / "b", resume=True) == rows(plain)


def test_damaged_state_is_one_line(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "a", max_steps=3)
    state = tmp_path / "a" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="not a readable training state"):
        run(corpus, tmp_path / "a", resume=True)


def test_a_loss_that_is_not_finite_stops_the_run(corpus: Path, tmp_path: Path) -> None:
    model = tiny_language_model()
    with torch.no_grad():
        model.norm.weight.fill_(torch.inf)
    with pytest.raises(DataError, match="loss of step 1 is nan"):
        pretrain(PretrainConfig((corpus,), tmp_path / "a", **OPTIONS), model, tiny_tokenizer())
    assert not (tmp_path / "a" / "last.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_steps": 0}, "max_steps is 0"),
        ({"short_length": 5}, "divisor of length"),
        ({"batch_tokens": 100}, "multiple of length"),
        ({"optimizer": "sgd"}, "'sgd'"),
        ({"optimizer": "muon", "parallel": "fsdp"}, "whole matrices"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"warm_up": -1}, "warm_up is -1"),
        ({"device": "cuda"}, "no CUDA GPU"),
    ],
)
def test_options_that_cannot_work_are_named(corpus: Path, tmp_path: Path, options: dict[str, Any], says: str) -> None:
    if options.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("a CUDA GPU is here")
    with pytest.raises(UsageError, match=says):
        run(corpus, tmp_path / "a", **options)
