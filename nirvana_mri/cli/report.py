"""nirvana-mri report."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nirvana_mri.cli.options import (
    AccelerateOption,
    AdaptOption,
    AxesOption,
    CalibrationOption,
    CenterOption,
    DatasetOption,
    DeviceOption,
    EncodingOption,
    ErrorBarsOption,
    ImagesOption,
    JsonOption,
    MaskOption,
    Method,
    MethodOption,
    ModelOption,
    SeedOption,
    SlicesOption,
    StrengthOption,
    VolumeOption,
    WeightsOption,
    chosen_mask,
    model_or_weights,
    parse_slices,
)
from nirvana_mri.cli.shell import progress, say, warn, write_json
from nirvana_mri.errors import UsageError

if TYPE_CHECKING:
    from nirvana_mri.recon.batch import Recipe
    from nirvana_mri.report.inspect import Inspection
    from nirvana_mri.report.scored import Scored
    from nirvana_mri.scan import Scan
    from nirvana_mri.volume import Volume

BESIDE = ("zero-filled", "sense")
PAGES, FACTS = (".html", ".htm"), (".json",)


def report(
    scan: Annotated[
        Path,
        typer.Argument(
            metavar="SCAN|VOLUME", help="Raw k-space, pictures (DICOM, NIfTI), or a reconstruction (.h5) made before."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="What to write: a page (.html) or its facts (.json).")
    ],
    json: JsonOption = None,
    target: Annotated[
        Path | None, typer.Option("--target", metavar="SCAN", help="Score against this scan instead of SCAN itself.")
    ] = None,
    model: ModelOption = "nano",
    method: MethodOption = Method.nirvana,
    weights: WeightsOption = None,
    adapt: AdaptOption = 0,
    strength: StrengthOption = 1.0,
    accelerate: AccelerateOption = None,
    mask: MaskOption = None,
    center_fraction: CenterOption = 0.08,
    seed: SeedOption = 0,
    slices: SlicesOption = None,
    alone: Annotated[
        bool, typer.Option("--alone", help=f"Without {' and '.join(BESIDE)} beside it for comparison.")
    ] = False,
    error_bars: ErrorBarsOption = None,
    volume: VolumeOption = None,
    encoding: EncodingOption = None,
    calibration: CalibrationOption = False,
    axes: AxesOption = None,
    dataset: DatasetOption = None,
    images: ImagesOption = False,
    device: DeviceOption = "cpu",
) -> None:
    """Report measured facts: what a scan is, how it was reconstructed, how far to trust it, pictures, scores.

    One self-contained page: nothing is fetched when it is opened; it can be sent and printed. Trust is the residual on measured lines that the method was not shown, and how much of the picture was invented. Of a reconstruction made before, what its file tells is reported.

    Example: nirvana-mri report scan.h5 -o page.html --json facts.json --accelerate 4
    """  # noqa: E501 (rich keeps line ends inside a paragraph)
    wanted, kind = parse_slices(slices), chosen_mask(mask, accelerate)
    chosen = model_or_weights(model, method, weights)
    if out.suffix.lower() not in PAGES + FACTS:
        raise UsageError(f"{out}: a page is .html, its facts are .json; name it so")
    from nirvana_mri.atomic import check_target, same_file
    from nirvana_mri.io.writers.load_h5 import holds_reconstruction
    from nirvana_mri.recon.batch import Recipe

    for written in (out, *([json] if json and json != Path("-") else [])):
        check_target(written)
        if same_file(scan, written):
            raise UsageError(f"{written} is the input; name another file for the report")
    recipe = Recipe(
        method.value, chosen, accelerate, kind, center_fraction, seed, slices=wanted, adapt=adapt, strength=strength,
        trust=True, error_bars=None if error_bars is None else str(error_bars), device=device,
    )  # fmt: skip
    commands = {"page": _command(scan, out, recipe, json, target, alone)}
    if holds_reconstruction(scan):
        _refuse_settings(scan, recipe, target)
        scored, found = _of_volume(scan), None
    else:
        from nirvana_mri.recon.open import open_scan

        source = open_scan(
            scan, volume=volume, encoding=encoding, calibration=calibration, axes=axes, dataset=dataset, images=images
        )
        scored, found = _of_scan(source, recipe, () if alone else BESIDE, model, target)
    _write(scored, found, scan, out, json, commands)


def _of_scan(
    source: Scan, recipe: Recipe, beside: tuple[str, ...], model: str, target: Path | None
) -> tuple[Scored, Inspection]:
    """The reconstruction that is reported and others beside it, scored; and the scan looked at."""
    from dataclasses import replace

    from nirvana_mri.report.inspect import inspect
    from nirvana_mri.report.scored import score_all

    volumes: list[Volume] = []
    plain: dict[str, Any] = {"model": model, "adapt": 0, "strength": 1.0, "error_bars": None}
    with progress(recipe.method) as bar:
        for name in dict.fromkeys([recipe.method, *beside]):
            bar.label(name)
            one = recipe if name == recipe.method else replace(recipe, method=name, **plain)
            volumes.append(one.apply(source, bar))
    return score_all(source, volumes, target), inspect(source)


def _of_volume(path: Path) -> Scored:
    from nirvana_mri.io.writers.load_h5 import load_h5
    from nirvana_mri.report.scored import Scored

    note = "no scan at hand: this tells what the reconstruction says of itself"
    return Scored((load_h5(path),), (None,), None, (note,))


def _refuse_settings(path: Path, recipe: Recipe, target: Path | None) -> None:
    """UsageError for options that would reconstruct what is a reconstruction already."""
    from nirvana_mri.recon.batch import Recipe

    plain = Recipe(trust=True, device=recipe.device)
    given = [name for name in plain.__dataclass_fields__ if getattr(recipe, name) != getattr(plain, name)]
    given += ["target"] if target else []
    if given:
        raise UsageError(
            f"{path} is a reconstruction; {', '.join(given)} would make another: leave it out, or give the scan"
        )


def _write(
    scored: Scored, found: Inspection | None, scan: Path, out: Path, json: Path | None, commands: dict[str, str]
) -> None:
    from nirvana_mri.io.writers.derivation import trust_words
    from nirvana_mri.report.html import write_page
    from nirvana_mri.report.page import page_of
    from nirvana_mri.report.technical import make_facts

    facts = make_facts(found, scored, file=scan.name, commands=commands)
    main = scored.volumes[0]
    warn(main.warnings, scan.name)
    if out.suffix.lower() in FACTS:
        write_json(facts, out)
    else:
        write_page(page_of(scored, facts, found), out)
    if json is not None:
        write_json(facts, json)
    if json != Path("-"):
        methods = ", ".join(str(volume.provenance["method"]) for volume in scored.volumes)
        say(f"wrote {out}: {methods}; {main.provenance['notice']}")
        if words := trust_words(main):
            say(f"trust: {words}")


def _command(scan: Path, out: Path, recipe: Recipe, json: Path | None, target: Path | None, alone: bool) -> str:
    """The command that makes the report again, with names of files alone."""
    from nirvana_mri.recon.batch import Recipe

    plain = Recipe()
    words = ["nirvana-mri", "report", scan.name, "-o", out.name]
    words += ["--json", json.name or "-"] if json else []
    words += ["--target", target.name] if target else []
    for name in ("method", "accelerate", "mask", "center_fraction", "seed", "adapt", "strength", "error_bars", "model"):
        value = getattr(recipe, name)
        if value != getattr(plain, name):
            option = "weights" if name == "model" and recipe.method.startswith("fastmri") else name.replace("_", "-")
            words += [f"--{option}", Path(value).name if isinstance(value, str) else f"{value:g}"]
    if recipe.slices:
        words += ["--slices", ":".join("" if end is None else str(end) for end in recipe.slices)]
    return shlex.join([*words, *(["--alone"] if alone else [])])
