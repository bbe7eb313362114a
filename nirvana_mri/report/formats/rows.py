"""JSON values as rows of a document: each leaf once, in words, with the path of the field that holds it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from nirvana_mri.errors import DataError
from nirvana_mri.ranges import number_ranges
from nirvana_mri.report.formats.text import clean
from nirvana_mri.report.formats.units import NONE, Unit, unit_of, without_unit

LARGEST_DEPTH = 12
LARGEST_WHOLE = 2**53  # beyond it JSON readers round
NOT_MEASURED = "not measured"
LABELS = {
    "snr": "signal over noise",
    "residual_over_noise": "residual over noise",
    "null_space_fraction": "null-space fraction",
    "findings": "sign in the data",
    "model_sha256": "model sha256",
    "backbone_sha256": "backbone sha256",
    "ssim": "SSIM",
    "psnr": "PSNR",
    "nmse": "NMSE",
    "tr_ms": "TR",
    "te_ms": "TE",
    "ti_ms": "TI",
    "voxel_mm": "voxel (slice, ny, nx)",
    "field_of_view_mm": "field of view (slice, ny, nx)",
    "matrix": "k-space matrix (readout, phase encoding)",
}


@dataclass(frozen=True)
class Row:
    """One fact. ``text`` is without the unit; ``number`` is exact and in ``unit``, where the fact is one number.

    ``field`` is the path of its value in the facts (``scan.metadata.tr_ms``).
    """

    label: str
    text: str
    field: str
    number: int | float | None = None
    unit: Unit | None = None

    @property
    def shown(self) -> str:
        """Value and unit, as one reads them."""
        sign = self.unit.sign if self.unit else ""
        return f"{self.text}{'' if sign in ('', '×', '°', '%') else ' '}{sign}"


def rows_of(value: Any, field: str, label: str = "") -> Iterator[Row]:
    """A row for each leaf of ``value``, which stands at ``field``; nothing for None. Raises: DataError."""
    yield from _rows(value, field, label, 0)


def row_of(value: Any, field: str, label: str = "") -> Row:
    """The row of one leaf; None is "not measured". Raises: DataError for NaN, Inf, or what JSON does not have."""
    name = field.rpartition(".")[2]
    label = label or label_of(name)
    unit = unit_of(name)
    if value is None:
        return Row(label, NOT_MEASURED, field)
    if isinstance(value, bool):
        return Row(label, "yes" if value else "no", field)
    if isinstance(value, int | float):
        number = _finite(value, field) * unit.factor if unit.factor != 1 else _finite(value, field)
        return Row(label, number_text(number), field, number, unit)
    if isinstance(value, str):
        return Row(label, clean(value) or "empty", field)
    if isinstance(value, Sequence):
        return Row(label, _list_text(value, field), field, None, unit if unit is not NONE else None)
    raise DataError(f"report: {field} is {type(value).__name__}, expected what JSON has; nothing written")


def label_of(name: str) -> str:
    """A field's name as one reads it."""
    return LABELS.get(name) or clean(without_unit(name)) or "unnamed"


def number_text(number: int | float) -> str:
    """A number to five digits; whole numbers whole."""
    return str(number) if isinstance(number, int) else f"{number:.5g}"


def text_of(value: Any, field: str) -> tuple[str, ...]:
    """Paragraphs out of a text, a list of them, or texts by name."""
    if isinstance(value, Mapping):
        return tuple(f"{clean(str(key))}: {text}" for key, part in value.items() for text in text_of(part, field))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(text for part in value for text in text_of(part, field))
    if value is None:
        return ()
    return tuple(text for line in str(value).split("\n") if (text := clean(line)))


def _rows(value: Any, field: str, label: str, depth: int) -> Iterator[Row]:
    if depth > LARGEST_DEPTH:
        raise DataError(f"report: facts are nested more than {LARGEST_DEPTH} deep; nothing written")
    if value is None:
        return
    if isinstance(value, Mapping):
        for key, part in value.items():
            name = label_of(str(key))
            yield from _rows(part, f"{field}.{key}", f"{label}: {name}" if label else name, depth + 1)
    elif _is_list(value) and any(isinstance(part, Mapping) or _is_list(part) for part in value):
        for number, part in enumerate(value):
            yield from _rows(part, f"{field}.{number}", f"{label or label_of(field)} {number}", depth + 1)
    elif not (_is_list(value) and not value):
        yield row_of(value, field, label)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _finite(value: int | float, field: str) -> int | float:
    if abs(value) > LARGEST_WHOLE if isinstance(value, int) else not math.isfinite(value):
        found = "too large" if isinstance(value, int) else value
        raise DataError(f"report: {field} is {found}, expected a finite number or null; nothing written")
    return value


def _list_text(values: Sequence[Any], field: str) -> str:
    if all(type(value) is int for value in values):
        ascending = len(values) > 2 and all(b > a >= 0 for a, b in pairwise(values))
        return number_ranges(values) if ascending else ", ".join(str(value) for value in values)
    separator = ", " if all(isinstance(value, int | float) for value in values) else "; "
    return separator.join(_texts(values, field)) or "none"


def _texts(values: Iterable[Any], field: str) -> Iterator[str]:
    for value in values:
        yield row_of(value, field).text
