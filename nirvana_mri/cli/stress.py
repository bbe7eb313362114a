"""nirvana-mri stress."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nirvana_mri.cli.options import (
    OUTPUT,
    AccelerateOption,
    CenterOption,
    DeviceOption,
    JsonOption,
    MaskOption,
    ModelOption,
    SeedOption,
    SlicesOption,
    chosen_mask,
    parse_slices,
)
from nirvana_mri.cli.shell import command_line, progress, say, stdout, warn, write_json
from nirvana_mri.errors import DataError, UsageError

if TYPE_CHECKING:
    from nirvana_mri.scan import Scan

USUAL = 4.0  # the acceleration where none is asked for


def stress(
    scans: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[SCAN]...", help="Fully sampled k-space; without any, the embedded demonstration brain."
        ),
    ] = None,
    model: ModelOption = "nano",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="The page to write (.html).", rich_help_panel=OUTPUT),
    ] = None,
    json: JsonOption = None,
    card: Annotated[
        bool,
        typer.Option("--card", help="Print the pass/fail table as Markdown, for a model card.", rich_help_panel=OUTPUT),
    ] = False,
    only: Annotated[
        str | None, typer.Option("--only", metavar="NAMES", help="Some of the stresses: noise,shift say.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer levels of each.")] = False,
    accelerate: AccelerateOption = None,
    mask: MaskOption = None,
    center_fraction: CenterOption = 0.08,
    seed: SeedOption = 0,
    slices: SlicesOption = None,
    device: DeviceOption = "cpu",
) -> None:
    """Try how a model stands what a scanner may do to it, beside CG-SENSE: noise, shifts, motion, lost coils, lesions.

    Each stress has levels and a criterion that stands before it is measured; a model may fail, and the table says so. Scans are thinned 4x where nothing else is asked for, and the middle slice of each is taken where --slices names none. With the shipped model and the embedded brain it takes about a minute and a half on one core.

    Example: nirvana-mri stress --model nano -o stress.html --json stress.json --quick
    """  # noqa: E501 (rich keeps line ends inside a paragraph)
    from nirvana_mri.eval.stress.case import Asked
    from nirvana_mri.eval.stress.table import chosen

    stresses = chosen(only)
    asked = _asked(Asked, mask, accelerate, center_fraction, seed)
    wanted = parse_slices(slices)
    _check(out, json, card)
    from nirvana_mri.eval.stress.card import card_table
    from nirvana_mri.eval.stress.run import run_stress
    from nirvana_mri.recon.checkpoint import load_model

    loaded = load_model(model, device)
    taken = [(scan, _numbers(scan, wanted)) for scan in _open(scans or [])]
    with progress("preparing") as bar:
        stressed = run_stress(
            loaded,
            taken,
            asked,
            stresses,
            seed=seed,
            quick=quick,
            device=device,
            command=command_line(),
            progress=bar,
        )
    for scan, _ in taken:
        warn(scan.warnings, scan.name)
    if out is not None:
        from nirvana_mri.report.html import write_page
        from nirvana_mri.report.stress_page import make_stress_page

        write_page(make_stress_page(stressed), out)
    if json is not None:
        write_json(stressed.result, json, tuple(scans or ()))
    if json != Path("-"):
        if card:
            say(card_table(stressed.result).rstrip())
        else:
            _show(stressed.result)
            if out is not None:
                say(f"wrote {out}; {stressed.result['notice']}")


def _asked(make: Any, mask: str | None, accelerate: float | None, center_fraction: float, seed: int) -> Any:
    from nirvana_mri.physics.masks import MASKS

    factor = USUAL if accelerate is None and (mask is None or mask in MASKS) else accelerate
    return make(factor, chosen_mask(mask, factor), center_fraction, seed)


def _check(out: Path | None, json: Path | None, card: bool) -> None:
    """What can be known to go wrong before the work."""
    from nirvana_mri.atomic import check_target

    if card and json == Path("-"):
        raise UsageError("--card and --json - both want standard output; name a file for the JSON")
    if out is not None:
        if out.suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"{out}: a page is .html; name it so")
        check_target(out)
    if json is not None and json != Path("-"):
        check_target(json)


def _open(paths: list[Path]) -> list[Scan]:
    from nirvana_mri.recon.open import open_scan

    if not paths:
        from nirvana_mri.recon.simulate import simulate
        from nirvana_mri.report.demo import VOXEL_MM, brain

        return [simulate(brain()[0], coils=8, seed=0, voxel_mm=VOXEL_MM, name="demonstration brain")]
    scans = [open_scan(path) for path in paths]
    for path, scan in zip(paths, scans, strict=True):
        if not scan.raw:
            raise DataError(f"{path}: holds pictures, no k-space; make a scan of it first: nirvana-mri simulate {path}")
    return scans


def _numbers(scan: Scan, wanted: tuple[int | None, int | None] | None) -> range:
    from nirvana_mri.recon.batch import pick_slices

    count = len(scan.kspace)
    return pick_slices(wanted, count, scan.name) or range(count // 2, count // 2 + 1)


def _show(result: dict[str, Any]) -> None:
    """One row a stress on standard output."""
    from rich.table import Table

    from nirvana_mri.eval.stress.card import figure, level_words, verdict, worst

    table = Table("stress", box=None, pad_edge=False, header_style="bold")
    for name in ("passed", "nearest to its limit", "figure", "model", "CG-SENSE"):
        table.add_column(name, justify="left" if name in ("nearest to its limit", "figure") else "right")
    for name, stress in result["stresses"].items():
        mine = [test for test in result["tests"] if test["name"] == name]
        if mine:
            test = worst(mine)
            figures = (figure(test, stress, method) for method in ("nirvana", "sense"))
            passed = verdict(mine).replace("*", "")
            style = "" if passed.startswith("pass") else "red"
            table.add_row(name, passed, level_words(test), stress["shown_words"], *figures, style=style)
    stdout().print(table)
    summary = result["summary"]
    say(f"{summary['passed']} of {summary['total']} levels passed, {result['seconds']:.0f} s; {result['notice']}")
