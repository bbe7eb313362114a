"""Training a tiny model for a few steps: it learns, resumes exactly, and never moves the backbone."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_model, tiny_scan

import nirvana_mri as nm
from nirvana_mri.errors import CheckpointError, UsageError
from nirvana_mri.language.optimizer import schedule
from nirvana_mri.recon.checkpoint import save_checkpoint
from nirvana_mri.train import TrainConfig
from nirvana_mri.train.loop import train


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    """Starts from a tiny model, so that a step takes milliseconds."""
    data = tmp_path / "data"
    data.mkdir()
    for name in ("a", "b", "c"):
        tiny_scan(64, 56, slices=2, out=data / f"{name}.h5")
    start = tmp_path / "start.safetensors"
    save_checkpoint(tiny_model(), start, covers={}, training={})
    return TrainConfig(
        data, tmp_path / "run", steps=8, warm_up=2, workers=0, start_from=str(start), validate_every=4,
        checkpoint_every=4, rows=48,
    )  # fmt: skip


def _weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path / "model.safetensors")


def test_training_moves_the_codecs_and_not_one_byte_of_the_backbone(config: TrainConfig) -> None:
    path = train(config)
    before, after = load_file(Path(str(config.start_from))), load_file(path)
    for name, tensor in before.items():
        moved = not torch.equal(tensor, after[name])
        assert moved != name.startswith("backbone."), name
    loaded = nm.load_model(path)
    assert loaded.training["split"]["validation"]
    assert loaded.training["recipe"]["masks"]["kinds"]
    assert str(config.data) not in str(loaded.training)
    volume = nm.reconstruct(nm.open_scan(config.data / "a.h5"), path, accelerate=4, center_fraction=0.16)
    assert volume.provenance["model_sha256"] == loaded.sha256


def test_stage_decoder_leaves_the_encoder_alone(config: TrainConfig) -> None:
    after = load_file(train(replace(config, stage="decoder")))
    before = load_file(Path(str(config.start_from)))
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]) != name.startswith("decoder."), name


def test_stage_encoder_says_what_it_waits_for(config: TrainConfig) -> None:
    with pytest.raises(UsageError, match="report text"):
        train(replace(config, stage="encoder", data=config.data / "never opened"))


def test_resuming_gives_the_same_bytes_as_never_stopping(config: TrainConfig, tmp_path: Path) -> None:
    """Stopped after its checkpoint at step 4 and continued, a run ends where an unbroken one does."""
    unbroken = replace(config, out=tmp_path / "unbroken")
    train(unbroken)

    class Stop(Exception):
        pass

    from nirvana_mri.train import loop

    original = loop.save_model

    def save_then_stop(run, config, facts):  # type: ignore[no-untyped-def]
        original(run, config, facts)
        if run.step == 4:
            raise Stop
        return config.out / "model.safetensors"

    loop.save_model = save_then_stop
    try:
        with pytest.raises(Stop):
            train(config)
    finally:
        loop.save_model = original
    train(replace(config, resume=True))
    for name, tensor in _weights(tmp_path / "unbroken").items():
        assert torch.equal(tensor, _weights(config.out)[name]), name


def test_a_run_is_not_overwritten_by_accident(config: TrainConfig) -> None:
    train(config)
    with pytest.raises(UsageError, match="holds a run already"):
        train(config)


def test_resuming_needs_something_to_resume_and_the_same_seed(config: TrainConfig) -> None:
    with pytest.raises(CheckpointError, match="nothing to resume"):
        train(replace(config, resume=True))
    train(config)
    with pytest.raises(CheckpointError, match="seed 0, not 7"):
        train(replace(config, resume=True, seed=7))


def test_metrics_are_written_and_training_lowers_the_loss(config: TrainConfig) -> None:
    """A hundred steps, because a row of metrics stands for fifty."""
    train(replace(config, steps=100, learning_rate=3e-3, checkpoint_every=200, validate_every=100))
    with (config.out / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [50, 100]
    assert float(rows[-1]["ssim"]) > 0
    assert float(rows[1]["loss"]) < float(rows[0]["loss"])


def test_the_schedule_warms_up_and_ends_at_nothing(config: TrainConfig) -> None:
    shares = [schedule(step, config.steps, config.warm_up) for step in range(config.steps + 1)]
    assert shares[0] < shares[1] == 1
    assert shares[-1] == pytest.approx(0, abs=1e-9)
    assert shares[2:] == sorted(shares[2:], reverse=True)


def test_what_is_saved_is_the_running_mean_of_the_weights(config: TrainConfig, tmp_path: Path) -> None:
    """With no memory the mean is the last step's weights; with some it lies between them and the first."""
    start = load_file(Path(str(config.start_from)))["decoder.reduce.weight"]
    for average, same in ((0.0, True), (0.9, False)):
        out = tmp_path / f"average {average}"
        train(replace(config, out=out, average=average))
        kept = load_file(out / "last.safetensors")
        last, mean = kept["model.decoder.reduce.weight"], kept["average.decoder.reduce.weight"]
        assert torch.equal(last, mean) is same
        assert torch.equal(_weights(out)["decoder.reduce.weight"], mean)
        assert 0 < float((mean - start).norm()) <= float((last - start).norm())
