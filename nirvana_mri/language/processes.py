"""One process or several: who we are, on which device, and how tensors are cut up."""

import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor, nn

from nirvana_mri.backbone.shards import cut_up
from nirvana_mri.errors import UsageError
from nirvana_mri.language.loss import NextTokenLoss

PARALLEL = ("ddp", "fsdp")


@dataclass(frozen=True)
class Processes:
    """This process among those that torchrun started (alone without it), and the device it computes on."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a number over all processes."""
        if self.world == 1:
            return value
        summed = value.detach().to(self.device).clone()
        distributed.all_reduce(summed)
        return summed.cpu() / self.world

    def agree(self, claim: bool) -> bool:
        """The first process's answer, for all: what depends on a clock has to be one decision."""
        if self.world == 1:
            return claim
        answer = torch.tensor(int(claim), device=self.device)
        distributed.broadcast(answer, 0)
        return bool(answer)


def join(device: str) -> Processes:
    """Join the group that torchrun has announced. Raises: UsageError for a device that torch cannot use."""
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"device is {device!r}, but torch finds no CUDA GPU here; try cpu")
    chosen = torch.device(device)
    if chosen.type == "cuda" and world > 1:
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(chosen)
    if world > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    return Processes(rank, world, chosen)


def spread(learner: NextTokenLoss, processes: Processes, parallel: str) -> nn.Module:
    """The learner for several processes: gradients averaged (ddp), or weights, gradients and moments cut up (fsdp)."""
    if processes.world == 1:
        return learner
    if parallel == "ddp":
        return nn.parallel.DistributedDataParallel(learner)
    cut_up(learner, learner.model.layers, processes.device, rest=True)
    return learner


def cut_like(tensor: Tensor, parameter: Tensor) -> Any:
    """A whole tensor on the parameter's device, cut up as the parameter is where they have one shape."""
    if tensor.shape != parameter.shape:
        return tensor.clone()
    if not hasattr(parameter, "full_tensor"):
        return tensor.to(parameter.device).clone()
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(parameter, DTensor)
    return distribute_tensor(tensor.to(parameter.device), parameter.device_mesh, parameter.placements)
