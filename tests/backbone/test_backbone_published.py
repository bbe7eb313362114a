"""Checkpoints with the authors' names load whole or not at all."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from backbone_support import noise, tiny_config, tiny_model
from torch import Tensor

from nirvana_mri.backbone import NirvanaLM, load_published, published_parameters, sha256
from nirvana_mri.errors import CheckpointError

EMBEDDING, HEAD = "model.embeddings.weight", "lm_head.weight"
CONCEPT = "model.layers.2.Task_Aware_Delta_Net.concept_proj.weight"


def checkpoint(seed: int = 1, **changes: Any) -> dict[str, Tensor]:
    model = tiny_model(seed, torch.float32, **changes)
    return {name: p.detach().clone() for name, p in published_parameters(model).items()}


@pytest.mark.parametrize("tied", [True, False])
def test_every_weight_moves(tied: bool) -> None:
    source, target = (tiny_model(seed, torch.float32, tie_word_embeddings=tied) for seed in (1, 2))
    assert sha256(source) != sha256(target)
    load_published(target, published_parameters(source))
    assert sha256(source) == sha256(target)
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    assert torch.equal(source(input_ids=ids).logits, target(input_ids=ids).logits)


def test_a_tied_head_may_be_there_as_a_copy() -> None:
    tensors = checkpoint()
    load_published(tiny_model(2), tensors)
    load_published(tiny_model(2), tensors | {HEAD: tensors[EMBEDDING].clone()})
    with pytest.raises(CheckpointError, match=r"lm_head.weight differs.*tie_word_embeddings=False"):
        load_published(tiny_model(2), tensors | {HEAD: tensors[EMBEDDING] + 1})


def test_an_untied_model_needs_its_head() -> None:
    with pytest.raises(CheckpointError, match=r"1 missing \(lm_head.weight\)"):
        load_published(tiny_model(tie_word_embeddings=False), checkpoint())


DAMAGE: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "missing": (lambda t: t.pop(CONCEPT), rf"1 missing \({CONCEPT}\)"),
    "no embedding": (lambda t: t.pop(EMBEDDING), r"1 missing \(model.embeddings.weight\)"),
    "unexpected": (lambda t: t.update({"extra.weight": noise(2)}), r"1 unexpected \(extra.weight\)"),
    "misshapen": (lambda t: t.update({CONCEPT: t[CONCEPT].T}), rf"{CONCEPT} is \(16, 12\).*needs \(12, 16\)"),
    "not finite": (lambda t: t[CONCEPT].fill_(torch.nan), rf"{CONCEPT}.*finite"),
    "integer": (lambda t: t.update({CONCEPT: t[CONCEPT].long()}), rf"{CONCEPT} \(torch.int64\)"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_refused_and_changes_nothing(damage: str) -> None:
    model, tensors = tiny_model(2, torch.float32), checkpoint()
    before = sha256(model)
    harm, message = DAMAGE[damage]
    harm(tensors)
    with pytest.raises(CheckpointError, match=message):
        load_published(model, tensors)
    assert sha256(model) == before


def test_a_model_without_memory_is_refused() -> None:
    with torch.device("meta"):
        model = NirvanaLM(tiny_config())
    with pytest.raises(CheckpointError, match=r"meta.*to_empty"):
        load_published(model, checkpoint())
    model.to_empty(device="cpu")
    load_published(model, checkpoint())
    assert sha256(model) == sha256(tiny_model(1, torch.float32))


def test_the_fingerprint_sees_every_bit_and_nothing_else() -> None:
    model = tiny_model(1, torch.float32)
    name = sha256(model)
    assert len(name) == 64
    assert name == sha256(tiny_model(1, torch.float32)) != sha256(tiny_model(2, torch.float32))
    empty = [tiny_model(1, dtype) for dtype in (torch.bfloat16, torch.float16)]
    for parameter in (*empty[0].parameters(), *empty[1].parameters()):
        parameter.zero_()
    assert sha256(empty[0]) != sha256(empty[1])  # the same names, shapes and bytes
    weight = model.trigger.bias_ln.view(torch.int32)
    weight[-1, -1] ^= 1
    assert sha256(model) != name
    weight[-1, -1] ^= 1
    assert sha256(model) == name


def test_first_values_come_from_the_seed_alone() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = sha256(NirvanaLM(tiny_config(), seed=3))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    model = NirvanaLM(tiny_config(), seed=4)
    assert sha256(model) != first
    model.init_weights(seed=3)
    assert sha256(model) == first


def test_first_values_follow_the_authors() -> None:
    model = NirvanaLM(tiny_config(hidden_size=64, pad_token_id=2, tie_word_embeddings=False, initializer_range=0.006))
    model.requires_grad_(False)
    mixer = model.layers[2].mixer
    for weight in (model.head.weight, mixer.attention.query_lora.up.weight, mixer.attention.output.down.weight):
        assert float(weight.std()) == pytest.approx(0.006, rel=0.2)
    bound = 2**-2.5 * (6 / 128) ** 0.5
    for weight in (mixer.memory.query.weight, mixer.memory.output.weight):
        assert 0.98 * bound < float(weight.abs().max()) <= bound
    assert (model.embedding.weight[2] == 0).all()
    assert (model.embedding.weight[3] != 0).any()
    assert (model.trigger.weight_ln == 1 / 3).all()
    assert model.trigger.bias_ln.abs().max() < 5 * 0.006 / 3
    assert (mixer.memory.output_norm.weight == 1).all()
    assert 0.45 < float(mixer.memory.query_conv.weight.abs().max()) <= 0.5
    steps = torch.nn.functional.softplus(mixer.memory.decay_bias)
    assert ((steps > 0.99e-3) & (steps < 1.01e-1)).all()
    assert ((mixer.memory.log_decay.exp() > 0) & (mixer.memory.log_decay.exp() <= 16)).all()
    assert all(p.isfinite().all() for p in model.parameters())
