"""All that changes while training, kept so that a run can go on where it stopped."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from nirvana_mri.atomic import atomic_path
from nirvana_mri.errors import CheckpointError
from nirvana_mri.recon.model import NirvanaRecon


@dataclass(eq=False)
class Run:
    """All that changes while training."""

    model: NirvanaRecon
    optimizer: torch.optim.AdamW
    average: dict[str, Tensor]
    step: int = 0


def codec_weights(model: NirvanaRecon) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of everything but the backbone."""
    for name, parameter in model.named_parameters():
        if not name.startswith("backbone."):
            yield name, parameter


def put_weights(model: NirvanaRecon, tensors: dict[str, Tensor]) -> None:
    """Copy codec weights, by name, into a model."""
    with torch.no_grad():
        for name, parameter in codec_weights(model):
            parameter.copy_(tensors[name])


def keep(run: Run, path: Path, seed: int) -> None:
    """All that resuming needs, in one file: weights, averages, and the optimiser's moments."""
    tensors = {f"model.{name}": tensor.detach() for name, tensor in codec_weights(run.model)}
    tensors |= {f"average.{name}": tensor for name, tensor in run.average.items()}
    for number, values in run.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{key}": torch.as_tensor(value) for key, value in values.items()}
    with atomic_path(path) as temporary:
        save_file(
            {k: v.contiguous() for k, v in tensors.items()},
            temporary,
            {"step": str(run.step), "seed": str(seed)},
        )


def resume(run: Run, path: Path, seed: int) -> None:
    """Put a run back to where :func:`keep` left it. CheckpointError without such a file, or with another seed's."""
    if not path.exists():
        raise CheckpointError(f"{path}: nothing to resume; start without --resume")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    if metadata.get("seed") != str(seed):
        raise CheckpointError(f"{path} was trained with seed {metadata.get('seed')}, not {seed}; use its seed")
    tensors = load_file(path)
    put_weights(run.model, {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    run.average = {k.removeprefix("average."): v for k, v in tensors.items() if k.startswith("average.")}
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, number, name = key.split(".")
            state.setdefault(int(number), {})[name] = value
    run.optimizer.load_state_dict({"state": state, "param_groups": run.optimizer.state_dict()["param_groups"]})
    run.step = int(metadata["step"])
