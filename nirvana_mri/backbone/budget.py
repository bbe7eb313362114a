"""Refusing more tokens than there is memory for, before the memory is spent."""

from pathlib import Path

import torch
from torch import Tensor

from nirvana_mri.backbone.config import BackboneConfig
from nirvana_mri.errors import DataError

WORTH_A_LOOK = 64 * 2**20  # bytes below which nobody asks how much is free


def require_memory(
    config: BackboneConfig, weight: Tensor, batch: int, at_once: int, *, with_logits: int = 0, cached: int = 0
) -> None:
    """Nothing, where so many tokens can fit; else DataError.

    What is counted is the least that any implementation needs without gradients: the residual stream and the widest
    layer of the tokens that run at once, the logits, and the keys and values that a cache keeps. weight says where and
    in which dtype.
    """
    needed = batch * least_bytes(config, weight.element_size(), at_once, with_logits, cached)
    if needed < WORTH_A_LOOK:
        return
    free = free_bytes(weight.device)
    if free is not None and needed > free:
        raise DataError(
            f"{batch} x {max(at_once, cached)} tokens need at least {needed / 2**30:.1f} GiB, "
            f"{free / 2**30:.1f} GiB are free on {weight.device}; give fewer at once, or with a cache and a window_size"
        )


def least_bytes(config: BackboneConfig, itemsize: int, at_once: int, with_logits: int, cached: int) -> int:
    """Bytes of one sequence."""
    activations = at_once * (3 * config.intermediate_size + 2 * config.hidden_size)
    logits = with_logits * config.vocab_size
    held = cached if config.window_size is None else min(cached, config.window_size)
    kept = 2 * held * config.hidden_size * len(config.attention_layers)
    return itemsize * (activations + logits + kept)


def free_bytes(device: torch.device) -> int | None:
    """Memory that can still be had on a device; None where nobody can tell."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    table = Path("/proc/meminfo")
    if device.type != "cpu" or not table.exists():
        return None
    for line in table.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None
