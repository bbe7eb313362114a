"""fastMRI+ annotations: radiologists' boxes, as statements of our vocabulary about the pictures that we make."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nirvana_mri.errors import DataError
from nirvana_mri.findings.statement import WHOLE, Box, Cells, Statement, cells_of
from nirvana_mri.findings.vocabulary import Vocabulary, vocabularies

COLUMNS = ("file", "slice", "study_level", "x", "y", "width", "height", "label")
LARGEST = 256 << 20  # bytes of a file


@dataclass(frozen=True)
class Mark:
    """A label of the vocabulary, and the box as the file has it: pixels of the picture *flipped up-down*; None where
    it holds for the whole study.
    """

    label: str
    box: Box | None

    def statement(self, matrix: tuple[int, int]) -> Statement:
        """What is said of a picture of (ny, nx) pixels that is not flipped."""
        return Statement(self.label, WHOLE if self.box is None else self._cells(self.box, matrix))

    def _cells(self, box: Box, matrix: tuple[int, int]) -> Cells:
        x, y, width, height = box
        upright = (x, matrix[0] - y - height, max(width, 1), max(height, 1))
        try:
            return cells_of(upright, matrix)
        except DataError as problem:
            raise DataError(f"annotation {self.label!r}: {problem}; is the scan the one annotated?") from problem


@dataclass(frozen=True)
class Annotations:
    """Marks by file and slice (None: the whole study), and the files that somebody looked at."""

    vocabulary: Vocabulary
    marks: Mapping[tuple[str, int | None], tuple[Mark, ...]]
    reviewed: frozenset[str]

    def answer(self, name: str, number: int | None, matrix: tuple[int, int]) -> tuple[Statement, ...]:
        """What is said of a slice of a reviewed file. Raises: DataError for a box outside its picture."""
        marks = [*self.marks.get((name, number), ()), *(self.marks.get((name, None), ()) if number is not None else ())]
        return self.vocabulary.answer(mark.statement(matrix) for mark in marks)


def read_annotations(path: Path) -> Annotations:
    """The annotations of fastMRI+ (Zhao et al., Scientific Data 9, 152, 2022) in a .csv.

    Their boxes are pixels of ``reconstruction_rss`` flipped up-down, as the authors showed it to the radiologists.
    Labels of a whole study go to all its slices. The files reviewed are those of ``…_file_list.csv`` beside, where it
    is there, and those with a label. Raises: DataError, which names the line, for other columns, lines without a box,
    and labels that are not fastMRI+'s of knees or of brains.
    """
    rows = csv.DictReader(read_text(path).splitlines())
    if not set(COLUMNS) <= set(rows.fieldnames or ()):
        raise DataError(f"{path}: columns are {', '.join(rows.fieldnames or ())!r:.120}; expected those of fastMRI+")
    spoken: Vocabulary | None = None
    marks: dict[tuple[str, int | None], tuple[Mark, ...]] = {}
    for row in rows:
        where = f"{path}: line {rows.line_num}"
        name, source = (row["file"] or "").strip(), (row["label"] or "").strip()
        if not name or not source:
            raise DataError(f"{where} lacks a file or a label")
        spoken = spoken or next((v for v in vocabularies().values() if v.of_source(source)), None)
        label = spoken.of_source(source) if spoken else None
        if label is None:
            among = f"fastMRI+'s of the {spoken.anatomy}" if spoken else "fastMRI+'s"
            raise DataError(f"{where}: label {source!r:.60} is not among {among}; give other texts with --text")
        study = (row["study_level"] or "").strip() == "Yes"
        key = (name, None if study else _whole(row["slice"], where))
        box = None if study else (*(_whole(row[each], where) for each in COLUMNS[3:7]),)
        marks[key] = (*marks.get(key, ()), Mark(label.name, box))  # type: ignore[arg-type]
    if spoken is None:
        raise DataError(f"{path}: holds no annotation")
    beside = path.with_name(f"{path.stem}_file_list.csv")
    listed = {line.strip() for line in read_text(beside).splitlines()} if beside.is_file() else set()
    return Annotations(spoken, marks, frozenset({name for name, _ in marks} | listed - {""}))


def _whole(text: str | None, where: str) -> int:
    try:
        return int(text or "")
    except ValueError:
        raise DataError(f"{where} lacks a slice or a box: {text!r:.20} is no whole number") from None


def read_text(path: Path) -> str:
    """A text file of bounded size. Raises: DataError where it is missing, larger, or no text."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.stat().st_size > LARGEST:
        raise DataError(f"{path}: larger than {LARGEST >> 20} MiB; split it")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as problem:
        raise DataError(f"{path}: byte {problem.start} is no UTF-8 text; is it a binary file?") from problem
