"""The table that a run leaves: a row for every fifty steps."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any


class MetricsFile:
    """``metrics.csv``, appended row by row; rows beyond the resumed step are dropped first."""

    columns = ("step", "loss", "seconds", "ssim", "psnr")

    def __init__(self, path: Path, first: int) -> None:
        self.path = path
        rows = []
        if first and path.exists():
            with path.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if int(row["step"]) <= first]
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(rows)

    def __enter__(self) -> Callable[[dict[str, Any]], None]:
        return self.write

    def __exit__(self, *_: object) -> None:
        return None

    def write(self, row: dict[str, Any]) -> None:
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(row)
