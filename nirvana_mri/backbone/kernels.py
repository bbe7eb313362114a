"""Which implementation of each operation runs on this machine, and why: the facts of `nirvana-mri backbone kernels`."""

from dataclasses import asdict, dataclass
from typing import Any

import torch

import nirvana_mri.backbone.ops  # noqa: F401 (registers the operations)
from nirvana_mri.backbone.ops.registry import OPERATIONS, Operation, asked_by_environment


@dataclass(frozen=True)
class Kernel:
    """One implementation; missing says why it cannot run here, or is None."""

    name: str
    summary: str
    missing: str | None


@dataclass(frozen=True)
class KernelChoice:
    """One operation: its implementations, the default for float32 on the CPU, its rule, what the environment asks."""

    operation: str
    implementations: tuple[Kernel, ...]
    default_on_cpu: str
    rule: str
    asked: str | None

    @property
    def runs(self) -> str:
        """What runs now on the CPU."""
        return self.asked or self.default_on_cpu

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return asdict(self)


def kernel_choices() -> list[KernelChoice]:
    """The facts of every operation. Raises: UsageError where NIRVANA_KERNELS names what is unknown or cannot run."""
    asked = asked_by_environment()
    return [_choice(OPERATIONS[name], asked.get(name)) for name in sorted(OPERATIONS)]


def _choice(operation: Operation, asked: str | None) -> KernelChoice:
    tensor = torch.empty(0)
    if asked is not None and operation[asked].missing() is not None:
        operation.choose(asked, tensor)  # its error says why, and what can run
    kernels = tuple(Kernel(each.name, each.summary, each.missing()) for each in operation.implementations)
    return KernelChoice(operation.name, kernels, operation.default(tensor).name, operation.rule, asked)
