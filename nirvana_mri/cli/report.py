"""nirvana-mri report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    IdentifiersOption,
    ImagesOption,
    JsonOption,
    MaskOption,
    Method,
    MethodOption,
    ModelOption,
    ReferenceOption,
    SeedOption,
    SlicesOption,
    StrengthOption,
    VolumeOption,
    WeightsOption,
    chosen_mask,
    model_or_weights,
    parse_slices,
)
from nirvana_mri.cli.report_steps import (
    check_outputs,
    drafted,
    gather,
    made_before,
    reconstructed,
    refuse_settings,
    write,
)
from nirvana_mri.cli.shell import command_line
from nirvana_mri.errors import UsageError

BESIDE = ("zero-filled", "sense")


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
    findings: Annotated[
        bool,
        typer.Option("--findings", help="Add draft findings: unverified, by a model that was taught them."),
    ] = False,
    findings_model: Annotated[
        Path | None,
        typer.Option("--findings-model", metavar="FILE", help="Who drafts them, where it is not --model."),
    ] = None,
    volume: VolumeOption = None,
    encoding: EncodingOption = None,
    calibration: CalibrationOption = False,
    axes: AxesOption = None,
    dataset: DatasetOption = None,
    images: ImagesOption = False,
    reference_dicom: ReferenceOption = None,
    keep_identifiers: IdentifiersOption = False,
    device: DeviceOption = "cpu",
) -> None:
    """Report measured facts: what a scan is, how it was reconstructed, how far to trust it, pictures, scores.

    One self-contained page: nothing is fetched when it is opened; it can be sent and printed. Trust is the residual on measured lines that the method was not shown, and how much of the picture was invented. Of a reconstruction made before, what its file tells is reported.

    Example: nirvana-mri report scan.h5 -o page.html --json facts.json --accelerate 4
    """  # noqa: E501 (rich keeps line ends inside a paragraph)
    wanted, kind = parse_slices(slices), chosen_mask(mask, accelerate)
    chosen = model_or_weights(model, method, weights)
    if findings_model is not None and not findings:
        raise UsageError(f"{findings_model} would draft findings; add --findings, or leave it out")
    check_outputs(scan, out, json, reference_dicom, keep_identifiers)
    from nirvana_mri.io.writers.load_h5 import holds_reconstruction
    from nirvana_mri.recon.batch import Recipe

    recipe = Recipe(
        method.value, chosen, accelerate, kind, center_fraction, seed, slices=wanted, adapt=adapt, strength=strength,
        trust=True, error_bars=error_bars, device=device,
    )  # fmt: skip
    commands = {"page": command_line()}
    if holds_reconstruction(scan):
        refuse_settings(scan, recipe, target)
        if findings:
            raise UsageError(f"{scan} is a reconstruction; findings are drafted from a scan's samples: give the scan")
        scored, found, draft = made_before(scan), None, None
    else:
        from nirvana_mri.recon.open import open_scan

        source = open_scan(
            scan, volume=volume, encoding=encoding, calibration=calibration, axes=axes, dataset=dataset, images=images
        )
        draft = drafted(source, recipe, findings_model or model) if findings else None
        scored, found = reconstructed(source, recipe, () if alone else BESIDE, model, target)
    facts = gather(scored, found, scan, commands, draft)
    write(facts, scored, found, draft, out, json, reference_dicom, keep_identifiers)
