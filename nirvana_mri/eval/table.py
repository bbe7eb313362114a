"""Scores as a table for a spreadsheet: one row per volume and method."""

import csv
from pathlib import Path

from nirvana_mri.atomic import atomic_path
from nirvana_mri.eval.rules import METRICS
from nirvana_mri.eval.study import Study

OF_THE_SCAN = ("group", "contrast", "field_strength_t", "acceleration", "patient")


def write_csv(study: Study, path: Path) -> None:
    """Write the table, whole or not at all; each row says its protocol."""
    worst = ("worst_slice", "worst_slice_ssim")
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("file", "method", *OF_THE_SCAN, *METRICS, *worst, "protocol", "protocol_hash"))
        for row in study.rows:
            told = row.as_dict()
            place = told.get("worst_slice") or {}
            cells = [told[key] for key in ("file", "method", *OF_THE_SCAN, *METRICS)]
            rule = row.score.protocol
            table.writerow((*cells, place.get("slice"), place.get("ssim"), rule.name, rule.hash))
