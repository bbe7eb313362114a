"""All that changes while training, kept so that a run can go on where it stopped."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nirvana_mri.atomic import atomic_path
from nirvana_mri.errors import CheckpointError
from nirvana_mri.language.state import moments_of, put_moments, require_same
from nirvana_mri.recon.frozen import FrozenPart
from nirvana_mri.recon.model import NirvanaRecon

FORMAT = "nirvana-training/1"


@dataclass(eq=False)
class Run:
    """All that changes while training, the recipe that decides how, and what files hold of the backbone, if ready.

    ``scores`` are the last held-out ones with their step, by ``protocol``, and ``best`` the best of them; empty before
    the first.
    """

    model: NirvanaRecon
    optimizers: list[torch.optim.Optimizer]
    average: dict[str, Tensor]
    step: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    protocol: str = ""
    frozen: FrozenPart | None = None


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


def keep(run: Run, path: Path) -> None:
    """All that resuming needs, in one file: weights, averages, and the optimiser's moments."""
    tensors = {f"model.{name}": tensor.detach() for name, tensor in codec_weights(run.model)}
    tensors |= {f"average.{name}": tensor for name, tensor in run.average.items()}
    tensors |= {f"optimizer.{name}": tensor for name, tensor in moments_of(run.optimizers).items()}
    facts = {"step": run.step, "scores": run.scores, "best": run.best, "recipe": run.recipe}
    with atomic_path(path) as temporary:
        save_file(
            {k: v.contiguous() for k, v in tensors.items()},
            temporary,
            {"format": FORMAT} | {name: json.dumps(value) for name, value in facts.items()},
        )


def resume(run: Run, path: Path) -> None:
    """Put a run back to where :func:`keep` left it.

    Raises: CheckpointError where there is no such file, it is damaged, or something that decides the numbers (all but
    the number of steps) is not what the run was begun with; it is named.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: nothing to resume; start without --resume")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
        if metadata.get("format") != FORMAT:
            raise CheckpointError(f"{path}: format is {metadata.get('format')!r:.40}, expected {FORMAT!r}")
        found = {key: json.loads(metadata[key]) for key in ("step", "scores", "best", "recipe")}
    except (SafetensorError, KeyError, ValueError) as problem:
        raise CheckpointError(f"{path}: not a readable training state ({problem!s:.120}); is it complete?") from problem
    for last in (False, True):  # the split at last, since it follows from the others
        begun, now = (
            {k: v for k, v in each.items() if k != "max_steps" and (k == "manifest") is last}
            for each in (found["recipe"], run.recipe)
        )
        require_same(path, begun, now)
    put_weights(run.model, {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    run.average = {k.removeprefix("average."): v for k, v in tensors.items() if k.startswith("average.")}
    put_moments(
        run.optimizers, {k.removeprefix("optimizer."): v for k, v in tensors.items() if k.startswith("optimizer.")}
    )
    run.step, run.scores, run.best = found["step"], found["scores"], found["best"]
