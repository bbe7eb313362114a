"""AdamW, and Muon for the matrices: the optimisers of language models and of codecs."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor, nn

from nirvana_mri.errors import UsageError

OPTIMIZERS = ("adamw", "muon")
SMALLEST_MATRIX = 16  # narrower ones (gates, decays) are left to AdamW
ADAM_BETAS = (0.9, 0.95)
TABLES = ("embedding.weight", "head.weight")
TABLE_SHARE, VECTOR_SHARE = 0.3, 0.1  # of Muon's rate, for AdamW beside it
ADAM_SIZE = 0.2  # root mean square of the numbers in an update of AdamW, in learning rates


def make_optimizers(
    model: nn.Module, kind: str, learning_rate: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """The optimisers that together move every parameter; the schedule scales the rate of each group.

    adamw: one for all. muon: Muon for the matrices inside the layers, AdamW for the rest: the tables of tokens at 0.3
    of the rate, gates and vectors at 0.1. Only matrices are decayed. Raises: UsageError for another kind.
    """
    if kind not in OPTIMIZERS:
        raise UsageError(f"optimizer is {kind!r}; expected one of {', '.join(OPTIMIZERS)}")
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    matrices = [p for name, p in named if ".layers." in f".{name}" and p.ndim == 2 and min(p.shape) >= SMALLEST_MATRIX]
    held = {id(parameter) for parameter in matrices}
    others = [parameter for _, parameter in named if id(parameter) not in held]
    if kind == "muon":
        tables = {id(parameter) for name, parameter in named if name in TABLES}
        shares = [
            {"params": [p for p in others if id(p) in tables], "lr": TABLE_SHARE * learning_rate},
            {"params": [p for p in others if id(p) not in tables], "lr": VECTOR_SHARE * learning_rate},
        ]
        return [
            Muon(matrices, lr=learning_rate, weight_decay=weight_decay),
            torch.optim.AdamW(shares, betas=ADAM_BETAS, weight_decay=0.0),
        ]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [torch.optim.AdamW(groups, lr=learning_rate, betas=ADAM_BETAS)]


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are made nearly orthogonal before the step.

    torch.optim.Muon rounds to bfloat16 inside, which most CPUs emulate; this one works in the parameters' dtype.
    Source: K. Jordan et al., Muon (2024): Nesterov momentum 0.95, five quintic Newton-Schulz steps, and steps
    enlarged by sqrt(rows / columns) for tall matrices; with ``like_adam`` they have the size of AdamW's instead,
    0.2 sqrt(larger side) (Liu et al. 2025, arXiv 2502.16982). The kernels of a convolution are a matrix with one row
    for each channel out (in, where it is transposed).
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        like_adam: bool = False,
    ) -> None:
        self.like_adam = like_adam
        super().__init__(list(parameters), {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One step; under torch.distributed each process makes its share of the matrices orthogonal for all."""
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameter, update in zip(parameters, _shared(self._directions(group, parameters)), strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update.view_as(parameter), alpha=-group["lr"] * self._size(*update.shape))
        return None

    def _size(self, rows: int, columns: int) -> float:
        """By how much a step is enlarged."""
        if self.like_adam:
            return ADAM_SIZE * math.sqrt(max(rows, columns))
        return math.sqrt(max(1.0, rows / columns))

    def _directions(self, group: dict[str, Any], parameters: list[Tensor]) -> list[Tensor]:
        """Gradients with momentum; the momentum moves on."""
        directions = []
        for parameter in parameters:
            assert parameter.grad is not None
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
            directions.append(parameter.grad.lerp(state["momentum"], group["momentum"]).flatten(1))
        return directions


def _shared(directions: list[Tensor]) -> list[Tensor]:
    """All of them orthogonalised; of several processes each does every n-th and sends it to the others."""
    if not distributed.is_initialized():
        return [orthogonalised(direction) for direction in directions]
    rank, world = distributed.get_rank(), distributed.get_world_size()
    made: list[Tensor] = [torch.empty(0)] * len(directions)
    for owner in range(world):
        mine = directions[owner::world]
        flat = [orthogonalised(x).flatten() if owner == rank else torch.empty_like(x).flatten() for x in mine]
        if not flat:
            continue
        sent = torch.cat(flat)
        distributed.broadcast(sent, owner)
        parts = sent.split([x.numel() for x in mine])
        made[owner::world] = [part.view_as(x) for part, x in zip(parts, mine, strict=True)]
    return made


def orthogonalised(matrix: Tensor, steps: int = 5) -> Tensor:
    """A matrix with the same singular vectors, and singular values near one (0.7 to 1.2)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + torch.finfo(x.dtype).tiny)
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def schedule(step: int, steps: int, warm_up: int, last: float = 0.0) -> float:
    """Share of the learning rate at a step: a linear warm-up, then half a cosine down to the share ``last``."""
    if step < warm_up:
        return (step + 1) / warm_up
    done = min(1.0, (step - warm_up) / max(1, steps - warm_up))
    return last + (1 - last) * 0.5 * (1 + math.cos(math.pi * done))
