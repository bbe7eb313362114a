"""How right draft findings are: precision, recall and F1, with and without boxes, present and denied apart."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from nirvana_mri.errors import DataError
from nirvana_mri.findings.finding import Finding
from nirvana_mri.findings.statement import Box
from nirvana_mri.language.protocol import wilson

LEAST_OVERLAP = 0.1  # IoU from which on two boxes are one finding: boxes lie on a coarse grid, lesions are small
DRAWS = 2000  # of the bootstrap
RULE = (
    f"a statement is a label in one slice; located: present, with an IoU of at least {LEAST_OVERLAP} to a true box of "
    "that label in that slice, each used once (most pairs, then the greatest overlap); named: the same without boxes; "
    "denied: said to be absent, and the truth says so too; sums over all scans, 95 % intervals over patients"
)


@dataclass(frozen=True)
class Case:
    """What was said of a scan, and what is true of the same slices."""

    patient: str
    found: tuple[Finding, ...]
    truth: tuple[Finding, ...]


@dataclass(frozen=True)
class Counts:
    """Statements that are right, that were said, and that are true; the overlaps of the boxes that are right."""

    right: int
    said: int
    true: int
    overlaps: tuple[float, ...] = ()


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes x, y, width, height."""
    wide = max(0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]))
    high = max(0, min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]))
    union = a[2] * a[3] + b[2] * b[3] - wide * high
    return wide * high / union if union else 0.0


def located(case: Case) -> Counts:
    """Present findings, matched by label, slice and box."""
    said, true = _present(case.found), _present(case.truth)
    overlaps: list[float] = []
    for key, boxes in said.items():
        table = np.array([[iou(box, other) for other in true.get(key, ())] for box in boxes])
        if table.size:
            worth = np.where(table >= LEAST_OVERLAP, 2 * max(table.shape) + table, 0.0)  # a pair is worth all overlaps
            rows, columns = linear_sum_assignment(worth, maximize=True)
            overlaps += [float(each) for each in table[rows, columns] if each >= LEAST_OVERLAP]
    return Counts(len(overlaps), _size(said), _size(true), tuple(overlaps))


def named(case: Case) -> Counts:
    """Present findings, matched by label and slice alone."""
    said, true = _present(case.found), _present(case.truth)
    right = sum(min(len(boxes), len(true.get(key, ()))) for key, boxes in said.items())
    return Counts(right, _size(said), _size(true))


def denied(case: Case) -> Counts:
    """Denials, matched by label and slice."""
    said, true = _denied(case.found), _denied(case.truth)
    return Counts(len(said & true), len(said), len(true))


KINDS: dict[str, Callable[[Case], Counts]] = {"located": located, "named": named, "denied": denied}


def score_findings(cases: Sequence[Case], seed: int = 0) -> dict[str, Any]:
    """JSON-ready: for each kind of match precision, recall and F1 with intervals over patients; the mean overlap of
    what was located; denials of what is there; and how often something is found in scans where nothing is.

    A share of nothing is None, and so is an interval over one patient. The order of cases and of findings changes
    nothing. Raises: DataError without cases.
    """
    if not cases:
        raise DataError("no scans to score; give at least one")
    patients = sorted({case.patient for case in cases})
    drawn = np.random.default_rng(seed).integers(len(patients), size=(DRAWS, len(patients)))
    weights = np.stack([np.bincount(draw, minlength=len(patients)) for draw in drawn])
    kinds = {
        name: _shares([(case.patient, count(case)) for case in cases], patients, weights)
        for name, count in KINDS.items()
    }
    overlaps = [each for case in cases for each in located(case).overlaps]
    contradicted = sum(len(_denied(case.found) & set(_present(case.truth))) for case in cases)
    return {
        **kinds,
        "iou": float(np.mean(sorted(overlaps))) if overlaps else None,
        "denied_though_there": contradicted,
        "false_positives": false_positives(cases),
        "scans": len(cases),
        "patients": len(patients),
        "rule": RULE,
    }


def false_positives(cases: Iterable[Case]) -> dict[str, Any]:
    """The share of scans with nothing to find in which something was found, with its 95 % interval (Wilson)."""
    empty = [case for case in cases if not _present(case.truth)]
    wrong = sum(bool(_present(case.found)) for case in empty)
    share = wrong / len(empty) if empty else None
    return {"share": share, "interval": list(wilson(wrong, len(empty))), "scans": len(empty), "wrong": wrong}


def _shares(counts: Sequence[tuple[str, Counts]], patients: Sequence[str], weights: np.ndarray) -> dict[str, Any]:
    sums = np.zeros((len(patients), 3))
    for patient, each in counts:
        sums[patients.index(patient)] += (each.right, each.said, each.true)
    whole, resampled = _ratios(sums.sum(0)), _ratios(weights @ sums)
    found: dict[str, Any] = {}
    for name, value in whole.items():
        defined = resampled[name][~np.isnan(resampled[name])]
        known = defined.size and len(patients) > 1  # one patient says nothing of others
        ends = [float(each) for each in np.percentile(defined, (2.5, 97.5))] if known else None
        found[name] = {"value": None if np.isnan(value) else float(value), "interval": ends}
    right, said, true = (int(each) for each in sums.sum(0))
    return {**found, "right": right, "said": said, "true": true}


def _ratios(sums: np.ndarray) -> dict[str, np.ndarray]:
    right, said, true = (sums[..., place] for place in range(3))
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "precision": np.where(said > 0, right / said, np.nan),
            "recall": np.where(true > 0, right / true, np.nan),
            "f1": np.where(said + true > 0, 2 * right / (said + true), np.nan),
        }


def _present(findings: Iterable[Finding]) -> dict[tuple[str, int], list[Box]]:
    boxes: dict[tuple[str, int], list[Box]] = {}
    for each in findings:
        for number in () if each.negated else each.slices:
            boxes.setdefault((each.label, number), []).append(each.box)
    return boxes


def _denied(findings: Iterable[Finding]) -> set[tuple[str, int]]:
    return {(each.label, number) for each in findings if each.negated for number in each.slices}


def _size(boxes: dict[tuple[str, int], list[Box]]) -> int:
    return sum(len(each) for each in boxes.values())
