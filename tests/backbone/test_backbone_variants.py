"""The baselines that Nirvana is compared with: as many parameters, the same laws, the same files."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from backbone_support import error, noise, tiny_config, tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from nirvana_mri.backbone import (
    BackboneConfig,
    NirvanaLM,
    inspect_backbone,
    load_backbone,
    load_published,
    published_parameters,
    save_backbone,
    sha256,
)
from nirvana_mri.backbone import file as file_module
from nirvana_mri.backbone.budget import least_bytes
from nirvana_mri.backbone.published import published_shapes
from nirvana_mri.backbone.rotary import rotate
from nirvana_mri.backbone.variants import VARIANTS, parameter_count, variant
from nirvana_mri.errors import CheckpointError, UsageError

TOKENS, WINDOW = 30, 5
BASELINES = ["delta", "window", "transformer", "nirvana-rope"]  # test_backbone_cache.py has Nirvana itself
ROTARY = ["window", "transformer", "nirvana-rope"]


def tiny_variant(name: str, dtype: torch.dtype = torch.float64, **changes: Any) -> NirvanaLM:
    """The variant's own fields on the tiny model, whose MLP keeps its width."""
    return tiny_model(1, dtype, **({"window_size": WINDOW} | dict(VARIANTS[name].changes) | changes))


def ids(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 29, shape, generator=torch.Generator().manual_seed(seed))


def in_pieces(model: NirvanaLM, x: Tensor, cuts: list[int], mask: Tensor | None = None) -> Tensor:
    cache, logits = model.new_cache(x.shape[0]), []
    for start, stop in zip([0, *cuts], [*cuts, x.shape[1]], strict=True):
        piece = None if mask is None else mask[:, start:stop]
        logits.append(model(input_ids=x[:, start:stop], attention_mask=piece, cache=cache).logits)
    return torch.cat(logits, dim=1)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize(
    "config",
    [
        BackboneConfig.nano(),
        BackboneConfig.base(),
        dataclasses.replace(BackboneConfig.nano(), hidden_size=128, num_layers=4, vocab_size=2000),
        dataclasses.replace(BackboneConfig.nano(), num_layers=12, num_heads=8, tie_word_embeddings=False),
    ],
    ids=["nano", "base", "small", "deep"],
)
def test_parameters_are_as_many(config: BackboneConfig, name: str) -> None:
    found = variant(config, name)
    assert abs(parameter_count(found) / parameter_count(config) - 1) <= 0.01
    nearest = abs(parameter_count(found) - parameter_count(config))
    for step in (-8, 8):
        other = dataclasses.replace(found, intermediate_size=found.intermediate_size + step)
        assert abs(parameter_count(other) - parameter_count(config)) >= nearest
    assert found.intermediate_size % 8 == 0


@pytest.mark.parametrize("name", VARIANTS)
def test_the_count_is_the_models(name: str) -> None:
    config = variant(tiny_config(window_size=WINDOW, num_layers=5), name)
    assert parameter_count(config) == sum(p.numel() for p in NirvanaLM(config).parameters())


def test_what_each_variant_is() -> None:
    """The layers' kinds, the Trigger, positions and window."""
    facts = {}
    for name in VARIANTS:
        model = NirvanaLM(variant(BackboneConfig.nano(), name)) if name == "nirvana" else tiny_variant(name)
        kinds = [type(layer.mixer).__name__ for layer in model.layers][1:4]
        config = model.config
        facts[name] = (kinds, model.trigger is not None, config.trigger_rate, config.rotary, config.window_size)
    nirvana, memory, attention = ["PreludeMixer", *["TaskAwareMixer"] * 2], ["PreludeMixer"] * 3, ["AttentionMixer"] * 3
    assert facts == {
        "nirvana": (nirvana, True, 0.01, False, 2048),
        "no-trigger": (nirvana, True, 0.0, False, WINDOW),
        "delta": (memory, False, 0.01, False, WINDOW),
        "window": (attention, False, 0.01, True, WINDOW),
        "transformer": (attention, False, 0.01, True, None),
        "nirvana-rope": (nirvana, True, 0.01, True, WINDOW),
    }
    assert all(each.summary and "\n" not in each.summary for each in VARIANTS.values())


def test_nirvana_is_left_as_it_is() -> None:
    """The first values do not depend on positions, and a configuration is its own variant."""
    config = tiny_config()
    assert variant(config, "nirvana") == config
    assert sha256(tiny_model(1)) == sha256(tiny_model(1, rotary=True))


@pytest.mark.parametrize("layers", [1, 2, 3, 5])
@pytest.mark.parametrize("name", VARIANTS)
def test_shapes_are_those_of_the_model(name: str, layers: int) -> None:
    model = tiny_variant(name, num_layers=layers)
    shapes = published_shapes(model.config)
    assert shapes == {name: tuple(p.shape) for name, p in published_parameters(model).items()}


@pytest.mark.parametrize("name", VARIANTS)
def test_files_keep_it(tmp_path: Path, name: str) -> None:
    model = tiny_variant(name, torch.float32)
    save_backbone(model, tmp_path / "a.safetensors", {})
    assert inspect_backbone(tmp_path / "a.safetensors").config == model.config
    loaded = load_backbone(tmp_path / "a.safetensors")
    assert (loaded.config, sha256(loaded)) == (model.config, sha256(model))
    assert torch.equal(loaded(input_ids=ids(1, 20)).logits, model(input_ids=ids(1, 20)).logits)
    other = NirvanaLM(model.config, seed=2)
    load_published(other, published_parameters(model))
    assert sha256(other) == sha256(model)


def rewritten(target: Path, saved: Path, **changes: Any) -> Path:
    """The file with a configuration that lacks what is changed to None, sealed anew."""
    with safe_open(saved, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        words = file.metadata()
    found = json.loads(words["config"]) | changes
    words["config"] = json.dumps({key: found[key] for key in found if changes.get(key, 0) is not None})
    save_file(tensors, target, words | {"seal": file_module._seal(words)})
    return target


def test_a_file_from_before_the_variants_loads(tmp_path: Path) -> None:
    model = tiny_model(1, torch.float32)
    save_backbone(model, tmp_path / "new.safetensors", {})
    old = rewritten(tmp_path / "old.safetensors", tmp_path / "new.safetensors", architecture=None, rotary=None)
    with safe_open(old, "pt") as file:
        assert not {"architecture", "rotary"} & json.loads(file.metadata()["config"]).keys()
    assert load_backbone(old).config == model.config
    for changes, message in (
        ({"architecture": "mamba"}, "expected one of nirvana, delta, attention"),
        ({"architecture": 1}, "architecture is 1"),
        ({"architecture": "attention"}, "missing"),
        ({"rotary": 1}, "rotary is 1"),
    ):
        with pytest.raises(CheckpointError, match=message):
            load_backbone(rewritten(tmp_path / "other.safetensors", tmp_path / "new.safetensors", **changes))


@pytest.mark.parametrize("name", BASELINES)
@settings(max_examples=8)
@given(
    padding=st.integers(0, TOKENS - 2),
    cuts=st.sets(st.integers(1, TOKENS - 1), max_size=8).map(sorted),
    window=st.sampled_from([1, 2, WINDOW, 200]),
)
def test_any_pieces_equal_the_whole(name: str, padding: int, cuts: list[int], window: int) -> None:
    """Past the window too, with rows of several lengths, one of them in the cache as padding alone at first."""
    model, x = tiny_variant(name, **({} if name == "transformer" else {"window_size": window})), ids(2, TOKENS)
    mask = torch.ones_like(x)
    mask[0, :padding] = 0
    whole = model(input_ids=x, attention_mask=mask).logits
    assert error(in_pieces(model, x, cuts, mask), whole) <= 1e-10
    assert error(whole[:1, padding:], model(input_ids=x[:1, padding:]).logits) <= 1e-10


@pytest.mark.parametrize("name", BASELINES)
def test_steps_equal_the_whole(name: str) -> None:
    """Token by token, over where the ring grows (64 slots) and wraps round (the window)."""
    model, x = tiny_variant(name, window_size=None if name == "transformer" else 66), ids(1, 80)
    assert error(in_pieces(model, x, [60, *range(61, 80)]), model(input_ids=x).logits) <= 1e-10


@pytest.mark.parametrize("name", BASELINES)
def test_generating_equals_reading_anew(name: str) -> None:
    model, x = tiny_variant(name), ids(2, 12)
    mask = torch.ones_like(x)
    mask[0, :5] = 0
    found = model.generate(input_ids=x, attention_mask=mask, max_new_tokens=6, temperature=0)
    for _ in range(6):
        logits = model(input_ids=x, attention_mask=mask, last_logits_only=True).logits[:, -1]
        x = torch.cat([x, logits.argmax(-1, keepdim=True)], dim=1)
        mask = F.pad(mask, (0, 1), value=1)
    assert torch.equal(found[:, -6:], x[:, -6:])


def test_only_what_attends_keeps_keys() -> None:
    for name, rings in (("nirvana", 2), ("delta", 0), ("window", 4)):
        model = tiny_variant(name)
        cache = model.new_cache(1)
        model(input_ids=ids(1, 30), cache=cache)
        size = cache.nbytes
        model(input_ids=ids(1, 30), cache=cache)
        assert sum(layer.ring is not None for layer in cache.layers) == rings
        assert cache.nbytes == size
        kept = least_bytes(model.config, 8, 1, 0, 100) - least_bytes(model.config, 8, 1, 0, 0)
        assert kept == 8 * 2 * WINDOW * 16 * rings


@given(first=st.integers(0, 10**6), shift=st.integers(0, 10**6))
def test_only_the_distance_counts(first: int, shift: int) -> None:
    q, k = noise(2, 5, 8), noise(2, 5, 8, seed=1)
    here = rotate(q, first) @ rotate(k, first).mT
    assert error(rotate(q, first + shift) @ rotate(k, first + shift).mT, here) <= 1e-9
    assert error(rotate(q, first).norm(dim=-1), q.norm(dim=-1)) <= 1e-12
    assert torch.equal(rotate(q, 0)[:, 0], q[:, 0])
    assert error(rotate(q, first)[:, 1:], rotate(q[:, 1:], first + 1)) <= 1e-12


@pytest.mark.parametrize("shift", [1, 7, 700])
@pytest.mark.parametrize("name", ROTARY)
def test_a_shifted_sequence_reads_the_same(name: str, shift: int) -> None:
    model, x = tiny_variant(name), ids(1, 20)
    padded = torch.cat([ids(1, shift, seed=1), x], dim=1)
    mask = torch.ones_like(padded)
    mask[:, :shift] = 0
    found = model(input_ids=padded, attention_mask=mask).logits[:, shift:]
    assert error(found, model(input_ids=x).logits) <= 1e-10


@pytest.mark.parametrize("rotary", [True, False])
def test_order_counts_with_positions_alone(rotary: bool) -> None:
    """One layer of attention without positions reads a set of tokens; with them, a sequence."""
    model = tiny_model(architecture="attention", rotary=rotary, num_layers=1)
    x = ids(1, 12)
    other = torch.cat([x[:, :11].flip(1), x[:, 11:]], dim=1)
    a, b = (model(input_ids=each, last_logits_only=True).logits for each in (x, other))
    assert (error(a, b) > 1e-9) == rotary


def test_attention_is_the_textbooks() -> None:
    """One mixer written out: projections, channels as complex numbers that turn, softmax over the past, output."""
    model, x = tiny_model(architecture="attention", rotary=True), noise(1, 7, 16)
    mixer = model.layers[0].mixer
    q, k, v = (
        (x @ each.weight.T).unflatten(-1, (2, 8)).transpose(1, 2) for each in (mixer.query, mixer.key, mixer.value)
    )
    turns = torch.exp(1j * torch.arange(7.0)[:, None].double() * 10000.0 ** (-torch.arange(4).double() / 4))
    q, k = (torch.complex(y[..., :4], y[..., 4:]) * turns for y in (q, k))
    scores = (q @ k.mH).real / 8**0.5
    weights = scores.masked_fill(torch.ones(7, 7).triu(1).bool(), -torch.inf).softmax(-1)
    expected = (weights @ v).transpose(1, 2).flatten(2) @ mixer.output.weight.T
    assert error(mixer(x, None, None, None).output, expected) <= 1e-12


@pytest.mark.parametrize("changed", [1, 29])
@pytest.mark.parametrize("name", VARIANTS)
def test_the_future_changes_nothing(name: str, changed: int) -> None:
    model, x = tiny_variant(name), noise(1, TOKENS, 16)
    other = x.clone()
    other[:, changed:] = 3 * noise(1, TOKENS - changed, 16, seed=1)
    a, b = (model(inputs_embeds=y).final_hidden for y in (x, other))
    assert error(a[:, :changed], b[:, :changed]) <= 1e-12
    assert error(a[:, changed:], b[:, changed:]) > 1e-3


def test_the_window_ends_where_it_says() -> None:
    """Four layers that each see five tokens hear nothing from further back than 4 * 4; a Transformer does."""
    x = noise(1, TOKENS, 16)
    other = torch.cat([-x[:, :1], x[:, 1:]], dim=1)
    for name, reach in (("window", 4 * (WINDOW - 1)), ("transformer", TOKENS - 1)):
        a, b = (tiny_variant(name)(inputs_embeds=y).final_hidden for y in (x, other))
        heard = (a - b).abs().amax(-1)[0] > 0
        assert heard[: reach + 1].all()
        assert not heard[reach + 1 :].any()


def gradients(model: NirvanaLM) -> dict[str, Tensor | None]:
    model.requires_grad_(True).train()
    model(input_ids=ids(2, 9)).logits.square().sum().backward()
    return {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", VARIANTS)
def test_all_parameters_can_learn(name: str) -> None:
    found = gradients(tiny_variant(name, tie_word_embeddings=False))
    assert [name for name, grad in found.items() if grad is None or not grad.any()] == []


@pytest.mark.parametrize("name", ["delta", "transformer"])
def test_recomputing_gives_the_same_gradients(name: str) -> None:
    model = tiny_variant(name)
    model.recompute = True
    expected = gradients(tiny_variant(name))
    assert all(torch.equal(grad, expected[name]) for name, grad in gradients(model).items())


@pytest.mark.parametrize("name", BASELINES)
def test_low_precision_runs(name: str) -> None:
    x = ids(1, 70)
    exact = tiny_variant(name, torch.float32)(input_ids=x).logits
    low = tiny_variant(name, torch.bfloat16)(input_ids=x).logits
    assert low.dtype == torch.bfloat16
    assert error(low.float(), exact) < 0.2


def test_gates_are_recorded_where_there_are_any() -> None:
    for name in ("delta", "transformer"):
        layers = tiny_variant(name)(input_ids=ids(1, 5), record=True).layers
        assert all(layer.gate_attention is layer.gate_delta is layer.task_vector is None for layer in layers)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "mamba"}, "architecture is 'mamba'; expected one of nirvana, delta, attention"),
        ({"architecture": "delta", "rotary": True}, "delta has no attention to rotate"),
        ({"hidden_size": 18, "num_heads": 2, "rotary": True}, "heads have 9"),
    ],
    ids=str,
)
def test_impossible_architectures_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tiny_config(**changes)


def test_what_has_no_variant() -> None:
    with pytest.raises(UsageError, match="variant is 'mamba'; expected one of nirvana, no-trigger"):
        variant(tiny_config(), "mamba")
    with pytest.raises(UsageError, match="start from Nirvana"):
        variant(tiny_config(architecture="delta"), "transformer")
    with pytest.raises(UsageError, match="give the variant window a number"):
        variant(tiny_config(), "window")
