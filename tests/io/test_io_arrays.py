"""Plain arrays: numpy's and MATLAB's files give the same slices, and nothing is guessed or unpickled."""

import io
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from array_support import assert_looks_like, damaged, rss, survives
from numpy.typing import NDArray
from support import centred_ifft2

from nirvana_mri.errors import ScanError, UsageError
from nirvana_mri.io.arrays.reader import is_array, read_array

KINDS = ("npy", "fortran.npy", "npz", "packed.npz", "mat", "packed.mat", "v73.mat")


def random_array(*shape: int, seed: int = 0) -> NDArray[np.complex64]:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


def write(path: Path, array: NDArray[np.generic], name: str = "data") -> Path:
    """The array in the kind of file that the path's suffixes name."""
    if path.name.endswith("v73.mat"):
        return write_mat73(path, {name: array})
    if path.suffix == ".mat":
        scipy.io.savemat(path, {name: array}, do_compression="packed" in path.name)
    elif path.suffix == ".npz":
        (np.savez_compressed if "packed" in path.name else np.savez)(path, **{name: array})
    else:
        np.save(path, np.asfortranarray(array) if "fortran" in path.name else array)
    return path


def write_mat73(path: Path, arrays: dict[str, NDArray[np.generic]]) -> Path:
    """As MATLAB does: HDF5 behind 512 bytes of text, axes reversed, complex numbers as (real, imag)."""
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_group("#refs#")
        for name, array in arrays.items():
            stored = array.transpose()
            if array.dtype.kind == "c":
                pairs = np.empty(stored.shape, [("real", "f4"), ("imag", "f4")])
                pairs["real"], pairs["imag"] = stored.real, stored.imag
                stored = pairs
            file.create_dataset(name, data=stored, chunks=True, compression="gzip")
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_gives_the_same_slices(tmp_path: Path, kind: str) -> None:
    kspace = random_array(3, 2, 16, 12, 4)
    kspace[..., 1::3, :] = 0
    path = write(tmp_path / f"k.{kind}", kspace)
    assert is_array(path)
    scan = read_array(path, axes="slice coil ny nx volume", volume=2)
    assert (scan.shape, scan.crop, scan.volume, scan.volumes) == ((3, 2, 16, 12), (16, 12), 2, 4)
    assert np.flatnonzero(~scan.acquired).tolist() == [1, 4, 7, 10]
    for number in (0, 2, -1):
        assert np.array_equal(scan.kspace[number], kspace[number, ..., 2])
    assert np.array_equal(pickle.loads(pickle.dumps(scan)).kspace[1], kspace[1, ..., 2])
    with pytest.raises(IndexError, match="slice 3"):
        scan.kspace[3]
    with pytest.raises(UsageError, match="4 \\(0 to 3\\)"):
        read_array(path, axes="slice coil ny nx volume", volume=4)


def test_axes_come_in_any_order_and_short_ones_may_be_left_out(tmp_path: Path) -> None:
    kspace = random_array(12, 1, 16, 2)
    path = write(tmp_path / "k.npy", kspace)
    for axes in ("nx slice ny coil", "nx,ny,coil", "nx, ny, coil"):
        assert np.array_equal(read_array(path, axes=axes).kspace[0], kspace[:, 0].transpose(2, 1, 0))
    assert read_array(write(tmp_path / "s.npy", kspace[..., 0]), axes="nx ny").shape == (1, 1, 16, 12)


@pytest.mark.parametrize(
    ("axes", "match"),
    [
        (None, '--axes "coil ny nx"'),
        ("coil ny", "expected ny and nx"),
        ("coil ny nx nx", "at most once"),
        ("coil x y", "expected ny and nx"),
        ("slice coil ny nx", "names 4 axes"),
        ("slice partition ny nx", "several slabs"),
    ],
)
def test_axes_are_asked_for_and_never_guessed(tmp_path: Path, axes: str | None, match: str) -> None:
    path = write(tmp_path / "k.npy", random_array(4, 16, 12))
    with pytest.raises(UsageError, match=match):
        read_array(path, axes=axes)


def test_partitions_are_transformed_where_all_were_measured(tmp_path: Path) -> None:
    kspace = random_array(2, 6, 16, 12)
    scan = read_array(write(tmp_path / "k.npy", kspace), axes="coil partition ny nx")
    expected = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(kspace, axes=1), axis=1, norm="ortho"), axes=1)
    assert np.allclose(scan.kspace[4], expected[:, 4], atol=1e-6)
    kspace[:, 0, :, 3:] = 0
    with pytest.raises(ScanError, match="partitions hold different samples"):
        read_array(write(tmp_path / "k.npy", kspace), axes="coil partition ny nx")


def test_coil_images_are_transformed(tmp_path: Path) -> None:
    images = random_array(2, 17, 12)
    scan = read_array(write(tmp_path / "i.npy", images), axes="coil ny nx", images=True)
    assert np.allclose(centred_ifft2(scan.kspace[0]), images, atol=1e-5)
    assert scan.fully_sampled


@pytest.mark.parametrize("kind", ["npz", "mat", "v73.mat"])
def test_one_of_several_arrays_is_chosen_by_name(tmp_path: Path, kind: str) -> None:
    path, arrays = tmp_path / f"k.{kind}", {"first": random_array(8, 9), "second": random_array(8, 9, seed=1)}
    if kind == "npz":
        np.savez(path, **arrays)
    elif kind == "mat":
        scipy.io.savemat(path, arrays | {"note": "text", "cell": {"a": 1}})
    else:
        write_mat73(path, dict(arrays))
    assert np.array_equal(read_array(path, axes="ny nx", dataset="second").kspace[0][0], arrays["second"])
    with pytest.raises(UsageError, match=r"'first', 'second'.*--dataset"):
        read_array(path, axes="ny nx")
    with pytest.raises(UsageError, match="no array 'third'"):
        read_array(path, axes="ny nx", dataset="third")


@pytest.mark.parametrize("kind", ["npy", "npz", "mat", "v73.mat"])
def test_real_numbers_are_no_kspace(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ScanError, match="real numbers are no k-space"):
        read_array(write(tmp_path / f"k.{kind}", np.ones((8, 9))), axes="ny nx")
    path = write(tmp_path / f"m.{kind}", np.abs(random_array(8, 9)).astype(np.complex64))
    if kind != "mat":  # whose writers drop an imaginary part of zeros
        with pytest.raises(ScanError, match="magnitudes are no k-space"):
            read_array(path, axes="ny nx")


class Attack:
    """Unpickled, it would leave a trace."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (Path("unpickled"),)


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_nothing_is_unpickled(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / f"k.{kind}", np.array([Attack()], dtype=object))
    with pytest.raises(ScanError, match="Python objects"):
        read_array(path, axes="ny nx")
    assert not (tmp_path / "unpickled").exists()


def npy_header(shape: str, dtype: str = "<c8") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize("shape", ["(1000000, 1000000)", "(2, 8, 9)", "(0, 9)", "(-8, 9)", "(1e9, 9)", "8"])
def test_npy_sizes_are_checked_before_memory_is_taken(tmp_path: Path, shape: str) -> None:
    path = tmp_path / "k.npy"
    path.write_bytes(npy_header(shape) + bytes(8 * 8 * 9))
    with zipfile.ZipFile(tmp_path / "k.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, "k.npy")
    for name in ("k.npy", "k.npz"):
        tracemalloc.start()
        with pytest.raises((ScanError, UsageError)):
            read_array(tmp_path / name, axes="ny nx")
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
        tracemalloc.stop()


def test_a_mat_file_that_declares_more_than_it_holds(tmp_path: Path) -> None:
    path = write(tmp_path / "k.packed.mat", random_array(64, 64))
    data = bytearray(path.read_bytes())
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ScanError, match="damaged MATLAB file"):
        read_array(path, axes="ny nx")
    path = write(tmp_path / "k.mat", random_array(64, 64))
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack("<ii", 64, 64))
    data[at : at + 8] = struct.pack("<ii", 1 << 20, 1 << 20)
    path.write_bytes(data)
    with pytest.raises(ScanError, match="GiB"):
        read_array(path, axes="ny nx")


def test_links_out_of_a_mat_file_are_not_followed(tmp_path: Path) -> None:
    write_mat73(tmp_path / "other.v73.mat", {"data": random_array(8, 9)})
    path = write_mat73(tmp_path / "k.v73.mat", {})
    with h5py.File(path, "a") as file:
        file["data"] = h5py.ExternalLink("other.v73.mat", "data")
    with pytest.raises(ScanError, match="no numeric array"):
        read_array(path, axes="ny nx")


def test_only_the_asked_slice_is_read_from_a_mapped_file(tmp_path: Path) -> None:
    path = write(tmp_path / "k.npy", random_array(40, 2, 64, 64))
    tracemalloc.start()
    read_array(path, axes="slice coil ny nx").kspace[7]
    assert tracemalloc.get_traced_memory()[1] < 10 * 2 * 64 * 64 * 8
    tracemalloc.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_or_refused(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / f"k.{kind}", random_array(2, 16, 12))
    data = path.read_bytes()
    regions = [(0, 250), (len(data) - 200, len(data)), (0, len(data))]
    read_ones, refused = survives(path, damaged(data, regions, 40), lambda p: read_array(p, axes="coil ny nx"))
    assert read_ones + refused == 40
    assert refused


def test_other_files_are_no_arrays(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\x93NUM")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("readme.txt", "hello")
    (tmp_path / "b").write_bytes(archive.getvalue())
    assert not any(is_array(path) for path in (tmp_path, tmp_path / "a", tmp_path / "b", tmp_path / "missing"))
    with pytest.raises(ScanError, match="no npy, npz or MATLAB array"):
        read_array(tmp_path / "a", axes="ny nx")


REAL = {
    "brain8_sigpy_poisson.npy": ("coil ny nx", (1, 8, 230, 180), 0.124),
    "brain16_iraki_prescan64.npy": ("coil ny nx", (1, 16, 64, 64), 1.0),
    "phantom16_epi_kdata.mat": ("ny nx coil", (1, 16, 64, 64), 0.447),
    "phantom16_epi_refscan.mat": ("ny nx coil", (1, 16, 64, 24), 0.859),
    "phantom1_spike.mat": ("ny nx", (1, 1, 256, 256), 1.0),
    "phantom8_coilimages.mat": ("ny nx coil", (1, 8, 256, 256), 1.0),
}


@pytest.mark.parametrize("name", REAL)
def test_real_arrays(shared_data: Path, name: str) -> None:
    axes, shape, share = REAL[name]
    scan = read_array(shared_data / "kspace" / name, axes=axes, images="coilimages" in name)
    assert scan.shape == shape
    assert scan.acquired.mean() == pytest.approx(share, abs=1e-3)
    assert_looks_like(rss(scan), PICTURES[name])


PICTURES = {  # seen once, and found to be the brain or phantom that they should be
    "brain8_sigpy_poisson.npy": "33BCEB433JSSVSK36LPKLTP79ILKNOKD4DFJMLG83BJJNQI335DIIH8333377333",
    "brain16_iraki_prescan64.npy": "115C82111FNPNE21BPRSROF1FVTSSPQ3FUSSTSR3ANPQQRN12FMOOL61118ED311",
    "phantom16_epi_kdata.mat": "1111111131133113QGBSQGBSQVGOQVGOSUILSUILSLAGSLAG8116811611111111",
    "phantom16_epi_refscan.mat": "001111000014510023BONL3223FMLV4213IHPR3122AEKN421117A21100111100",
    "phantom1_spike.mat": "33AMMA3339EC7K734JJLNOJ34HJRRVI436MRVS64335FF6344334333333333333",
    "phantom8_coilimages.mat": "1113311115PMCP511PVTTVR25UUSSUV85UTRRST81PUSSTS215RCLS8111256211",
}
