"""nirvana-mri reconstruct."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nirvana_mri.cli.options import (
    MODEL,
    OUTPUT,
    AccelerateOption,
    AdaptOption,
    AxesOption,
    CalibrationOption,
    CenterOption,
    Combine,
    CombineOption,
    DatasetOption,
    DeviceOption,
    EncodingOption,
    ErrorBarsOption,
    FloatOption,
    FormatOption,
    IdentifiersOption,
    ImagesOption,
    MaskOption,
    Method,
    MethodOption,
    ModelOption,
    OrientationOption,
    PrewhitenOption,
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
from nirvana_mri.cli.shell import describe, fail, progress, say, warn

if TYPE_CHECKING:
    from nirvana_mri.recon.batch import Outcome, Recipe
    from nirvana_mri.recon.jobs import Reading, Writing


def reconstruct(
    scans: Annotated[
        list[Path],
        typer.Argument(
            metavar="SCAN...",
            help="Raw k-space (fastMRI, ISMRMRD, BART cfl, Siemens twix, npy, npz, mat), pictures (DICOM, NIfTI), or folders.",  # noqa: E501
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="OUT",
            help="The file to write (.h5, .nii.gz, .png), a folder NAME.dcm of DICOM, or a folder for several.",
            rich_help_panel=OUTPUT,
        ),
    ],
    model: ModelOption = "nano",
    method: MethodOption = Method.nirvana,
    weights: WeightsOption = None,
    combine: CombineOption = Combine.rss,
    keep_phase: Annotated[
        bool,
        typer.Option(
            "--complex", help="Keep the phase: complex voxels, without the noise floor.", rich_help_panel=MODEL
        ),
    ] = False,
    prewhiten: PrewhitenOption = True,
    adapt: AdaptOption = 0,
    strength: StrengthOption = 1.0,
    accelerate: AccelerateOption = None,
    mask: MaskOption = None,
    center_fraction: CenterOption = 0.08,
    seed: SeedOption = 0,
    slices: SlicesOption = None,
    volume: VolumeOption = None,
    encoding: EncodingOption = None,
    calibration: CalibrationOption = False,
    axes: AxesOption = None,
    dataset: DatasetOption = None,
    images: ImagesOption = False,
    format: FormatOption = None,
    reference_dicom: ReferenceOption = None,
    assume_orientation: OrientationOption = None,
    floating: FloatOption = False,
    keep_identifiers: IdentifiersOption = False,
    trust: Annotated[
        bool,
        typer.Option(
            "--trust",
            help="Also measure, in three slices at most, the residual on withheld lines and what was invented.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    error_bars: ErrorBarsOption = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="In a folder, also make anew what is there and still right.", rich_help_panel=OUTPUT
        ),
    ] = False,
    device: DeviceOption = "cpu",
) -> None:
    """Reconstruct scans, as they were sampled or as if they had been sampled faster.

    What a scan is, its content says. Pictures hold no raw data: their k-space is simulated, and every output says so. A folder of DICOM is one series; another stands for the scans in it. Several scans go into a folder under their own names: what is there already, from the same scan with the same settings, is not made again (HDF5, NIfTI); a scan that cannot be used is named, and the others go on.

    Example: nirvana-mri reconstruct scan.h5 -o recon.nii.gz --accelerate 4 --mask equispaced_fraction --seed 0
    """  # noqa: E501 (rich keeps line ends inside a paragraph)
    wanted, kind = parse_slices(slices), chosen_mask(mask, accelerate)
    from nirvana_mri.recon.batch import Recipe
    from nirvana_mri.recon.jobs import Reading, Writing

    recipe = Recipe(
        method=method.value,
        model=model_or_weights(model, method, weights),
        accelerate=accelerate,
        mask=kind,
        center_fraction=center_fraction,
        seed=seed,
        slices=wanted,
        combine=combine.value,
        keep_phase=keep_phase,
        prewhiten=prewhiten,
        adapt=adapt,
        strength=strength,
        trust=trust,
        error_bars=error_bars,
        device=device,
    )
    reading = Reading(volume, encoding, calibration, axes, dataset, images)
    writing = Writing(
        format and format.value,
        reference_dicom,
        assume_orientation and assume_orientation.value,
        floating,
        keep_identifiers,
    )
    _run(scans, out, recipe, reading, writing, overwrite)


def _run(scans: list[Path], out: Path, recipe: Recipe, reading: Reading, writing: Writing, overwrite: bool) -> None:
    from nirvana_mri.recon.batch import run
    from nirvana_mri.recon.jobs import plan

    jobs = plan(scans, out, writing)
    alone = len(jobs) == 1 and jobs[0].out == out
    outcomes = []
    with progress(jobs[0].scan.name) as bar:
        done = run(jobs, recipe, reading=reading, writing=writing, redo=overwrite or alone, progress=bar)
        for outcome in done:
            if alone and outcome.error is not None:
                raise outcome.error
            outcomes.append(outcome)
            _tell(outcome)
            if len(outcomes) < len(jobs):
                bar.label(jobs[len(outcomes)].scan.name)
    if not alone:
        _sum_up(outcomes, out)


def _tell(outcome: Outcome) -> None:
    """One line about one scan."""
    from nirvana_mri.io.writers.derivation import adaptation_words, method_words, sampling_words, trust_words

    if outcome.error is not None:
        fail(describe(outcome.error))
    elif outcome.volume is None:
        say(f"kept {outcome.job.out}: made before with the same settings")
    else:
        volume = outcome.volume
        warn(volume.warnings, outcome.job.scan.name)
        slices = f"{len(volume.slices)} slice{'s' if len(volume.slices) > 1 else ''}"
        slices += f" x {outcome.volumes} volumes" if outcome.volumes > 1 else ""
        words = f"{slices}, {method_words(volume)}, {sampling_words(volume)}, {outcome.seconds:.1f} s"
        stamp = volume.provenance["source"].get("kspace")
        words += f"; {stamp}" if stamp else ""
        say(f"wrote {outcome.job.out}: {words}; {volume.provenance['notice']}")
        if trust := trust_words(volume):
            say(f"trust in {outcome.job.out.name}: {trust}")
        if adapted := adaptation_words(volume):
            say(f"adapted to {outcome.job.scan.name}: {adapted}")


def _sum_up(outcomes: list[Outcome], out: Path) -> None:
    """The counts; exit code 1 where a scan could not be used."""
    kept = sum(outcome.skipped for outcome in outcomes)
    bad = [outcome.job.scan.name for outcome in outcomes if outcome.error is not None]
    counts = f"{len(outcomes) - kept - len(bad)} written, {kept} kept, {len(bad)} failed"
    if bad:
        fail(f"{out}: {counts} ({', '.join(bad)})")
        raise typer.Exit(1)
    say(f"{out}: {counts}")
