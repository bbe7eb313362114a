"""fastMRI+: what radiologists marked on fastMRI's pictures (Zhao et al. 2022, Scientific Data 9, 152), row by row."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nirvana_mri.errors import DataError

COLUMNS = ("file", "slice", "study_level", "x", "y", "width", "height", "label")
NUMBER = re.compile(r"-1|[0-9]{1,6}")  # a few boxes begin one pixel beyond the picture
LARGEST = 256 << 20  # bytes of a file
Box = tuple[int, int, int, int]  # x, y, width, height in pixels, from 0


@dataclass(frozen=True)
class Annotation:
    """A row: the label of a box in one slice, or of a whole study, which has neither.

    ``box`` is in the picture *flipped up-down*, as it was drawn (fastmri_to_dicom.py of fastMRI+); see :func:`upright`.
    """

    file: str
    slice: int | None
    box: Box | None
    label: str
    line: int


def read_rows(path: Path) -> Iterator[Annotation]:
    """The rows of a fastMRI+ .csv. Raises: DataError, which names the line, for other tables."""
    rows = csv.DictReader(read_text(path).splitlines())
    try:
        if not set(COLUMNS) <= set(rows.fieldnames or ()):
            found = ", ".join(rows.fieldnames or ())
            raise DataError(
                f"{path}: columns are {found!r:.120}; expected those of fastMRI+, {', '.join(COLUMNS)}: give its "
                "knee.csv or brain.csv"
            )
        for row in rows:
            yield _annotation(row, rows.line_num, f"{path}: line {rows.line_num}")
    except csv.Error as problem:
        raise DataError(f"{path}: no readable table ({problem}); is it a .csv?") from problem


def upright(box: Box, ny: int) -> Box:
    """The box in the picture of ``ny`` rows as it is stored, not flipped."""
    x, y, width, height = box
    return x, ny - y - height, width, height


def _annotation(row: dict[str, str | None], line: int, where: str) -> Annotation:
    name, label = (row["file"] or "").strip(), (row["label"] or "").strip()
    if not name or not label:
        raise DataError(f"{where} lacks a file or a label")
    if (row["study_level"] or "").strip() == "Yes":
        return Annotation(name, None, None, label, line)
    number, x, y, width, height = (_whole(row[key], where) for key in ("slice", *COLUMNS[3:7]))
    return Annotation(name, number, (x, y, width, height), label, line)


def _whole(text: str | None, where: str) -> int:
    found = (text or "").strip()
    if not NUMBER.fullmatch(found):
        raise DataError(f"{where} lacks a slice or a box: {found!r:.20} is no whole number from 0")
    return int(found)


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
