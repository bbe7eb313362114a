"""nirvana-mri inspect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nirvana_mri.cli.options import JsonOption
from nirvana_mri.cli.shell import show_facts, warn, write_json


def inspect(
    scan: Annotated[Path, typer.Argument(metavar="SCAN", help="Raw k-space (fastMRI h5).")],
    json: JsonOption = None,
) -> None:
    """Show what a scan is: matrix, coils, sampling, noise, geometry, and what is missing.

    Reads the header and one slice.

    Example: nirvana-mri inspect scan.h5 --json -
    """
    from nirvana_mri.report.facts import scan_facts
    from nirvana_mri.report.inspect import inspect as look

    found = look(scan)
    if json is not None:
        write_json(found.as_dict(), json, (scan,))
    if json != Path("-"):
        show_facts(scan_facts(found))
        warn(found.warnings)
