"""Where cases are measured: every method on one slice, scored against the target, beside its unperturbed self."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from nirvana_mri.errors import ScanError
from nirvana_mri.eval import metrics
from nirvana_mri.eval.stress.case import Case, Mask, Sampled
from nirvana_mri.eval.stress.methods import Method, Restored, Solver

Values = dict[str, dict[str, Any]]
Level = float | str | tuple[float, ...]
Make = Callable[[Sampled, Level, np.random.Generator], Case]
REFUSED = "refused"


@dataclass(frozen=True, eq=False)
class Measured:
    """What came of one level of a stress on one slice.

    ``values`` holds figures by method, or one sentence ``refused``; ``change`` the scores less those of the unperturbed
    slice; ``details`` what belongs to the level alone. ``pictures`` and ``target`` are to be looked at.
    """

    values: Values
    change: Values
    details: Mapping[str, float]
    target: NDArray[np.float32]
    pictures: Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Bench:
    """A slice and the methods that are tried on it."""

    sampled: Sampled
    methods: Mapping[str, Method]
    solvers: Mapping[str, Solver]
    kept: dict[tuple[Any, ...], Restored] = field(default_factory=dict)

    @cached_property
    def baseline(self) -> dict[str, Restored]:
        """What each method makes of the unperturbed slice. Raises: ScanError where one cannot."""
        return {name: method(self.sampled.kspace, self.sampled.mask) for name, method in self.methods.items()}

    @cached_property
    def baseline_pictures(self) -> dict[str, Tensor]:
        return {name: restored.picture(self.sampled.crop) for name, restored in self.baseline.items()}

    @cached_property
    def baseline_scores(self) -> Values:
        target = self.sampled.target
        return {name: scores(target, picture) for name, picture in self.baseline_pictures.items()}

    def keep(self, name: str, kspace: Tensor, mask: Mask, key: tuple[Any, ...]) -> Restored:
        """The method's answer, which is remembered under the key."""
        if (name, *key) not in self.kept:
            self.kept[(name, *key)] = self.methods[name](kspace, mask)
        return self.kept[(name, *key)]

    def measure(self, case: Case) -> Measured:
        """Every method on a case; a ScanError is a refusal, and stands in the place of its figures."""
        values: Values = {}
        pictures: dict[str, Tensor] = {}
        for name, method in self.methods.items():
            try:
                restored = method(case.kspace, case.mask)
            except ScanError as refusal:
                values[name] = {REFUSED: str(refusal)}
                continue
            back = restored if case.back is None else Restored(case.back(restored.images), restored.floor)
            floor = self.baseline[name].floor if case.same_floor else None
            pictures[name] = back.picture(self.sampled.crop, floor)
            values[name] = scores(case.target, pictures[name])
        return self.measured(values, dict(case.details), case.target, pictures)

    def measured(
        self, values: Values, details: Mapping[str, float], target: Tensor, pictures: Mapping[str, Tensor]
    ) -> Measured:
        """The figures with what changed of them."""
        change = {
            name: {key: _less(found[key], self.baseline_scores[name][key]) for key in ("ssim", "psnr", "nmse")}
            for name, found in values.items()
            if REFUSED not in found
        }
        shown = {name: picture.numpy() for name, picture in pictures.items()}
        return Measured(values, change, details, target.numpy(), shown)


def scores(target: Float[Tensor, "my mx"], picture: Float[Tensor, "my mx"]) -> dict[str, Any]:
    """SSIM, PSNR [dB] (None where both are equal) and NMSE of one picture; the data range is the target's maximum."""
    pair = target.numpy()[None], picture.numpy()[None]
    psnr = metrics.psnr(*pair)
    return {
        "ssim": metrics.ssim(*pair),
        "psnr": psnr if math.isfinite(psnr) else None,
        "nmse": metrics.nmse(*pair),
    }


def difference(one: Tensor, other: Tensor) -> float:
    """‖one − other‖ / ‖other‖."""
    return float((one - other).norm() / other.norm())


def _less(now: float | None, before: float | None) -> float | None:
    return None if now is None or before is None else now - before
