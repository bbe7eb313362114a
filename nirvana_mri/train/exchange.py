"""What the encoder learns to say of a slice: questions and answers, from files or from what is known of the example."""

import csv
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nirvana_mri.errors import DataError
from nirvana_mri.train.lesions import Lesion

DESCRIBE, FINDINGS = "Describe this scan.", "What are the findings?"
NOTHING = "No findings."
ANNOTATION_COLUMNS = ("file", "slice", "study_level", "label")
LARGEST, LONGEST = 256 << 20, 1 << 16  # bytes of a file, characters of a text
MASKS = {
    "random": "random columns",
    "equispaced": "equally spaced columns",
    "equispaced_fraction": "equally spaced columns",
    "magic": "equally spaced columns",
    "poisson": "a Poisson disc",
}


@dataclass(frozen=True)
class Exchange:
    """A question, and the answer that is to be learned."""

    prompt: str
    response: str


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
    if known.simulated:
        words += [_sentence(lesion, known.matrix) for lesion in known.lesions] or ["There is no lesion."]
    return Exchange(DESCRIBE, " ".join(words))


def _two_digits(value: float) -> str:
    return f"{float(f'{value:.2g}'):.0f}" if value >= 10 else f"{value:.1f}"


def _sentence(lesion: Lesion, matrix: tuple[int, int]) -> str:
    row = round(100 * (lesion.row + lesion.height / 2) / matrix[0])
    column = round(100 * (lesion.column + lesion.width / 2) / matrix[1])
    return f"There is a {'bright' if lesion.bright else 'dark'} lesion, {row} percent down and {column} percent across."


@dataclass(frozen=True)
class Answers:
    """Exchanges by file and slice (None: any slice of the file); slices without one are described by what is known.

    ``reviewed`` are the files that somebody looked at: their other slices have no findings.
    """

    exchanges: dict[tuple[str, int | None], tuple[Exchange, ...]] = field(default_factory=dict)
    reviewed: frozenset[str] = frozenset()

    @property
    def sha256(self) -> str:
        """Of all that is to be said."""
        said = sorted(
            ((name, -1 if number is None else number), [(each.prompt, each.response) for each in exchanges])
            for (name, number), exchanges in self.exchanges.items()
        )
        return hashlib.sha256(json.dumps([said, sorted(self.reviewed)]).encode()).hexdigest()

    def of(self, known: Known, draw: np.random.Generator) -> Exchange:
        """One exchange about the example, drawn among those that there are."""
        name = known.name.rsplit("/", 1)[-1]
        found = [*self.exchanges.get((name, known.slice), ()), *self.exchanges.get((name, None), ())]
        if not found and name in self.reviewed:
            return Exchange(FINDINGS, NOTHING)
        return found[int(draw.integers(len(found)))] if found else described(known)


def read_answers(pairs: Path | None, annotations: Path | None) -> Answers:
    """Exchanges from a .jsonl of pairs, from fastMRI+ annotations (.csv), or from neither.

    Raises: DataError, which names the line, for files that are not as :func:`read_pairs` and :func:`read_annotations`
    say.
    """
    exchanges: dict[tuple[str, int | None], tuple[Exchange, ...]] = {}
    reviewed: frozenset[str] = frozenset()
    if pairs is not None:
        for key, exchange in read_pairs(pairs):
            exchanges[key] = (*exchanges.get(key, ()), exchange)
    if annotations is not None:
        found, reviewed = read_annotations(annotations)
        for key, exchange in found.items():
            exchanges[key] = (*exchanges.get(key, ()), exchange)
    return Answers(exchanges, reviewed)


def read_pairs(path: Path) -> Iterator[tuple[tuple[str, int | None], Exchange]]:
    """``{"file": "name", "slice": 3, "prompt": "…", "response": "…"}`` a line; without slice it is of all, without
    prompt the question is to describe the scan.
    """
    for number, line in enumerate(_text(path).splitlines(), start=1):
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


def read_annotations(path: Path) -> tuple[dict[tuple[str, int | None], Exchange], frozenset[str]]:
    """fastMRI+ (Zhao et al. 2022): labels by file and slice, and the files that were reviewed.

    Labels of a whole study go to all its slices. The files reviewed are those of ``…_file_list.csv`` beside, where it
    is there, and those with a label.
    """
    rows = csv.DictReader(_text(path).splitlines())
    if not set(ANNOTATION_COLUMNS) <= set(rows.fieldnames or ()):
        raise DataError(f"{path}: columns are {', '.join(rows.fieldnames or ())!r:.120}; expected those of fastMRI+")
    labels: dict[tuple[str, int | None], set[str]] = {}
    for row in rows:
        name, label = (row["file"] or "").strip(), (row["label"] or "").strip()
        study = (row["study_level"] or "").strip() == "Yes"
        if not name or not label or not (study or (row["slice"] or "").strip().isdecimal()):
            raise DataError(f"{path}: line {rows.line_num} lacks a file, a slice or a label")
        labels.setdefault((name, None if study else int(row["slice"])), set()).add(label)
    exchanges = {key: Exchange(FINDINGS, f"{'; '.join(sorted(found))}.") for key, found in labels.items()}
    beside = path.with_name(f"{path.stem}_file_list.csv")
    listed = {line.strip() for line in _text(beside).splitlines()} if beside.is_file() else set()
    return exchanges, frozenset({name for name, _ in labels} | listed - {""})


def _text(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.stat().st_size > LARGEST:
        raise DataError(f"{path}: larger than {LARGEST >> 20} MiB; split it")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as problem:
        raise DataError(f"{path}: byte {problem.start} is no UTF-8 text; is it a binary file?") from problem
