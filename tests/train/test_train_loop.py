"""Training a tiny model for a few steps: it learns, resumes exactly, and never moves the backbone."""

import csv
import importlib.util
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tiny import tiny_model, tiny_scan
from typer.testing import CliRunner

import nirvana_mri as nm
from nirvana_mri.cli.app import app
from nirvana_mri.errors import CheckpointError, DataError, UsageError
from nirvana_mri.language.optimizer import schedule
from nirvana_mri.recon.checkpoint import save_checkpoint
from nirvana_mri.train import TrainConfig
from nirvana_mri.train import engine as engine_module
from nirvana_mri.train.data import Examples
from nirvana_mri.train.engine import Engine, make_engine
from nirvana_mri.train.index import read_index
from nirvana_mri.train.logs import MAKERS, open_logs
from nirvana_mri.train.loop import _step, portions, train
from nirvana_mri.train.objective import make_objective
from nirvana_mri.train.optimizer import ADAM_SHARE, codec_optimizers
from nirvana_mri.train.stages import trained_parameters
from nirvana_mri.train.state import Run, codec_weights, resume
from nirvana_mri.train.subjects import subjects_of


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    """Starts from a tiny model, so that a step takes milliseconds."""
    data = tmp_path / "data"
    data.mkdir()
    for seed, name in enumerate(("a", "b", "c")):
        tiny_scan(64, 56, slices=2, out=data / f"{name}.h5", seed=seed)
    start = tmp_path / "start.safetensors"
    save_checkpoint(tiny_model(), start, covers={}, training={})
    return TrainConfig(
        data, tmp_path / "run", max_steps=8, warm_up=2, workers=0, start_from=str(start), validate_every=4,
        checkpoint_every=4, rows=48,
    )  # fmt: skip


def _rows(out: Path) -> list[dict[str, str]]:
    """metrics.csv without what time it took."""
    with (out / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in ("seconds", "waited")} for row in csv.DictReader(file)]


def _weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path / "best.safetensors")


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


def test_stage_encoder_needs_a_backbone_that_has_read(config: TrainConfig) -> None:
    with pytest.raises(UsageError, match="this model's backbone is 'random': choose --backbone pretrained"):
        train(replace(config, stage="encoder"))
    assert not (config.out / "state.safetensors").exists()


def test_resuming_gives_the_same_bytes_as_never_stopping(config: TrainConfig, tmp_path: Path) -> None:
    """Stopped after its checkpoint at step 4 and continued, a run ends where an unbroken one does."""
    unbroken = replace(config, out=tmp_path / "unbroken")
    train(unbroken)

    class Stop(Exception):
        pass

    def stop(step: int, total: int, row: dict[str, float]) -> None:
        if step == 6:
            raise Stop

    with pytest.raises(Stop):
        train(config, stop)
    torch.manual_seed(99)
    train(replace(config, resume=True))
    for name, tensor in _weights(tmp_path / "unbroken").items():
        assert torch.equal(tensor, _weights(config.out)[name]), name
    assert _rows(config.out) == _rows(unbroken.out)
    for name in ("best.safetensors", "last.safetensors"):
        told = [nm.load_model(out / name).training for out in (config.out, unbroken.out)]
        assert told[0] == told[1]


def test_a_run_is_not_overwritten_by_accident(config: TrainConfig) -> None:
    train(config)
    with pytest.raises(UsageError, match="holds a run already"):
        train(config)


def test_resuming_needs_something_to_resume_and_the_same_seed(config: TrainConfig) -> None:
    with pytest.raises(CheckpointError, match="nothing to resume"):
        train(replace(config, resume=True))
    train(config)
    for change, says in (
        ({"seed": 7}, "seed 0, now it is 7"),
        ({"learning_rate": 0.1}, "learning_rate 0.002, now it is 0.1"),
        ({"held_out": ("b",)}, "held_out"),
        ({"validation_fraction": 0.7}, "validation_fraction 0.1, now it is 0.7"),
        ({"stage": "decoder"}, "stage"),
    ):
        with pytest.raises(CheckpointError, match=says):
            train(replace(config, resume=True, **change))
    tiny_scan(64, 56, slices=2, out=config.data / "d.h5", seed=9)
    with pytest.raises(CheckpointError, match="begun with manifest"):
        train(replace(config, resume=True))
    state = config.out / "state.safetensors"
    (config.data / "d.h5").unlink()
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="not a readable training state"):
        train(replace(config, resume=True))


def test_more_steps_are_counted_from_the_first(config: TrainConfig) -> None:
    train(config)
    train(replace(config, resume=True, max_steps=10))
    assert [int(row["step"]) for row in _rows(config.out)] == list(range(1, 11))
    assert nm.load_model(config.out / "last.safetensors").training["steps"] == 10


def test_the_best_is_the_step_with_the_highest_held_out_ssim(config: TrainConfig) -> None:
    """At a rate that ruins the weights the first validation is the best one."""
    ruin = replace(config, learning_rate=0.03, warm_up=1, average=0.0)
    train(ruin)
    scores = {int(row["step"]): float(row["ssim"]) for row in _rows(config.out) if row["ssim"]}
    best, last = (nm.load_model(config.out / f"{name}.safetensors").training for name in ("best", "last"))
    assert set(scores) == {4, 8}
    assert best["metrics"]["step"] == best["steps"] == max(scores, key=lambda step: scores[step])
    assert best["metrics"]["ssim"] == pytest.approx(max(scores.values()))
    assert last["metrics"]["step"] == last["steps"] == 8
    metadata = safe_open(config.out / "state.safetensors", "pt").metadata()
    run = Run(tiny_model(), codec_optimizers(trained_parameters(tiny_model(), "joint"), "muon"), {})
    run.recipe = json.loads(metadata["recipe"])
    resume(run, config.out / "state.safetensors")
    assert run.best["step"] == best["steps"]
    assert run.scores["step"] == 8


def test_the_split_is_written_down_and_taken_up(config: TrainConfig, tmp_path: Path) -> None:
    manifest = tmp_path / "split.json"
    manifest.write_text('{"training": ["a"], "validation": ["c"], "test": ["b"]}')
    loaded = nm.load_model(train(replace(config, manifest=manifest)))
    assert loaded.training["split"] == {"training": ["a"], "validation": ["c"], "test": ["b"]}
    written = json.loads((config.out / "manifest.json").read_text())
    assert loaded.training["manifest"] == written
    again = replace(config, manifest=config.out / "manifest.json", out=tmp_path / "again")
    assert nm.load_model(train(again)).training["manifest"] == written
    with pytest.raises(UsageError, match="leave held_out or manifest out"):
        train(replace(again, held_out=("a",), out=tmp_path / "other"))
    begun = replace(config, start_from=str(config.out / "best.safetensors"), out=tmp_path / "third", held_out=("a",))
    with pytest.raises(DataError, match="best was trained on a, which would be held out"):
        train(begun)


def test_portions_of_a_batch_change_nothing_but_the_last_digits(config: TrainConfig, tmp_path: Path) -> None:
    runs = []
    for micro in (0, 1, 2):
        out = tmp_path / f"micro {micro}"
        train(replace(config, out=out, batch=3, micro=micro, max_steps=4))
        runs.append(_rows(out))
    for other in runs[1:]:
        for one, two in zip(runs[0], other, strict=True):
            for column in ("loss", "gradient_norm"):
                assert float(two[column]) == pytest.approx(float(one[column]), rel=1e-3)
    assert float(runs[0][0]["loss"]) == pytest.approx(float(runs[1][0]["loss"]), rel=1e-5)


def test_a_step_is_the_mean_over_its_examples(config: TrainConfig) -> None:
    """Whatever their sizes: the loss of the first step is the mean of what its examples alone would give."""
    index = read_index(config.data)
    subjects = subjects_of(index, ["a", "b", "c"])
    examples = [Examples(subjects, config)[n] for n in range(6)]
    groups = list(portions(examples, 2))
    assert sorted(id(each) for group in groups for each in group) == sorted(map(id, examples))
    assert all(len(group) <= 2 and len({each.matrix for each in group}) == 1 for group in groups)
    losses = []
    rates = set[float]()
    for chosen in (examples, *([each] for each in examples)):
        model = tiny_model()
        run = Run(model, codec_optimizers(trained_parameters(model, "joint"), "muon"), dict(codec_weights(model)))
        engine, parted = make_engine(config), replace(config, micro=2)
        row = _step(run, make_objective(config, model, engine.lowered), chosen, parted, engine)
        losses.append(row["loss"])
        rates |= {group["lr"] / row["rate"] for optimizer in run.optimizers for group in optimizer.param_groups}
    assert losses[0] == pytest.approx(sum(losses[1:]) / 6, rel=1e-5)
    assert sorted(rates) == pytest.approx([ADAM_SHARE, 1])


def test_a_model_that_knows_only_names_is_doubted_by_name(
    config: TrainConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start = tmp_path / "old.safetensors"
    save_checkpoint(tiny_model(), start, covers={}, training={"split": {"training": ["a"], "validation": ["b"]}})
    old = replace(config, start_from=str(start), max_steps=1)
    train(replace(old, held_out=("b",), out=tmp_path / "one"))
    assert "flatter" not in caplog.text
    train(replace(old, held_out=("a",), out=tmp_path / "two"))
    assert "old was trained on a file named a" in caplog.text


def test_models_tell_whose_weights_they_took_up(config: TrainConfig, tmp_path: Path) -> None:
    """Through two runs, so that nobody is held out whom an ancestor saw."""
    first = train(replace(config, held_out=("a",)))
    second = replace(config, held_out=("a",), start_from=str(first), max_steps=2, out=tmp_path / "second")
    train(second)
    train(replace(second, max_steps=3, resume=True))
    last = second.out / "last.safetensors"
    told = nm.load_model(last).training["begun_from"]
    assert told["sha256"] == nm.load_model(first).sha256
    assert (told["steps"], set(told["seen"])) == (nm.load_model(first).training["steps"], {"b", "c"})

    shown = CliRunner().invoke(app, ["models", "info", str(last)])
    assert f"sha256 {told['sha256'][:12]}, after {told['steps']} steps" in shown.output
    manifest = tmp_path / "split.json"
    manifest.write_text('{"training": ["a"], "validation": [], "test": ["b"]}')
    third = replace(config, start_from=str(last), manifest=manifest, held_out=(), out=tmp_path / "third", max_steps=1)
    train(third)
    with pytest.raises(DataError, match="was trained on c"):
        train(replace(config, held_out=("c",), start_from=str(third.out / "last.safetensors"), out=tmp_path / "fourth"))


def test_a_gradient_that_is_not_finite_moves_nothing(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    start = load_file(Path(str(config.start_from)))["decoder.reduce.weight"]
    backward = Engine.backward
    spoiled = {2, 3}
    calls = []

    def spoil(engine: Engine, loss: torch.Tensor) -> None:
        calls.append(1)
        backward(engine, loss * float("nan") if len(calls) in spoiled else loss)

    monkeypatch.setattr(Engine, "backward", spoil)
    train(replace(config, max_steps=4))
    norms = [float(row["gradient_norm"]) for row in _rows(config.out)]
    assert [math.isfinite(norm) for norm in norms] == [True, False, False, True]
    moved = load_file(config.out / "last.safetensors")["decoder.reduce.weight"]
    assert torch.isfinite(moved).all()
    assert not torch.equal(moved, start)
    spoiled.update(range(100))
    monkeypatch.setattr(engine_module, "MOST_SPOILED", 2)
    with pytest.raises(DataError, match="no gradient was finite for 3 steps"):
        train(replace(config, out=config.out.parent / "ruined"))


def test_a_run_that_gets_no_better_ends_early(config: TrainConfig) -> None:
    """Weights that are ruined from the second validation on never beat the first."""
    ruin = dict(learning_rate=0.03, warm_up=1, average=0.0, validate_every=2, max_steps=30)
    train(replace(config, **ruin, patience=2))
    scores = {int(row["step"]): float(row["ssim"]) for row in _rows(config.out) if row["ssim"]}
    best = max(scores, key=lambda step: scores[step])
    assert max(scores) == best + 4 < 30
    assert nm.load_model(config.out / "best.safetensors").training["steps"] == best
    assert nm.load_model(config.out / "last.safetensors").training["steps"] == best + 4
    assert len(list((config.out / "validation").glob("*.png"))) == len(scores)


def test_tensorboard_holds_what_the_table_holds(config: TrainConfig) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(config)
    events = EventAccumulator(str(config.out / "tensorboard"))
    events.Reload()
    rows = _rows(config.out)
    told = {event.step: event.value for event in events.Scalars("loss")}
    assert told == {int(row["step"]): pytest.approx(float(row["loss"]), rel=1e-6) for row in rows}
    assert [event.step for event in events.Scalars("ssim")] == [4, 8]
    assert [event.step for event in events.Images("validation")] == [4, 8]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_other_logs_take_numbers_and_pictures(config: TrainConfig, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pytest.importorskip(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (config.out / "mlruns").as_uri())
    train(replace(config, logs=(name,)))
    left = {"wandb": "wandb/offline-run-*/files/media/images/validation*.png", "mlflow": "mlruns/**/validation/*.png"}
    assert len(list(config.out.glob(left[name]))) == 2


def test_logs_are_chosen_by_name(config: TrainConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    train(replace(config, logs=("none",), max_steps=1))
    assert not (config.out / "tensorboard").exists()
    with pytest.raises(UsageError, match="log is 'printer'; expected one of tensorboard"):
        replace(config, logs=("printer",))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name, extra in (("tensorboard", "train"), ("wandb", "wandb"), ("mlflow", "mlflow")):
        with pytest.raises(UsageError, match=rf"nirvana-mri\[{extra}\]"):
            open_logs(replace(config, logs=(name,)), 0, {})
    assert open_logs(config, 0, {}) == []
    monkeypatch.undo()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UsageError, match="MLFLOW_TRACKING_URI"):
        MAKERS["mlflow"](config.out, 0, {})


def test_without_anyone_to_hold_out_it_trains_and_says_so(
    config: TrainConfig, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("b", "c"):
        (config.data / f"{name}.h5").unlink()
    train(config)
    assert "training without validation" in caplog.text
    best, last = (load_file(config.out / f"{name}.safetensors") for name in ("best", "last"))
    assert all(torch.equal(best[name], last[name]) for name in last)
    assert nm.load_model(config.out / "best.safetensors").training["metrics"] == {}


def test_metrics_are_written_and_training_lowers_the_loss(config: TrainConfig) -> None:
    shown: list[dict[str, float]] = []
    options = dict(max_steps=60, learning_rate=3e-3, checkpoint_every=200, validate_every=100)
    train(replace(config, **options), lambda step, total, row: shown.append(row))
    rows = _rows(config.out)
    assert [int(row["step"]) for row in rows] == list(range(1, 61))
    assert float(rows[-1]["ssim"]) > 0
    losses = [float(row["loss"]) for row in rows]
    assert shown[-1]["loss"] == pytest.approx(sum(losses[10:]) / 50)
    assert sum(losses[30:]) < sum(losses[:30])


def test_the_schedule_warms_up_and_ends_at_nothing(config: TrainConfig) -> None:
    shares = [schedule(step, config.max_steps, config.warm_up) for step in range(config.max_steps + 1)]
    assert shares[0] < shares[1] == 1
    assert shares[-1] == pytest.approx(0, abs=1e-9)
    assert shares[2:] == sorted(shares[2:], reverse=True)


def test_what_is_saved_is_the_running_mean_of_the_weights(config: TrainConfig, tmp_path: Path) -> None:
    """With no memory the mean is the last step's weights; with some it lies between them and the first."""
    start = load_file(Path(str(config.start_from)))["decoder.reduce.weight"]
    for average, same in ((0.0, True), (0.9, False)):
        out = tmp_path / f"average {average}"
        train(replace(config, out=out, average=average))
        kept = load_file(out / "state.safetensors")
        last, mean = kept["model.decoder.reduce.weight"], kept["average.decoder.reduce.weight"]
        assert torch.equal(last, mean) is same
        assert torch.equal(load_file(out / "last.safetensors")["decoder.reduce.weight"], mean)
        assert 0 < float((mean - start).norm()) <= float((last - start).norm())
