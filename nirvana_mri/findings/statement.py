"""One thing said of a slice: a label and the cells of a coarse grid where it is, or that it is not there; as words."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from nirvana_mri.errors import DataError

GRID = 16  # rows and columns that the picture is cut into; counted from 1, from the top and from the left
Box = tuple[int, int, int, int]  # x, y, width, height in pixels of the finished picture
STATEMENT = re.compile(
    r"(?:no (?P<absent>[^,.]+)|(?P<label>[^,.]+), rows (\d{1,2}) to (\d{1,2}), columns (\d{1,2}) to (\d{1,2}))"
)


class Cells(NamedTuple):
    """First and last row and column of the grid, all of them inside."""

    top: int
    bottom: int
    left: int
    right: int


WHOLE = Cells(1, GRID, 1, GRID)


@dataclass(frozen=True)
class Statement:
    """Without cells it says that the label is not in this slice."""

    label: str
    cells: Cells | None = None

    @property
    def negated(self) -> bool:
        return self.cells is None

    @property
    def words(self) -> str:
        """Exactly what the encoder learns to have said, and what :func:`parse` reads."""
        if self.cells is None:
            return f"no {self.label}."
        top, bottom, left, right = self.cells
        return f"{self.label}, rows {top} to {bottom}, columns {left} to {right}."


def words_of(statements: Iterable[Statement]) -> str:
    return " ".join(each.words for each in statements)


def parse(text: str) -> tuple[Statement, ...]:
    """The statements in such words. Raises: DataError for anything else."""
    text = text.strip()
    if not text:
        return ()
    if not text.endswith("."):
        raise DataError(f"findings end in {text[-40:]!r}; expected a full stop")
    return tuple(_parsed(part) for part in text[:-1].split(". "))


def _parsed(part: str) -> Statement:
    found = STATEMENT.fullmatch(part)
    if found is None:
        raise DataError(f"{part!r:.120} is no finding; expected 'no LABEL' or 'LABEL, rows 3 to 5, columns 4 to 6'")
    if found["absent"] is not None:
        return Statement(found["absent"])
    cells = Cells(*(int(digits) for digits in found.groups()[2:]))
    if not (1 <= cells.top <= cells.bottom <= GRID and 1 <= cells.left <= cells.right <= GRID):
        raise DataError(f"{part!r:.120} lies outside the grid of {GRID} rows and columns, counted from 1")
    return Statement(found["label"], cells)


def cells_of(box: Box, matrix: tuple[int, int]) -> Cells:
    """The cells nearest to a box in a picture of (ny, nx) pixels; at least one.

    Raises: DataError where the box and the picture share no pixel.
    """
    x, y, width, height = box
    ny, nx = matrix
    if width < 1 or height < 1 or x >= nx or y >= ny or x + width <= 0 or y + height <= 0:
        raise DataError(f"box x, y, width, height {box} lies outside a picture of {ny} rows and {nx} columns")
    return Cells(*_nearest(y, y + height, ny), *_nearest(x, x + width, nx))


def box_of(cells: Cells, matrix: tuple[int, int]) -> Box:
    """The pixels of cells; :func:`cells_of` gives the cells back."""
    ny, nx = matrix
    top, bottom = round((cells.top - 1) * ny / GRID), round(cells.bottom * ny / GRID)
    left, right = round((cells.left - 1) * nx / GRID), round(cells.right * nx / GRID)
    return left, top, right - left, bottom - top


def _nearest(start: int, stop: int, pixels: int) -> tuple[int, int]:
    """First and last cell (from 1) of the pixels from start to before stop."""
    first = min(max(round(start * GRID / pixels), 0), GRID - 1)
    last = min(max(round(stop * GRID / pixels), first + 1), GRID)
    return first + 1, last
