"""Reconstructions of one scan beside each other, with their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nirvana_mri.errors import ProtocolError
from nirvana_mri.eval.evaluate import Score, evaluate
from nirvana_mri.eval.target import Target, open_target
from nirvana_mri.scan import Scan
from nirvana_mri.volume import Volume


@dataclass(frozen=True, eq=False)
class Scored:
    """Reconstructions of one scan with their scores, the main one first; no scores where there is no target."""

    volumes: tuple[Volume, ...]
    scores: tuple[Score | None, ...]
    target: Target | None
    notes: tuple[str, ...]


def score_all(scan: Scan, volumes: Sequence[Volume], target: Scan | str | Path | None = None) -> Scored:
    """Scores by fastMRI's rule where there is a target and the rule can be applied; else a note that says why not."""
    nothing = (None,) * len(volumes)
    if target is None and scan.reference is None and not scan.fully_sampled:
        return Scored(tuple(volumes), nothing, None, ("no scores: the scan holds no target and is undersampled",))
    pictures = open_target(scan if target is None else target)
    try:
        scores = tuple(evaluate(volume, scan if target is None else target) for volume in volumes)
    except ProtocolError as problem:
        if target is not None:
            raise
        return Scored(tuple(volumes), nothing, pictures, (f"no scores: {problem}",))
    same = (volumes[0].provenance.get("sampling") or {}).get("origin") == "fully sampled"
    notes = ("nothing was left out: the scores compare two pictures of the same samples",) if same else ()
    return Scored(tuple(volumes), scores, pictures, notes)
