"""The authors' names for our parameters, and strict loading of checkpoints that use them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from nirvana_mri.backbone.model import NirvanaLM
from nirvana_mri.errors import CheckpointError

_EMBEDDING = "model.embeddings.weight"
_HEAD = "lm_head.weight"
_OUTSIDE_LAYERS = {
    "embedding.weight": _EMBEDDING,
    "norm.weight": "model.norm.weight",
    "head.weight": _HEAD,
}
_MIXER = "Task_Aware_Delta_Net"
_IN_LAYER = {
    "mixer_norm.weight": "attn_norm.weight",
    "mlp_norm.weight": "mlp_norm.weight",
    "mlp.gate_up.weight": "mlp.gate_proj.weight",
    "mlp.down.weight": "mlp.down_proj.weight",
    "mixer.memory.query.weight": f"{_MIXER}.q_proj.weight",
    "mixer.memory.key.weight": f"{_MIXER}.k_proj.weight",
    "mixer.memory.value.weight": f"{_MIXER}.v_proj.weight",
    "mixer.memory.output.weight": f"{_MIXER}.o_proj.weight",
    "mixer.memory.gate.weight": f"{_MIXER}.g_proj.weight",
    "mixer.memory.beta.weight": f"{_MIXER}.b_proj.weight",
    "mixer.memory.decay.weight": f"{_MIXER}.a_proj.weight",
    "mixer.memory.log_decay": f"{_MIXER}.A_log",
    "mixer.memory.decay_bias": f"{_MIXER}.dt_bias",
    "mixer.memory.query_conv.weight": f"{_MIXER}.q_conv1d.weight",
    "mixer.memory.key_conv.weight": f"{_MIXER}.k_conv1d.weight",
    "mixer.memory.value_conv.weight": f"{_MIXER}.v_conv1d.weight",
    "mixer.memory.output_norm.weight": f"{_MIXER}.o_norm.weight",
    "mixer.attention.query_lora.down.weight": f"{_MIXER}.q_lora.0.weight",
    "mixer.attention.query_lora.up.weight": f"{_MIXER}.q_lora.1.weight",
    "mixer.attention.key_lora.down.weight": f"{_MIXER}.k_lora.0.weight",
    "mixer.attention.key_lora.up.weight": f"{_MIXER}.k_lora.1.weight",
    "mixer.attention.value_lora.down.weight": f"{_MIXER}.v_lora.0.weight",
    "mixer.attention.value_lora.up.weight": f"{_MIXER}.v_lora.1.weight",
    "mixer.attention.output.down.weight": f"{_MIXER}.o_proj_attn.0.weight",
    "mixer.attention.output.up.weight": f"{_MIXER}.o_proj_attn.1.weight",
    "mixer.concept.weight": f"{_MIXER}.concept_proj.weight",
    "mixer.interpolation.gate_attention.weight": f"{_MIXER}.t_proj.weight",
    "mixer.interpolation.gate_delta.weight": f"{_MIXER}.t2_proj.weight",
    "mixer.interpolation.correction.down.weight": f"{_MIXER}.condition_interpolation.lora.0.weight",
    "mixer.interpolation.correction.up.weight": f"{_MIXER}.condition_interpolation.lora.2.weight",
}


def published_name(name: str) -> str:
    """The authors' name of one of our parameters; KeyError if it has none."""
    if name.startswith("layers."):
        _, index, inside = name.split(".", 2)
        return f"model.layers.{index}.{_IN_LAYER[inside]}"
    if name.startswith("trigger."):
        return f"model.rnn_router.{name.removeprefix('trigger.')}"
    return _OUTSIDE_LAYERS[name]


def published_parameters(model: NirvanaLM) -> dict[str, Tensor]:
    """The model's own parameters (no copies) under the authors' names; a tied head is not repeated."""
    return {published_name(name): parameter for name, parameter in model.named_parameters()}


@torch.no_grad()
def load_published(model: NirvanaLM, tensors: Mapping[str, Tensor]) -> None:
    """Copy the tensors of a checkpoint with the authors' names into the model, in the model's dtype.

    All or nothing: a missing, unexpected, misshapen or non-finite tensor is a CheckpointError that names it, and the
    model keeps its weights. Where embedding and head are tied, `lm_head.weight` may be there, but only as a copy.
    """
    parameters = published_parameters(model)
    tensors = dict(tensors)
    if model.config.tie_word_embeddings and _HEAD in tensors:
        _require_same(tensors.pop(_HEAD), tensors.get(_EMBEDDING))
    _require_same_names(set(parameters), set(tensors))
    for name, parameter in parameters.items():
        _require_fit(name, tensors[name], parameter)
    for name, parameter in parameters.items():
        parameter.copy_(tensors[name])


def _require_same(head: Tensor, embedding: Tensor | None) -> None:
    if embedding is None or (head.is_meta and head.shape == embedding.shape):
        return
    if head.shape != embedding.shape or not torch.equal(head, embedding):
        raise CheckpointError(
            f"{_HEAD} differs from {_EMBEDDING}, but this model ties them; set tie_word_embeddings=False to load it"
        )


def _require_same_names(expected: set[str], found: set[str]) -> None:
    missing, unexpected = sorted(expected - found), sorted(found - expected)
    if missing or unexpected:
        raise CheckpointError(
            f"checkpoint does not fit this configuration: {_named('missing', missing)}, "
            f"{_named('unexpected', unexpected)}; check layers, tied head and names"
        )


def _named(what: str, names: list[str]) -> str:
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names)} {what}" + (f" ({shown})" if names else "")


def _require_fit(name: str, tensor: Tensor, parameter: Tensor) -> None:
    if tensor.shape != parameter.shape:
        raise CheckpointError(
            f"{name} is {tuple(tensor.shape)}; this configuration needs {tuple(parameter.shape)}: another model's?"
        )
    if tensor.is_meta:
        return
    if parameter.is_meta:
        raise CheckpointError(
            f"the model has no memory for {name} (meta device); call model.to_empty(device=...) first"
        )
    if not tensor.is_floating_point() or not torch.isfinite(tensor).all():
        raise CheckpointError(f"{name} ({tensor.dtype}) must hold finite floating-point numbers; damaged file?")
