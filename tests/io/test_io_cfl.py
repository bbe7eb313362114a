"""BART's file pairs: which axis is which, what was sampled, what is refused, and that BART reads what we write."""

import pickle
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from array_support import assert_looks_like, damaged, rss, survives
from numpy.typing import NDArray
from support import centred_ifft2
from support import read_cfl as read_plain

from nirvana_mri.errors import DataError, ScanError, UsageError
from nirvana_mri.io.cfl import is_cfl, read_cfl, write_cfl


def random_array(*shape: int, seed: int = 0) -> NDArray[np.complex64]:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


@pytest.mark.parametrize("given", ["a.b", "a.b.cfl", "a.b.hdr"])
def test_either_file_or_the_bare_name_opens(tmp_path: Path, given: str) -> None:
    kspace = random_array(16, 12, 1, 3)
    write_cfl(tmp_path / "a.b", kspace)
    assert is_cfl(tmp_path / given)
    scan = read_cfl(tmp_path / given)
    assert np.array_equal(scan.kspace[0], kspace[:, :, 0].transpose(2, 0, 1))
    assert (scan.shape, scan.crop, scan.name, scan.file_format) == ((1, 3, 16, 12), (16, 12), "a.b", "BART cfl")
    assert scan.fully_sampled
    assert scan.geometry.voxel_mm is None
    assert np.array_equal(pickle.loads(pickle.dumps(scan)).kspace[0], scan.kspace[0])


def test_readout_of_length_one_leaves_two_phase_encoded_axes(tmp_path: Path) -> None:
    kspace = random_array(1, 20, 16, 2)
    kspace[:, ::2, ::3] = 0
    write_cfl(tmp_path / "k", kspace)
    scan = read_cfl(tmp_path / "k")
    assert np.array_equal(scan.kspace[0], kspace[0].transpose(2, 0, 1))
    assert np.array_equal(scan.acquired, kspace[0, :, :, 0] != 0)


def test_slices_and_volumes(tmp_path: Path) -> None:
    """Dimension 13 holds slices; 5 (echo) and 10 (time) are volumes, the first running fastest."""
    kspace = random_array(16, 12, 1, 2, 1, 2, 1, 1, 1, 1, 3, 1, 1, 4)
    write_cfl(tmp_path / "k", kspace)
    scan = read_cfl(tmp_path / "k", volume=3)
    assert (scan.shape, scan.volume, scan.volumes) == ((4, 2, 16, 12), 3, 6)
    assert np.array_equal(scan.kspace[2], kspace[:, :, 0, :, 0, 1, 0, 0, 0, 0, 1, 0, 0, 2].transpose(2, 0, 1))
    assert read_cfl(tmp_path / "k").volume == 0
    with pytest.raises(UsageError, match="6 \\(0 to 5\\)"):
        read_cfl(tmp_path / "k", volume=6)


def test_fully_sampled_partitions_are_transformed(tmp_path: Path) -> None:
    kspace = random_array(16, 12, 6, 2)
    kspace[:, 1::3] = 0
    write_cfl(tmp_path / "k", kspace)
    scan = read_cfl(tmp_path / "k")
    moved = np.fft.ifftshift(kspace, axes=2)
    expected = np.fft.fftshift(np.fft.ifft(moved, axis=2, norm="ortho"), axes=2)
    assert scan.shape == (6, 2, 16, 12)
    assert np.flatnonzero(~scan.acquired).tolist() == [1, 4, 7, 10]
    for number in (0, 3, 5):
        assert np.allclose(scan.kspace[number], expected[:, :, number].transpose(2, 0, 1), atol=1e-6)


def test_undersampled_partitions_transform_the_readout_instead(tmp_path: Path) -> None:
    kspace = random_array(8, 12, 10, 2)
    mask = np.random.default_rng(1).random((12, 10)) < 0.4
    kspace[:, ~mask] = 0
    write_cfl(tmp_path / "k", kspace)
    scan = read_cfl(tmp_path / "k")
    expected = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(kspace, axes=0), axis=0, norm="ortho"), axes=0)
    assert scan.shape == (8, 2, 12, 10)
    assert np.array_equal(scan.acquired, mask)
    assert np.allclose(scan.kspace[5], expected[5].transpose(2, 0, 1), atol=1e-6)


def test_images_are_transformed(tmp_path: Path) -> None:
    images = random_array(16, 12, 3, 2)
    write_cfl(tmp_path / "i", images)
    scan = read_cfl(tmp_path / "i", images=True)
    assert scan.shape == (3, 2, 16, 12)
    assert np.allclose(centred_ifft2(scan.kspace[1]), images[:, :, 1].transpose(2, 0, 1), atol=1e-5)
    assert any("complex coil images" in warning for warning in scan.warnings)


def spokes(radius: int, count: int) -> NDArray[np.complex64]:
    """The k-space of a disc along spokes: each line crosses the centre."""
    along = np.abs(np.arange(2 * radius) - radius) + 0.5
    line = np.sinc(along / 4) * np.exp(-along / 20)
    turn = np.exp(1j * np.linspace(0, 3, count))
    return (line[:, None] * turn).astype(np.complex64)


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (random_array(16, 12, 1, 2, 3), "sensitivity maps"),
        (random_array(3, 64, 20), "trajectory"),
        (random_array(64, 1, 1, 4), "1 encoded axes"),
        (random_array(8, 8, 4, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2), "slabs"),
        (spokes(64, 32)[:, :, None, None], "radial or spiral"),
        (spokes(64, 32)[None, :, :, None], "radial or spiral"),
        (np.abs(random_array(16, 12, 1, 2)).astype(np.complex64), "magnitudes are no k-space"),
        (np.zeros((16, 12), np.complex64), "all zero"),
    ],
)
def test_what_is_no_cartesian_kspace_is_refused(tmp_path: Path, array: NDArray[np.complex64], match: str) -> None:
    write_cfl(tmp_path / "k", array)
    with pytest.raises(ScanError, match=match) as caught:
        read_cfl(tmp_path / "k")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "header",
    [
        *("", "16 12\n", "# Dimensions\n", "# Dimensions\n16 -12\n", "# Dimensions\n16 0\n", "# Dimensions\n1e3 2\n"),
        *("# Dimensions\n" + "1 " * 17 + "\n", "# Dimensions\n99999999 99999999 99999999\n", "# Dimensions\n16 13\n"),
    ],
)
def test_headers_that_cannot_be_are_refused(tmp_path: Path, header: str) -> None:
    write_cfl(tmp_path / "k", random_array(16, 12))
    (tmp_path / "k.hdr").write_text(header)
    with pytest.raises(ScanError, match=r"k\.(hdr|cfl)"):
        read_cfl(tmp_path / "k")


def test_missing_parts_are_named(tmp_path: Path) -> None:
    write_cfl(tmp_path / "k", random_array(16, 12))
    scan = read_cfl(tmp_path / "k")
    (tmp_path / "k.cfl").write_bytes(b"short")
    with pytest.raises(ScanError, match="holds 5 bytes"):
        scan.kspace[0]
    (tmp_path / "k.cfl").unlink()
    with pytest.raises(ScanError, match="cannot be read"):
        read_cfl(tmp_path / "k")
    (tmp_path / "k.hdr").unlink()
    assert not is_cfl(tmp_path / "k")
    assert not is_cfl(tmp_path)
    with pytest.raises(DataError, match="expected 1 to 16 axes"):
        write_cfl(tmp_path / "k", np.zeros((1,) * 17, np.complex64))


def test_damaged_pairs_are_read_or_refused(tmp_path: Path) -> None:
    write_cfl(tmp_path / "k", random_array(16, 12, 1, 2))
    header = (tmp_path / "k.hdr").read_bytes()
    done = survives(tmp_path / "k.hdr", damaged(header, [(0, 60)], 150), read_cfl)
    assert min(done) > 5


def test_bart_reads_what_we_write_and_transforms_alike(tmp_path: Path) -> None:
    if shutil.which("bart") is None:
        pytest.skip("bart is not installed")
    kspace = random_array(33, 24, 1, 2)
    write_cfl(tmp_path / "ours", kspace)
    for words in (("fft", "-iu", "3", "ours", "image"), ("slice", "3", "1", "ours", "coil")):
        subprocess.run(["bart", *words], cwd=tmp_path, check=True, capture_output=True)
    images = read_plain(tmp_path / "image").reshape(33, 24, 2).transpose(2, 0, 1)
    ours = centred_ifft2(read_cfl(tmp_path / "ours").kspace[0])
    assert np.abs(ours - images).max() < 2e-7 * 33 * 24 / np.sqrt(33 * 24)
    assert np.array_equal(read_cfl(tmp_path / "coil").kspace[0][0], kspace[:, :, 0, 1])


@pytest.mark.parametrize(
    ("name", "shape", "share"),
    [
        ("brain8_espirit_full", (1, 8, 230, 180), 1.0),
        ("brain8_espirit_und2x2", (1, 8, 230, 180), 0.257),
        ("brain8_bartworkshop_poisson", (1, 8, 180, 230), 0.127),
    ],
)
def test_real_brains(shared_data: Path, name: str, shape: tuple[int, ...], share: float) -> None:
    scan = read_cfl(shared_data / "kspace" / name)
    assert scan.shape == shape
    assert scan.acquired.mean() == pytest.approx(share, abs=1e-3)
    assert_looks_like(rss(scan), PICTURES[name])


def test_real_spokes_are_refused(shared_data: Path) -> None:
    with pytest.raises(ScanError, match="radial or spiral"):
        read_cfl(shared_data / "kspace" / "brick16_radial_bottom_SP69")


PICTURES = {  # seen once, and found to be the brain or phantom that they should be
    "brain8_espirit_full": "2237622229JGJE522KRLNJA28IKLKFF4CKPMMLHA7RVMLRL52LUUSTK223CFEB32",
    "brain8_espirit_und2x2": "323773233AIGIE633JRLMJB28IKLKFE5CLOMMLHA8QVLLRK63LUURSJ234CDCB43",
    "brain8_bartworkshop_poisson": "2335963335BEILJ44DJFLPSB8IJJKKSD7INMNLVF4HQLOTSB38HGKPK32349D732",
}
