"""The authors' names for our parameters, and strict loading of checkpoints that use them."""

import dataclasses
import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import torch
from torch import Tensor

from nirvana_mri.backbone.config import PRELUDE_LAYERS, BackboneConfig
from nirvana_mri.backbone.model import NirvanaLM
from nirvana_mri.errors import CheckpointError, UsageError

EMBEDDING = "model.embeddings.weight"
HEAD = "lm_head.weight"
FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
MOST_LAYERS, LARGEST = 4096, 2**20  # of any size in a configuration: beyond, products overflow
_OUTSIDE_LAYERS = {
    "embedding.weight": EMBEDDING,
    "norm.weight": "model.norm.weight",
    "head.weight": HEAD,
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
    # No names of the authors': the attention of the Transformer baseline.
    "mixer.query.weight": "Attention.q_proj.weight",
    "mixer.key.weight": "Attention.k_proj.weight",
    "mixer.value.weight": "Attention.v_proj.weight",
    "mixer.output.weight": "Attention.o_proj.weight",
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


def published_shapes(config: BackboneConfig) -> dict[str, tuple[int, ...]]:
    """The authors' names and shapes of such a model's parameters, sorted by name, without making it.

    Raises: UsageError for sizes that no model has (over a million, or 4096 layers).
    """
    for field in ("num_layers", "vocab_size", "hidden_size", "concept_dim", "logit_dim", "intermediate_size"):
        most = MOST_LAYERS if field == "num_layers" else LARGEST
        if (size := getattr(config, field)) > most:
            raise UsageError(f"{field} is {size!s:.40}; no model has more than {most}")
    kinds = PRELUDE_LAYERS + 1  # the first layers, and one that stands for all others
    with torch.device("meta"):
        model = NirvanaLM(dataclasses.replace(config, num_layers=min(config.num_layers, kinds)))
    shapes = {name: tuple(parameter.shape) for name, parameter in published_parameters(model).items()}
    last = f"model.layers.{kinds - 1}."
    repeated = {name.removeprefix(last): shape for name, shape in shapes.items() if name.startswith(last)}
    for index in range(kinds, config.num_layers):
        shapes.update((f"model.layers.{index}.{inside}", shape) for inside, shape in repeated.items())
    return dict(sorted(shapes.items()))


@torch.no_grad()
def load_published(model: NirvanaLM, tensors: Mapping[str, Tensor]) -> None:
    """Copy the tensors of a checkpoint with the authors' names into the model, in the model's dtype.

    All or nothing: a missing, unexpected, misshapen or non-finite tensor, or one with values that the model's dtype
    cannot hold, is a CheckpointError that names it, and the model keeps its weights. Where embedding and head are tied,
    `lm_head.weight` may be there, but only as a copy.
    """
    parameters = published_parameters(model)
    tensors = dict(tensors)
    if model.config.tie_word_embeddings and HEAD in tensors:
        _require_same(tensors.pop(HEAD), tensors.get(EMBEDDING))
    require_names(set(parameters), set(tensors))
    for name, parameter in parameters.items():
        _require_fit(name, tensors[name], parameter)
    for name, parameter in parameters.items():
        parameter.copy_(tensors[name])


def _require_same(head: Tensor, embedding: Tensor | None) -> None:
    if embedding is None or (head.is_meta and head.shape == embedding.shape):
        return
    require_tied(head, embedding)


def require_tied(head: Tensor, embedding: Tensor, where: str = "") -> None:
    """Refuse a head that is no copy of the embedding that it should share. Raises: CheckpointError."""
    dtype = torch.promote_types(head.dtype, embedding.dtype)
    if head.shape != embedding.shape or not torch.equal(head.to(dtype), embedding.to(dtype)):
        raise CheckpointError(
            f"{where}{HEAD} differs from {EMBEDDING}, but this model ties them; set tie_word_embeddings=False to load"
        )


def require_names(expected: AbstractSet[str], found: AbstractSet[str], where: str = "") -> None:
    """Refuse a checkpoint that lacks tensors or has others. Raises: CheckpointError, after ``where``."""
    missing, unexpected = sorted(expected - found), sorted(found - expected)
    if missing or unexpected:
        raise CheckpointError(
            f"{where}checkpoint does not fit this configuration: {_named('missing', missing)}, "
            f"{_named('unexpected', unexpected)}; check layers, tied head and names"
        )


def _named(what: str, names: list[str]) -> str:
    shown = ", ".join(f"{name:.120}" for name in names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names)} {what}" + (f" ({shown})" if names else "")


def require_shape(name: str, found: tuple[int, ...], expected: tuple[int, ...], where: str = "") -> None:
    """Refuse a tensor of another shape; another vocabulary is called so. Raises: CheckpointError."""
    if found == expected:
        return
    if name in (EMBEDDING, HEAD) and len(found) == 2 and found[1] == expected[1]:
        raise CheckpointError(
            f"{where}{name} has {found[0]} rows, but the configuration's vocabulary has {expected[0]}; "
            "correct vocab_size, or take the configuration that belongs to these weights"
        )
    raise CheckpointError(f"{where}{name} is {found}; this configuration needs {expected}: another model's?")


def require_values(name: str, tensor: Tensor, dtype: torch.dtype, where: str = "") -> None:
    """Refuse what is no floating-point number, not finite, or too large for ``dtype``. Raises: CheckpointError."""
    low, high = tensor.aminmax() if tensor.dtype in FLOATS else (torch.tensor(torch.nan),) * 2
    reach = max(-float(low), float(high))
    if not math.isfinite(reach):  # NaN in the tensor is NaN in both bounds
        raise CheckpointError(f"{where}{name} ({tensor.dtype}) must hold finite floating-point numbers; damaged file?")
    if reach > torch.finfo(dtype).max:
        raise CheckpointError(
            f"{where}{name} reaches {reach:g}; {dtype} ends at {torch.finfo(dtype).max:g}: choose bfloat16 or float32"
        )


def _require_fit(name: str, tensor: Tensor, parameter: Tensor) -> None:
    require_shape(name, tuple(tensor.shape), tuple(parameter.shape))
    if tensor.is_meta:
        return
    if parameter.is_meta:
        raise CheckpointError(
            f"the model has no memory for {name} (meta device); call model.to_empty(device=...) first"
        )
    require_values(name, tensor, parameter.dtype)
