"""What the encoder learns to say of a slice: questions and answers, from files or from what is known of the example."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nirvana_mri.errors import DataError
from nirvana_mri.findings.statement import Statement, cells_of, words_of
from nirvana_mri.findings.vocabulary import SIMULATED, Vocabulary, vocabulary
from nirvana_mri.io.annotations import read_text
from nirvana_mri.train.annotations import Annotations, read_annotations
from nirvana_mri.train.lesions import Lesion

DESCRIBE = "Describe this scan."
FACTS = 0.25  # how often a simulated slice is asked for its measured facts instead of its lesions
LONGEST = 1 << 16  # characters of a text
MASKS = {
    "random": "random columns",
    "equispaced": "equally spaced columns",
    "equispaced_fraction": "equally spaced columns",
    "magic": "equally spaced columns",
    "poisson": "a Poisson disc",
}


@dataclass(frozen=True)
class Exchange:
    """A question, and the answer that is to be learned; of findings, the vocabulary whose words it keeps to."""

    prompt: str
    response: str
    vocabulary: str | None = None


@dataclass(frozen=True)
class Known:
    """What is known of an example besides its samples.

    ``acceleration`` is the achieved one, ``snr`` the mean of the object in the fully sampled picture over the standard
    deviation of the noise in one of its channels. Lesions are those that we put in.
    """

    name: str
    slice: int | None
    simulated: bool
    mask: str
    acceleration: float
    coils: int
    snr: float
    matrix: tuple[int, int]
    lesions: tuple[Lesion, ...] = ()


def described(known: Known) -> Exchange:
    """An exchange made of measured facts alone."""
    origin = "Simulated" if known.simulated else "Measured"
    coils = "1 coil" if known.coils == 1 else f"{known.coils} coils"
    words = [
        f"{origin} k-space of {coils}, {known.matrix[0]} by {known.matrix[1]}.",
        f"It was sampled on {MASKS.get(known.mask, known.mask)}, accelerated {known.acceleration:.1f} times.",
        f"The signal is about {_two_digits(known.snr)} times the noise.",
    ]
    return Exchange(DESCRIBE, " ".join(words))


def _two_digits(value: float) -> str:
    return f"{float(f'{value:.2g}'):.0f}" if value >= 10 else f"{value:.1f}"


def lesions_told(known: Known) -> Exchange:
    """An exchange about the lesions that we put in, or did not, in the words that findings are confined to."""
    return _findings(vocabulary(SIMULATED), lesion_statements(known))


def _findings(spoken: Vocabulary, found: Iterable[Statement]) -> Exchange:
    return Exchange(spoken.question, words_of(spoken.answer(found)), spoken.name)


def lesion_statements(known: Known) -> tuple[Statement, ...]:
    """Our lesions as statements."""
    return tuple(
        Statement(
            "bright lesion" if each.bright else "dark lesion",
            cells_of((each.column, each.row, each.width, each.height), known.matrix),
        )
        for each in known.lesions
    )


@dataclass(frozen=True)
class Answers:
    """Exchanges by file and slice (None: any slice of the file), and annotations of the files that somebody reviewed;
    slices without one are described by what is known.
    """

    exchanges: dict[tuple[str, int | None], tuple[Exchange, ...]] = field(default_factory=dict)
    annotations: Annotations | None = None

    @property
    def sha256(self) -> str:
        """Of all that is to be said."""
        said = sorted(
            ((name, -1 if number is None else number), [(each.prompt, each.response) for each in exchanges])
            for (name, number), exchanges in self.exchanges.items()
        )
        marked, spoken, reviewed = [], [vocabulary(SIMULATED).sha256], []
        if self.annotations is not None:
            marked = sorted(
                ((name, -1 if number is None else number), [(mark.label, mark.box) for mark in marks])
                for (name, number), marks in self.annotations.marks.items()
            )
            spoken, reviewed = [*spoken, self.annotations.vocabulary.sha256], sorted(self.annotations.reviewed)
        return hashlib.sha256(json.dumps([said, marked, spoken, reviewed]).encode()).hexdigest()

    def of(self, known: Known, draw: np.random.Generator) -> Exchange:
        """One exchange about the example, drawn among those that there are."""
        name = _file_of(known.name)
        found = [*self.exchanges.get((name, known.slice), ()), *self.exchanges.get((name, None), ())]
        if self.annotations is not None and name in self.annotations.reviewed:
            answer = self.annotations.answer(name, known.slice, known.matrix)
            found.append(_findings(self.annotations.vocabulary, answer))
        if not found and known.simulated:
            return described(known) if draw.random() < FACTS else lesions_told(known)
        return found[int(draw.integers(len(found)))] if found else described(known)

    def taught(self, names: Iterable[str], simulated: bool) -> Vocabulary | None:
        """The vocabulary that these training subjects teach: that of the annotations, or of our lesions in pictures."""
        if self.annotations is not None and any(_file_of(name) in self.annotations.reviewed for name in names):
            return self.annotations.vocabulary
        return vocabulary(SIMULATED) if simulated else None


def _file_of(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def read_answers(pairs: Path | None, annotations: Path | None) -> Answers:
    """Exchanges from a .jsonl of pairs, from fastMRI+ annotations (.csv), or from neither.

    Raises: DataError, which names the line, for files that are not as :func:`read_pairs` and :func:`read_annotations`
    say.
    """
    exchanges: dict[tuple[str, int | None], tuple[Exchange, ...]] = {}
    if pairs is not None:
        for key, exchange in read_pairs(pairs):
            exchanges[key] = (*exchanges.get(key, ()), exchange)
    return Answers(exchanges, None if annotations is None else read_annotations(annotations))


def read_pairs(path: Path) -> Iterator[tuple[tuple[str, int | None], Exchange]]:
    """``{"file": "name", "slice": 3, "prompt": "…", "response": "…"}`` a line; without slice it is of all, without
    prompt the question is to describe the scan.
    """
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        usable = (
            isinstance(found, dict)
            and isinstance(found.get("file"), str)
            and isinstance(found.get("slice"), int | None)
            and all(isinstance(found.get(name, DESCRIBE), str) for name in ("prompt", "response"))
            and 0 < len(found.get("response", "")) <= LONGEST
        )
        if not usable:
            raise DataError(f'{path}: line {number} is not {{"file": …, "slice": …, "prompt": …, "response": …}}')
        yield (found["file"], found.get("slice")), Exchange(found.get("prompt") or DESCRIBE, found["response"])
