"""The test helpers themselves: an oracle that is wrong proves nothing."""

from pathlib import Path

import numpy as np
from support import brain8, centred_ifft2, read_cfl, write_brain8, write_cfl

import nirvana_mri as nm


def test_cfl_round_trip_keeps_every_axis(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    array = (rng.normal(size=(1, 5, 4, 3)) + 1j * rng.normal(size=(1, 5, 4, 3))).astype(np.complex64)
    write_cfl(tmp_path / "a", array)
    np.testing.assert_array_equal(read_cfl(tmp_path / "a.cfl"), array)
    first_axis_runs_fastest = np.fromfile(tmp_path / "a.cfl", dtype=np.complex64)[:5]
    np.testing.assert_array_equal(first_axis_runs_fastest, array[0, :, 0, 0])


def test_centred_ifft_of_the_centre_sample_is_flat() -> None:
    for ny, nx in [(6, 5), (7, 8)]:
        kspace = np.zeros((ny, nx), np.complex64)
        kspace[ny // 2, nx // 2] = 1
        np.testing.assert_allclose(centred_ifft2(kspace), 1 / np.sqrt(ny * nx), rtol=1e-6)


def test_brain8_is_centred_and_axial(shared_data: Path) -> None:
    """Most energy lies at n // 2, and the head is longer along ny than along nx."""
    kspace = brain8(shared_data)
    assert kspace.shape == (8, 230, 180)
    assert kspace.dtype == np.complex64
    energy = (np.abs(kspace) ** 2).sum(axis=0)
    centre = [np.average(np.arange(n), weights=energy.sum(axis=1 - axis)) for axis, n in enumerate((230, 180))]
    np.testing.assert_allclose(centre, [115, 90], atol=1)
    rss = np.sqrt((np.abs(centred_ifft2(kspace)) ** 2).sum(axis=0))
    inside = rss > 0.1 * rss.max()
    assert inside.any(axis=1).sum() > inside.any(axis=0).sum()


def test_brain8_as_a_fastmri_file_is_the_same_scan(shared_data: Path, tmp_path: Path) -> None:
    scan = nm.open_scan(write_brain8(shared_data, tmp_path / "brain8.h5"))
    assert scan.fully_sampled
    np.testing.assert_array_equal(scan.kspace[0], brain8(shared_data))
    assert scan.reference is not None
    assert scan.reference[0].shape == (230, 180)
