"""First values of every parameter, drawn from one seed."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from nirvana_mri.backbone.config import BackboneConfig
    from nirvana_mri.backbone.model import NirvanaLM

Draw = Callable[[tuple[int, ...], torch.Generator], Tensor]


@torch.no_grad()
def initialise(model: "NirvanaLM", seed: int) -> None:
    """Set every parameter as the authors' code leaves it before training (fixtures README, fact 12).

    Two things differ on purpose. `bias_ln`, which they never set (it holds raw memory), is drawn like `bias_linear`.
    The uniform draw for the decay starts at 1e-4, not at 0, whose logarithm is infinite. The draws are made on the
    CPU in float32, so that a seed means the same weights everywhere; meta parameters are left alone.
    """
    generator = torch.Generator(device="cpu").manual_seed(seed)
    for name, parameter in model.named_parameters():
        if not parameter.is_meta:
            parameter.copy_(_rule(name, model.config)(tuple(parameter.shape), generator))
    if model.config.pad_token_id is not None and not model.embedding.weight.is_meta:
        model.embedding.weight[model.config.pad_token_id] = 0


def _rule(name: str, config: "BackboneConfig") -> Draw:
    spread = config.initializer_range
    last = name.rsplit(".", 1)[-1]
    if name.startswith("trigger."):
        return {
            "weight_linear": _normal(spread),
            "weight_ln": _constant(1 / config.logit_dim),
            "bias_linear": _normal(spread / config.logit_dim),
            "bias_ln": _normal(spread / config.logit_dim),
        }[last]
    if last == "log_decay":
        return _log_decay
    if last == "decay_bias":
        return _decay_bias
    if "norm." in name:
        return _constant(1.0)
    if "_conv." in name:
        return _uniform(0.5)  # torch's default for four taps: 1 / sqrt(4)
    if ".mixer." in name and "_lora." not in name and ".attention.output." not in name:
        return _xavier(2**-2.5)
    return _normal(spread)


def _normal(std: float) -> Draw:
    return lambda shape, generator: std * torch.randn(shape, generator=generator, device="cpu")


def _uniform(bound: float) -> Draw:
    return lambda shape, generator: bound * (2 * torch.rand(shape, generator=generator, device="cpu") - 1)


def _xavier(gain: float) -> Draw:
    return lambda shape, generator: _uniform(gain * math.sqrt(6 / (shape[0] + shape[1])))(shape, generator)


def _constant(value: float) -> Draw:
    return lambda shape, generator: torch.full(shape, value, device="cpu")


def _log_decay(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return (16 * torch.rand(shape, generator=generator, device="cpu")).clamp_min(1e-4).log()


def _decay_bias(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """The inverse softplus of a step that is log-uniform between 1e-3 and 1e-1."""
    low, high = math.log(1e-3), math.log(1e-1)
    step = (low + (high - low) * torch.rand(shape, generator=generator, device="cpu")).exp()
    return step + torch.log(-torch.expm1(-step))
