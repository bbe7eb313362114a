"""What a stress is: a function from a slice to a case, its levels, and the criterion that it is judged by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nirvana_mri.eval.stress.bench import Bench, Level, Make, Measured
from nirvana_mri.eval.stress.case import Sampled
from nirvana_mri.eval.stress.criterion import Criterion

Measure = Callable[[Bench, Level, np.random.Generator], Measured]


def _nothing(level: Level, sampled: Sampled) -> str:
    return ""


@dataclass(frozen=True, eq=False)
class Stress:
    """``make`` perturbs a slice at a level with a generator; ``own`` measures where one case is not enough.

    ``quick`` are the levels of a quick run. ``shows`` names the figure that tells most: ``change`` or ``values``, and
    its key. ``hindrance`` says why a level cannot be tried on a slice, if so.
    """

    title: str
    about: str
    source: str
    unit: str
    levels: tuple[Level, ...]
    quick: tuple[Level, ...]
    criterion: Criterion
    make: Make | None = None
    own: Measure | None = None
    shows: tuple[str, str, str] = ("change", "ssim", "change of SSIM")
    hindrance: Callable[[Level, Sampled], str] = _nothing

    def measure(self, bench: Bench, level: Level, draw: np.random.Generator) -> Measured:
        """The figures of every method at this level."""
        if self.own is not None:
            return self.own(bench, level, draw)
        assert self.make is not None
        return bench.measure(self.make(bench.sampled, level, draw))

    def as_dict(self) -> dict[str, Any]:
        """What is said of it before anything is measured, JSON-ready."""
        where, key, words = self.shows
        return {
            "title": self.title,
            "about": self.about,
            "source": self.source,
            "unit": self.unit,
            **self.criterion.as_dict(),
            "shown": f"{where}.{key}",
            "shown_words": words,
        }
