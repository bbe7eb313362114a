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
    ImagesOption,
    MaskOption,
    Method,
    MethodOption,
    ModelOption,
    SeedOption,
    SlicesOption,
    VolumeOption,
    WeightsOption,
    chosen_mask,
    model_or_weights,
    parse_slices,
)
from nirvana_mri.cli.shell import progress, say, warn
from nirvana_mri.errors import UsageError

BESIDE = ("zero-filled", "sense")


def report(
    scan: Annotated[Path, typer.Argument(metavar="SCAN", help="Raw k-space, or pictures (DICOM, NIfTI).")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The page to write (.html).")],
    target: Annotated[
        Path | None, typer.Option("--target", metavar="SCAN", help="Score against this scan instead of SCAN itself.")
    ] = None,
    model: ModelOption = "nano",
    method: MethodOption = Method.nirvana,
    weights: WeightsOption = None,
    adapt: AdaptOption = 0,
    accelerate: AccelerateOption = None,
    mask: MaskOption = None,
    center_fraction: CenterOption = 0.08,
    seed: SeedOption = 0,
    slices: SlicesOption = None,
    alone: Annotated[
        bool, typer.Option("--alone", help=f"Without {' and '.join(BESIDE)} beside it for comparison.")
    ] = False,
    volume: VolumeOption = None,
    encoding: EncodingOption = None,
    calibration: CalibrationOption = False,
    axes: AxesOption = None,
    dataset: DatasetOption = None,
    images: ImagesOption = False,
    device: DeviceOption = "cpu",
) -> None:
    """Make one self-contained page: what a scan is, how it was reconstructed, pictures, scores where there is a target.

    Nothing is fetched when it is opened; it can be sent and printed.

    Example: nirvana-mri report scan.h5 -o page.html --accelerate 4
    """
    wanted, kind = parse_slices(slices), chosen_mask(mask, accelerate)
    chosen = model_or_weights(model, method, weights)
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{out}: a page is .html; name it so")
    from nirvana_mri.atomic import check_target
    from nirvana_mri.recon.batch import Recipe
    from nirvana_mri.recon.open import open_scan
    from nirvana_mri.report.html import write_page
    from nirvana_mri.report.page import make_page

    check_target(out)
    source = open_scan(
        scan, volume=volume, encoding=encoding, calibration=calibration, axes=axes, dataset=dataset, images=images
    )
    methods = [method.value] if alone else list(dict.fromkeys([method.value, *BESIDE]))
    volumes = []
    with progress(method.value) as bar:
        for name in methods:
            bar.label(name)
            loads = chosen if name == method.value else model
            steps = adapt if name == method.value else 0
            recipe = Recipe(
                name, loads, accelerate, kind, center_fraction, seed, slices=wanted, adapt=steps, device=device
            )
            volumes.append(recipe.apply(source, bar))
    warn(volumes[0].warnings, scan.name)
    write_page(make_page(source, volumes, target), out)
    say(f"wrote {out}: {', '.join(methods)}; {volumes[0].provenance['notice']}")
