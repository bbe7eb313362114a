"""ISMRMRD files: every readout goes where its head says, and every volume comes out by itself."""

import pickle
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from mrd_support import (
    CALIBRATION,
    CALIBRATION_AND_IMAGING,
    NOISE,
    REVERSED,
    Line,
    encoding_xml,
    header_xml,
    lines_of,
    matrix_of,
    random_kspace,
    write_mrd,
)
from support import centred_ifft2

from nirvana_mri.errors import ScanError, UsageError
from nirvana_mri.io.fastmri import write_fastmri
from nirvana_mri.io.ismrmrd import source as mrd_source
from nirvana_mri.io.ismrmrd.reader import is_ismrmrd, read_ismrmrd

KSPACE = random_kspace(2, 8, 6)


def plain_xml(kspace=KSPACE, **options) -> str:
    return header_xml(encoding_xml(matrix_of(kspace), **options))


@st.composite
def acquisitions(draw):
    """(k-space, what is measured of it, its header and lines): partial Fourier, asymmetric echo, turned readouts."""
    ny, nx, coils = draw(st.integers(3, 11)), draw(st.integers(2, 9)), draw(st.integers(1, 3))
    kspace = random_kspace(coils, ny, nx, seed=draw(st.integers(0, 99)))
    start, stop = draw(st.integers(0, ny // 2)), draw(st.integers(ny // 2 + 1, ny))
    first, last = draw(st.integers(0, nx // 2)), draw(st.integers(nx // 2 + 1, nx))
    columns = draw(st.permutations(range(first, last)))
    center = draw(st.integers(max(nx // 2 - first, 0), 12))
    pre, post = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    measured = np.zeros((ny, nx), bool)
    measured[start:stop, first:last] = True
    lines = []
    for column in columns:
        turned = draw(st.booleans())
        readout = kspace[:, start:stop, column]
        middle = pre + ny // 2 - start
        if turned:
            readout, middle = readout[:, ::-1], pre + ny // 2 + stop - ny
            assume(middle >= 0)
        data = np.pad(readout, ((0, 0), (pre, post)), constant_values=1e6)
        flags = (REVERSED,) if turned else ()
        lines.append(Line(data, column - nx // 2 + center, middle, flags, pre=pre, post=post))
    recon = draw(st.integers(1, ny)), draw(st.integers(1, nx)), 1
    return kspace, measured, header_xml(encoding_xml((ny, nx, 1), recon, center=center)), lines, recon


@given(acquisitions())
def test_every_sample_goes_where_its_head_says(tmp_path_factory: pytest.TempPathFactory, acquisition) -> None:
    kspace, measured, xml, lines, recon = acquisition
    path = write_mrd(tmp_path_factory.mktemp("mrd") / "scan.h5", xml, lines)
    scan = read_ismrmrd(path)
    assert np.array_equal(np.broadcast_to(scan.acquired, measured.shape), measured)
    assert np.array_equal(scan.kspace[0], np.where(measured, kspace, 0))
    assert scan.crop == recon[:2]


def test_whole_columns_are_a_mask_of_columns(tmp_path: Path) -> None:
    scan = read_ismrmrd(write_mrd(tmp_path / "scan.h5", plain_xml(), lines_of(KSPACE, [0, 2, 3, 5])))
    assert scan.acquired.tolist() == [True, False, True, True, False, True]
    assert scan.shape == (1, 2, 8, 6)
    assert scan.multicoil
    assert scan.raw
    assert not scan.fully_sampled


def test_readout_oversampling_is_cropped_from_the_picture(tmp_path: Path) -> None:
    xml = header_xml(encoding_xml((8, 6, 1), (4, 6, 1), pixel=(2.0, 1.5, 4.0)))
    scan = read_ismrmrd(write_mrd(tmp_path / "scan.h5", xml, lines_of(KSPACE)))
    assert scan.shape[2:] == (8, 6)
    assert scan.crop == (4, 6)
    assert scan.geometry.voxel_mm == (4.0, 2.0, 1.5)


def test_a_finer_recon_matrix_is_not_interpolated(tmp_path: Path) -> None:
    xml = plain_xml().replace("<reconSpace><matrixSize><x>8</x><y>6</y>", "<reconSpace><matrixSize><x>16</x><y>12</y>")
    scan = read_ismrmrd(write_mrd(tmp_path / "scan.h5", xml, lines_of(KSPACE)))
    assert scan.crop == (8, 6)
    assert any("nothing is interpolated" in note for note in scan.warnings)


def test_noise_is_handed_over_on_the_scale_of_the_picture(tmp_path: Path) -> None:
    noise = random_kspace(2, 40, seed=3)
    lines = [Line(noise[:, :20], flags=(NOISE,), dwell=20.0, center=0), *lines_of(KSPACE)]
    lines.insert(4, Line(noise[:, 20:], flags=(NOISE,), dwell=20.0, center=0))
    bandwidth = "<acquisitionSystemInformation><relativeReceiverNoiseBandwidth>0.8</relativeReceiverNoiseBandwidth>"
    xml = header_xml(encoding_xml((8, 6, 1)), more=bandwidth + "</acquisitionSystemInformation>")
    scan = read_ismrmrd(write_mrd(tmp_path / "scan.h5", xml, lines))
    assert scan.noise is not None
    assert np.allclose(scan.noise, noise * np.sqrt(20 / 5 / 0.8), rtol=1e-6)
    assert np.array_equal(scan.kspace[0], KSPACE)


def test_averages_lower_the_noise_that_is_handed_over(tmp_path: Path) -> None:
    noise = random_kspace(2, 40, seed=3)
    lines = [Line(noise, flags=(NOISE,), center=0)]
    lines += [line for n in range(4) for line in lines_of(KSPACE, idx={"average": n})]
    scan = read_ismrmrd(write_mrd(tmp_path / "scan.h5", plain_xml(), lines))
    assert scan.noise is not None
    assert np.allclose(scan.noise, noise / 2, rtol=1e-6)


@pytest.mark.parametrize("noise", [random_kspace(3, 40), random_kspace(2, 40) * [[1], [0]], KSPACE[:, 0] * np.nan])
def test_noise_that_cannot_be_used_is_said(tmp_path: Path, noise) -> None:
    lines = [Line(noise, flags=(NOISE,), center=0), *lines_of(KSPACE)]
    scan = read_ismrmrd(write_mrd(tmp_path / "scan.h5", plain_xml(), lines))
    assert scan.noise is None
    assert any("noise measurement is not used" in note for note in scan.warnings)


def test_repeated_lines_are_averaged_by_their_own_count(tmp_path: Path) -> None:
    other, third = random_kspace(2, 8, 6, seed=1), random_kspace(2, 8, 6, seed=2)
    lines = lines_of(KSPACE) + lines_of(other, [1, 2], idx={"average": 1}) + lines_of(third, [2], idx={"average": 2})
    scan = read_ismrmrd(write_mrd(tmp_path / "scan.h5", plain_xml(), lines))
    expected = KSPACE.copy()
    expected[:, :, 1] = (KSPACE[:, :, 1] + other[:, :, 1]) / 2
    expected[:, :, 2] = (KSPACE[:, :, 2] + other[:, :, 2] + third[:, :, 2]) / 3
    assert np.allclose(scan.kspace[0], expected, rtol=1e-6)
    assert "lines were measured 1 to 3 times: their mean is used" in scan.warnings


def test_calibration_lines_flagged_either_way_are_measured_lines(tmp_path: Path) -> None:
    lines = lines_of(KSPACE, [0, 4])
    lines += lines_of(KSPACE, [2], flags=(CALIBRATION_AND_IMAGING,)) + lines_of(KSPACE, [3], flags=(CALIBRATION,))
    scan = read_ismrmrd(write_mrd(tmp_path / "scan.h5", plain_xml(mode="embedded"), lines))
    assert np.flatnonzero(scan.acquired).tolist() == [0, 2, 3, 4]
    assert np.array_equal(scan.kspace[0][..., scan.acquired], KSPACE[..., [0, 2, 3, 4]])


def test_a_calibration_line_never_mixes_with_a_measured_one(tmp_path: Path) -> None:
    lines = lines_of(KSPACE) + lines_of(KSPACE * 5, [2, 3], flags=(CALIBRATION,))
    assert np.array_equal(read_ismrmrd(write_mrd(tmp_path / "s.h5", plain_xml(), lines)).kspace[0], KSPACE)


def test_a_separate_calibration_is_left_out_and_can_be_opened(tmp_path: Path) -> None:
    lines = lines_of(KSPACE * 5, [2, 3], flags=(CALIBRATION,)) + lines_of(KSPACE, [0, 2, 4])
    path = write_mrd(tmp_path / "scan.h5", plain_xml(mode="separate"), lines)
    scan = read_ismrmrd(path)
    assert np.flatnonzero(scan.acquired).tolist() == [0, 2, 4]
    assert "left out: 2 lines of a separate calibration scan" in scan.warnings
    calibration = read_ismrmrd(path, calibration=True)
    assert np.flatnonzero(calibration.acquired).tolist() == [2, 3]
    assert np.array_equal(calibration.kspace[0][..., 2:4], 5 * KSPACE[..., 2:4])


def test_a_calibration_with_an_encoding_of_its_own(tmp_path: Path) -> None:
    small = random_kspace(2, 4, 4)
    lines = lines_of(KSPACE) + lines_of(small, flags=(CALIBRATION,), encoding=1)
    path = write_mrd(tmp_path / "s.h5", header_xml(encoding_xml((8, 6, 1)), encoding_xml((4, 4, 1))), lines)
    assert np.array_equal(read_ismrmrd(path).kspace[0], KSPACE)
    assert np.array_equal(read_ismrmrd(path, calibration=True).kspace[0], small)
    with pytest.raises(UsageError, match="encoding 1 has no lines; choose one of 0"):
        read_ismrmrd(path, encoding=1)


def test_calibration_lines_with_counters_of_their_own_are_no_volume(tmp_path: Path) -> None:
    lines = lines_of(KSPACE) + lines_of(KSPACE, [2], flags=(CALIBRATION,), idx={"set": 1})
    assert read_ismrmrd(write_mrd(tmp_path / "s.h5", plain_xml(), lines)).volumes == 1


@pytest.mark.parametrize("flag", [23, 24, 26, 27, 28, 29, 30, 31])
def test_lines_of_no_picture_are_left_out(tmp_path: Path, flag: int) -> None:
    lines = [Line(KSPACE[:, :, 0] * 9, flags=(flag,), center=0), *lines_of(KSPACE)]
    scan = read_ismrmrd(write_mrd(tmp_path / "scan.h5", plain_xml(), lines))
    assert np.array_equal(scan.kspace[0], KSPACE)
    assert any(note.startswith("left out: 1 ") for note in scan.warnings)


def test_volumes_are_repetitions_sets_phases_and_contrasts(tmp_path: Path) -> None:
    counters = ["repetition", "set", "phase", "contrast"]
    lines, expected = [], []
    for number in range(16):
        idx = {name: number >> (3 - i) & 1 for i, name in enumerate(counters)}
        expected.append(random_kspace(2, 8, 6, seed=number))
        lines += lines_of(expected[-1], idx=idx)
    order = np.random.default_rng(0).permutation(len(lines))
    sequence = "<sequenceParameters><TR>500</TR><TE>10</TE><TE>25</TE></sequenceParameters>"
    xml = header_xml(encoding_xml((8, 6, 1)), more=sequence)
    path = write_mrd(tmp_path / "scan.h5", xml, [lines[n] for n in order])
    for number in (0, 1, 6, 15):
        scan = read_ismrmrd(path, volume=number)
        assert (scan.volume, scan.volumes) == (number, 16)
        assert np.array_equal(scan.kspace[0], expected[number])
        assert scan.metadata["te_ms"] == (25 if number % 2 else 10)
        assert [scan.metadata[name] for name in counters] == [number >> (3 - i) & 1 for i in range(4)]
    assert read_ismrmrd(path).volume == 0
    for wrong in (16, -1):
        with pytest.raises(UsageError, match="choose one of 0 to 15"):
            read_ismrmrd(path, volume=wrong)


def interleaved(shared: tuple[int, ...], parts: int = 2, cycles: int = 1) -> list[Line]:
    """Repetitions that measure every ``parts``-th line each, and the ``shared`` ones all; scaled by 1 + repetition."""
    lines = []
    for n in range(parts * cycles):
        columns = sorted({*range(n % parts, 6, parts), *shared})
        lines += lines_of(KSPACE * (n + 1), columns, idx={"repetition": n})
    return lines


def test_repetitions_that_complement_each_other_are_one_volume(tmp_path: Path) -> None:
    path = write_mrd(tmp_path / "scan.h5", plain_xml(), interleaved((2, 3)))
    scan = read_ismrmrd(path)
    assert (scan.volume, scan.volumes, scan.fully_sampled) == (0, 1, True)
    assert np.array_equal(scan.kspace[0], KSPACE * np.array([1, 2, 2, 2, 1, 2], np.float32))
    assert any("2 repetitions complement each other" in note for note in scan.warnings)
    for number, columns in enumerate(([0, 2, 3, 4], [1, 2, 3, 5])):
        alone = read_ismrmrd(path, volume=number)
        assert (alone.volume, alone.volumes) == (number, 2)
        assert np.flatnonzero(alone.acquired).tolist() == columns
        assert np.array_equal(alone.kspace[0][..., columns], KSPACE[..., columns] * np.float32(number + 1))


@pytest.mark.parametrize(
    "lines",
    [
        lines_of(KSPACE) + lines_of(KSPACE, idx={"repetition": 1}),  # each complete
        interleaved((), cycles=2),  # a series in time
        lines_of(KSPACE, [0, 2]) + lines_of(KSPACE, [1, 5], idx={"repetition": 1}),  # together incomplete
        lines_of(KSPACE, [0, 2, 4]) + lines_of(KSPACE, [1, 3, 5], idx={"contrast": 1}),  # echoes
    ],
    ids=["complete", "cycles", "gaps", "contrasts"],
)
def test_other_repetitions_stay_volumes(tmp_path: Path, lines: list[Line]) -> None:
    assert read_ismrmrd(write_mrd(tmp_path / "scan.h5", plain_xml(), lines)).volumes > 1


def test_several_encodings_are_refused_by_name_or_chosen(tmp_path: Path) -> None:
    small = random_kspace(2, 4, 4)
    xml = header_xml(encoding_xml((8, 6, 1)), encoding_xml((4, 4, 1)), encoding_xml((4, 4, 1), trajectory="radial"))
    lines = lines_of(KSPACE) + lines_of(small, encoding=1)
    path = write_mrd(tmp_path / "scan.h5", xml, lines)
    with pytest.raises(ScanError, match=r"2 encodings \(0: cartesian 8x6x1, 6 lines; 1: cartesian 4x4x1, 4 lines\)"):
        read_ismrmrd(path)
    assert np.array_equal(read_ismrmrd(path, encoding=0).kspace[0], KSPACE)
    assert np.array_equal(read_ismrmrd(path, encoding=1).kspace[0], small)
    with pytest.raises(UsageError, match="encoding 2 has no lines; choose one of 0 or 1"):
        read_ismrmrd(path, encoding=2)


@pytest.mark.parametrize("trajectory", ["radial", "goldenangle", "spiral", "other", "epi", "wibble"])
def test_a_trajectory_off_the_grid_is_named(tmp_path: Path, trajectory: str) -> None:
    path = write_mrd(tmp_path / "scan.h5", plain_xml(trajectory=trajectory), lines_of(KSPACE))
    with pytest.raises(ScanError, match=f"trajectory is {trajectory.replace('wibble', 'unknown')}.*first"):
        read_ismrmrd(path)


def epi_ramps(delay: float) -> str:
    values = {"rampUpTime": 100, "flatTopTime": 200, "acqDelayTime": delay, "numSamples": 8, "dwellTime": 25}
    pairs = (f"<name>{name}</name><value>{value}</value>" for name, value in values.items())
    parameters = "".join(f"<userParameterDouble>{pair}</userParameterDouble>" for pair in pairs)
    return f"<trajectoryDescription><identifier>ConventionalEPI</identifier>{parameters}</trajectoryDescription>"


def test_epi_on_the_flat_top_alone_is_cartesian(tmp_path: Path) -> None:
    flat = plain_xml(trajectory="epi", more=epi_ramps(delay=100))
    scan = read_ismrmrd(write_mrd(tmp_path / "flat.h5", flat, lines_of(KSPACE)))
    assert any("without phase correction" in note for note in scan.warnings)
    ramps = plain_xml(trajectory="epi", more=epi_ramps(delay=20))
    with pytest.raises(ScanError, match="epi and its readout is sampled on the ramps"):
        read_ismrmrd(write_mrd(tmp_path / "ramps.h5", ramps, lines_of(KSPACE)))


def slab(nz: int, ny: int = 6, nx: int = 4, coils: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """(complex pictures, their k-space), both ``[slice, coil, ny, nx]``."""
    images = random_kspace(nz, coils, ny, nx, seed=nz)
    axes = (0, 2, 3)
    kspace = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(images, axes), axes=axes, norm="ortho"), axes)
    return images, kspace.astype(np.complex64)


def slab_lines(kspace: np.ndarray, partitions=None, columns=None) -> list[Line]:
    every = range(len(kspace)) if partitions is None else partitions
    lines = [line for n in every for line in lines_of(kspace[n], columns, idx={"kspace_encode_step_2": n})]
    return [lines[n] for n in np.random.default_rng(1).permutation(len(lines))]


@pytest.mark.parametrize(("nz", "kept"), [(4, 4), (5, 5), (6, 4), (7, 4), (8, 5)])
@pytest.mark.parametrize("block", [1, 1 << 28])
def test_a_slab_becomes_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nz: int, kept: int, block: int) -> None:
    monkeypatch.setattr(mrd_source, "BLOCK", block)
    monkeypatch.setattr(mrd_source, "SLAB", block)
    images, kspace = slab(nz)
    xml = header_xml(encoding_xml((6, 4, nz), (6, 4, kept), pixel=(1.0, 1.0, 2.0)))
    scan = read_ismrmrd(write_mrd(tmp_path / "scan.h5", xml, slab_lines(kspace)))
    assert scan.shape == (kept, 2, 6, 4)
    assert scan.acquired.all()
    start = (nz - kept) // 2
    for number in (kept - 1, 0, *range(kept)):
        assert np.allclose(centred_ifft2(scan.kspace[number]), images[start + number], atol=1e-5)
    again = pickle.loads(pickle.dumps(scan.kspace))
    assert np.array_equal(again[1], scan.kspace[1])
    assert scan.geometry.voxel_mm == (2.0, 1.0, 1.0)


def test_a_slab_undersampled_in_plane_alone_can_be_separated(tmp_path: Path) -> None:
    images, kspace = slab(4)
    xml = header_xml(encoding_xml((6, 4, 4)))
    scan = read_ismrmrd(write_mrd(tmp_path / "scan.h5", xml, slab_lines(kspace, columns=[0, 2, 3])))
    assert scan.acquired.tolist() == [True, False, True, True]
    kspace_of_slice = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(images[2], (1, 2)), norm="ortho"), (1, 2))
    assert np.allclose(scan.kspace[2][..., scan.acquired], kspace_of_slice[..., scan.acquired], atol=1e-5)


def test_partitions_missing_at_the_border_count_as_zero(tmp_path: Path) -> None:
    _, kspace = slab(6)
    xml = header_xml(encoding_xml((6, 4, 6)))
    scan = read_ismrmrd(write_mrd(tmp_path / "scan.h5", xml, slab_lines(kspace, partitions=range(2, 6))))
    assert "4 of 6 partitions were measured: the others count as zero" in scan.warnings
    kspace[:2] = 0
    expected = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(kspace, 0), axis=0, norm="ortho"), 0)
    assert np.allclose([scan.kspace[n] for n in range(6)], expected, atol=1e-5)


def test_undersampled_partitions_are_refused(tmp_path: Path) -> None:
    _, kspace = slab(6)
    xml = header_xml(encoding_xml((6, 4, 6)))
    with pytest.raises(ScanError, match=r"3 of 6 partitions were measured, with gaps.*kspace_encode_step_2"):
        read_ismrmrd(write_mrd(tmp_path / "gaps.h5", xml, slab_lines(kspace, partitions=[1, 3, 5])))
    shifted = [line for line in slab_lines(kspace) if (line.step1 + line.idx["kspace_encode_step_2"]) % 2]
    with pytest.raises(ScanError, match="partition 1 measured other samples than partition 0"):
        read_ismrmrd(write_mrd(tmp_path / "shifted.h5", xml, shifted))


def test_slices_sampled_differently_are_refused(tmp_path: Path) -> None:
    lines = lines_of(KSPACE, [0, 1, 3]) + lines_of(KSPACE, [0, 2, 3], idx={"slice": 1})
    with pytest.raises(ScanError, match="slice 1 measured other samples than slice 0"):
        read_ismrmrd(write_mrd(tmp_path / "scan.h5", plain_xml(), lines))


def test_a_header_without_limits_is_read_about_the_middle(tmp_path: Path) -> None:
    xml = plain_xml()
    start, end = xml.index("<encodingLimits>"), xml.index("<trajectory>")
    scan = read_ismrmrd(write_mrd(tmp_path / "scan.h5", xml[:start] + xml[end:], lines_of(KSPACE)))
    assert np.array_equal(scan.kspace[0], KSPACE)
    assert any("no encodingLimits" in note for note in scan.warnings)


@pytest.mark.parametrize("kind", ["contiguous", "chunks", "gzip", "userblock", "float64"])
def test_every_layout_of_the_table_gives_the_same(tmp_path: Path, kind: str) -> None:
    path = write_mrd(tmp_path / "scan.h5", plain_xml(), lines_of(KSPACE))
    with (
        h5py.File(path) as file,
        h5py.File(tmp_path / "other.h5", "w", userblock_size=512 * (kind == "userblock")) as other,
    ):
        table = file["dataset/data"]
        dtype = table.dtype
        if kind == "float64":
            head = np.dtype([*dtype["head"].descr, ("more", "<f8", (3,))])
            dtype = np.dtype([("traj", h5py.vlen_dtype("f4")), ("data", h5py.vlen_dtype(">f8")), ("head", head)])
        rows = np.empty(6, dtype)
        for n, row in enumerate(table[()]):
            rows[n]["traj"], rows[n]["data"] = row["traj"], row["data"]
            for name in row["head"].dtype.names:
                rows[n]["head"][name] = row["head"][name]
        options = {
            "chunks": {"chunks": (4,)},
            "gzip": {"chunks": (4,), "compression": "gzip", "shuffle": True, "fletcher32": True},
            "userblock": {"chunks": (2,)},
        }.get(kind, {})
        other.create_dataset("dataset/data", data=rows, dtype=dtype, **options)
        other.create_dataset("dataset/xml", data=[file["dataset/xml"][0]], dtype=h5py.string_dtype())
    scan = read_ismrmrd(tmp_path / "other.h5")
    assert np.array_equal(scan.kspace[0], KSPACE)


def test_the_kind_of_file_is_told_by_content(tmp_path: Path) -> None:
    mrd = write_mrd(tmp_path / "a.bin", plain_xml(), lines_of(KSPACE), group="scan 7")
    assert is_ismrmrd(mrd)
    assert np.array_equal(read_ismrmrd(mrd).kspace[0], KSPACE)
    write_fastmri(tmp_path / "fastmri.h5", KSPACE[None], voxel_mm=(1.0, 1.0, 1.0))
    (tmp_path / "text.h5").write_text("no scan")
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file["dataset/xml"] = "header"
    with h5py.File(mrd, "a") as file:
        file["kspace"] = KSPACE
    for name in ("a.bin", "fastmri.h5", "text.h5", "images.h5", "nothing.h5", "."):
        assert not is_ismrmrd(tmp_path / name)


def test_a_source_pickles_and_counts_like_a_list(tmp_path: Path) -> None:
    scan = read_ismrmrd(write_mrd(tmp_path / "scan.h5", plain_xml(), lines_of(KSPACE)))
    again = pickle.loads(pickle.dumps(scan.kspace))
    assert np.array_equal(again[-1], KSPACE)
    with pytest.raises(IndexError, match="slice 1 is not there"):
        scan.kspace[1]


def test_half_a_pixel_of_field_goes_by_the_recon_matrix(tmp_path: Path) -> None:
    """9 pixels of 2 mm, of which 9 mm are wanted: 4.5 pixels, and the header says 5."""
    kspace = random_kspace(2, 9, 6)
    xml = header_xml(encoding_xml((9, 6, 1), (5, 6, 1), pixel=(2.0, 1.0, 5.0)).replace("<x>10</x>", "<x>9</x>"))
    scan = read_ismrmrd(write_mrd(tmp_path / "scan.h5", xml, lines_of(kspace)))
    assert scan.crop == (5, 6)
    assert scan.warnings == ("orientation unknown: the file has no directions",)


def test_a_piece_that_was_stored_unpacked(tmp_path: Path) -> None:
    """HDF5 may skip a filter for a piece that it does not shrink, and says so beside it."""
    path = write_mrd(tmp_path / "scan.h5", plain_xml(), lines_of(KSPACE))
    with h5py.File(path, "a") as file:
        rows, kind = file["dataset/data"][()], file["dataset/data"].dtype
        del file["dataset/data"]
        table = file.create_dataset("dataset/data", data=rows, dtype=kind, chunks=(2,), compression="gzip")
        _, packed = table.id.read_direct_chunk((2,))
        table.id.write_direct_chunk((2,), zlib.decompress(packed), filter_mask=1)
    assert np.array_equal(read_ismrmrd(path).kspace[0], KSPACE)
