"""Residual on withheld lines of clean and spoiled scans: where the thresholds of its badges come from.

python benchmarks/trust.py [SCAN]

Without SCAN, nibabel's example brain with simulated coils at three levels of noise; else the first slice of that scan.
"""

import sys
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

import nirvana_mri as nm
from nirvana_mri.physics.masks import make_mask
from nirvana_mri.recon.baselines import cg_sense
from nirvana_mri.recon.problem import prepare_slice
from nirvana_mri.recon.withheld import badge_of, explained_share, miss
from nirvana_mri.report.demo import brain
from nirvana_mri.scan import Scan

KSpace = NDArray[np.complex64]
CENTRE = 0.05  # of the columns, on each side, that no spoiling touches: maps stay right


def outer(kspace: KSpace) -> NDArray[np.bool_]:
    nx = kspace.shape[-1]
    return np.abs(np.arange(nx) - nx // 2) > CENTRE * nx


def moved(kspace: KSpace) -> KSpace:
    """The later half of the lines measured after a shift of three pixels along the readout."""
    ny, nx = kspace.shape[1:]
    ramp = np.exp(-2j * np.pi * 3 * (np.arange(ny) - ny // 2) / ny)[:, None]
    return np.where(outer(kspace) & (np.arange(nx) > nx // 2), kspace * ramp, kspace).astype(np.complex64)


def mislabelled(kspace: KSpace) -> KSpace:
    """Outer lines two places off."""
    return np.where(outer(kspace), np.roll(kspace, 2, axis=-1), kspace)


def flipped(kspace: KSpace) -> KSpace:
    """One coil with the wrong sign in the outer lines."""
    turned = kspace.copy()
    turned[0][:, outer(kspace)] *= -1
    return turned


SPOILED: dict[str, Callable[[KSpace], KSpace]] = {
    "clean": lambda kspace: kspace,
    "moved": moved,
    "mislabelled": mislabelled,
    "coil flipped": flipped,
}


def scans() -> Iterator[tuple[str, Scan, int]]:
    """(noise, scan, slice) of what is looked at."""
    if sys.argv[1:]:
        yield "its own", nm.open_scan(sys.argv[1]), 0
        return
    pictures, _ = brain()
    for noise in (0.005, 0.01, 0.02):
        yield f"{noise}", nm.simulate(pictures, coils=8, seed=0, noise=noise), 2


def main() -> None:
    network = nm.load_model("nano").model
    solvers = {"sense": cg_sense, "nano": lambda problem: network([problem])[0]}
    columns = ("noise", "acceleration", "scan", "method", "residual", "zeros", "explained", "badge")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for noise, scan, number in scans():
        for acceleration, centre in ((4, 0.08), (8, 0.04)):
            mask = make_mask("equispaced_fraction", scan.shape[2:], acceleration, centre, 0)
            for name, spoil in SPOILED.items():
                problem = prepare_slice(spoil(scan.kspace[number]), mask, scan.crop)
                for method, solver in solvers.items():
                    with torch.inference_mode():
                        found = miss(problem, solver)
                    share = explained_share(found.value, found.zeros)
                    words = "–" if share is None else f"{share:.2f}"
                    print(
                        f"| {noise} | {acceleration}x | {name} | {method} | {found.value:.2f} | {found.zeros:.2f} "
                        f"| {words} | {badge_of(found.value, share)} |"
                    )


if __name__ == "__main__":
    main()
