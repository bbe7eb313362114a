"""nirvana-mri reconstruct."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nirvana_mri.cli.options import (
    AccelerateOption,
    CenterOption,
    Combine,
    CombineOption,
    DeviceOption,
    MaskOption,
    Method,
    MethodOption,
    ModelOption,
    SeedOption,
    SlicesOption,
    chosen_mask,
    parse_slices,
)
from nirvana_mri.cli.shell import describe, fail, progress, say, warn

if TYPE_CHECKING:
    from nirvana_mri.recon.batch import Outcome


def reconstruct(
    scans: Annotated[list[Path], typer.Argument(metavar="SCAN...", help="Raw k-space (fastMRI h5), or folders.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="The file to write (.h5), or a folder.")],
    model: ModelOption = "nano",
    method: MethodOption = Method.nirvana,
    accelerate: AccelerateOption = None,
    mask: MaskOption = None,
    center_fraction: CenterOption = 0.08,
    seed: SeedOption = 0,
    slices: SlicesOption = None,
    combine: CombineOption = Combine.rss,
    keep_phase: Annotated[
        bool, typer.Option("--complex", help="Keep the phase: complex voxels, without the noise floor.")
    ] = False,
    device: DeviceOption = "cpu",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="In a folder, also make anew what is there and still right.")
    ] = False,
) -> None:
    """Reconstruct scans, as they were sampled or as if they had been sampled faster, into fastMRI-style HDF5.

    Several scans, or a folder, go into a folder under their own names. What is there already, from the same scan with the same settings, is not made again; a scan that cannot be used is named, and the others go on.

    Example: nirvana-mri reconstruct scan.h5 -o recon.h5 --accelerate 4 --mask equispaced_fraction --seed 0
    """  # noqa: E501 (rich keeps line ends inside a paragraph)
    wanted, kind = parse_slices(slices), chosen_mask(mask, accelerate)
    from nirvana_mri.recon.batch import Recipe, plan, run

    recipe = Recipe(
        method=method.value,
        model=model,
        accelerate=accelerate,
        mask=kind,
        center_fraction=center_fraction,
        seed=seed,
        slices=wanted,
        combine=combine.value,
        keep_phase=keep_phase,
        device=device,
    )
    jobs = plan(scans, out)
    alone = len(jobs) == 1 and jobs[0].out == out
    outcomes = []
    with progress(jobs[0].scan.name) as bar:
        for outcome in run(jobs, recipe, redo=overwrite or alone, progress=bar):
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
    from nirvana_mri.report.facts import made_by, sampling_words

    if outcome.error is not None:
        fail(describe(outcome.error))
    elif outcome.volume is None:
        say(f"kept {outcome.job.out}: made before with the same settings")
    else:
        volume = outcome.volume
        warn(volume.warnings, outcome.job.scan.name)
        slices = f"{len(volume.slices)} slice{'s' if len(volume.slices) > 1 else ''}"
        words = f"{slices}, {made_by(volume)}, {sampling_words(volume)}, {outcome.seconds:.1f} s"
        say(f"wrote {outcome.job.out}: {words}; {volume.provenance['notice']}")


def _sum_up(outcomes: list[Outcome], out: Path) -> None:
    """The counts; exit code 1 where a scan could not be used."""
    kept = sum(outcome.skipped for outcome in outcomes)
    bad = [outcome.job.scan.name for outcome in outcomes if outcome.error is not None]
    counts = f"{len(outcomes) - kept - len(bad)} written, {kept} kept, {len(bad)} failed"
    if bad:
        fail(f"{out}: {counts} ({', '.join(bad)})")
        raise typer.Exit(1)
    say(f"{out}: {counts}")
