import json
import resource
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_config, tiny_model

from nirvana_mri.errors import CheckpointError, UsageError
from nirvana_mri.recon.checkpoint import backbone_sha256, load_model, save_checkpoint
from nirvana_mri.recon.model import NirvanaRecon, NirvanaReconConfig


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(tiny_model(), path, covers={"coils": [1, 16]}, training={"steps": 3})
    return path


def _metadata(path: Path) -> dict[str, str]:
    import safetensors

    with safetensors.safe_open(path, framework="pt") as file:
        return dict(file.metadata())


def test_round_trip_keeps_every_bit_and_every_fact(saved: Path) -> None:
    loaded, model = load_model(saved), tiny_model()
    assert loaded.covers == {"coils": [1, 16]}
    assert loaded.training == {"steps": 3}
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor), name
    assert loaded.backbone_sha256 == backbone_sha256(model)
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


def test_the_file_is_named_by_its_bytes(saved: Path) -> None:
    import hashlib

    assert load_model(saved).sha256 == hashlib.sha256(saved.read_bytes()).hexdigest()


def test_a_backbone_that_was_tampered_with_is_refused(saved: Path) -> None:
    tensors, metadata = load_file(saved), _metadata(saved)
    name = next(name for name in tensors if name.startswith("backbone."))
    tensors[name] = tensors[name].clone()
    tensors[name].view(-1)[0] += 1
    save_file(tensors, saved, metadata)
    with pytest.raises(CheckpointError, match="its backbone is"):
        load_model(saved)


@pytest.mark.parametrize("damage", ["truncated", "text", "foreign", "missing tensor", "odd config"])
def test_damaged_files_are_refused_in_one_line(saved: Path, damage: str) -> None:
    tensors, metadata = load_file(saved), _metadata(saved)
    if damage == "truncated":
        saved.write_bytes(saved.read_bytes()[:1000])
    elif damage == "text":
        saved.write_text("not a model")
    elif damage == "foreign":
        save_file(tensors, saved, {"format": "pt"})
    elif damage == "missing tensor":
        tensors.pop("decoder.log_prior")
        save_file(tensors, saved, metadata)
    else:
        config = json.loads(metadata["config"])
        config["decoder"]["cascades"] = "many"
        save_file(tensors, saved, metadata | {"config": json.dumps(config)})
    with pytest.raises(CheckpointError) as caught:
        load_model(saved)
    assert "\n" not in str(caught.value)
    assert str(saved) in str(caught.value)


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("encoder", {"width": 2**17}),
        ("encoder", {"depth": 10**9}),
        ("encoder", {"labels": 10**6, "cells": 10**3}),
        ("encoder", {"labels": 1, "told": 10**8}),
        ("encoder", {"heads": 0}),
        ("encoder", {"stem": "convolutions", "patch": 2**60}),
        ("decoder", {"cascades": 10**9}),
        ("decoder", {"widths": [2**16, 2**16, 2**16]}),
        ("lm", {"num_layers": 10**9}),
        ("lm", {"vocab_size": 10**9}),
        ("lm", {"intermediate_size": 2**28}),
    ],
)
def test_a_configuration_larger_than_its_weights_is_refused_before_memory_is_spent(
    saved: Path, part: str, changes: dict[str, Any]
) -> None:
    tensors, metadata = load_file(saved), _metadata(saved)
    config = json.loads(metadata["config"])
    config[part] |= changes
    save_file(tensors, saved, metadata | {"config": json.dumps(config)})
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(CheckpointError, match=r"not a complete model of this version \("):
        load_model(saved)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB
    assert time.monotonic() - began < 20


def test_an_unknown_name_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="neither a file nor a shipped model"):
        load_model("no-such-model")


def test_half_precision_codecs_are_stored_smaller(saved: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.safetensors"
    save_checkpoint(tiny_model(), small, covers={}, training={}, codec_dtype=torch.float16)
    assert small.stat().st_size < saved.stat().st_size
    a, b = load_model(small).model, tiny_model()
    torch.testing.assert_close(a.decoder.reduce.weight, b.decoder.reduce.weight, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("config", [NirvanaReconConfig.nano(), tiny_config(), tiny_config("none")])
def test_configurations_survive_json(config: NirvanaReconConfig) -> None:
    assert NirvanaReconConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config


@pytest.mark.parametrize("preset", [NirvanaReconConfig.nano, NirvanaReconConfig.base])
def test_presets_build(preset) -> None:
    with torch.device("meta"):
        model = NirvanaRecon.__new__(
            NirvanaRecon
        )  # the drawn backbone of `base` would take 5 GB: only its shape counts
        config = preset(backbone="none")
        NirvanaRecon.__init__(model, config)
    assert config.lm.hidden_size == model.decoder.norm.normalized_shape[0]


def test_mismatched_widths_and_unknown_backbones_are_refused() -> None:
    config = tiny_config()
    with pytest.raises(UsageError, match="backbone is"):
        NirvanaReconConfig(config.lm, config.encoder, config.decoder, backbone="chosen")
    with pytest.raises(UsageError, match="speaks to width"):
        NirvanaReconConfig(config.lm, NirvanaReconConfig.nano().encoder, config.decoder)
