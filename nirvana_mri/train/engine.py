"""Where a run computes: one process alone, or several that share every batch, joined by lightning's Fabric (extra
`train`): started here, by torchrun, or by SLURM.
"""

import logging
import math
import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from nirvana_mri.backbone import NirvanaLM
from nirvana_mri.backbone.shards import cut_up
from nirvana_mri.errors import DataError, MissingExtraError, UsageError
from nirvana_mri.train.config import TrainConfig

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
MOST_SPOILED = 20  # steps in a row without a finite gradient, before that is an error


class Engine:
    """One process: its device, its precision; a share of one of one."""

    rank, world = 0, 1

    def __init__(self, config: TrainConfig) -> None:
        if config.device.startswith("cuda") and not torch.cuda.is_available():
            raise UsageError(f"device is {config.device!r}, but torch finds no CUDA GPU here; try cpu")
        self.device = torch.device(config.device)
        self.dtype = DTYPES.get(config.precision)
        if config.precision == "fp16" and self.device.type != "cuda":
            raise UsageError("precision fp16 needs a CUDA GPU; choose bf16 or fp32")
        self._spoiled = 0
        self._scaler = torch.amp.GradScaler("cuda", enabled=config.precision == "fp16")

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    def ahead(self) -> AbstractContextManager[Any]:
        """The first process does what is inside before the others."""
        return nullcontext()

    def spread(self, model: nn.Module) -> nn.Module:
        """What to call in place of the model, so that gradients are averaged over processes."""
        return model

    def portion(self, learner: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """One portion of a step, forward and backward; gradients are exchanged in the last one."""
        return nullcontext()

    def lowered(self) -> AbstractContextManager[Any]:
        """Products of real matrices in the low precision; complex numbers and losses stay as they are."""
        return nullcontext() if self.dtype is None else torch.autocast(self.device.type, self.dtype)

    def backward(self, loss: Tensor) -> None:
        self._scaler.scale(loss).backward()

    def step(self, optimizers: list[torch.optim.Optimizer], clip: float) -> float:
        """Move the weights by clipped gradients; the gradients' norm before. Where that is not finite they stay.

        Raises: DataError after too many such steps in a row.
        """
        for optimizer in optimizers:
            self._scaler.unscale_(optimizer)
        norm = float(nn.utils.clip_grad_norm_(parameters_of(optimizers), clip))
        self._spoiled = 0 if math.isfinite(norm) else self._spoiled + 1
        if self._spoiled > MOST_SPOILED:
            raise DataError(
                f"no gradient was finite for {self._spoiled} steps; lower --lr, or begin with another model"
            )
        for optimizer in optimizers if not self._spoiled or self._scaler.is_enabled() else ():
            self._scaler.step(optimizer)
        self._scaler.update()
        return norm

    def total(self, values: list[float]) -> list[float]:
        """Sums over all processes."""
        return values

    def agree(self, claim: bool) -> bool:
        """The first process's answer, for all: what depends on a clock has to be one decision."""
        return claim

    def rounds(self, portions: int) -> int:
        """How often this process has to call the model in a step for its portions."""
        return portions

    def leave(self) -> None:
        """Part from the other processes."""


class SharedEngine(Engine):
    """One of several processes with equal weights (DDP)."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        try:
            from lightning_fabric import Fabric
        except ImportError:
            raise MissingExtraError("training on several devices", "train") from None
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        logging.getLogger("lightning_fabric.utilities.rank_zero").setLevel(logging.WARNING)
        devices, nodes = _announced(config.devices)
        self.fabric = Fabric(accelerator=self.device.type, devices=devices, num_nodes=nodes, strategy="ddp")
        self.fabric.launch()
        self.rank, self.world, self.device = self.fabric.global_rank, self.fabric.world_size, self.fabric.device

    def ahead(self) -> AbstractContextManager[Any]:
        return self.fabric.rank_zero_first()

    def spread(self, model: nn.Module) -> nn.Module:
        return self.fabric.setup_module(model)

    def portion(self, learner: nn.Module, last: bool) -> AbstractContextManager[Any]:
        return self.fabric.no_backward_sync(cast(Any, learner), enabled=not last)

    def backward(self, loss: Tensor) -> None:
        self.fabric.backward(self._scaler.scale(loss))

    def total(self, values: list[float]) -> list[float]:
        summed = self.fabric.all_reduce(torch.tensor(values, dtype=torch.float64, device=self.device), reduce_op="sum")
        return [float(value) for value in summed]

    def agree(self, claim: bool) -> bool:
        return bool(self.fabric.broadcast(claim))

    def leave(self) -> None:
        torch.distributed.destroy_process_group()


class ShardedEngine(SharedEngine):
    """One of several processes with equal codecs, over which the frozen backbone is cut up (FSDP2).

    What learns is small beside it and stays whole in every process, so that averages, moments and files are DDP's.
    """

    def spread(self, model: nn.Module) -> nn.Module:
        for part in model.modules():
            if isinstance(part, NirvanaLM):
                cut_up(part, part.layers, self.device, rest=False)
                break
        return model

    def portion(self, learner: nn.Module, last: bool) -> AbstractContextManager[Any]:
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        self._scaler.scale(loss).backward()

    def step(self, optimizers: list[torch.optim.Optimizer], clip: float) -> float:
        gradients = [parameter.grad for parameter in parameters_of(optimizers) if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(flat)
        pieces = (flat / self.world).split([gradient.numel() for gradient in gradients])
        for gradient, piece in zip(gradients, pieces, strict=True):
            gradient.copy_(piece.view_as(gradient))
        return super().step(optimizers, clip)

    def rounds(self, portions: int) -> int:
        """As often as the process with the most portions: a forward pass of one is a forward pass of all."""
        most = torch.tensor(portions, device=self.device)
        torch.distributed.all_reduce(most, torch.distributed.ReduceOp.MAX)
        return int(most)


def parameters_of(optimizers: list[torch.optim.Optimizer]) -> list[Tensor]:
    """All that they move."""
    return [parameter for each in optimizers for group in each.param_groups for parameter in group["params"]]


ENGINES = {"ddp": SharedEngine, "fsdp": ShardedEngine}


def make_engine(config: TrainConfig) -> Engine:
    """The engine for the processes that were asked for, or that a launcher has started already.

    Raises: UsageError for a device or precision that torch cannot use here, or a batch that cannot be shared equally;
    MissingExtraError without lightning-fabric where there are several processes.
    """
    devices, nodes = _announced(config.devices)
    if config.batch % (devices * nodes):
        raise UsageError(f"batch is {config.batch}, on {devices * nodes} processes; choose --batch for a multiple")
    return ENGINES[config.parallel](config) if devices * nodes > 1 else Engine(config)


def _announced(devices: int) -> tuple[int, int]:
    """(processes on this node, nodes) as torchrun or SLURM has started them, else as asked for."""
    environment = os.environ
    if "TORCHELASTIC_RUN_ID" in environment:
        here = int(environment["LOCAL_WORLD_SIZE"])
        return here, int(environment["WORLD_SIZE"]) // here
    if "SLURM_PROCID" in environment and environment.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        tasks, nodes = int(environment.get("SLURM_NTASKS", "1")), int(environment.get("SLURM_NNODES", "1"))
        return (tasks // nodes, nodes) if tasks > 1 else (devices, 1)
    return devices, 1
