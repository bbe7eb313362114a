"""Scans made from pictures: what comes out is what went in, and says that it was made."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import centred_ifft2

import nirvana_mri as nm
from nirvana_mri.errors import DataError, UsageError


def picture(slices: int = 3, ny: int = 24, nx: int = 20) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : ny * 1j, -1 : 1 : nx * 1j]
    disc = (y**2 + x**2 < 0.6).astype(np.float32)
    return np.stack([disc * (1 + number) * (1 + 0.3 * x) for number in range(slices)]).astype(np.float32)


def test_noiseless_rss_is_the_picture() -> None:
    made = picture()
    scan = nm.simulate(made, coils=5, noise=0)
    for number in range(3):
        np.testing.assert_allclose(scan.reference[number], made[number], atol=1e-5)
        coil_images = centred_ifft2(scan.kspace[number])
        np.testing.assert_allclose(np.sqrt((np.abs(coil_images) ** 2).sum(0)), made[number], atol=1e-5)


def test_complex_picture_keeps_its_phase() -> None:
    """One coil of unit sensitivity magnitude and no added phase: k-space differs by the coil's own phase only."""
    made = (picture(1) * np.exp(0.7j)).astype(np.complex64)
    one = centred_ifft2(nm.simulate(made, coils=1, noise=0, phase=0).kspace[0])[0]
    other = centred_ifft2(nm.simulate(np.abs(made), coils=1, noise=0, phase=0).kspace[0])[0]
    inside = np.abs(made[0]) > 0
    np.testing.assert_allclose(np.angle(one / np.where(inside, other, 1))[inside], 0.7, atol=1e-4)


def test_noise_has_the_stated_level() -> None:
    made = picture(1, 64, 64)
    quiet, noisy = (nm.simulate(made, coils=4, noise=noise).kspace[0] for noise in (0, 0.05))
    measured = np.sqrt(np.mean(np.abs(noisy - quiet) ** 2))
    assert measured == pytest.approx(0.05 * made.max(), rel=0.03)


@given(seed=st.integers(0, 2**31), slices=st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True))
def test_picked_slices_are_those_of_the_whole(seed: int, slices: list[int]) -> None:
    whole = nm.simulate(picture(5), coils=2, seed=seed)
    some = nm.simulate(picture(5), coils=2, seed=seed, slices=slices)
    assert len(some.kspace) == len(slices)
    for place, number in enumerate(slices):
        np.testing.assert_array_equal(some.kspace[place], whole.kspace[number])


def test_seeds_differ() -> None:
    assert not np.array_equal(nm.simulate(picture(), seed=1).kspace[0], nm.simulate(picture(), seed=2).kspace[0])


def test_written_scan_is_the_computed_one(tmp_path: Path) -> None:
    computed = nm.simulate(picture(), coils=3, seed=4)
    written = nm.simulate(picture(), coils=3, seed=4, out=tmp_path / "scan.h5")
    assert written.simulated
    assert computed.simulated
    assert written.name == "scan"
    for number in range(3):
        np.testing.assert_array_equal(written.kspace[number], computed.kspace[number])
        np.testing.assert_array_equal(written.reference[number], computed.reference[number])


def test_scan_says_that_it_is_simulated() -> None:
    scan = nm.simulate(picture(), coils=3, noise=0.02, seed=5)
    assert any("simulated" in note for note in scan.warnings)
    assert scan.metadata["simulation"]["noise"] == 0.02
    assert scan.metadata["simulation"]["seed"] == 5
    assert scan.fully_sampled
    assert scan.crop == (24, 20)


def nifti(path: Path, voxels: np.ndarray, affine: np.ndarray, code: int = 1) -> Path:
    image = nibabel.Nifti1Image(voxels, affine)
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "PIR", "ASL", "SRA", "LIA"])
def test_nifti_is_turned_to_axial_slices(tmp_path: Path, axcodes: str) -> None:
    """The same head in any storage order gives the same scan, left on the right and front on top."""
    head = np.arange(24 * 20 * 18, dtype=np.float32).reshape(24, 20, 18)  # x to the right, y to the front, z up
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(tuple(axcodes))
    )
    stored = nibabel.orientations.apply_orientation(head, turn)
    path = nifti(tmp_path / "head.nii.gz", stored, affine @ nibabel.orientations.inv_ornt_aff(turn, head.shape))
    scan = nm.simulate(path, coils=1, noise=0)
    assert scan.shape == (18, 1, 20, 24)
    np.testing.assert_allclose(scan.reference[7], head[::-1, ::-1, 7].T, rtol=1e-4)
    assert scan.geometry.voxel_mm == pytest.approx((3, 2, 1))
    assert scan.geometry.orientation_known
    index = np.array([2, 5, 7, 1])  # x, y, slice of the scan
    np.testing.assert_allclose(scan.geometry.affine @ index, affine @ [24 - 1 - 2, 20 - 1 - 5, 7, 1], atol=1e-5)


def test_geometry_follows_the_slices(tmp_path: Path) -> None:
    affine = np.array([[1.0, 0, 0, -9], [0, 1, 0, -8], [0, 0, 2, -7], [0, 0, 0, 1]])
    path = nifti(tmp_path / "head.nii", np.ones((20, 20, 10), np.float32), affine)
    whole, some = nm.simulate(path, coils=1), nm.simulate(path, coils=1, slices=range(2, 9, 3))
    np.testing.assert_allclose(some.geometry.affine @ [4, 5, 1, 1], whole.geometry.affine @ [4, 5, 5, 1])
    assert some.geometry.voxel_mm == pytest.approx((6, 1, 1))
    assert nm.simulate(path, coils=1, slices=[0, 1, 5]).geometry.affine is None


def test_nifti_without_a_code_has_no_known_orientation(tmp_path: Path) -> None:
    path = nifti(tmp_path / "head.nii", np.ones((20, 20, 3), np.float32), np.eye(4), code=0)
    assert not nm.simulate(path, coils=1).geometry.orientation_known


def test_series_needs_a_volume(tmp_path: Path) -> None:
    series = np.stack([np.full((20, 20, 2), value, np.float32) for value in (1, 2)], axis=-1)
    path = nifti(tmp_path / "series.nii", series, np.eye(4))
    with pytest.raises(DataError, match="series of 2 volumes"):
        nm.simulate(path)
    with pytest.raises(DataError, match="volume 2 is not there"):
        nm.simulate(path, volume=2)
    assert nm.simulate(path, volume=1, coils=1, noise=0).reference[0].max() == pytest.approx(2, rel=1e-4)


def with_one(value: complex) -> np.ndarray:
    made = picture()
    made[1, 3, 4] = value
    return made


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (with_one(np.nan), "1 of 1440 voxels are NaN or Inf"),
        (with_one(np.inf), "NaN or Inf"),
        (with_one(-0.5), "values from -0.5"),
        (np.zeros((2, 20, 20)), "all zero"),
        (np.ones((2, 20, 8)), "at least 16 pixels"),
        (np.ones((0, 20, 20)), "at least"),
        (np.ones((1, 2, 20, 20)), r"expected numbers \(slices, ny, nx\)"),
        (np.array(["a"]), "expected numbers"),
    ],
)
def test_pictures_that_cannot_be_are_refused(source: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        nm.simulate(source)


def test_empty_slice_without_noise_is_refused() -> None:
    made = picture()
    made[2] = 0
    with pytest.raises(DataError, match="slice 2 is all zero"):
        nm.simulate(made, noise=0)
    assert nm.simulate(made, noise=0, slices=[0, 1]).shape[0] == 2
    assert nm.simulate(made, noise=0.01).kspace[2].any()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.nii", None, "no such file"),
        ("text.nii", b"no picture", "cannot be read"),
        ("short.nii.gz", b"\x1f\x8b\x08\x00", "cannot be read"),
        ("text.npy", b"no picture", "cannot be read"),
        ("picture.png", b"\x89PNG", "expected .nii, .nii.gz, .npy"),
    ],
)
def test_files_that_are_no_pictures_are_refused(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        nm.simulate(path, out=tmp_path / "scan.h5")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "scan.h5").exists()


def test_truncated_nifti_is_refused(tmp_path: Path) -> None:
    path = nifti(tmp_path / "head.nii", np.ones((20, 20, 10), np.float32), np.eye(4))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="is it complete"):
        nm.simulate(path)


def test_declared_size_is_checked_before_reading(tmp_path: Path) -> None:
    path = nifti(tmp_path / "head.nii", np.ones((20, 20, 10), np.float32), np.eye(4))
    raw = bytearray(path.read_bytes())
    raw[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()  # dim[1:4]
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"2\*\*29"):
        nm.simulate(path)


@pytest.mark.parametrize("slices", [[], [3], [-1], [0, 0]])
def test_slices_that_are_not_there_are_refused(slices: list[int]) -> None:
    with pytest.raises(UsageError, match="numbers from 0 to 2"):
        nm.simulate(picture(), slices=slices)


@pytest.mark.parametrize("settings", [{"coils": 0}, {"coils": 65}, {"noise": -0.1}, {"phase": 13.0}])
def test_settings_that_cannot_work_are_refused(settings: dict) -> None:
    with pytest.raises(UsageError):
        nm.simulate(picture(), **settings)
