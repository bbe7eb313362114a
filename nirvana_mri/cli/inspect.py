"""nirvana-mri inspect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nirvana_mri.cli.options import (
    AxesOption,
    CalibrationOption,
    DatasetOption,
    EncodingOption,
    ImagesOption,
    VolumeOption,
)
from nirvana_mri.cli.shell import progress, show_facts, stdout, warn, write_json

if TYPE_CHECKING:
    from nirvana_mri.report.inspect import Inspection

COLOURS = {"error": "bold red", "warning": "yellow", "info": "cyan"}


def inspect(
    scan: Annotated[
        Path, typer.Argument(metavar="FILE", help="Anything that can be opened, or a folder of DICOM files.")
    ],
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output instead of tables.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 on warnings too.")] = False,
    volume: VolumeOption = None,
    encoding: EncodingOption = None,
    calibration: CalibrationOption = False,
    axes: AxesOption = None,
    dataset: DatasetOption = None,
    images: ImagesOption = False,
) -> None:
    """Show what a file is, what it lacks, and what is wrong with it: zero-padding, k-space made from magnitudes, 8-bit or JPEG levels, copied coils, spikes, clipping, offsets, a wrapped field of view.

    Many slices are looked at, or an evenly spread part of a large file's; the JSON names them. Exit code: 0 where nothing worse than a warning is found, 1 for an error among the findings (with --strict, for a warning too) and for a file that cannot be read, 2 for wrong use.

    Example: nirvana-mri inspect scan.h5 --json
    """  # noqa: E501 (rich keeps line ends inside a paragraph)
    from nirvana_mri.report.facts import scan_facts
    from nirvana_mri.report.inspect import inspect as look

    with progress(f"looking at {scan.name}") as bar:
        found = look(
            scan,
            progress=bar,
            volume=volume,
            encoding=encoding,
            calibration=calibration,
            axes=axes,
            dataset=dataset,
            images=images,
        )
    if json:
        write_json(found.as_dict(), Path("-"))
    else:
        show_facts(scan_facts(found))
        _show_judgement(found)
        warn(found.warnings)
    if found.worst() == "error" or (strict and found.worst() == "warning"):
        raise typer.Exit(1)


def _show_judgement(found: Inspection) -> None:
    """What is missing and what was found, as tables on stdout; below, what could not be looked for."""
    from rich.table import Table
    from rich.text import Text

    lacks = [(*_split(lack), "") for lack in found.missing]
    signs = [(finding.name, finding.message, str(finding.severity)) for finding in found.findings] or [("none", "", "")]
    reasons: dict[str, list[str]] = {}
    for name, reason in found.not_judged.items():
        reasons.setdefault(reason, []).append(name)
    unknown = [("not judged", f"{', '.join(names)}: {reason}", "") for reason, names in reasons.items()]
    for title, rows in (("missing", lacks), ("findings", signs + unknown)):
        if not rows:
            continue
        stdout().print(Text(f"\n{title}", style="bold"))
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for name, message, severity in rows:
            mark = Text.assemble((severity, COLOURS[severity]), ": ") if severity else Text()
            table.add_row(Text(name), Text.assemble(mark, message))
        stdout().print(table)


def _split(lack: str) -> tuple[str, str]:
    name, _, consequence = lack.partition(": ")
    return name, consequence
