"""nirvana-mri evaluate."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nirvana_mri.cli.options import (
    MODEL,
    AccelerateOption,
    CenterOption,
    Combine,
    CombineOption,
    DeviceOption,
    JsonOption,
    MaskOption,
    Method,
    PrewhitenOption,
    SeedOption,
    SlicesOption,
    WeightsOption,
    chosen_mask,
    model_or_weights,
    parse_slices,
)
from nirvana_mri.cli.shell import command_line, given, progress, warn, write_json
from nirvana_mri.errors import UsageError

if TYPE_CHECKING:
    from nirvana_mri.recon.batch import Recipe


class ProtocolName(StrEnum):
    fastmri = "fastmri"
    foreground = "fastmri-foreground"
    per_slice = "per-slice"


SCANS_ONLY = ("model", "method", "weights", "combine", "prewhiten", "accelerate", "mask", "center_fraction", "slices")

MethodsOption = Annotated[
    list[Method] | None,
    typer.Option("--method", help="Reconstruct the scans so, and score; several side by side.", rich_help_panel=MODEL),
]
ModelsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="NAME|PATH",
        help="Model: nano, or a checkpoint; several side by side.",
        rich_help_panel=MODEL,
    ),
]


def evaluate(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PREDICTIONS|SCANS...", help="Reconstructions to score against --target, or scans to reconstruct."
        ),
    ],
    target: Annotated[
        Path | None, typer.Option("--target", "-t", metavar="SCANS", help="The scans, by the same names.")
    ] = None,
    protocol: Annotated[
        ProtocolName, typer.Option("--protocol", help="The rule of the scores.")
    ] = ProtocolName.fastmri,
    model: ModelsOption = None,
    method: MethodsOption = None,
    weights: WeightsOption = None,
    combine: CombineOption = Combine.rss,
    prewhiten: PrewhitenOption = True,
    accelerate: AccelerateOption = None,
    mask: MaskOption = None,
    center_fraction: CenterOption = 0.08,
    seed: SeedOption = 0,
    slices: SlicesOption = None,
    annotations: Annotated[
        Path | None,
        typer.Option("--annotations", metavar="FILE", help="fastMRI+ boxes (.csv): scores within each, too."),
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Score the rest where predictions are missing, or scans bad.")
    ] = False,
    draws: Annotated[int, typer.Option("--draws", help="Of the bootstrap over patients.")] = 2000,
    device: DeviceOption = "cpu",
    json: JsonOption = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write a table, one row per volume and method.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page: tables, worst cases, words to paste.")
    ] = None,
) -> None:
    """Score reconstructions by a named rule: SSIM, PSNR, NMSE and more, with intervals over patients.

    With --target, any HDF5 file with a dataset "reconstruction" (slices, ny, nx) can be scored, whoever made it; several folders stand side by side. Without it, each scan is reconstructed by every --method and --model and scored against its own target.

    Example: nirvana-mri evaluate recon/ --target scans/ --json scores.json
    """  # noqa: E501 (rich keeps line ends inside a paragraph)
    wanted = parse_slices(slices)
    kind = chosen_mask(mask, accelerate)
    if target is not None and (unused := [option for name, (option, _) in given().items() if name in SCANS_ONLY]):
        raise UsageError(f"{unused[0].opts[0]} is for scans that are reconstructed here; leave it or --target out")
    inputs = (*paths, *((target,) if target else ()), *((annotations,) if annotations else ()))
    _check_outputs(json, csv, html, inputs)
    from nirvana_mri.cli.evaluate_show import show
    from nirvana_mri.eval.pictures import pictures_of_files, pictures_of_methods
    from nirvana_mri.eval.regions import read_annotations
    from nirvana_mri.eval.run import Rule, evaluate_files, evaluate_methods
    from nirvana_mri.eval.table import write_csv
    from nirvana_mri.recon.batch import Recipe

    boxes = read_annotations(annotations) if annotations else None
    rule = Rule(protocol.value, boxes, draws, seed, allow_missing)
    with progress("scoring") as update:
        if target is not None:
            study = evaluate_files(paths, target, update, rule)
            pictures = pictures_of_files(paths, target, allow_missing)
        else:
            common = Recipe(
                accelerate=accelerate,
                mask=kind,
                center_fraction=center_fraction,
                seed=seed,
                slices=wanted,
                combine=combine.value,
                prewhiten=prewhiten,
                device=device,
            )
            recipes = _recipes(common, model or [], method or [], weights)
            study = evaluate_methods(paths, recipes, update, rule)
            pictures = pictures_of_methods(paths, recipes)
    warn((*study.warnings, *study.notes))
    result = study.as_dict(command_line()) if json or html else {}
    if json is not None:
        write_json(result, json, inputs)
    if csv is not None:
        write_csv(study, csv)
    if html is not None:
        from nirvana_mri.report.evaluation_page import make_evaluation_page
        from nirvana_mri.report.html import write_page

        with progress("pictures"):
            write_page(make_evaluation_page(result, pictures), html)
    if json != Path("-"):
        show(study)


def _check_outputs(json: Path | None, csv: Path | None, html: Path | None, inputs: tuple[Path, ...]) -> None:
    """UsageError, before any work, for what could not be written or would replace an input."""
    from nirvana_mri.atomic import check_target, same_file

    if html is not None and html.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{html}: a page is .html; name it so")
    outputs = [out for out in (json, csv, html) if out is not None and out != Path("-")]
    for place, out in enumerate(outputs):
        check_target(out)
        if any(same_file(path, out) for path in inputs):
            raise UsageError(f"{out} is an input; name another file for the output")
        if any(same_file(other, out) for other in outputs[:place]):
            raise UsageError(f"{out} is named twice; name a file for each output")


def _recipes(common: Recipe, models: list[str], methods: list[Method], weights: Path | None) -> dict[str, Recipe]:
    """What is run, by the name that tables give it; a model stands for nirvana, as does nothing at all."""
    from dataclasses import replace

    found: dict[str, Recipe] = {}
    peers = [name for name in methods if name in (Method.fastmri_unet, Method.fastmri_varnet)]
    if len(set(peers)) > 1:
        raise UsageError(f"--weights is one file, and {' and '.join(peers)} need two; evaluate them apart")
    if weights is not None and not peers:
        raise UsageError("--weights is for the fastmri methods; add --method fastmri-varnet, say, or leave it out")
    if models or not methods:
        methods = [Method.nirvana, *(name for name in methods if name is not Method.nirvana)]
    for name in methods:
        if name is not Method.nirvana:
            loads = model_or_weights("nano", name, weights if name in peers else None)
            found[name.value] = replace(common, method=name.value, model=loads)
            continue
        for path in models or ["nano"]:
            called = name.value if len(models) < 2 else f"{name.value} ({Path(path).stem})"
            if called in found:
                raise UsageError(f"two models are called {Path(path).stem}; rename one")
            found[called] = replace(common, method=name.value, model=path)
    return found
