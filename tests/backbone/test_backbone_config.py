"""The backbone's configuration: presets, the published form, and what is refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from backbone_support import tiny_config

from nirvana_mri.backbone import BackboneConfig, NirvanaLM, published_parameters
from nirvana_mri.backbone.config import derived_intermediate_size
from nirvana_mri.errors import UsageError

PUBLISHED: dict[str, Any] = dict(
    vocab_size=97, hidden_size=64, num_hidden_layers=4, num_heads=4, concept_dim=16, logit_dim=8, window_size=32
)


def test_nano_is_small() -> None:
    with torch.device("meta"):
        model = NirvanaLM(BackboneConfig.nano())
    assert model.config.vocab_size == 8192
    assert sum(p.numel() for p in model.parameters()) == 8_023_472


def test_base_has_the_published_shapes(shared_fixtures: Path) -> None:
    published = json.loads((shared_fixtures / "nirvana" / "case_vi_1_3B_shapes.json").read_text())
    assert BackboneConfig.from_published(published["config"], window_size=2048) == BackboneConfig.base()
    for tied, count in ((True, published["parameters_tied"]), (False, published["parameters_untied"])):
        with torch.device("meta"):
            model = NirvanaLM(dataclasses.replace(BackboneConfig.base(), tie_word_embeddings=tied))
        parameters = {name: list(p.shape) for name, p in published_parameters(model).items()}
        assert sum(p.numel() for p in model.parameters()) == count
        if tied:
            parameters["lm_head.weight"] = parameters["model.embeddings.weight"]
        assert parameters == published["state_dict"]


def test_base_fits_its_own_numbers() -> None:
    """The same without the shared file: the count that the authors state, layers of two kinds."""
    with torch.device("meta"):
        model = NirvanaLM(BackboneConfig.base())
    assert sum(p.numel() for p in model.parameters()) == 1_382_799_296
    assert [layer.mixer_norm.weight.shape[0] for layer in model.layers] == [2048] * 22


def test_the_window_comes_from_the_argument_alone() -> None:
    assert BackboneConfig.from_published(PUBLISHED).window_size is None
    assert BackboneConfig.from_published(PUBLISHED, window_size=None).window_size is None
    assert BackboneConfig.from_published(PUBLISHED, window_size=7).window_size == 7


def test_the_published_defaults() -> None:
    config = BackboneConfig.from_published(PUBLISHED)
    assert not config.tie_word_embeddings
    assert config.intermediate_size == 256
    assert BackboneConfig.from_published(PUBLISHED | {"intermediate_size": 128}).intermediate_size == 128
    assert BackboneConfig.from_published(PUBLISHED | {"use_cache": False, "rope_theta": 1e4}) == config
    assert derived_intermediate_size(2048) == 5632


@pytest.mark.parametrize("key", ["vocab_size", "hidden_size", "logit_dim"])
def test_a_missing_published_key_is_named(key: str) -> None:
    with pytest.raises(UsageError, match=f"lacks {key}"):
        BackboneConfig.from_published({name: value for name, value in PUBLISHED.items() if name != key})


@pytest.mark.parametrize("change", [{"hidden_act": "gelu"}, {"attention_bias": True}, {"norm_first": True}])
def test_a_published_option_that_changes_the_numbers_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(change))):
        BackboneConfig.from_published(PUBLISHED | change)


@pytest.mark.parametrize(
    "change",
    [
        {"num_layers": 0},
        {"window_size": 0},
        {"hidden_size": 18, "num_heads": 4},
        {"hidden_size": 8},
        {"norm_eps": 0.0},
        {"trigger_rate": -0.1},
        {"initializer_range": float("nan")},
        {"pad_token_id": 29},
    ],
    ids=str,
)
def test_impossible_values_are_refused(change: dict[str, Any]) -> None:
    name, value = next(iter(change.items()))
    with pytest.raises(UsageError, match=rf"{name}.*{value}"):
        tiny_config(**change)
