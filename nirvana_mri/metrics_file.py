"""The table that a training run leaves behind, one row at a time."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nirvana_mri.atomic import atomic_path


class MetricsFile:
    """A .csv with a row a step (or every few), appended as they come.

    A run that goes on from step ``first`` keeps the whole rows up to there and drops what came after; from 0 it starts
    anew. With ``writes`` False (all but the first of several processes) nothing is touched.
    """

    def __init__(self, path: Path, columns: Sequence[str], first: int = 0, writes: bool = True) -> None:
        self.path, self.columns, self.writes = path, columns, writes
        if not writes:
            return
        rows: list[dict[str, str]] = []
        if first and path.exists():
            with path.open(newline="") as file:
                whole = [row for row in csv.DictReader(file) if None not in row.values()]
                rows = [row for row in whole if int(row["step"]) <= first]
        with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)

    def write(self, row: dict[str, Any]) -> None:
        """Append a row; columns that it lacks stay empty."""
        if self.writes:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self.columns).writerow(row)
