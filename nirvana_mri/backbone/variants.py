"""Nirvana and what it is compared with: other architectures of as many parameters."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nirvana_mri.backbone.config import BackboneConfig
from nirvana_mri.backbone.published import published_shapes
from nirvana_mri.errors import UsageError

STEP = 8  # the MLP's width is a multiple of it


@dataclass(frozen=True)
class Variant:
    """How one model differs from Nirvana: in one line, and as fields of the configuration."""

    summary: str
    changes: Mapping[str, Any]


VARIANTS: dict[str, Variant] = {
    "nirvana": Variant("delta-rule memory and attention, mixed by a Trigger that learns at test time", {}),
    "no-trigger": Variant("Nirvana whose Trigger does not learn at test time (rate 0)", {"trigger_rate": 0.0}),
    "delta": Variant("gated delta-rule memory alone, in every layer (Gated DeltaNet)", {"architecture": "delta"}),
    "window": Variant(
        "sliding-window attention alone, with rotary positions, which it cannot do without",
        {"architecture": "attention", "rotary": True},
    ),
    "transformer": Variant(
        "full causal attention alone, with rotary positions",
        {"architecture": "attention", "rotary": True, "window_size": None},
    ),
    "nirvana-rope": Variant("Nirvana with rotary positions in its attention", {"rotary": True}),
}


def variant(config: BackboneConfig, name: str) -> BackboneConfig:
    """The variant of a Nirvana configuration whose number of parameters is the nearest to Nirvana's.

    Only the width of the MLP makes up the difference, in steps of 8. Raises: UsageError for an unknown name, a
    configuration that is a variant itself, and sizes at which no width can make up the difference.
    """
    if name not in VARIANTS:
        raise UsageError(f"variant is {name!r:.80}; expected one of {', '.join(VARIANTS)}")
    if config.architecture != "nirvana" or config.rotary:
        raise UsageError(
            f"architecture {config.architecture}, rotary {config.rotary}: a variant already; start from Nirvana"
        )
    if name == "window" and config.window_size is None:
        raise UsageError("window_size is None, full attention; give the variant window a number of tokens")
    changed = dataclasses.replace(config, **VARIANTS[name].changes)
    wanted = parameter_count(config)
    if parameter_count(changed) == wanted:
        return changed
    slim, wider = (parameter_count(dataclasses.replace(changed, intermediate_size=n * STEP)) for n in (1, 2))
    steps = 1 + round((wanted - slim) / (wider - slim))
    if steps < 1:
        raise UsageError(f"variant {name} is larger than Nirvana even with the narrowest MLP; choose larger sizes")
    return dataclasses.replace(changed, intermediate_size=STEP * steps)


def parameter_count(config: BackboneConfig) -> int:
    """Parameters of such a model, a tied head counted once."""
    return sum(math.prod(shape) for shape in published_shapes(config).values())
