"""Laws of the whole model: no look into the future, no word between sequences, padding that does not count."""

import copy
import dataclasses
from typing import Any

import pytest
import torch
from backbone_support import error, noise, tiny_model

from nirvana_mri.backbone import BackboneConfig, NirvanaLM, sha256
from nirvana_mri.backbone import attention as attention_module
from nirvana_mri.backbone import memory as memory_module
from nirvana_mri.backbone.attention import causal_attention
from nirvana_mri.backbone.ops.gated_delta import chunk, gated_delta_rule
from nirvana_mri.errors import DataError, NirvanaError, UsageError

TOKENS = 70  # crosses the chunk of 64


def ids(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 29, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("window", [None, 9])
@pytest.mark.parametrize("changed", [1, 40, 63, 64, 69])
def test_the_future_changes_nothing(changed: int, window: int | None) -> None:
    model, x = tiny_model(window_size=window), noise(1, TOKENS, 16)
    other = x.clone()
    other[:, changed:] = 3 * noise(1, TOKENS - changed, 16, seed=1)
    a, b = (model(inputs_embeds=y).final_hidden for y in (x, other))
    assert error(a[:, :changed], b[:, :changed]) <= 1e-12
    assert all(error(a[:, i], b[:, i]) > 1e-3 for i in range(changed, TOKENS))


def test_the_sequences_of_a_batch_do_not_meet() -> None:
    model, x = tiny_model(window_size=9), ids(3, TOKENS)
    together = model(input_ids=x).logits
    for i in range(3):
        assert error(together[i : i + 1], model(input_ids=x[i : i + 1]).logits) <= 1e-12


@pytest.mark.parametrize("window", [None, 9])
@pytest.mark.parametrize("padding", [1, 5, 64, 66])
def test_left_padding_does_not_count(padding: int, window: int | None) -> None:
    """No position is encoded, so a padded sequence gives the bare one's numbers, whatever stands in the padding."""
    model, x = tiny_model(window_size=window), ids(2, 12)
    padded = torch.cat([ids(2, padding, seed=1), x], dim=1)
    mask = torch.ones_like(padded)
    mask[0, :padding] = 0
    output = model(input_ids=padded, attention_mask=mask).logits
    assert output.isfinite().all()
    assert error(output[0, padding:], model(input_ids=x).logits[0]) <= 1e-12
    assert error(output[1], model(input_ids=padded).logits[1]) <= 1e-12


def test_padding_neither_writes_nor_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside a sequence too, where the convolution carries real tokens into the padding behind them."""
    seen: list[torch.Tensor] = []

    def spy(q: Any, k: Any, v: Any, g: torch.Tensor, beta: torch.Tensor, state: Any) -> Any:
        seen.extend((g, beta))
        return gated_delta_rule(q, k, v, g, beta, state)

    monkeypatch.setattr(memory_module, "gated_delta_rule", spy)
    mask = torch.tensor([[1, 1, 0, 0, 1, 1, 1]])
    tiny_model()(input_ids=ids(1, 7), attention_mask=mask)
    assert len(seen) == 2 * 4
    assert all(torch.equal(x[0] != 0, mask[0, :, None].bool().expand(7, 2)) for x in seen)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_a_mask_of_ones_is_no_mask(dtype: torch.dtype) -> None:
    model, x = tiny_model(), ids(2, 12)
    masked = model(input_ids=x, attention_mask=torch.ones(2, 12, dtype=dtype)).logits
    assert torch.equal(masked, model(input_ids=x).logits)


@pytest.mark.parametrize("tokens", [1, 20, 21, 300])
@pytest.mark.parametrize("window", [None, 1, 7, 20])
def test_attention_equals_its_definition(tokens: int, window: int | None) -> None:
    """A softmax over the token itself and the window - 1 tokens before it, padding left out."""
    q, k, v = (noise(2, 2, tokens, 4, seed=seed) for seed in (0, 1, 2))
    real = torch.ones(2, tokens, dtype=torch.bool)
    real[1, : tokens // 3] = False
    age = torch.arange(tokens)[:, None] - torch.arange(tokens)
    visible = (age >= 0) & (age < (window or tokens))
    for mask in (None, real):
        allowed = visible if mask is None else visible & mask[:, None, None, :]
        weights = (q @ k.transpose(-1, -2) / 2).masked_fill(~allowed, -torch.inf).softmax(-1)
        expected = weights @ v
        if mask is not None:
            expected = torch.where(mask[:, None, :, None], expected, 0)
        assert error(causal_attention(q, k, v, window, mask), expected) <= 1e-12


def test_the_window_bounds_what_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No product of scores is wider than a tile and its window: the work grows with the window, not the sequence."""
    widths: list[tuple[int, int]] = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def spy(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> torch.Tensor:
        widths.append((q.shape[2], k.shape[2]))
        return attend(q, k, v, **options)

    monkeypatch.setattr(attention_module.F, "scaled_dot_product_attention", spy)
    monkeypatch.setattr(attention_module, "TILE", 16)
    x = noise(1, 1, 100, 4)
    causal_attention(x, x, x, window=10)
    assert max(width for _, width in widths) == 16 + 9
    assert sum(rows for rows, _ in widths) == 100


@pytest.mark.parametrize("window", [None, 3])
def test_gradients_reach_the_vectors(window: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder learns through the frozen model, so d(output)/d(inputs_embeds) must be exact."""
    monkeypatch.setattr(chunk, "CHUNK", 4)
    model = tiny_model(num_layers=3, window_size=window)
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
    x = noise(2, 6, 16).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda y: model(inputs_embeds=y, attention_mask=mask, compute_logits=False).final_hidden, (x,), fast_mode=True
    )


def test_all_parameters_can_learn() -> None:
    model = tiny_model(tie_word_embeddings=False).requires_grad_(True)
    model(input_ids=ids(2, 9)).logits.square().sum().backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_a_frozen_model_keeps_its_bytes() -> None:
    model, x = tiny_model(), noise(1, 9, 16).requires_grad_()
    before = sha256(model)
    model(inputs_embeds=x).final_hidden.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert all(p.grad is None for p in model.parameters())
    assert sha256(model) == before


def test_ways_to_run_agree() -> None:
    """Training mode, eval mode, no_grad and inference_mode give the same bits, run after run."""
    model, x = tiny_model(dtype=torch.float32), ids(2, TOKENS)
    first = model(input_ids=x).logits
    assert torch.equal(first, model.train()(input_ids=x).logits)
    with torch.no_grad():
        assert torch.equal(first, model(input_ids=x).logits)
    with torch.inference_mode():
        assert torch.equal(first, model(input_ids=x).logits)


def test_ids_and_their_vectors_agree() -> None:
    model, x = tiny_model(), ids(2, 9)
    assert torch.equal(model(input_ids=x).logits, model(inputs_embeds=model.embedding(x)).logits)


def test_what_the_output_holds() -> None:
    model, x = tiny_model(), ids(2, 9)
    full, bare = model(input_ids=x, record=True), model(input_ids=x, compute_logits=False)
    assert bare.logits is None
    assert bare.layers is None
    assert torch.equal(bare.final_hidden, full.final_hidden)
    assert torch.equal(full.final_hidden, model.norm(full.layers[-1].hidden))
    assert full.logits.shape == (2, 9, 29)
    assert [layer.gate_attention is None for layer in full.layers] == [True, True, False, False]
    assert full.layers[2].gate_delta.shape == (2, 9, 1)
    assert full.layers[2].task_vector.shape == (2, 9, 4)


def test_a_prelude_alone_is_a_model() -> None:
    assert tiny_model(num_layers=1)(input_ids=ids(1, 3)).logits.isfinite().all()


def test_without_learning_the_trigger_still_steers() -> None:
    """trigger_rate 0 is the ablation 'trigger off': other numbers, no failure."""
    x = ids(1, 9)
    on, off = (tiny_model(trigger_rate=rate)(input_ids=x).logits for rate in (0.01, 0.0))
    assert 1e-9 < error(on, off) < 1


def test_low_precision_runs() -> None:
    x = ids(1, TOKENS)
    exact = tiny_model(dtype=torch.float32)(input_ids=x).logits
    low = tiny_model(dtype=torch.bfloat16)(input_ids=x).logits
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = tiny_model(dtype=torch.float32)(input_ids=x).logits
    assert low.dtype == mixed.dtype == torch.bfloat16
    assert error(low.float(), exact) < 0.1
    assert error(mixed.float(), exact) < 0.1


def test_bfloat16_is_as_near_as_its_digits() -> None:
    """A nano model in bfloat16 against float32 on the same (rounded) weights: some 2 %, six layers of 8 bits.

    Drawn with the published spread: wider ones bring the likeliest words nearer to each other.
    """
    half = NirvanaLM(dataclasses.replace(BackboneConfig.nano(), initializer_range=0.006)).freeze().bfloat16()
    exact = copy.deepcopy(half).float()
    x = torch.randint(0, 8192, (2, 402), generator=torch.Generator().manual_seed(0))
    found, expected = (model(input_ids=x, record=True) for model in (half, exact))
    assert {layer.hidden.dtype for layer in found.layers} == {torch.bfloat16}
    distance = (found.final_hidden.float() - expected.final_hidden).norm() / expected.final_hidden.norm()
    assert 1e-4 < float(distance) < 0.03
    assert float((found.logits.argmax(-1) == expected.logits.argmax(-1)).float().mean()) > 0.98


def test_a_bfloat16_cache_keeps_its_state_in_float32() -> None:
    model = tiny_model(dtype=torch.bfloat16, window_size=9)
    cache = model.new_cache(1)
    model(input_ids=ids(1, 20), cache=cache)
    assert cache.layers[2].state.dtype == torch.float32
    assert cache.layers[2].ring.slots()[0].dtype == torch.bfloat16


def test_nano_is_stable_at_its_first_values() -> None:
    model = NirvanaLM(BackboneConfig.nano()).eval()
    x = noise(1, 100, 256, dtype=torch.float32).requires_grad_()
    model(inputs_embeds=x, compute_logits=False).final_hidden[:, -1].sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad[:, 0].any()  # the last token hears the first


REFUSED: dict[str, tuple[dict[str, Any], type[NirvanaError], str]] = {
    "nothing": ({}, UsageError, "got neither; pass exactly one"),
    "both": ({"input_ids": ids(1, 3), "inputs_embeds": noise(1, 3, 16)}, UsageError, "got both"),
    "empty": ({"input_ids": ids(1, 0)}, UsageError, r"\(1, 0\)"),
    "no batch": ({"inputs_embeds": noise(1, 3, 16)[:, :0]}, UsageError, r"\(1, 0, 16\)"),
    "width": ({"inputs_embeds": noise(1, 3, 15)}, UsageError, r"\(1, 3, 15\).*16\]"),
    "vocabulary": ({"input_ids": torch.tensor([[0, 29]])}, DataError, r"this model knows 0 to 28"),
    "negative id": ({"input_ids": torch.tensor([[-1, 28]])}, DataError, "this model knows 0 to 28"),
    "NaN": ({"inputs_embeds": noise(1, 3, 16) / 0}, DataError, "NaN or infinity"),
    "mask shape": (
        {"input_ids": ids(1, 3), "attention_mask": torch.ones(1, 4)},
        UsageError,
        r"\(1, 4\).*\(1, 3\)",
    ),
    "mask values": (
        {"input_ids": ids(1, 3), "attention_mask": torch.tensor([[0.0, -1e9, 1.0]])},
        UsageError,
        "values other than 0 and 1",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_input_that_cannot_work_is_refused(case: str) -> None:
    arguments, kind, message = REFUSED[case]
    with pytest.raises(kind, match=message):
        tiny_model()(**arguments)


def test_float64_vectors_need_a_float64_model() -> None:
    with pytest.raises(UsageError, match=r"torch\.float64.*torch\.float32"):
        tiny_model(dtype=torch.float32)(inputs_embeds=noise(1, 3, 16))
    output = tiny_model()(inputs_embeds=noise(1, 3, 16).float())
    assert output.final_hidden.dtype == torch.float64
