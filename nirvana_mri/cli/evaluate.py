"""nirvana-mri evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nirvana_mri.cli.options import JsonOption
from nirvana_mri.cli.shell import progress, stdout, warn, write_json

if TYPE_CHECKING:
    from nirvana_mri.eval.evaluate import Report


def evaluate(
    predictions: Annotated[Path, typer.Argument(metavar="PREDICTIONS", help="A reconstruction, or a folder of them.")],
    target: Annotated[Path, typer.Option("--target", "-t", metavar="SCANS", help="The scans, by the same names.")],
    json: JsonOption = None,
) -> None:
    """Score reconstructions by fastMRI's rule: SSIM, PSNR, NMSE, each with its protocol.

    Any HDF5 file with a dataset "reconstruction" (slices, ny, nx) can be scored, whoever made it.

    Example: nirvana-mri evaluate recon/ --target scans/ --json scores.json
    """
    from nirvana_mri.eval.evaluate import evaluate_files

    with progress("scoring") as update:
        report = evaluate_files(predictions, target, update)
    warn(report.warnings)
    if json is not None:
        write_json(report.as_dict(), json, (predictions, target))
    if json != Path("-"):
        show(report)


def show(report: Report) -> None:
    """The scores as a table, and the rule below it."""
    from rich.table import Table

    table = Table("file", box=None, pad_edge=False, header_style="bold")
    for name in ("SSIM", "PSNR [dB]", "NMSE", "acceleration"):
        table.add_column(name, justify="right", no_wrap=True)
    for score in report.volumes:
        times = "–" if score.acceleration is None else f"{score.acceleration:.2f}x"
        table.add_row(score.file, f"{score.ssim:.4f}", f"{score.psnr:.2f}", f"{score.nmse:.5f}", times)
    if len(report.volumes) > 1:
        mean = report.mean
        table.add_section()
        table.add_row("mean", f"{mean['ssim']:.4f}", f"{mean['psnr']:.2f}", f"{mean['nmse']:.5f}", "", style="bold")
    stdout().print(table)
    protocol = report.protocol
    stdout().print(f"protocol {protocol.name} {protocol.hash}, target {protocol.target}", style="dim", markup=False)
