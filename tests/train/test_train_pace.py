"""How fast a run goes is told, and however many steps it takes, its memory stays."""

import csv
import gc
import time
from pathlib import Path

import pytest
import torch
from tiny import tiny_model, tiny_scan

from nirvana_mri.recon.checkpoint import save_checkpoint
from nirvana_mri.train import MaskRecipe, TrainConfig
from nirvana_mri.train.loop import train
from nirvana_mri.train.pace import Pace

GROWTH = 3.0  # MiB in fifty steps: less than their examples alone would take


def small(tmp_path: Path, steps: int) -> TrainConfig:
    (tmp_path / "data").mkdir()
    for seed, name in enumerate("ab"):
        tiny_scan(48, 48, slices=2, coils=2, out=tmp_path / "data" / f"{name}.h5", seed=seed)
    start = tmp_path / "start.safetensors"
    save_checkpoint(tiny_model(), start, covers={}, training={})
    return TrainConfig(
        tmp_path / "data", tmp_path / "run", max_steps=steps, workers=0, start_from=str(start), rows=16,
        validate_every=steps, masks=MaskRecipe(accelerations=(3, 4)), logs=("none",),
    )  # fmt: skip


def resident() -> float:
    """Memory of this process [MiB]."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_fifty_steps_leave_nothing_behind(tmp_path: Path) -> None:
    """Slow, because memory settles over some steps first. ``benchmarks/loader.py --steps 1000`` takes longer ways."""
    memory, tensors = {}, {}

    def look(step: int, total: int, row: dict[str, float]) -> None:
        if step in (25, 75):
            gc.collect()
            memory[step] = resident()
            tensors[step] = sum(type(each) is torch.Tensor for each in gc.get_objects())

    train(small(tmp_path, 76), look)
    assert tensors[75] == tensors[25]
    assert memory[75] - memory[25] < GROWTH


def test_the_table_and_the_caller_hear_how_long_a_step_waited(tmp_path: Path) -> None:
    told: list[dict[str, float]] = []
    config = small(tmp_path, 6)
    train(config, lambda step, total, row: told.append(row))
    with (config.out / "metrics.csv").open(newline="") as file:
        waited = [float(row["waited"]) for row in csv.DictReader(file)]
    assert waited == [row["waited"] for row in told]
    assert all(0 < row["waiting"] < 1 for row in told)
    assert all(row["slices_per_second"] > 0 for row in told)
    assert sum(waited) < 6 / told[-1]["slices_per_second"]  # the whole of the six steps


def test_waiting_is_the_share_of_the_time_before_an_item() -> None:
    """What comes after a step (validation, checkpoints) counts as neither."""

    def slow() -> object:
        for number in range(3):
            time.sleep(0.03)
            yield number

    pace, seen = Pace(), []
    for item in pace.over(slow()):
        seen.append(item)
        time.sleep(0.01)
        pace.stepped()
        time.sleep(0.4)
    assert seen == [0, 1, 2]
    assert pace.waited >= 0.03
    assert 0.2 < pace.waiting < 1
    assert 2.5 < pace.steps_per_second <= 25
