"""All that changes while pretraining, kept so that a run can go on where it stopped."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from nirvana_mri.atomic import atomic_path
from nirvana_mri.backbone import BackboneConfig, NirvanaLM
from nirvana_mri.backbone.shards import whole
from nirvana_mri.errors import CheckpointError
from nirvana_mri.language.packing import PackedText
from nirvana_mri.language.processes import cut_like

FORMAT = "nirvana-pretraining/1"


@dataclass(eq=False)
class Run:
    """A model in training, its optimisers, its text, and how far it is."""

    model: NirvanaLM
    optimizers: list[torch.optim.Optimizer]
    text: PackedText
    step: int = 0
    tokens: int = 0
    recipe: dict[str, Any] = field(default_factory=dict)


def keep(run: Run, path: Path, weights: dict[str, Tensor], moments: dict[str, Tensor]) -> None:
    """Write one file with all that resuming needs. Weights and moments are whole tensors on the CPU."""
    assert run.text.buffer is not None
    tensors = {f"model.{name}": tensor for name, tensor in weights.items()}
    tensors |= {f"optimizer.{name}": tensor for name, tensor in moments.items()}
    tensors["buffer"] = torch.from_numpy(run.text.buffer)
    metadata = {
        "format": FORMAT,
        "step": str(run.step),
        "tokens": str(run.tokens),
        "text": json.dumps(run.text.state()),
        "recipe": json.dumps(run.recipe),
    }
    with atomic_path(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata)


@dataclass(frozen=True, eq=False)
class Kept:
    """What :func:`keep` wrote."""

    weights: dict[str, Tensor]
    moments: dict[str, Tensor]
    buffer: np.ndarray[Any, np.dtype[np.int32]]
    metadata: dict[str, Any]


def read_kept(path: Path, recipe: dict[str, Any]) -> Kept:
    """The state in a file, if it belongs to a run of this recipe.

    Raises: CheckpointError where there is none, it is damaged, or something that decides the numbers differs (named).
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: nothing to resume; start without --resume")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
        if metadata.get("format") != FORMAT:
            raise CheckpointError(f"{path}: format is {metadata.get('format')!r:.40}, expected {FORMAT!r}")
        found = {key: json.loads(metadata[key]) for key in ("step", "tokens", "text", "recipe")}
        buffer = tensors.pop("buffer").numpy()
    except (safetensors.SafetensorError, KeyError, ValueError) as problem:
        raise CheckpointError(f"{path}: not a readable training state ({problem!s:.120}); is it complete?") from problem
    begun = found["recipe"]  # fields of the model that are new since have their defaults
    require_same(path, {**begun, "model": asdict(BackboneConfig(**begun["model"]))}, recipe)
    parts = {
        start: {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
        for start in ("model.", "optimizer.")
    }
    return Kept(parts["model."], parts["optimizer."], buffer, found)


def require_same(path: Path, begun: dict[str, Any], now: dict[str, Any]) -> None:
    """CheckpointError that names the first difference between two recipes, if there is any."""
    now = json.loads(json.dumps(now))
    for name in sorted(begun.keys() | now.keys()):
        if begun.get(name) != now.get(name):
            raise CheckpointError(
                f"{path}: the run was begun with {name} {_short(begun.get(name))}, now it is {_short(now.get(name))}; "
                "resume with what it began with, or choose another folder"
            )


def _short(value: Any) -> str:
    return f"{json.dumps(value):.60}"


def moments_of(optimizers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """The optimisers' states as named whole tensors; every process has to ask."""
    return {
        f"{number}.{index}.{key}": whole(torch.as_tensor(value))
        for number, optimizer in enumerate(optimizers)
        for index, parameter in enumerate(_parameters(optimizer))
        for key, value in optimizer.state[parameter].items()
    }


def put_moments(optimizers: list[torch.optim.Optimizer], moments: dict[str, Tensor]) -> None:
    """The inverse of :func:`moments_of`."""
    parameters = [_parameters(optimizer) for optimizer in optimizers]
    for name, tensor in moments.items():
        number, index, key = name.split(".")
        parameter = parameters[int(number)][int(index)]
        optimizers[int(number)].state[parameter][key] = cut_like(tensor, parameter)


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
