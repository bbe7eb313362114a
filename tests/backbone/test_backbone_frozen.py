"""A frozen backbone: exact gradients to its inputs, none to its weights, and little kept for the backward pass."""

from typing import Any

import pytest
import torch
from backbone_support import error, noise, tiny_model
from torch import Tensor

from nirvana_mri.backbone import NirvanaLM, sha256

TOKENS = 70


def gradient(model: NirvanaLM, **arguments: Any) -> tuple[Tensor, Tensor]:
    x = noise(2, TOKENS, 16, dtype=model.embedding.weight.dtype).requires_grad_()
    out = model(inputs_embeds=x, **arguments).logits
    out.backward(noise(*out.shape, seed=1, dtype=out.dtype))
    return out.detach(), x.grad


@pytest.mark.parametrize("window", [None, 9])
@pytest.mark.parametrize("padded", [False, True])
def test_recomputing_gives_the_same_gradient(window: int | None, padded: bool) -> None:
    mask = torch.ones(2, TOKENS)
    mask[0, :5] = 0
    arguments = {"attention_mask": mask} if padded else {}
    kept = gradient(tiny_model(window_size=window).freeze(), **arguments)
    recomputed = gradient(tiny_model(window_size=window).freeze(recompute=True), **arguments)
    for found, expected in zip(recomputed, kept, strict=True):
        assert error(found, expected) <= 1e-12


def test_no_weight_gets_a_gradient_or_moves() -> None:
    model = tiny_model().freeze(recompute=True)
    before = sha256(model)
    gradient(model)
    assert all(p.grad is None for p in model.parameters())
    assert sha256(model) == before


def kept_bytes(model: NirvanaLM) -> int:
    """What autograd keeps between forward and backward, the model's own parameters left out."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    held: dict[int, int] = {}

    def note(x: Tensor) -> Tensor:
        if x.untyped_storage().data_ptr() not in own:
            held[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    x = noise(2, TOKENS, 16).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda y: y):
        out = model(inputs_embeds=x, compute_logits=False)
    assert out.final_hidden.requires_grad
    return sum(held.values())


def test_recomputing_keeps_a_fraction() -> None:
    """Of a frozen model's activations, one residual stream and one set of logits per layer stay."""
    learning = kept_bytes(tiny_model(num_layers=8).requires_grad_(True))
    frozen = kept_bytes(tiny_model(num_layers=8).freeze())
    recomputing = kept_bytes(tiny_model(num_layers=8).freeze(recompute=True))
    assert frozen < learning
    assert recomputing < 0.25 * frozen


def test_recomputing_waits_for_a_gradient() -> None:
    """Where nothing asks for one, nothing is run twice."""
    model = tiny_model().freeze(recompute=True)
    calls: list[int] = []
    model.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
    x = noise(1, 9, 16)
    model(inputs_embeds=x)
    with torch.no_grad():
        model(inputs_embeds=x.requires_grad_())
    assert len(calls) == 2
    model(inputs_embeds=x).logits.sum().backward()
    assert len(calls) == 4


def test_records_survive_recomputing() -> None:
    model, x = tiny_model().freeze(recompute=True), noise(1, 9, 16)
    kept = model(inputs_embeds=x, record=True).layers
    recomputed = model(inputs_embeds=x.clone().requires_grad_(), record=True).layers
    for a, b in zip(recomputed, kept, strict=True):
        assert torch.equal(a.hidden, b.hidden)
