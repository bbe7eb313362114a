"""The command ``nirvana-mri``: names its subcommands. ``--help`` loads nothing heavy."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from nirvana_mri import __version__
from nirvana_mri.cli import (
    ablate,
    backbone,
    demo,
    evaluate,
    explain_diff,
    inspect,
    models,
    reconstruct,
    report,
    simulate,
    stress,
    train,
)
from nirvana_mri.cli.shell import INTERRUPTED, command, fail

app = typer.Typer(
    name="nirvana-mri",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"nirvana-mri {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def describe(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Reconstruct accelerated MRI scans through a frozen Nirvana language model. Not for clinical use.

    Example: nirvana-mri reconstruct scan.h5 -o recon.h5 --accelerate 4

    Each command explains itself: nirvana-mri COMMAND --help. After a command, --debug shows where an error comes from.
    """


for function in (
    reconstruct.reconstruct,
    evaluate.evaluate,
    explain_diff.explain_diff,
    inspect.inspect,
    report.report,
    stress.stress,
    train.train,
    ablate.ablate,
    simulate.simulate,
    demo.demo,
):
    app.command()(command(function))
app.add_typer(models.app, name="models")
app.add_typer(backbone.app, name="backbone")


def main() -> None:
    """The program's entry: exit code 0, 1 for data that cannot be used, 2 for wrong use, 130 when interrupted."""
    try:
        app(prog_name="nirvana-mri")
    except KeyboardInterrupt:
        fail("interrupted")
        sys.exit(INTERRUPTED)
