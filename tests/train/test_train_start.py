"""The model a run begins with, and a language model of another size: its own file, and the file beside the models'."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from language_support import tiny_language_config, tiny_language_model, tiny_tokenizer
from safetensors import safe_open
from tiny import tiny_model, tiny_scan

from nirvana_mri.backbone import BackboneConfig, load_backbone, save_backbone
from nirvana_mri.errors import CheckpointError, UsageError
from nirvana_mri.recon import frozen
from nirvana_mri.recon.checkpoint import backbone_sha256, load_model, save_checkpoint
from nirvana_mri.recon.frozen import BESIDE
from nirvana_mri.recon.model import NirvanaReconConfig
from nirvana_mri.train import TrainConfig
from nirvana_mri.train.index import read_index
from nirvana_mri.train.loop import train
from nirvana_mri.train.manifest import split
from nirvana_mri.train.start import initial_model, seen_by


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    (tmp_path / "data").mkdir()
    for seed, name in enumerate("ab"):
        tiny_scan(48, 40, slices=1, out=tmp_path / "data" / f"{name}.h5", seed=seed)
    save_backbone(tiny_language_model(), tmp_path / "lm.safetensors", {}, tiny_tokenizer())
    return TrainConfig(
        tmp_path / "data", tmp_path / "run", max_steps=1, workers=0, backbone_file=tmp_path / "lm.safetensors",
        validation_fraction=0.0, rows=32, logs=("none",),
    )  # fmt: skip


def begun(config: TrainConfig):
    index = read_index(config.data, config.out.parent / "index.json", False)
    return initial_model(config, split(index.entries, (), 0.5, 0))


def test_codecs_speak_to_the_language_model_in_the_file(config: TrainConfig) -> None:
    for preset, depth in (("nano", 4), ("base", 8)):
        model = begun(replace(config, preset=preset))
        assert model.config.lm == tiny_language_config()
        assert model.encoder.config.depth == depth
        assert model.encoder.config.backbone_width == model.decoder.config.backbone_width == 32
        assert model.tokenizer is not None
        assert model.tokenizer.sha256 == tiny_tokenizer().sha256
        stored = load_backbone(config.backbone_file)
        assert all(torch.equal(a, b) for a, b in zip(model.backbone.parameters(), stored.parameters(), strict=True))


def test_base_says_what_it_lacks(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    base = replace(config, preset="base", backbone_file=None)
    with pytest.raises(UsageError, match=r"backbone import\) and name it with --backbone-file, or .*--backbone random"):
        begun(base)
    monkeypatch.setattr(BackboneConfig, "base", tiny_language_config)
    drawn = begun(replace(base, backbone="random"))
    assert drawn.config == NirvanaReconConfig.base(tiny_language_config(), backbone="random")
    for changes, says in (
        ({"backbone": "random"}, "--backbone random and --backbone-file contradict"),
        ({"start_from": "nano"}, "the encoder speaks to width 256, the backbone has 32"),
    ):
        with pytest.raises(UsageError, match=says):
            begun(replace(config, **changes))
    with pytest.raises(UsageError, match="preset is 'huge'; expected one of nano, base"):
        replace(config, preset="huge")
    with pytest.raises(UsageError, match="backbone is 'huge'; expected one of pretrained, random, none"):
        replace(config, backbone="huge")


def test_codecs_can_go_on_round_another_language_model(config: TrainConfig, tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    save_checkpoint(tiny_model(backbone="none"), start, covers={}, training={})
    before = load_model(start).model
    kept = begun(replace(config, start_from=str(start), backbone_file=None))
    read = begun(replace(config, start_from=str(start)))
    drawn = begun(replace(config, start_from=str(start), backbone_file=None, backbone="random"))
    assert [model.config.backbone for model in (kept, read, drawn)] == ["none", "pretrained", "random"]
    assert kept.backbone is None
    assert backbone_sha256(read) == backbone_sha256(drawn_from(config))
    assert backbone_sha256(drawn) not in ("none", backbone_sha256(read))
    for model in (kept, read, drawn):
        assert model.config.decoder == before.config.decoder
        for part in ("encoder", "decoder"):
            old, new = (getattr(each, part).state_dict() for each in (before, model))
            assert all(torch.equal(old[name], new[name]) for name in old)
            one, two = (list(getattr(each, part).parameters()) for each in (before, model))
            assert all(a is not b for a, b in zip(one, two, strict=True))


def test_ancestors_keep_whom_they_saw_under_a_name_that_another_file_took(tmp_path: Path) -> None:
    begun_from = {"seen": {"a": "f1" * 8, "b": "f2" * 8}}
    training = {"manifest": {"training": {"a": "f3" * 8}}, "begun_from": begun_from}
    save_checkpoint(tiny_model(), tmp_path / "model.safetensors", covers={}, training=training)
    assert set(seen_by(load_model(tmp_path / "model.safetensors")).values()) == {"f1" * 8, "f2" * 8, "f3" * 8}


def drawn_from(config: TrainConfig):
    return begun(replace(config, start_from=None))


def test_a_large_backbone_is_written_once_beside_the_models(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen, "LARGE", 1000)
    best = train(config)
    with safe_open(best, framework="pt") as file:
        assert not any(name.startswith("backbone.") for name in file.keys())  # noqa: SIM118 (not a mapping)
    loaded = load_model(best)
    stored = load_backbone(config.backbone_file)
    assert all(torch.equal(a, b) for a, b in zip(loaded.model.backbone.parameters(), stored.parameters(), strict=True))
    written = (config.out / BESIDE).stat().st_mtime_ns
    train(replace(config, resume=True, max_steps=2, recompute=False))
    assert (config.out / BESIDE).stat().st_mtime_ns == written
    assert load_model(config.out / "last.safetensors").backbone_sha256 == loaded.backbone_sha256

    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(best, other / "moved.safetensors")
    with pytest.raises(CheckpointError, match=rf"{BESIDE} beside it, which is missing; copy both"):
        load_model(other / "moved.safetensors")
    save_backbone(tiny_language_model(seed=5), other / BESIDE, {})
    with pytest.raises(CheckpointError, match="another model's"):
        load_model(other / "moved.safetensors")


def test_recomputing_changes_nothing_but_memory(config: TrainConfig, tmp_path: Path) -> None:
    for name, recompute in (("keeps", None), ("recomputes", True)):
        train(replace(config, out=tmp_path / name, recompute=recompute, max_steps=1))
    one, two = (load_model(tmp_path / name / "last.safetensors").model for name in ("keeps", "recomputes"))
    for (name, a), b in zip(one.named_parameters(), two.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7), name
