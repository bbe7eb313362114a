"""nirvana-mri simulate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nirvana_mri.cli.options import SlicesOption, parse_slices
from nirvana_mri.cli.shell import say, warn
from nirvana_mri.errors import UsageError


def simulate(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Picture: .nii, .nii.gz or .npy (slices, ny, nx).")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The scan to write (.h5).")],
    coils: Annotated[int, typer.Option("--coils", help="Receive coils, 1 to 64.")] = 8,
    noise: Annotated[float, typer.Option("--noise", help="Noise of a coil pixel / brightest pixel.")] = 0.01,
    phase: Annotated[float, typer.Option("--phase", help="Range of the smooth object phase, rad.")] = 2.0,
    seed: Annotated[int, typer.Option("--seed", help="Of coils, phase and noise.")] = 0,
    slices: SlicesOption = None,
    volume: Annotated[int | None, typer.Option("--volume", help="Which volume of a NIfTI series, from 0.")] = None,
) -> None:
    """Make multi-coil k-space from a picture: a fully sampled scan in fastMRI's layout, stamped "simulated".

    Its targets, the root sum of squares of the noisy coils, go along. Scores on it say less than on measured k-space.

    Example: nirvana-mri simulate brain.nii.gz -o scan.h5 --coils 8 --noise 0.01 --slices 40:50
    """
    from nirvana_mri.atomic import check_target, same_file
    from nirvana_mri.io.nifti import read_image_volume
    from nirvana_mri.recon.batch import pick_slices
    from nirvana_mri.recon.simulate import simulate as make_scan

    if same_file(image, out):
        raise UsageError(f"{out} is the picture itself; name another file to write")
    check_target(out)
    wanted = parse_slices(slices)
    numbers = pick_slices(wanted, len(read_image_volume(image, volume)[0]), str(image)) if wanted else None
    scan = make_scan(image, coils=coils, noise=noise, phase=phase, seed=seed, slices=numbers, volume=volume, out=out)
    warn(scan.warnings, str(out))
    found, channels, ny, nx = scan.shape
    say(f"wrote {out}: {found} slices, {channels} coils, {ny} x {nx}, fully sampled; simulated")
