"""The pictures of an evaluation's page: the slice that is named, as the scores compare it."""

from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_scan

import nirvana_mri as nm
from nirvana_mri.eval.evaluate import compared_slice
from nirvana_mri.eval.pictures import pictures_of_files, pictures_of_methods
from nirvana_mri.eval.run import evaluate_files
from nirvana_mri.eval.target import open_target
from nirvana_mri.recon.batch import Recipe

RECIPE = Recipe("sense", accelerate=4, center_fraction=0.16)


def test_the_slice_is_the_one_that_is_named() -> None:
    draw = np.random.default_rng(0)
    target, prediction = draw.random((2, 4, 24, 20)).astype(np.float32)
    for number in range(4):
        wanted, found = compared_slice("file", prediction, open_target(target), number)
        np.testing.assert_array_equal(wanted, target[number, 2:22])
        np.testing.assert_array_equal(found, prediction[number, 2:22])


def test_files_and_methods_give_one_picture(tmp_path: Path) -> None:
    """Read from a file that holds some slices, or reconstructed again: the same pixels."""
    tiny_scan(slices=3, out=tmp_path / "head.h5")
    volume = RECIPE.apply(nm.open_scan(tmp_path / "head.h5"))
    (tmp_path / "made").mkdir()
    nm.save(volume, tmp_path / "made" / "head.h5")
    row = evaluate_files(tmp_path / "made", tmp_path / "head.h5").as_dict()["volumes"][0]
    read = pictures_of_files(tmp_path / "made", tmp_path / "head.h5")(row)
    again = pictures_of_methods([tmp_path / "head.h5"], {"sense": RECIPE})(row)
    np.testing.assert_array_equal(read[0], again[0])
    np.testing.assert_array_equal(read[1]["sense"], again[1]["sense"])


@pytest.mark.parametrize("number", [0, 2])
def test_a_volume_of_some_slices_knows_their_numbers(tmp_path: Path, number: int) -> None:
    tiny_scan(slices=3, out=tmp_path / "head.h5")
    scan = nm.open_scan(tmp_path / "head.h5")
    whole = RECIPE.apply(scan)
    some = nm.reconstruct(scan, method="sense", accelerate=4, center_fraction=0.16, slices=[0, 2])
    _, found = compared_slice("head", some, open_target(scan), number)
    _, same = compared_slice("head", whole, open_target(scan), number)
    np.testing.assert_array_equal(found, same)
