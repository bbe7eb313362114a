"""Ablations: one thing changed at a time, the same slices for all, paired differences, and a table that says so."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from language_support import tiny_tokenizer
from tiny import tiny_config, tiny_scan

from nirvana_mri.backbone import BackboneConfig, NirvanaLM
from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.recon import model as model_module
from nirvana_mri.recon.model import NirvanaReconConfig
from nirvana_mri.train import TrainConfig, ablation, validation
from nirvana_mri.train.ablation import ARMS, ablate, as_markdown, equal_depth, interval
from nirvana_mri.train.data import Examples
from nirvana_mri.train.index import read_index
from nirvana_mri.train.subjects import subjects_of


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    """Tiny models in place of nano's, the pretrained backbone among them, on three scans."""
    words = tiny_tokenizer()
    lm = replace(tiny_config().lm, vocab_size=words.vocab_size)

    def nano(_: BackboneConfig | None = None, **changes: Any) -> NirvanaReconConfig:
        return replace(tiny_config(), lm=lm, **changes)

    monkeypatch.setattr(NirvanaReconConfig, "nano", nano)
    monkeypatch.setattr(model_module, "load_backbone", lambda *_, **__: NirvanaLM(lm, 7).requires_grad_(False).eval())
    monkeypatch.setattr(model_module, "stored_tokenizer", lambda _: words)
    monkeypatch.setattr(ablation, "TEST_EXAMPLES", 4)
    monkeypatch.setattr(validation, "EXAMPLES", (1, 1))
    data = tmp_path / "data"
    data.mkdir()
    for seed, name in enumerate("abc"):
        tiny_scan(64, 56, slices=2, out=data / f"{name}.h5", seed=seed)
    return TrainConfig(data, tmp_path / "out", max_steps=2, warm_up=1, workers=0, held_out=("b", "c"), logs=("none",))


def test_every_arm_trains_and_is_scored_on_the_same_slices(base: TrainConfig) -> None:
    seen: list[str] = []
    found = ablate(base, tuple(ARMS), 1, lambda name, step, total: seen.append(name))
    assert [arm["arm"] for arm in found["arms"]] == list(ARMS)
    assert {name.split()[0] for name in seen} == set(ARMS)
    full = found["arms"][0]
    assert full["ssim_difference"] == full["psnr_difference"] == 0
    assert all(arm["ssim_interval"][0] <= arm["ssim_difference"] <= arm["ssim_interval"][1] for arm in found["arms"])
    psnr = {arm["arm"]: arm["psnr"] for arm in found["arms"]}
    assert len(set(psnr.values())) == len(ARMS)
    parameters = {arm["arm"]: arm["parameters"] for arm in found["arms"]}
    assert parameters["none"] < parameters["transformer"]
    assert parameters["full"] == parameters["random"] == parameters["two-passes"]
    assert json.loads((base.out / "ablation.json").read_text()) == found
    table = (base.out / "ablation.md").read_text()
    assert table == as_markdown(found)
    assert "2 steps an arm" in table.splitlines()[0]
    assert all(f"| {name} |" in table for name in ARMS)
    assert found["sentence"] in table
    assert found["memory"]["layers"]
    assert "What the memory does with a scan" in (base.out / "memory.html").read_text()


def test_finished_runs_are_not_repeated(base: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ablate(base, ("none",), 1)
    assert [arm["arm"] for arm in first["arms"]] == ["full", "none"]
    monkeypatch.setattr(ablation, "train", lambda *_: pytest.fail("trained again"))
    assert ablate(base, ("none",), 1) == first


def test_runs_side_by_side_give_what_they_give_in_turn(base: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads stand in for the processes, which would not know of the tiny models."""
    monkeypatch.setattr(ablation, "ProcessPoolExecutor", lambda count, **_: ThreadPoolExecutor(1))
    monkeypatch.setattr(ablation.torch, "set_num_threads", lambda _: None)
    seen: list[tuple[int, int]] = []
    beside = ablate(replace(base, out=base.out / "two"), ("none",), 2, lambda _, *done: seen.append(done), together=2)
    assert seen[-1] == (4, 4)
    in_turn = ablate(base, ("none",), 2)
    for one, two in zip(in_turn["arms"], beside["arms"], strict=True):
        assert one["ssim"] == pytest.approx(two["ssim"], rel=1e-6)
        assert one["parameters"] == two["parameters"]
    with pytest.raises(UsageError, match="together is 0"):
        ablate(base, ("none",), 1, together=0)
    monkeypatch.setattr(ablation, "_train", lambda *_: pytest.fail("trained"))
    with pytest.raises(pytest.fail.Exception, match="trained"):
        ablate(replace(base, out=base.out / "three"), ("none",), 1, together=2)


POOL = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from nirvana_mri.train.ablation import end_with_parent
if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=end_with_parent) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 120).result()
"""


def test_runs_side_by_side_end_with_who_started_them(tmp_path: Path) -> None:
    (tmp_path / "pool.py").write_text(POOL)
    with subprocess.Popen([sys.executable, tmp_path / "pool.py"], stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        child = int(started.stdout.readline())
        os.kill(child, 0)
        started.kill()
    until = time.monotonic() + 20
    while Path(f"/proc/{child}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_arms_see_the_same_examples(base: TrainConfig) -> None:
    """What differs is the model: the examples of a seed do not depend on the arm."""
    index = read_index(base.data)
    subjects = subjects_of(index, ["a"])
    drawn = [Examples(subjects, replace(base, **ARMS[name].changes))[1] for name in ("full", "none", "two-passes")]
    assert all(bool((each.problem.data == drawn[0].problem.data).all()) for each in drawn)


def test_what_cannot_be_compared_is_named(base: TrainConfig) -> None:
    with pytest.raises(UsageError, match="arm is 'magic'; expected among full, random"):
        ablate(base, ("magic",), 1)
    with pytest.raises(DataError, match="nobody can be held out"):
        ablate(replace(base, held_out=(), validation_fraction=0.0), ("none",), 1)


def test_intervals_draw_subjects_with_all_their_slices() -> None:
    """Two subjects that disagree: the interval reaches from one to the other, however many slices they have."""
    subjects = ["a"] * 50 + ["b"] * 50
    values = np.array([[1.0] * 50 + [-1.0] * 50])
    assert interval(values, subjects) == [-1.0, 1.0]
    low, high = interval(np.random.default_rng(0).normal(2, 1, (3, 200)), [str(n) for n in range(200)])
    assert low < 2 < high
    assert high - low < 0.5


def test_the_deeper_encoder_computes_as_much() -> None:
    config = NirvanaReconConfig.nano()
    depth = equal_depth(config)
    layer = 12 * config.encoder.width**2
    lm = config.lm
    backbone = lm.num_layers * (5 * lm.hidden_size**2 + 3 * lm.hidden_size * lm.intermediate_size)
    assert abs((depth - config.encoder.depth) * layer / backbone - 1) < 0.05
