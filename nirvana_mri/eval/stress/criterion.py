"""When a stress counts as passed: words and limits that stand before anything is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nirvana_mri.eval.stress.bench import REFUSED, Values
from nirvana_mri.eval.stress.methods import NIRVANA, SENSE

Limits = Mapping[str, float]
Margin = Callable[[Values, Values, Limits], float]


@dataclass(frozen=True, eq=False)
class Criterion:
    """``margin`` is how far inside the limits the figures lie: passed from 0 on. ``refusal`` says whether a method that
    stops with one clear line passes.
    """

    words: str
    limits: Limits
    margin_of: Margin
    refusal: bool = False

    def judge(self, values: Values, change: Values) -> tuple[bool, float | None]:
        """(passed, margin); a refusal has no margin."""
        if any(REFUSED in values[name] for name in (NIRVANA, SENSE)):
            return self.refusal, None
        margin = self.margin_of(values, change, self.limits)
        return margin >= 0, margin

    def as_dict(self) -> dict[str, Any]:
        return {"criterion": self.words, "limits": dict(self.limits)}


def loses_little(slack: float = 0.01, refusal: bool = False) -> Criterion:
    """No more SSIM lost than by CG-SENSE, but for a slack."""

    def margin(values: Values, change: Values, limits: Limits) -> float:
        return float(change[NIRVANA]["ssim"] - change[SENSE]["ssim"] + limits["slack"])

    words = f"loses no more SSIM than CG-SENSE loses, plus {slack:g}"
    words = f"the model refuses with one clear line, or {words}" if refusal else f"the model {words}"
    return Criterion(words, {"slack": slack}, margin, refusal)
