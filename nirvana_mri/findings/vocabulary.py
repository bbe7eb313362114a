"""What can be found: labels with the structure that each belongs to, read from vocabulary.json beside this file."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.findings.statement import Statement

FILE = "vocabulary.json"
SIMULATED = "simulated"


@dataclass(frozen=True)
class Label:
    """``source`` is its name in fastMRI+. One that is ``always`` said is denied of slices that do not show it."""

    name: str
    structure: str
    source: str = ""
    always: bool = False


@dataclass(frozen=True)
class Vocabulary:
    """Labels in the order in which they are said, and the question that asks for them.

    ``anatomy`` is what a scan must show (None: anything), ``most`` how often one label may be found in one slice.
    """

    name: str
    question: str
    anatomy: str | None
    origin: str
    most: int
    labels: tuple[Label, ...]

    def label(self, name: str) -> Label:
        """The label of that name. Raises: DataError where there is none."""
        for label in self.labels:
            if label.name == name:
                return label
        raise DataError(f"label {name!r:.80} is not in the vocabulary {self.name!r} ({len(self.labels)} labels)")

    def of_source(self, source: str) -> Label | None:
        """The label of that name in fastMRI+."""
        return next((label for label in self.labels if label.source == source), None)

    def answer(self, found: Iterable[Statement]) -> tuple[Statement, ...]:
        """What is said of a slice that shows these: in the vocabulary's order, each once, ``most`` of a label; labels
        that are always said are denied where they are not among them.
        """
        present = sorted(
            {Statement(self.label(each.label).name, each.cells) for each in found}, key=lambda each: each.cells or (0,)
        )
        answer: list[Statement] = []
        for label in self.labels:
            shown = [each for each in present if each.label == label.name and not each.negated]
            answer += shown[: self.most] or ([Statement(label.name)] if label.always else [])
        return tuple(answer)

    @property
    def sha256(self) -> str:
        """Of all that can be said, and in which order."""
        said = [self.question, self.most, [(label.name, label.structure, label.always) for label in self.labels]]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()


@cache
def vocabularies() -> dict[str, Vocabulary]:
    """All of them by name."""
    content = json.loads(files("nirvana_mri.findings").joinpath(FILE).read_text("utf-8"))
    return {name: _vocabulary(name, each) for name, each in content.items() if name != "note"}


def vocabulary(name: str) -> Vocabulary:
    """The vocabulary of that name. Raises: UsageError with the names that there are."""
    known = vocabularies()
    if name not in known:
        raise UsageError(f"vocabulary is {name!r:.60}; expected one of {', '.join(known)}")
    return known[name]


def _vocabulary(name: str, values: dict) -> Vocabulary:  # type: ignore[type-arg]
    labels = tuple(
        Label(each["label"], each["structure"], each.get("source", ""), each.get("always", False))
        for each in values["labels"]
    )
    return Vocabulary(name, values["question"], values["anatomy"], values["origin"], values["most"], labels)
