"""The few pictures that a page shows of an evaluation, read or reconstructed only when asked for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.eval.evaluate import compared_slice
from nirvana_mri.eval.pairing import find_sets
from nirvana_mri.eval.target import open_target
from nirvana_mri.io.save import load_volume
from nirvana_mri.recon.batch import Recipe
from nirvana_mri.recon.jobs import scans_in
from nirvana_mri.recon.open import open_scan

Picture = NDArray[np.floating]
Pictures = Callable[[Mapping[str, Any]], tuple[Picture, dict[str, Picture]]]


def pictures_of_files(
    predictions: str | Path | Sequence[str | Path], targets: str | Path, allow_missing: bool = False
) -> Pictures:
    """For a row of an evaluation's ``volumes``: (target, prediction by method) of its worst slice, from the files that
    :func:`~nirvana_mri.eval.run.evaluate_files` was given.
    """
    sets = find_sets(predictions, targets, allow_missing)
    paths = {sets.shown(path): path for path in sets.wanted}

    def pictures(row: Mapping[str, Any]) -> tuple[Picture, dict[str, Picture]]:
        path, number = paths[row["file"]], row["worst_slice"]["slice"]
        target = open_target(path)
        methods = [name or str(row["method"]) for name in sets.names]
        both = [compared_slice(path.name, load_volume(of[path]), target, number) for of in sets.made]
        return both[0][0], {method: found for method, (_, found) in zip(methods, both, strict=True)}

    return pictures


def pictures_of_methods(scans: Sequence[Path], recipes: Mapping[str, Recipe]) -> Pictures:
    """For a row of an evaluation's ``volumes``: (target, picture by method) of its worst slice, which is reconstructed
    again as :func:`~nirvana_mri.eval.run.evaluate_methods` did.
    """
    paths = {path.name: path for given in scans for path in scans_in(given)}

    def pictures(row: Mapping[str, Any]) -> tuple[Picture, dict[str, Picture]]:
        number = row["worst_slice"]["slice"]
        scan = open_scan(paths[row["file"]])
        target, found = open_target(scan), {}
        for method, recipe in recipes.items():
            volume = replace(recipe, slices=(number, number + 1)).apply(scan)
            wanted, found[method] = compared_slice(scan.name, volume, target, number)
        return wanted, found

    return pictures
