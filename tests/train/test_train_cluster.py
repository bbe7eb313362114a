"""A run as a job: really run by submitit's local executor, and what SLURM would be asked for."""

import csv
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from tiny import tiny_model, tiny_scan

from nirvana_mri.errors import UsageError
from nirvana_mri.recon.checkpoint import load_model, save_checkpoint
from nirvana_mri.train import TrainConfig
from nirvana_mri.train.cluster import ClusterConfig, submit


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    (tmp_path / "data").mkdir()
    tiny_scan(64, 56, slices=2, out=tmp_path / "data" / "a.h5")
    save_checkpoint(tiny_model(), tmp_path / "start.safetensors", covers={}, training={})
    return TrainConfig(
        tmp_path / "data", tmp_path / "run", start_from=str(tmp_path / "start.safetensors"), workers=1, threads=1,
        max_steps=100_000, checkpoint_every=2, validation_fraction=0.0, rows=32, logs=("none",),
    )  # fmt: skip


@pytest.mark.slow
def test_a_preempted_job_goes_on_where_it_was(config: TrainConfig, tmp_path: Path) -> None:
    """Slow: the job is a process, and runs twice. It gets the signal that SLURM gives before it takes a node away."""
    name, log = submit(config, "local", ClusterConfig(hours=1))
    controller = psutil.Process(int(name))
    try:
        state = config.out / "state.safetensors"
        _wait(state.exists)
        before = state.stat().st_mtime_ns
        controller.children()[0].send_signal(signal.SIGUSR2)
        _wait(lambda: f"Requeued job {name}" in log.read_text(encoding="utf-8"))
        reached = _steps(config.out)[-1]
        _wait(lambda: state.stat().st_mtime_ns > before and _steps(config.out)[-1] > reached)
        _wait((config.out / "last.safetensors").exists)  # the first process may have stopped between state and model
    finally:
        family = [controller, *controller.children(recursive=True)]
        controller.send_signal(signal.SIGINT)
        for process in psutil.wait_procs(family, 60)[1]:  # none outlives the test, whatever went wrong
            process.kill()
    steps = _steps(config.out)
    assert steps == list(range(1, len(steps) + 1))
    assert load_model(config.out / "last.safetensors").training["steps"] >= 2


def _wait(until) -> None:
    give_up = time.monotonic() + 120
    while not until():
        assert time.monotonic() < give_up
        time.sleep(0.1)


def _steps(out: Path) -> list[int]:
    with (out / "metrics.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row["seconds"]]


def test_slurm_is_asked_for_what_the_run_needs(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, answer in (("sbatch", "Submitted batch job 7"), ("srun", "")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {answer}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    cluster = ClusterConfig.from_words(["partition=gpu", "nodes=2", "hours=1.5", "memory_gb=64"])
    name, log = submit(replace(config, devices=4, batch=16, device="cuda"), "slurm", cluster)
    assert name == "7"
    assert log == config.out / "jobs" / "7_0_log.out"
    asked = next((config.out / "jobs").glob("*.sh")).read_text()
    for line in ("partition=gpu", "nodes=2", "ntasks-per-node=4", "gpus-per-node=4", "time=90", "mem=64GB", "requeue"):
        assert f"#SBATCH --{line}\n" in asked, line
    assert "account" not in asked


def test_what_cannot_be_submitted_is_named(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words, says in (
        (["queue=gpu"], "queue=gpu; expected KEY=VALUE with one of partition, account, nodes"),
        (["hours=long"], "hours=long; expected a number"),
        (["nodes=0"], "nodes=0; expected nodes and cpus from 1"),
    ):
        with pytest.raises(UsageError, match=says):
            ClusterConfig.from_words(words)
    one = ClusterConfig()
    for changed, where, says in (
        (config, "moon", "submit is 'moon'; expected one of slurm, local"),
        (replace(config, devices=2, batch=2), "local", "runs one process, not 2"),
        (replace(config, devices=2, batch=3), "slurm", "batch is 3, on 2 processes"),
    ):
        with pytest.raises(UsageError, match=says):
            submit(changed, where, one)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="there is no SLURM here"):
        submit(config, "slurm", one)
    config.out.mkdir()
    (config.out / "state.safetensors").touch()
    with pytest.raises(UsageError, match="holds a run already"):
        submit(config, "local", one)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UsageError, match=r"nirvana-mri\[cluster\]"):
        submit(config, "local", one)
