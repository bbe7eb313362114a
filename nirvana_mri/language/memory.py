"""What the memory does: gates, fast weights, their updates and gradients, per layer and token, for any input."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from nirvana_mri.backbone import LayerRecord, NirvanaLM, NirvanaOutput
from nirvana_mri.backbone.ops.trigger import TriggerLogits
from nirvana_mri.backbone.trigger import Trigger
from nirvana_mri.errors import UsageError
from nirvana_mri.language.loss import token_losses

Numbers = NDArray[np.float64]

QUANTITIES = (
    "gate_attention",
    "gate_delta",
    "hybrid_ratio",
    "fast_norm",
    "update_norm",
    "gradient_norm",
    "gradient_linear",
    "gradient_ln",
    "residual_norm",
)


@dataclass(frozen=True, eq=False)
class MemoryRecord:
    """What the memory did with one sequence: arrays [layer token], a row for every layer that the Trigger steers.

    A token's fast weights start at all ones (norm start_norm), go from layer to layer and never to another token.
    fast_norm is their norm after the layer, update_norm that of what the layer changed, gradient_linear and gradient_ln
    those of the gradients that it learned from (of matrix and bias; of the norm's scale and shift), before clipping.
    All norms are Euclidean. residual_norm is that of the hidden vector after the layer. loss [nats] is of each token
    given those before it, from the second on; None where the input was no text. first: tokens that the summary covers.
    """

    layers: tuple[int, ...]
    first: int
    rate: float
    clip: float | None
    start_norm: float
    gate_attention: Numbers
    gate_delta: Numbers
    fast_norm: Numbers
    update_norm: Numbers
    gradient_linear: Numbers
    gradient_ln: Numbers
    residual_norm: Numbers
    loss: Numbers | None

    @property
    def tokens(self) -> int:
        return self.gate_attention.shape[1]

    @property
    def hybrid_ratio(self) -> Numbers:
        """t / (t + t2): the attention gate's share of the two gates."""
        return self.gate_attention / (self.gate_attention + self.gate_delta)

    @property
    def gradient_norm(self) -> Numbers:
        return np.hypot(self.gradient_linear, self.gradient_ln)

    def summary(self) -> list[dict[str, Any]]:
        """For each layer its number, and mean and max of every quantity over the first tokens."""
        with np.errstate(all="ignore"):
            values = {name: getattr(self, name)[:, : self.first] for name in QUANTITIES}
            return [
                {"layer": layer}
                | {name: {"mean": _number(x[row].mean()), "max": _number(x[row].max())} for name, x in values.items()}
                for row, layer in enumerate(self.layers)
            ]

    def stability(self) -> dict[str, Any]:
        """Facts about the first tokens that say whether learning runs away. A growth is a ratio of means."""
        with np.errstate(all="ignore"):
            fast, update = self.fast_norm[:, : self.first], self.update_norm[:, : self.first]
            before = np.vstack([np.full_like(fast[:1], self.start_norm), fast[:-1]])
            relative, gradient = update / before, self.gradient_norm[:, : self.first]
            row, token = np.unravel_index(int(relative.argmax()), relative.shape)
            half = update.shape[1] // 2
            cut = None if self.clip is None else float((self.rate * gradient > self.clip).mean())
            return {
                "tokens": update.shape[1],
                "all_finite": all(bool(np.isfinite(getattr(self, name)).all()) for name in QUANTITIES),
                "largest_update_over_weight": _number(relative.max()),
                "largest_update_layer": self.layers[row],
                "largest_update_token": int(token),
                "largest_gradient": _number(gradient.max()),
                "fast_norm_last_layer_over_start": _number(fast[-1].mean() / self.start_norm),
                "update_last_layer_over_first": _number(update[-1].mean() / update[0].mean()),
                "gradient_last_layer_over_first": _number(gradient[-1].mean() / gradient[0].mean()),
                "update_later_tokens_over_earlier": _number(update[:, half:].mean() / update[:, :half].mean())
                if half
                else None,
                "clipped_share": cut,
            }

    def as_dict(self, per_token: bool = False) -> dict[str, Any]:
        """The same for JSON, with every single number where asked; null is not finite, or not there."""
        values: dict[str, Any] = {
            "tokens": self.tokens,
            "first": self.first,
            "layers": list(self.layers),
            "trigger_rate": self.rate,
            "clip": self.clip,
            "fast_norm_start": self.start_norm,
            "loss_mean": None if self.loss is None or not self.loss.size else _number(self.loss.mean()),
            "stability": self.stability(),
            "per_layer": self.summary(),
        }
        if per_token:
            arrays = {name: [_numbers(row) for row in getattr(self, name)] for name in QUANTITIES}
            values["per_layer_and_token"] = arrays
            values["loss"] = None if self.loss is None else _numbers(self.loss)
        return values


def memory_record(
    model: NirvanaLM,
    input_ids: Int[Tensor, "batch token"] | None = None,
    inputs_embeds: Float[Tensor, "batch token channel"] | None = None,
    first: int = 100,
    clip: float | None = None,
) -> MemoryRecord:
    """What the model's memory does with one sequence of ids or of any vectors; the model stays as it was.

    clip is the largest update of a token's fast weights in a layer, for this call (None: as they are). Raises:
    UsageError for a model without a Trigger, more than one sequence or none; else what the model itself raises.
    """
    trigger = model.trigger
    if trigger is None:
        raise UsageError(
            f"this backbone (architecture {model.config.architecture}) has no Trigger to look at; take one of nirvana"
        )
    given = inputs_embeds if input_ids is None else input_ids
    if given is not None and (given.ndim < 2 or given.shape[0] != 1):
        raise UsageError(
            f"the input is {tuple(given.shape)}; expected one sequence [1, token, ...]: call once for each"
        )
    if first < 1:
        raise UsageError(f"first is {first}; expected how many tokens to sum up, 1 or more")
    with torch.no_grad(), _watched(trigger, clip) as steps:
        output = model(input_ids, inputs_embeds, record=True, compute_logits=False)
        loss = None if input_ids is None else _losses(model, output, input_ids[0])
        limit = trigger.clip
    layers = {i: layer for i, layer in enumerate(output.layers or ()) if layer.gate_attention is not None}
    if not layers:
        raise UsageError(
            f"this backbone of {len(model.layers)} layers is a prelude alone, without gates; take a deeper one"
        )
    rows = [_row(layer, step) for layer, step in zip(layers.values(), steps, strict=True)]
    arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    start = float(_norm(*steps[0].before)[0])
    return MemoryRecord(tuple(layers), first, trigger.rate, limit, start, loss=loss, **arrays)


@dataclass(frozen=True)
class _Step:
    """What a layer's Trigger started from, and the gradients there."""

    before: TriggerLogits
    gradient: TriggerLogits


@contextmanager
def _watched(trigger: Trigger, clip: float | None) -> Iterator[list[_Step]]:
    """The steps of all layers that run within the block, where the updates are clipped."""
    steps: list[_Step] = []
    usual = trigger.clip
    trigger.clip_updates(clip)

    def note(module: Trigger, given: tuple[Tensor, TriggerLogits], _: object) -> None:
        concept, before = given
        steps.append(_Step(before, module.gradient(concept, before)))

    handle = trigger.register_forward_hook(note)
    try:
        yield steps
    finally:
        handle.remove()
        trigger.clip = usual


def _row(layer: LayerRecord, step: _Step) -> dict[str, Numbers]:
    """One layer's numbers, by their names in MemoryRecord."""
    assert layer.gate_attention is not None
    assert layer.gate_delta is not None
    assert layer.fast is not None
    gradient = step.gradient
    return {
        "gate_attention": _array(layer.gate_attention[0, :, 0]),
        "gate_delta": _array(layer.gate_delta[0, :, 0]),
        "fast_norm": _norm(*layer.fast),
        "update_norm": _norm(*(new.double() - old.double() for new, old in zip(layer.fast, step.before, strict=True))),
        "gradient_linear": _norm(gradient.weight_linear, gradient.bias_linear),
        "gradient_ln": _norm(gradient.weight_ln, gradient.bias_ln),
        "residual_norm": _norm(layer.hidden),
    }


def _losses(model: NirvanaLM, output: NirvanaOutput, ids: Tensor) -> Numbers:
    if len(ids) < 2:
        return np.zeros(0)
    return _array(token_losses(output.final_hidden[0, :-1], model.head_weight, ids[1:].long()))


def _norm(*vectors: Float[Tensor, "1 token channel"]) -> Numbers:
    """Of each token's vectors, all of them together."""
    return _array(torch.linalg.vector_norm(torch.cat([x[0].double() for x in vectors], dim=-1), dim=-1))


def _array(x: Tensor) -> Numbers:
    return x.detach().double().cpu().numpy()


def _number(x: float) -> float | None:
    return float(x) if math.isfinite(x) else None


def _numbers(values: Numbers) -> list[float | None]:
    return [_number(x) for x in values.tolist()]
