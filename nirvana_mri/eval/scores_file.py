"""The JSON of an evaluation, read back: checked, since anybody may have written it."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from nirvana_mri.errors import DataError

LARGEST = 256 << 20  # bytes
ADVICE = "give the JSON of nirvana-mri evaluate"


@dataclass(frozen=True)
class Scored:
    """One method's part of a file of scores. ``rows`` are the volumes by file name; ``methods`` all that are in it."""

    name: str
    method: str
    methods: tuple[str, ...]
    protocol: Mapping[str, Any]
    rows: Mapping[str, Mapping[str, Any]]
    sampling: Mapping[str, Any] | None
    model: tuple[str | None, str | None]  # name, sha256
    toolkit_version: str | None
    missing: tuple[str, ...]


def read_scores(path: Path) -> Scored:
    """The scores of the first method in a file that ``evaluate --json`` wrote. Raises: DataError for any other file."""

    def refuse(why: str) -> NoReturn:
        raise DataError(f"{path}: {why}; {ADVICE}")

    if not path.is_file():
        refuse("no such file")
    if path.stat().st_size > LARGEST:
        refuse(f"larger than {LARGEST >> 20} MiB")
    try:
        found = json.loads(path.read_bytes(), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        refuse("no JSON")
    if not isinstance(found, dict) or not isinstance(found.get("protocol"), dict):
        refuse("no protocol in it, so that its numbers compare with nothing")
    volumes = found.get("volumes")
    if not isinstance(volumes, list) or not volumes or not all(_is_row(row) for row in volumes):
        refuse("no volumes with file and ssim in it")
    methods = tuple(dict.fromkeys(str(row.get("method", "prediction")) for row in volumes))
    rows = {row["file"]: row for row in volumes if str(row.get("method", "prediction")) == methods[0]}
    if len(rows) < sum(str(row.get("method", "prediction")) == methods[0] for row in volumes):
        refuse("a volume stands in it twice")
    return Scored(
        name=path.name,
        method=methods[0],
        methods=methods,
        protocol={key: value for key, value in found["protocol"].items() if isinstance(key, str)},
        rows=rows,
        sampling=found["sampling"] if isinstance(found.get("sampling"), dict) else None,
        model=_model(found.get("by_method"), methods[0]),
        toolkit_version=_text(found.get("toolkit_version")) or _text(found["protocol"].get("toolkit_version")),
        missing=tuple(str(name) for name in found["missing"]) if isinstance(found.get("missing"), list) else (),
    )


def number(row: Mapping[str, Any], key: str) -> float | None:
    """A row's metric, where it is a finite number."""
    value = row.get(key)
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good and value is not None else None


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("file"), str) and number(row, "ssim") is not None


def _model(by_method: Any, method: str) -> tuple[str | None, str | None]:
    for entry in by_method if isinstance(by_method, list) else ():
        if isinstance(entry, dict) and entry.get("method") == method:
            return _text(entry.get("model")), _text(entry.get("model_sha256"))
    return None, None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)
