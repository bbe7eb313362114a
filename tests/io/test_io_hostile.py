"""Files that are damaged or made to do harm: a ScanError, or a valid read, and never anything else."""

import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import nirvana_mri as nm
from nirvana_mri.errors import DataError, ScanError
from nirvana_mri.io.fastmri import write_fastmri
from nirvana_mri.io.hdf5 import SafeFile
from nirvana_mri.io.header import HeaderError, make_header, parse_header
from nirvana_mri.io.save import load_volume, save
from nirvana_mri.volume import Volume

SHAPE = (3, 2, 24, 16)


def random_kspace(shape: tuple[int, ...] = SHAPE) -> NDArray[np.complex64]:
    rng = np.random.default_rng(0)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


@pytest.mark.parametrize("key", ["kspace", "mask", "ismrmrd_header", "reconstruction_rss"])
@pytest.mark.parametrize(
    "kind", ["external", "soft to external", "soft to nowhere", "soft to itself", "soft into group"]
)
def test_links_out_of_the_file_are_not_followed(tmp_path: Path, key: str, kind: str) -> None:
    write_fastmri(tmp_path / "other.h5", random_kspace(), mask=np.ones(16, bool))
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        if key != "kspace":
            file["kspace"] = random_kspace()
        file["group/kspace"] = random_kspace()
        file["away"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/")
        file[key] = {
            "external": h5py.ExternalLink(str(tmp_path / "other.h5"), "/kspace"),
            "soft to external": h5py.SoftLink("/away/kspace"),
            "soft to nowhere": h5py.SoftLink("/nowhere"),
            "soft to itself": h5py.SoftLink(f"/{key}"),
            "soft into group": h5py.SoftLink("/group/kspace"),
        }[kind]
    with pytest.raises(ScanError, match=f"{key} is a (chain|link)"):
        nm.open_scan(tmp_path / "scan.h5")


def test_an_external_link_is_never_opened(tmp_path: Path) -> None:
    """A pipe as its target would hang whoever opens it."""
    os.mkfifo(tmp_path / "pipe")
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["kspace"] = h5py.ExternalLink(str(tmp_path / "pipe"), "/kspace")
    with pytest.raises(ScanError, match="another file"):
        nm.open_scan(tmp_path / "scan.h5")


def test_a_link_within_the_root_is_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["data"] = random_kspace()
        file["kspace"] = h5py.SoftLink("/data")
    assert np.array_equal(nm.open_scan(tmp_path / "scan.h5").kspace[1], random_kspace()[1])


def test_bytes_of_other_files_are_not_read(tmp_path: Path) -> None:
    random_kspace().tofile(tmp_path / "secret.raw")
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        secret = [(str(tmp_path / "secret.raw"), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("kspace", SHAPE, np.complex64, external=secret)
    with pytest.raises(ScanError, match="other files"):
        nm.open_scan(tmp_path / "scan.h5")


def test_a_virtual_dataset_is_not_read(tmp_path: Path) -> None:
    write_fastmri(tmp_path / "other.h5", random_kspace())
    layout = h5py.VirtualLayout(SHAPE, np.complex64)
    layout[...] = h5py.VirtualSource(str(tmp_path / "other.h5"), "kspace", SHAPE)
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file.create_virtual_dataset("kspace", layout)
    with pytest.raises(ScanError, match="other files"):
        nm.open_scan(tmp_path / "scan.h5")


@pytest.mark.parametrize(
    "options",
    [{}, {"chunks": (1, 1, 64, 64)}, {"chunks": (1, 1, 64, 64), "compression": "gzip"}],
    ids=["contiguous", "chunked", "compressed"],
)
@pytest.mark.parametrize("key", ["kspace", "mask", "reconstruction_rss"])
def test_a_declared_size_beyond_the_bytes_present(tmp_path: Path, key: str, options: dict[str, object]) -> None:
    """6 kB that declare 28 TB."""
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        if key != "kspace":
            file["kspace"] = random_kspace()
        file.create_dataset(key, (2**12, 2**6, 2**12, 2**12), np.complex64, **options)
    assert (tmp_path / "scan.h5").stat().st_size < 2**17
    tracemalloc.start()
    with pytest.raises(ScanError, match="declares 35184372088832 bytes"):
        nm.open_scan(tmp_path / "scan.h5")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_size_that_overflows(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file.create_dataset("kspace", (2**31, 2**31, 2, 2), np.complex64, chunks=(1, 1, 2, 2))
    with pytest.raises(ScanError, match="kspace"):
        nm.open_scan(tmp_path / "scan.h5")


def test_chunks_that_were_never_written_are_not_zeros(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        stored = file.create_dataset("kspace", SHAPE, np.complex64, chunks=(1, *SHAPE[1:]))
        stored[1] = random_kspace()[1]
    with pytest.raises(ScanError, match=r"declares 18432 bytes .* holds 6144"):
        nm.open_scan(tmp_path / "scan.h5")


def test_errors_of_hdf5_become_one_line(tmp_path: Path) -> None:
    write_fastmri(tmp_path / "scan.h5", random_kspace())
    with (
        SafeFile(tmp_path / "scan.h5") as file,
        pytest.raises(ScanError, match=r"kspace .*one two"),
        file.reading("kspace"),
    ):
        raise OSError("one\n  two")


def test_compressed_zeros_do_not_fill_the_memory(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        shape = (4, 64, 1024, 1024)
        stored = file.create_dataset("kspace", shape, np.complex64, chunks=(1, 1, 1024, 1024), compression="gzip")
        stored[0, 0] = 1
    with pytest.raises(ScanError, match="declares"):
        nm.open_scan(tmp_path / "scan.h5")


def test_honest_compression_is_read(tmp_path: Path) -> None:
    kspace = random_kspace((2, 2, 64, 32))
    kspace[..., 4:] = 0
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file.create_dataset(
            "kspace", data=kspace, chunks=(1, 2, 64, 32), compression="gzip", shuffle=True, fletcher32=True
        )
        file.create_dataset("mask", data=np.arange(32) < 4, chunks=(32,), compression="lzf")
    assert np.array_equal(nm.open_scan(tmp_path / "scan.h5").kspace[1], kspace[1])


def test_plugin_filters_are_refused_before_they_load(tmp_path: Path) -> None:
    blosc = 32001
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((1, 2, 24, 16))
        plist.set_filter(blosc, h5py.h5z.FLAG_OPTIONAL, (0,))
        space = h5py.h5s.create_simple(SHAPE)
        dataset = h5py.h5d.create(file.id, b"kspace", h5py.h5t.py_create(np.dtype(np.complex64)), space, plist)
        for number in range(3):
            dataset.write_direct_chunk((number, 0, 0, 0), random_kspace()[number].tobytes())
    with pytest.raises(ScanError, match="filter 32001"):
        nm.open_scan(tmp_path / "scan.h5")


def test_entities_in_the_header_are_refused() -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
    for text in (bomb, bomb.lower(), '<!DOCTYPE x SYSTEM "file:///x">', "<!ENTITY a 'a'>"):
        with pytest.raises(HeaderError, match="DOCTYPE"):
            parse_header(
                make_header((8, 8), (1, 1, 1), (8, 8), (0, 8)).replace("<ismrmrdHeader", f"{text}<ismrmrdHeader")
            )


def test_a_deep_header_costs_no_time() -> None:
    deep = f"<ismrmrdHeader>{'<encoding>' * 20000}{'</encoding>' * 20000}</ismrmrdHeader>"
    start = time.perf_counter()
    assert parse_header(deep).recon_matrix is None
    assert time.perf_counter() - start < 2


def test_a_string_that_claims_gigabytes(tmp_path: Path) -> None:
    """HDF5 itself would first make room for them."""
    path = tmp_path / "scan.h5"
    write_fastmri(path, random_kspace(), voxel_mm=(1.0, 1.0, 1.0))
    with h5py.File(path) as file:
        offset = file["ismrmrd_header"].id.get_offset()
    with path.open("r+b") as raw:
        raw.seek(offset)
        raw.write((2**32 - 1).to_bytes(4, "little"))
    with pytest.raises(ScanError, match="ismrmrd_header claims text"):
        nm.open_scan(path)


def test_a_heap_without_end(tmp_path: Path) -> None:
    """HDF5 2.0 stands still on a heap entry of size 0; the reader looks first."""
    path = tmp_path / "scan.h5"
    write_fastmri(path, random_kspace(), voxel_mm=(1.0, 1.0, 1.0))
    content = bytearray(path.read_bytes())
    first_size = content.index(b"GCOL") + 16 + 8
    content[first_size : first_size + 8] = (3000).to_bytes(8, "little")  # skips into the empty rest
    path.write_bytes(content)
    with pytest.raises(ScanError, match="ismrmrd_header claims text"):
        nm.open_scan(path)


def outcome(read: Callable[[], object]) -> str:
    """The message of the DataError that reading ends with, empty where it succeeds; nothing else is caught."""
    try:
        read()
    except DataError as error:
        return str(error)
    return ""


def read_all(path: Path) -> None:
    scan = nm.open_scan(path)
    for samples in scan:
        assert np.isfinite(samples[..., scan.acquired]).all()
    list(scan.reference or ())


def whole_scan(path: Path, compressed: bool) -> bytes:
    kspace = random_kspace()
    pictures = np.abs(kspace[:, 0, :12, :12])
    write_fastmri(
        path, kspace, mask=np.arange(16) % 2 == 0, reference=pictures, voxel_mm=(5.0, 0.7, 0.7), crop=(12, 12)
    )
    if compressed:
        with h5py.File(path, "a") as file:
            del file["kspace"]
            file.create_dataset("kspace", data=kspace, chunks=(1, 2, 24, 16), compression="gzip", fletcher32=True)
    return path.read_bytes()


@pytest.mark.parametrize("compressed", [False, True])
def test_damage_gives_a_scan_error_or_a_valid_read(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "scan.h5"
    whole = whole_scan(path, compressed)
    rng = np.random.default_rng(7)
    outcomes = {"read": 0, "refused": 0}
    for case in range(60):
        damaged = bytearray(whole)
        if case % 4 == 0:
            damaged = damaged[: rng.integers(len(whole))]
        else:
            for place in rng.integers(4500 if case % 4 < 3 else len(whole), size=3):
                damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        message = outcome(lambda: read_all(path))
        assert "\n" not in message
        outcomes["refused" if message else "read"] += 1
    assert min(outcomes.values()) >= 3


def test_every_truncation_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    whole = whole_scan(path, compressed=False)
    for share in (0.1, 0.5, 0.9, 0.9999):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ScanError, match="truncated"):
            nm.open_scan(path)


def test_damaged_reconstructions_give_a_data_error_or_a_valid_read(tmp_path: Path) -> None:
    path = tmp_path / "volume.h5"
    volume = Volume(np.ones((2, 12, 12), np.float32), np.eye(4), np.ones(12, bool), {"method": "sense"})
    whole = save(volume, path).read_bytes()
    rng = np.random.default_rng(7)
    for case in range(40):
        damaged = bytearray(whole)
        if case % 4 == 0:
            damaged = damaged[: rng.integers(len(whole))]
        else:
            for place in rng.integers(2500, size=3):
                damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        message = outcome(lambda: load_volume(path))
        assert "\n" not in message
