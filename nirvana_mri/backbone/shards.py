"""Weights cut up over several processes (FSDP2), each of which holds its piece of every tensor."""

import warnings
from collections.abc import Iterable

import torch
import torch.distributed as distributed
from torch import Tensor, nn


def cut_up(root: nn.Module, layers: Iterable[nn.Module], device: torch.device, *, rest: bool) -> None:
    """Cut up the weights of the layers, and with ``rest`` what else root holds, over all processes.

    A layer is whole only while it runs, forward and backward. From now on a forward pass of one process is a forward
    pass of all.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    # It warns of views that someone might write into; no layer of ours writes into what another has made.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    layers = list(layers)
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    inside = {parameter for layer in layers for parameter in layer.parameters()}
    fully_shard(root, mesh=mesh, ignored_params=None if rest else set(root.parameters()) - inside)


def whole(tensor: Tensor) -> Tensor:
    """The whole tensor on the CPU; every process has to ask, as shards come from all."""
    full = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full.detach().cpu()
