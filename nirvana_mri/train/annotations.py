"""fastMRI+ annotations: radiologists' boxes, as statements of our vocabulary about the pictures that we make."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nirvana_mri.errors import DataError
from nirvana_mri.findings.statement import WHOLE, Cells, Statement, cells_of
from nirvana_mri.findings.vocabulary import Vocabulary, vocabularies
from nirvana_mri.io.annotations import Box, read_rows, read_text, upright


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
        x, y, width, height = upright(box, matrix[0])
        try:
            return cells_of((x, y, max(width, 1), max(height, 1)), matrix)
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
    """The annotations of fastMRI+ in a .csv, in the words of our vocabulary.

    Their boxes are pixels of ``reconstruction_rss`` flipped up-down, as the authors showed it to the radiologists.
    Labels of a whole study go to all its slices. The files reviewed are those of ``…_file_list.csv`` beside, where it
    is there, and those with a label. Raises: DataError, which names the line, for other columns, lines without a box,
    and labels that are not fastMRI+'s of knees or of brains.
    """
    spoken: Vocabulary | None = None
    marks: dict[tuple[str, int | None], tuple[Mark, ...]] = {}
    for row in read_rows(path):
        spoken = spoken or next((v for v in vocabularies().values() if v.of_source(row.label)), None)
        label = spoken.of_source(row.label) if spoken else None
        if label is None:
            among = f"fastMRI+'s of the {spoken.anatomy}" if spoken else "fastMRI+'s"
            raise DataError(
                f"{path}: line {row.line}: label {row.label!r:.60} is not among {among}; give other texts with --text"
            )
        key = (row.file, row.slice)
        marks[key] = (*marks.get(key, ()), Mark(label.name, row.box))
    if spoken is None:
        raise DataError(f"{path}: holds no annotation")
    beside = path.with_name(f"{path.stem}_file_list.csv")
    listed = {line.strip() for line in read_text(beside).splitlines()} if beside.is_file() else set()
    return Annotations(spoken, marks, frozenset({name for name, _ in marks} | listed - {""}))
