"""The record of the memory: its updates, gradients and limits are those of the model; any input will do."""

import json
import math

import numpy as np
import pytest
import torch
from backbone_support import noise, tiny_model
from torch import Tensor

from nirvana_mri.backbone import NirvanaLM
from nirvana_mri.backbone.ops.trigger import TriggerLogits
from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.language.memory import QUANTITIES, MemoryRecord, memory_record

TOKENS = 23


def ids(tokens: int = TOKENS) -> Tensor:
    return torch.randint(0, 29, (1, tokens), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model() -> NirvanaLM:
    return tiny_model()


def everything(record: MemoryRecord) -> list[np.ndarray]:
    return [getattr(record, name) for name in QUANTITIES]


def test_the_numbers_are_those_of_the_model(model: NirvanaLM) -> None:
    record, output = memory_record(model, ids()), model(input_ids=ids(), record=True)
    assert record.layers == (2, 3)
    for row, number in enumerate(record.layers):
        layer, before = output.layers[number], output.layers[number - 1]
        step = torch.cat(layer.fast, -1) - torch.cat(before.fast, -1)
        np.testing.assert_allclose(record.update_norm[row], step.norm(dim=-1)[0], rtol=1e-10)
        np.testing.assert_allclose(record.fast_norm[row], torch.cat(layer.fast, -1).norm(dim=-1)[0], rtol=1e-12)
        np.testing.assert_array_equal(record.gate_attention[row], layer.gate_attention[0, :, 0])
        np.testing.assert_allclose(record.residual_norm[row], layer.hidden.norm(dim=-1)[0], rtol=1e-12)
    np.testing.assert_allclose(record.hybrid_ratio * (record.gate_attention + record.gate_delta), record.gate_attention)
    assert record.start_norm == pytest.approx(math.sqrt(4 * 3))
    assert record.tokens == TOKENS


def test_an_update_is_the_rate_times_the_gradient(model: NirvanaLM) -> None:
    record = memory_record(model, ids())
    np.testing.assert_allclose(record.update_norm, 0.01 * record.gradient_norm, rtol=1e-9)
    assert record.gradient_linear.min() > 0
    assert record.gradient_ln.min() > 0


def test_in_single_precision_it_is_so_up_to_the_digits_of_a_weight() -> None:
    record = memory_record(tiny_model(dtype=torch.float32), ids())
    np.testing.assert_allclose(record.update_norm, 0.01 * record.gradient_norm, atol=1e-6)


def test_without_learning_nothing_moves() -> None:
    record = memory_record(tiny_model(trigger_rate=0.0), ids())
    assert not record.update_norm.any()
    assert (record.fast_norm == record.start_norm).all()
    assert record.gradient_norm.min() > 0
    assert record.stability()["update_last_layer_over_first"] is None


def test_the_loss_is_that_of_the_next_token(model: NirvanaLM) -> None:
    expected = torch.nn.functional.cross_entropy(model(input_ids=ids()).logits[0, :-1], ids()[0, 1:], reduction="none")
    np.testing.assert_allclose(memory_record(model, ids()).loss, expected, rtol=1e-6)


def test_vectors_and_their_ids_agree(model: NirvanaLM) -> None:
    by_ids, by_vectors = memory_record(model, ids()), memory_record(model, inputs_embeds=model.embedding(ids()))
    assert all(np.array_equal(a, b) for a, b in zip(everything(by_ids), everything(by_vectors), strict=True))
    assert by_vectors.loss is None
    assert memory_record(model, inputs_embeds=noise(1, 5, 16)).tokens == 5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_no_limit_changes_no_bit(dtype: torch.dtype) -> None:
    model = tiny_model(dtype=dtype)
    plain = model(input_ids=ids(), record=True)
    for limit in (None, math.inf, 1e9):
        model.trigger.clip_updates(limit)
        found = model(input_ids=ids(), record=True)
        assert torch.equal(found.logits, plain.logits)
        for a, b in zip(found.layers, plain.layers, strict=True):
            assert all(torch.equal(x, y) for x, y in zip(a.fast, b.fast, strict=True))


def test_a_limit_bounds_every_update_and_keeps_its_direction(model: NirvanaLM) -> None:
    free = memory_record(model, ids())
    limit = float(np.median(free.update_norm[0]))
    held = memory_record(model, ids(), clip=limit)
    assert held.update_norm.max() <= limit * (1 + 1e-9)
    np.testing.assert_allclose(held.update_norm, np.minimum(0.01 * held.gradient_norm, limit), rtol=1e-9)
    short = free.update_norm[0] <= limit
    assert 0 < short.sum() < TOKENS
    np.testing.assert_array_equal(held.update_norm[0][short], free.update_norm[0][short])
    assert held.gate_attention[0][short] == pytest.approx(free.gate_attention[0][short], rel=1e-9)
    assert not np.allclose(held.gate_attention[0][~short], free.gate_attention[0][~short], rtol=1e-6)
    assert held.stability()["clipped_share"] == pytest.approx((held.update_norm > limit * (1 - 1e-9)).mean(), abs=0.03)
    assert model.trigger.clip is None


def test_what_steers_was_predicted_from_the_limited_weights(model: NirvanaLM) -> None:
    """A limit near zero leaves the numbers of a Trigger that does not learn."""
    expected = tiny_model(trigger_rate=0.0)(input_ids=ids()).logits
    learning = model(input_ids=ids()).logits
    model.trigger.clip_updates(1e-12)
    assert (model(input_ids=ids()).logits - expected).abs().max() < 1e-9
    assert (learning - expected).abs().max() > 1e-6


def test_a_gradient_passes_a_limit(model: NirvanaLM) -> None:
    """Of the longer of two updates and of the shorter one."""
    trigger, concept = model.trigger, noise(2, 12)
    fast = trigger.start(concept)
    lengths = 0.01 * torch.cat(trigger.gradient(concept, fast), -1).norm(dim=-1)
    trigger.clip_updates(float(lengths.mean()))

    def flat(concept: Tensor, *fast: Tensor) -> Tensor:
        task_vector, learned = trigger(concept, TriggerLogits(*fast))
        return torch.cat([task_vector, *learned], -1)

    inputs = [x.clone().requires_grad_() for x in (concept, *fast)]
    assert torch.autograd.gradcheck(flat, inputs)


def test_the_model_stays_as_it_was(model: NirvanaLM) -> None:
    model.trigger.clip_updates(0.5)
    memory_record(model, ids(), clip=0.1)
    with pytest.raises(DataError):
        memory_record(model, ids() + 29)
    assert model.trigger.clip == 0.5
    assert not model.trigger._forward_hooks


def test_the_summary_covers_the_first_tokens(model: NirvanaLM) -> None:
    record = memory_record(model, ids(), first=7)
    summary = record.as_dict()
    assert summary["per_layer"][1]["layer"] == 3
    assert summary["per_layer"][1]["fast_norm"]["mean"] == record.fast_norm[1, :7].mean()
    assert summary["per_layer"][0]["update_norm"]["max"] == record.update_norm[0, :7].max()
    facts = summary["stability"]
    assert facts["tokens"] == 7
    assert facts["all_finite"]
    where = record.layers.index(facts["largest_update_layer"]), facts["largest_update_token"]
    before = record.start_norm if where[0] == 0 else record.fast_norm[where[0] - 1, where[1]]
    assert facts["largest_update_over_weight"] == pytest.approx(record.update_norm[where] / before)
    whole = json.loads(json.dumps(record.as_dict(per_token=True), allow_nan=False))
    assert whole["per_layer_and_token"]["gate_delta"] == record.gate_delta.tolist()
    assert whole["loss"] == record.loss.tolist()


def test_one_token_is_a_sequence(model: NirvanaLM) -> None:
    record = memory_record(model, ids(1))
    assert record.loss.size == 0
    assert record.as_dict()["loss_mean"] is None
    assert record.stability()["update_later_tokens_over_earlier"] is None


def test_numbers_that_run_away_are_told() -> None:
    record = memory_record(tiny_model(dtype=torch.float32, trigger_rate=1e30), ids())
    facts = record.stability()
    assert not facts["all_finite"]
    json.dumps(record.as_dict(per_token=True), allow_nan=False)


def test_what_cannot_be_looked_at_is_refused(model: NirvanaLM) -> None:
    for architecture in ("delta", "attention"):
        with pytest.raises(UsageError, match=f"architecture {architecture}.*no Trigger"):
            memory_record(tiny_model(architecture=architecture), ids())
    with pytest.raises(UsageError, match="prelude alone"):
        memory_record(tiny_model(num_layers=2), ids())
    with pytest.raises(UsageError, match="one sequence"):
        memory_record(model, ids().repeat(2, 1))
    with pytest.raises(UsageError, match="not empty"):
        memory_record(model, ids()[:, :0])
    with pytest.raises(UsageError, match="neither"):
        memory_record(model)
    with pytest.raises(UsageError, match="first is 0"):
        memory_record(model, ids(), first=0)
    with pytest.raises(DataError, match="NaN"):
        memory_record(model, inputs_embeds=noise(1, 3, 16) * math.nan)
    for limit in (0, -1.0, math.nan):
        with pytest.raises(UsageError, match="largest update"):
            memory_record(model, ids(), clip=limit)
