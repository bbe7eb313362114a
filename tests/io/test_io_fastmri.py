"""The reader against fastMRI's own, and what it must never do: read ahead, keep files open, name the patient."""

import multiprocessing
import os
import pickle
import tracemalloc
from pathlib import Path

import h5py
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import nirvana_mri as nm
from nirvana_mri.errors import DataError, ScanError
from nirvana_mri.io.fastmri import write_fastmri
from nirvana_mri.scan import SliceSource

VOXEL_MM = (5.0, 0.7, 0.6)


def random_kspace(*shape: int, seed: int = 0) -> NDArray[np.complex64]:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


@pytest.mark.parametrize("coils", [(), (3,)], ids=["singlecoil", "multicoil"])
@pytest.mark.parametrize("padding", [(0, 40), (3, 38)])
@pytest.mark.parametrize("masked", [False, True])
def test_reads_what_fastmri_reads(
    tmp_path: Path, coils: tuple[int, ...], padding: tuple[int, int], masked: bool
) -> None:
    from fastmri.data.mri_data import SliceDataset

    kspace = random_kspace(4, *coils, 64, 40)
    kspace[..., : padding[0]] = kspace[..., padding[1] :] = 0
    mask = np.arange(40) % 3 == 0 if masked else None
    if mask is not None:
        kspace[..., ~mask] = 0
    target = np.abs(random_kspace(4, 32, 32))
    written = tmp_path / "f.h5"
    write_fastmri(written, kspace, reference=target, mask=mask, voxel_mm=VOXEL_MM, crop=(32, 32), padding=padding)

    scan = nm.open_scan(written)
    theirs = SliceDataset(tmp_path, "multicoil" if coils else "singlecoil")
    assert len(theirs) == len(scan.kspace) == 4
    for number in range(4):
        samples, their_mask, their_target, attrs, _, _ = theirs[number]
        assert np.array_equal(scan.kspace[number], samples.reshape(scan.shape[1:]))
        assert scan.reference is not None
        assert np.array_equal(scan.reference[number], their_target)
        left, right = attrs["padding_left"], attrs["padding_right"]
        expected = np.ones(40, bool) if their_mask is None else their_mask.copy()
        expected[:left] = expected[right:] = False
        assert np.array_equal(scan.acquired, expected)
        assert (left, right) == padding == (scan.metadata["padding_left"], scan.metadata["padding_right"])
        assert attrs["recon_size"][:2] == scan.crop
        assert attrs["max"] == scan.metadata["max"] == target.max()
        assert attrs["norm"] == scan.metadata["norm"] == pytest.approx(np.linalg.norm(target), rel=1e-6)
    assert scan.multicoil == bool(coils)
    assert scan.fully_sampled != masked
    assert scan.warnings == ()


def test_padding_follows_an_asymmetric_header(tmp_path: Path) -> None:
    """Partial Fourier along the phase: the centre of the measured lines is not their middle."""
    from fastmri.data.mri_data import SliceDataset

    kspace = random_kspace(1, 2, 16, 64)
    kspace[..., :21] = 0
    write_fastmri(tmp_path / "f.h5", kspace, voxel_mm=VOXEL_MM, padding=(21, 64))
    attrs = SliceDataset(tmp_path, "multicoil")[0][3]
    assert (attrs["padding_left"], attrs["padding_right"]) == (21, 64)
    scan = nm.open_scan(tmp_path / "f.h5")
    assert np.flatnonzero(scan.acquired).tolist() == list(range(21, 64))
    assert scan.warnings == ()


@given(
    kspace=hnp.arrays(
        np.complex64,
        hnp.array_shapes(min_dims=3, max_dims=4, min_side=1, max_side=9),
        elements=st.complex_numbers(min_magnitude=2**-60, max_magnitude=2.0**60, allow_nan=False, width=64),
        fill=st.nothing(),
    )
)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, kspace: NDArray[np.complex64]) -> None:
    path = tmp_path_factory.mktemp("round") / "trip.h5"
    write_fastmri(path, kspace, voxel_mm=VOXEL_MM)
    scan = nm.open_scan(path)
    assert np.array_equal(np.stack(list(scan)).reshape(kspace.shape), kspace)
    assert scan.crop == kspace.shape[-2:]
    assert scan.acquired.all()
    # A scan is a source for the next file, slice by slice.
    copy = write_fastmri(path.with_name("copy.h5"), scan.kspace)
    assert np.array_equal(np.stack(list(nm.open_scan(copy))), np.stack(list(scan)))


@pytest.mark.parametrize(
    ("ny", "nx", "recon", "crop"),
    [
        (640, 368, (320, 320), (320, 320)),
        (640, 203, (320, 320), (203, 203)),  # FLAIR: fastMRI makes a square of the width
        (256, 368, (320, 320), (256, 320)),
        (64, 48, (64, 48), (64, 48)),
        (150, 203, (320, 320), (150, 203)),
    ],
)
def test_crop_is_the_recon_matrix_within_the_kspace(
    tmp_path: Path, ny: int, nx: int, recon: tuple[int, int], crop: tuple[int, int]
) -> None:
    path = write_with_recon(tmp_path / "f.h5", random_kspace(1, 1, ny, nx), recon)
    scan = nm.open_scan(path)
    assert scan.crop == crop
    # Nothing is interpolated: pixels keep the size that the encoding gave them.
    assert scan.geometry.voxel_mm == pytest.approx(VOXEL_MM)


def write_with_recon(path: Path, kspace: NDArray[np.complex64], recon: tuple[int, int]) -> Path:
    """A file whose recon matrix may exceed its k-space, as fastMRI's FLAIR files do."""
    ny, nx = kspace.shape[-2:]
    write_fastmri(path, kspace, voxel_mm=VOXEL_MM)
    field = ny * VOXEL_MM[1], nx * VOXEL_MM[2]  # of the encoding; the recon field is the recon matrix times a voxel
    with h5py.File(path, "a") as file:
        xml = file["ismrmrd_header"][()].decode()
        begin, end = xml.index("<reconSpace>"), xml.index("</reconSpace>")
        pixel = field[0] / ny, field[1] / nx
        if nx < recon[1]:
            pixel = pixel[0], 0.5 * pixel[1]  # the scanner would have interpolated
        space = (
            f"<reconSpace><matrixSize><x>{recon[0]}</x><y>{recon[1]}</y><z>1</z></matrixSize><fieldOfView_mm>"
            f"<x>{recon[0] * pixel[0]}</x><y>{recon[1] * pixel[1]}</y><z>{VOXEL_MM[0]}</z></fieldOfView_mm>"
        )
        del file["ismrmrd_header"]
        file["ismrmrd_header"] = xml[:begin] + space + xml[end:]
    return path


def test_geometry_is_in_mm_without_orientation(tmp_path: Path) -> None:
    write_fastmri(tmp_path / "f.h5", random_kspace(5, 2, 64, 40), voxel_mm=VOXEL_MM, crop=(32, 30))
    geometry = nm.open_scan(tmp_path / "f.h5").geometry
    assert geometry.voxel_mm == pytest.approx(VOXEL_MM)
    assert geometry.field_of_view_mm == pytest.approx((25.0, 32 * 0.7, 30 * 0.6))
    assert geometry.orientation_known is False
    assert geometry.affine is not None
    assert geometry.affine @ [15, 16, 2, 1] == pytest.approx([0, 0, 0, 1])  # the centre lies at 0 mm
    assert np.diag(geometry.affine) == pytest.approx([0.6, 0.7, 5.0, 1.0])


def test_without_header_warns_and_takes_the_matrix_of_the_reference(tmp_path: Path) -> None:
    kspace, target = random_kspace(2, 3, 32, 24), np.ones((2, 16, 12))
    write_fastmri(tmp_path / "f.h5", kspace, reference=target)
    scan = nm.open_scan(tmp_path / "f.h5")
    assert scan.crop == (16, 12)
    assert scan.geometry.voxel_mm is None
    (warning,) = scan.warnings
    assert all(lost in warning for lost in ("geometry", "padding", "crop"))
    write_fastmri(tmp_path / "f.h5", kspace)
    assert nm.open_scan(tmp_path / "f.h5").crop == (32, 24)


def test_complex128_and_big_endian_become_complex64(tmp_path: Path) -> None:
    kspace = random_kspace(2, 3, 16, 12)
    for dtype in (np.complex128, ">c8"):
        with h5py.File(tmp_path / "f.h5", "w") as file:
            file["kspace"] = kspace.astype(dtype)
        scan = nm.open_scan(tmp_path / "f.h5")
        assert scan.kspace[1].dtype == np.complex64
        assert np.array_equal(scan.kspace[1], kspace[1])


def test_one_slice_is_read_without_the_others(tmp_path: Path) -> None:
    """Slices 0 and 5 of 6 are unreadable on disk; 4 of 6 are read all the same, one at a time in memory."""
    path, kspace = tmp_path / "f.h5", random_kspace(6, 4, 128, 96)
    with h5py.File(path, "w") as file:
        stored = file.create_dataset("kspace", data=kspace, chunks=(1, 4, 128, 96), compression="gzip")
        broken = [stored.id.get_chunk_info_by_coord((n, 0, 0, 0)).byte_offset for n in (0, 5)]
    with path.open("r+b") as raw:
        for offset in broken:
            raw.seek(offset)
            raw.write(b"\xff" * 64)
    scan = nm.open_scan(path)
    tracemalloc.start()
    for number in range(1, 5):
        assert np.array_equal(scan.kspace[number], kspace[number])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * kspace[0].nbytes
    with pytest.raises(ScanError, match="slice 0"):
        scan.kspace[0]


def test_opening_reads_one_coil_where_that_settles_the_sampling(tmp_path: Path) -> None:
    write_fastmri(tmp_path / "f.h5", random_kspace(6, 8, 64, 48), voxel_mm=VOXEL_MM)
    tracemalloc.start()
    nm.open_scan(tmp_path / "f.h5")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 64 * 48 * 8  # one slice


def test_slices_count_as_python_counts(tmp_path: Path) -> None:
    kspace = random_kspace(3, 2, 16, 12)
    write_fastmri(tmp_path / "f.h5", kspace)
    source: SliceSource = nm.open_scan(tmp_path / "f.h5").kspace
    assert np.array_equal(source[-1], kspace[2])
    assert np.array_equal(source[int(np.int64(1))], kspace[1])
    with pytest.raises(IndexError, match="slice 3"):
        source[3]


def test_a_scan_holds_no_file_and_travels_to_other_processes(tmp_path: Path) -> None:
    kspace = random_kspace(2, 2, 16, 12)
    write_fastmri(tmp_path / "f.h5", kspace, reference=np.ones((2, 8, 8)))
    scan = nm.open_scan(tmp_path / "f.h5")
    copy = pickle.loads(pickle.dumps(scan))
    assert np.array_equal(copy.kspace[1], kspace[1])
    assert copy.reference[1].sum() == 64
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert np.array_equal(pool.apply(scan.kspace.__getitem__, (1,)), kspace[1])
    if Path("/proc/self/fd").is_dir():
        opened = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.exists()]
        assert not any(str(tmp_path) in name for name in opened)
    (tmp_path / "f.h5").unlink()
    with pytest.raises(ScanError, match="cannot be read"):
        scan.kspace[0]


def test_a_file_that_changed_since_is_noticed(tmp_path: Path) -> None:
    write_fastmri(tmp_path / "f.h5", random_kspace(2, 2, 16, 12))
    scan = nm.open_scan(tmp_path / "f.h5")
    write_fastmri(tmp_path / "f.h5", random_kspace(2, 2, 16, 14))
    with pytest.raises(ScanError, match=r"now \(2, 2, 16, 14\), was \(2, 2, 16, 12\)"):
        scan.kspace[0]


def test_no_patient_in_metadata_names_or_errors(tmp_path: Path) -> None:
    canary = "CANARY"
    path = tmp_path / "f.h5"
    private = dict.fromkeys(("patient_id", "patient_name", "PatientName", "study_date", "operator"), canary)
    # A free text where a code belongs is dropped too.
    private["acquisition"] = f"{canary} Jane 1970-01-01"
    write_fastmri(path, random_kspace(2, 2, 16, 12), voxel_mm=VOXEL_MM, attrs=private)
    with h5py.File(path, "a") as file:
        xml = file["ismrmrd_header"][()].decode()
        subject = f"<subjectInformation><patientName>{canary}</patientName><patientID>{canary}</patientID>"
        del file["ismrmrd_header"]
        file["ismrmrd_header"] = xml.replace("<encoding>", f"{subject}</subjectInformation><encoding>", 1)
    scan = nm.open_scan(path)
    assert canary not in repr(scan) + str(scan) + repr(scan.metadata) + repr(scan.geometry) + repr(scan.warnings)
    assert "acquisition" not in scan.metadata
    with h5py.File(path, "a") as file:
        xml = file["ismrmrd_header"][()].decode()
        del file["ismrmrd_header"]
        file["ismrmrd_header"] = xml[: xml.index("</subjectInformation>")]
    with pytest.raises(ScanError) as caught:
        nm.open_scan(path)
    assert canary not in str(caught.value)


def test_the_code_of_a_protocol_and_the_sequence_are_told(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    attrs = {"acquisition": "AXT2", "acceleration": np.int64(4), "num_low_frequency": 30, "patient_id": "x"}
    write_fastmri(path, random_kspace(1, 1, 16, 12), voxel_mm=VOXEL_MM, attrs=attrs)
    with h5py.File(path, "a") as file:
        xml = file["ismrmrd_header"][()].decode()
        del file["ismrmrd_header"]
        file["ismrmrd_header"] = xml.replace(
            "</ismrmrdHeader>",
            "<acquisitionSystemInformation><systemFieldStrength_T>2.89</systemFieldStrength_T>"
            "</acquisitionSystemInformation><sequenceParameters><TR>6000</TR><TE>113</TE>"
            "<flipAngle_deg>150</flipAngle_deg></sequenceParameters></ismrmrdHeader>",
        )
    metadata = nm.open_scan(path).metadata
    expected = {
        "acquisition": "AXT2",
        "acceleration": 4,
        "num_low_frequency": 30,
        "field_strength_t": 2.89,
        "tr_ms": 6000.0,
        "te_ms": 113.0,
        "flip_angle_deg": 150.0,
    }
    assert {key: metadata.get(key) for key in expected} == expected
    assert "patient_id" not in metadata


def test_simulated_kspace_says_so(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    write_fastmri(path, random_kspace(1, 1, 16, 12), simulated={"seed": 0})
    assert nm.open_scan(path).simulated
    write_fastmri(path, random_kspace(1, 1, 16, 12))
    assert not nm.open_scan(path).simulated


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    path = write_fastmri(tmp_path / "scan.txt", random_kspace(1, 1, 16, 12))
    assert nm.open_scan(str(path)).shape == (1, 1, 16, 12)
    assert nm.open_scan(path).name == "scan"


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"kspace": np.ones((1, 1, 8, 8))}, "expected complex"),
        ({"kspace": np.ones((8, 8), np.complex64)}, "expected"),
        ({"reference": np.ones((2, 8, 8))}, "reference"),
        ({"mask": np.ones(7, bool)}, "mask"),
        ({"crop": (4, 4)}, "voxel_mm"),
        ({"voxel_mm": (1.0, 0.0, 1.0)}, "voxel_mm"),
        ({"voxel_mm": VOXEL_MM, "crop": (9, 4)}, "crop"),
        ({"voxel_mm": VOXEL_MM, "padding": (4, 9)}, "padding"),
    ],
)
def test_parts_that_do_not_fit_are_not_written(tmp_path: Path, wrong: dict[str, object], match: str) -> None:
    with pytest.raises(DataError, match=match):
        write_fastmri(tmp_path / "f.h5", **{"kspace": random_kspace(1, 1, 8, 8), **wrong})
    assert list(tmp_path.iterdir()) == []


def test_reads_the_real_brain(tmp_path: Path, shared_data: Path) -> None:
    from support import read_cfl

    brain = np.moveaxis(read_cfl(shared_data / "kspace" / "brain8_espirit_full").squeeze(), -1, 0)
    write_fastmri(tmp_path / "brain.h5", brain[None], voxel_mm=(5.0, 1.0, 1.0))
    scan = nm.open_scan(tmp_path / "brain.h5")
    assert scan.shape == (1, 8, 230, 180)
    assert scan.fully_sampled
    assert scan.warnings == ()
    assert np.array_equal(scan.kspace[0], brain)
