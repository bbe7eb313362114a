"""Which implementation of an operation runs: asked for by name, by the environment, or by a stated default.

Nothing is chosen silently: every rule is a line of `nirvana-mri backbone kernels`, and an implementation that was asked
for by name and cannot run here is an error, never replaced by another.
"""

import functools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nirvana_mri.errors import UsageError

VARIABLE = "NIRVANA_KERNELS"  # for example "gated_delta_rule=cpp,trigger_update=naive"


def _anywhere() -> None:
    return None


@dataclass(frozen=True)
class Implementation:
    """One way to compute an operation.

    load gives the function, importing what it needs only then; missing says in one line why it cannot run on this
    machine, or None; serves says whether it can take such tensors.
    """

    name: str
    summary: str
    load: Callable[[], Callable[..., Any]]
    missing: Callable[[], str | None] = _anywhere
    serves: Callable[[Tensor], bool] = lambda tensor: True


@dataclass(frozen=True)
class Operation:
    """An operation, its implementations in the order of preference, and the default rule.

    The default is the first in `order` that can run here and serves the tensors; `rule` says so in words.
    """

    name: str
    implementations: tuple[Implementation, ...]
    preferred: tuple[str, ...]
    rule: str

    def __getitem__(self, name: str) -> Implementation:
        for implementation in self.implementations:
            if implementation.name == name:
                return implementation
        known = ", ".join(i.name for i in self.implementations)
        raise UsageError(f"{self.name} has no implementation {name!r}; choose from {known}")

    def available(self) -> tuple[str, ...]:
        """Names of the implementations that can run on this machine."""
        return tuple(i.name for i in self.implementations if i.missing() is None)

    def choose(self, asked: str | None, tensor: Tensor) -> Implementation:
        """The implementation for such tensors: the one asked for, else the environment's, else the default.

        Raises: UsageError for an unknown name, or one that cannot run here or not on such tensors.
        """
        name = asked or asked_by_environment().get(self.name)
        if name is None:
            return self.default(tensor)
        chosen = self[name]
        if (reason := chosen.missing()) is not None:
            usable = ", ".join(self.available())
            raise UsageError(f"{self.name}: {name} cannot run here ({reason}); choose from {usable}")
        if not chosen.serves(tensor):
            raise UsageError(
                f"{self.name}: {name} does not take {tensor.dtype} on {tensor.device.type}; "
                f"choose another of {', '.join(self.available())}"
            )
        return chosen

    def default(self, tensor: Tensor) -> Implementation:
        """What runs on such tensors where nobody asked for anything."""
        candidates = map(self.__getitem__, self.order(tensor))
        return next(i for i in candidates if i.missing() is None and i.serves(tensor))

    def order(self, tensor: Tensor) -> tuple[str, ...]:
        """Names in the order of preference for such tensors."""
        return self.preferred


OPERATIONS: dict[str, Operation] = {}


def register(operation: Operation) -> Operation:
    """Make an operation known by name."""
    OPERATIONS[operation.name] = operation
    return operation


def implementations(operation: str) -> list[str]:
    """Names of the implementations of an operation that can run on this machine. Raises: UsageError if unknown."""
    return list(find(operation).available())


def find(operation: str) -> Operation:
    """The operation of that name. Raises: UsageError."""
    if operation not in OPERATIONS:
        raise UsageError(f"no operation {operation!r}; there are {', '.join(sorted(OPERATIONS))}")
    return OPERATIONS[operation]


def asked_by_environment() -> dict[str, str]:
    """Operation to implementation, as NIRVANA_KERNELS says. Raises: UsageError where it names what does not exist."""
    return _parsed(os.environ.get(VARIABLE, ""))


@functools.lru_cache(maxsize=8)
def _parsed(text: str) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        operation, equals, name = item.partition("=")
        if not equals or operation.strip() not in OPERATIONS:
            known = ", ".join(sorted(OPERATIONS))
            raise UsageError(f"{VARIABLE} says {item!r}; expected OPERATION=NAME, where OPERATION is one of {known}")
        operation, name = operation.strip(), name.strip()
        names = [i.name for i in OPERATIONS[operation].implementations]
        if name not in names:
            raise UsageError(f"{VARIABLE} says {item!r}; {operation} has {', '.join(names)}")
        chosen[operation] = name
    return chosen


def runs_on(*devices: str, dtypes: Iterable[torch.dtype] | None = None) -> Callable[[Tensor], bool]:
    """Whether a tensor lies on one of these devices (and has one of these dtypes)."""
    allowed = None if dtypes is None else frozenset(dtypes)
    return lambda tensor: tensor.device.type in devices and (allowed is None or tensor.dtype in allowed)
