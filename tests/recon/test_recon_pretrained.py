"""The shipped language backbone in the middle: its very bytes, kept in the checkpoint, refused where it cannot fit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nirvana_mri.backbone import BackboneConfig, inspect_backbone, sha256
from nirvana_mri.backbone.shipped import shipped_backbone
from nirvana_mri.errors import CheckpointError, UsageError
from nirvana_mri.recon.checkpoint import load_model, save_checkpoint
from nirvana_mri.recon.model import NirvanaRecon, NirvanaReconConfig


def test_a_new_model_can_hold_the_shipped_backbone_and_keeps_it_in_its_file(tmp_path: Path) -> None:
    model = NirvanaRecon(NirvanaReconConfig.nano(backbone="pretrained"))
    assert model.backbone is not None
    shipped = inspect_backbone(shipped_backbone())
    assert sha256(model.backbone.bfloat16()) == shipped.sha256
    model.backbone.float()
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())
    save_checkpoint(model, tmp_path / "model.safetensors", covers={}, training={}, codec_dtype=torch.float16)
    loaded = load_model(tmp_path / "model.safetensors")
    assert loaded.model.backbone is not None
    assert sha256(loaded.model.backbone) == sha256(model.backbone)
    assert (tmp_path / "model.safetensors").stat().st_size < 35e6  # the backbone goes as bfloat16 without loss


def test_sizes_that_the_shipped_backbone_does_not_have_are_refused() -> None:
    config = NirvanaReconConfig.nano(backbone="pretrained")
    with pytest.raises(UsageError, match="other sizes"):
        NirvanaRecon(replace(config, lm=replace(config.lm, num_layers=4)))


def test_a_shipped_backbone_is_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    shipped, preset = inspect_backbone(shipped_backbone("nano")).config, BackboneConfig.nano()
    assert replace(shipped, initializer_range=preset.initializer_range) == preset
    with pytest.raises(UsageError, match="'huge'"):
        shipped_backbone("huge")
    monkeypatch.setattr("nirvana_mri.backbone.shipped.SHIPPED", {"nano": "gone.safetensors"})
    with pytest.raises(CheckpointError, match="missing from this installation"):
        shipped_backbone("nano")
