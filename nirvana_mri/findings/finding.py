"""Draft findings as data: what was said, of which slices, where; and what has to be known with it."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from nirvana_mri.findings.constrained import SCORE, Said
from nirvana_mri.findings.statement import GRID, Box, box_of
from nirvana_mri.findings.vocabulary import Vocabulary
from nirvana_mri.volume import NOT_FOR_CLINICAL_USE

WATERMARK = f"machine draft, unverified, {NOT_FOR_CLINICAL_USE}"


@dataclass(frozen=True)
class Finding:
    """A label of a vocabulary, found in a slice or (``negated``) denied of some.

    ``box`` is x, y, width, height in pixels of the finished picture; of what is denied, the whole picture. ``score``
    is from 0 to 1 (see SCORE); of several slices the lowest.
    """

    label: str
    structure: str
    slices: tuple[int, ...]
    box: Box
    negated: bool
    score: float

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "slices": list(self.slices), "box": list(self.box), "score": round(self.score, 4)}


@dataclass(frozen=True)
class Findings:
    """All that a model said of a scan. ``matrix`` is (ny, nx) of the pictures that boxes lie in, ``text`` the same in
    sentences, under ``exam``, ``technique``, ``findings``, ``impression`` and ``limits``.
    """

    findings: tuple[Finding, ...]
    vocabulary: Vocabulary
    model: str
    model_sha256: str
    slices: tuple[int, ...]
    matrix: tuple[int, int]
    text: dict[str, str] = field(default_factory=dict)
    limits: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, the watermark included."""
        return {
            "watermark": WATERMARK,
            "findings": [each.as_dict() for each in self.findings],
            "text": dict(self.text),
            "limits": list(self.limits),
            "warnings": list(self.warnings),
            "vocabulary": {
                "name": self.vocabulary.name,
                "sha256": self.vocabulary.sha256,
                "origin": self.vocabulary.origin,
                "labels": [label.name for label in self.vocabulary.labels],
            },
            "score": SCORE,
            "grid": GRID,
            "slices": list(self.slices),
            "matrix": list(self.matrix),
            "model": self.model,
            "model_sha256": self.model_sha256,
        }

    def __repr__(self) -> str:
        return f"Findings({len(self.findings)} statements about {len(self.slices)} slices, {WATERMARK})"


def collect(
    said: Iterable[tuple[int, Sequence[Said]]], vocabulary: Vocabulary, matrix: tuple[int, int]
) -> tuple[Finding, ...]:
    """Findings of a scan from what was said of each slice: each that is present by itself, what is denied once for all
    its slices; in the vocabulary's order.
    """
    everything = [(number, each) for number, answer in said for each in answer]
    found: list[Finding] = []
    for label in vocabulary.labels:
        here = [(number, each) for number, each in everything if each.statement.label == label.name]
        found += [
            Finding(label.name, label.structure, (number,), box_of(each.statement.cells, matrix), False, each.score)
            for number, each in here
            if each.statement.cells is not None
        ]
        denied = [(number, each.score) for number, each in here if each.statement.negated]
        if denied:
            numbers, scores = zip(*denied, strict=True)
            found.append(Finding(label.name, label.structure, numbers, (0, 0, matrix[1], matrix[0]), True, min(scores)))
    return tuple(found)
