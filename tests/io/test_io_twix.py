"""Siemens raw data: files made line by line, so that each kind of line is where it belongs, and two real ones."""

import pickle
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from array_support import assert_looks_like, damaged, rss, survives
from numpy.typing import NDArray
from twix_support import COILS, NX, NY, header, image, line, marker, samples, write

from nirvana_mri.errors import MissingExtraError, ScanError, UsageError
from nirvana_mri.io.twix.epi import ramp_positions, regridding
from nirvana_mri.io.twix.header import Protocol, read_protocol
from nirvana_mri.io.twix.reader import is_twix, read_twix


@pytest.mark.parametrize("vb", [False, True], ids=["VD", "VB"])
def test_one_slice_reads_as_it_was_written(tmp_path: Path, vb: bool) -> None:
    kspace = samples(COILS, NY, NX)
    lines = [marker("SYNCDATA", b"DATA" * 10, vb), *image(kspace, vb=vb)]
    lines.insert(5, line(samples(COILS, 7), "RTFEEDBACK", vb=vb))
    path = write(tmp_path / "meas", lines, vb=vb)
    assert is_twix(path)
    scan = read_twix(path)
    assert np.array_equal(scan.kspace[0], kspace)
    assert (scan.shape, scan.crop, scan.volumes) == ((1, COILS, NY, NX), (16, 12), 1)
    assert scan.fully_sampled
    assert scan.geometry.voxel_mm == pytest.approx((4.0, 10.0, 10.0))
    expected = {"field_strength_t": 2.8936, "tr_ms": 2500.0, "te_ms": 30.0}
    assert scan.metadata == pytest.approx(expected)
    assert np.array_equal(pickle.loads(pickle.dumps(scan)).kspace[0], kspace)
    with pytest.raises(IndexError, match="slice 1"):
        scan.kspace[1]


def test_slices_come_in_order_of_position_and_averages_are_averaged(tmp_path: Path) -> None:
    kspace = samples(2, 3, COILS, NY, NX)
    lines = []
    for average in range(2):
        for number, z in enumerate((10.0, -5.0, 2.5)):
            lines += image(kspace[average, number], z=z, Sli=number, Ave=average)
    scan = read_twix(write(tmp_path / "meas.dat", lines))
    for place, number in enumerate((1, 2, 0)):
        assert np.allclose(scan.kspace[place], kspace[:, number].mean(axis=0), atol=1e-6)
    assert scan.geometry.voxel_mm == pytest.approx((7.5, 10.0, 10.0))
    assert scan.geometry.orientation_known is False
    assert scan.geometry.affine is not None
    # The middle pixel of the first slice lies at its position: 5 mm towards the feet.
    assert scan.geometry.affine @ [6, 8, 0, 1] == pytest.approx([0, 0, -5, 1])
    assert any("averages" in warning for warning in scan.warnings)


def test_repetitions_and_echoes_are_volumes(tmp_path: Path) -> None:
    kspace = samples(2, 3, COILS, NY, NX)
    lines = [part for rep in range(2) for echo in range(3) for part in image(kspace[rep, echo], Rep=rep, Eco=echo)]
    path = write(tmp_path / "meas.dat", lines)
    for volume, (rep, echo) in enumerate(np.ndindex(2, 3)):
        scan = read_twix(path, volume=volume)
        assert np.array_equal(scan.kspace[0], kspace[rep, echo])
        assert (scan.volume, scan.volumes) == (volume, 6)
    assert read_twix(path).volume == 0
    with pytest.raises(UsageError, match="6 \\(0 to 5\\)"):
        read_twix(path, volume=6)


def test_the_last_measurement_is_read_and_noise_of_any_kept(tmp_path: Path) -> None:
    noise, kspace = samples(COILS, 64, seed=1), samples(COILS, NY, NX)
    first = [line(noise, "NOISEADJSCAN"), *image(samples(COILS, NY, NX, seed=3))]
    scan = read_twix(write(tmp_path / "meas.dat", first, image(kspace)))
    assert np.array_equal(scan.kspace[0], kspace)
    assert scan.noise is not None
    assert np.allclose(scan.noise, noise)  # 5 µs a sample, as the image's
    within = [line(noise, "NOISEADJSCAN"), *image(kspace)]
    scan = read_twix(write(tmp_path / "meas.dat", within))
    assert scan.noise is not None
    assert np.allclose(scan.noise, noise * np.sqrt(120 / 5))  # 76800 / 64 / 10 µs


def test_calibration_lines_fill_gaps(tmp_path: Path) -> None:
    kspace = samples(COILS, NY, NX)
    lines = [line(kspace[:, :, n], Lin=n) for n in range(0, NX, 3)]
    lines += [line(kspace[:, :, n], "PATREFSCAN", Lin=n) for n in (5, 7)]
    lines += [line(kspace[:, :, 6] * 3, "PATREFSCAN", Lin=6), line(kspace[:, :, 8], "PATREFANDIMASCAN", Lin=8)]
    scan = read_twix(write(tmp_path / "meas.dat", lines))
    measured = [0, 3, 5, 6, 7, 8, 9]
    assert np.flatnonzero(scan.acquired).tolist() == measured
    assert np.array_equal(scan.kspace[0][:, :, measured], kspace[:, :, measured])


def test_partial_fourier_and_asymmetric_echoes_keep_the_centre(tmp_path: Path) -> None:
    """Lines begin at 4 of 12, samples at 8 of 32: the scanner counts both from 0."""
    kspace = samples(COILS, NY, NX)
    centre = (NY // 2 - 8, NX // 2 - 4, 0)
    lines = [line(kspace[:, 8:, n + 4], Lin=n, centre=centre) for n in range(NX - 4)]
    scan = read_twix(write(tmp_path / "meas.dat", lines))
    assert scan.shape == (1, COILS, NY, NX)
    assert np.array_equal(scan.kspace[0][:, 8:, 4:], kspace[:, 8:, 4:])
    assert scan.acquired.sum() == 24 * 8
    assert scan.acquired[8:, 4:].all()


def test_partitions_are_transformed_and_oversampling_left_out(tmp_path: Path) -> None:
    kspace = samples(COILS, 6, NY, NX)
    lines = [part for n in range(6) for part in image(kspace[:, n], Par=n, centre=(NY // 2, NX // 2, 3))]
    changes = {"sKSpace.ucDimension": "0x4", "sKSpace.lPartitions": "6", "sKSpace.lImagesPerSlab": "4"}
    path = write(tmp_path / "meas.dat", lines, head=header(changes))
    scan = read_twix(path)
    expected = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(kspace, axes=1), axis=1, norm="ortho"), axes=1)
    assert len(scan.kspace) == 4
    for number in range(4):
        assert np.allclose(scan.kspace[number], expected[:, number + 1], atol=1e-6)
    assert scan.geometry.voxel_mm == pytest.approx((1.0, 10.0, 10.0))
    with pytest.raises(ScanError, match="partitions are undersampled"):
        read_twix(write(tmp_path / "less.dat", lines[: -NX // 2], head=header(changes)))


def test_echo_planar_lines_are_turned_and_brought_in_phase(tmp_path: Path) -> None:
    """Odd lines run backwards, and their image is off by a linear phase that the navigators show."""
    pixels = np.arange(NY) - NY // 2
    inside = np.abs(pixels) < 10
    picture = samples(COILS, NY, NX) * inside[:, None]
    kspace = to_kspace(picture, axis=1)
    off = np.exp(1j * (0.7 + 0.05 * pixels))
    turned = to_kspace(picture / off[:, None], axis=1)[:, ::-1]
    navigator = picture.sum(axis=2)
    plain, other = to_kspace(navigator, axis=1), to_kspace(navigator / off, axis=1)[:, ::-1]
    lines = [line(plain, "PHASCOR", "RTFEEDBACK", Lin=6), line(other, "PHASCOR", "REFLECT", "RTFEEDBACK", Lin=6)]
    for number in range(NX):
        odd = number % 2
        lines.append(line((turned if odd else kspace)[:, :, number], *(["REFLECT"] * odd), Lin=number))
    scan = read_twix(write(tmp_path / "meas.dat", lines))
    assert np.allclose(scan.kspace[0], kspace, atol=1e-4)
    assert any("in phase" in warning for warning in scan.warnings)
    scan = read_twix(write(tmp_path / "meas.dat", lines[2:]))
    assert any("ghosts" in warning for warning in scan.warnings)
    assert not np.allclose(scan.kspace[0], kspace, atol=0.1)


def to_kspace(values: NDArray[Any], axis: int) -> NDArray[np.complex64]:
    moved = np.fft.fft(np.fft.ifftshift(values, axes=axis), axis=axis, norm="ortho")
    return np.fft.fftshift(moved, axes=axis).astype(np.complex64)


def test_samples_on_the_ramps_become_even() -> None:
    """The line of a known object, sampled along a trapezoid, becomes its even line; the ends lie beyond it."""
    times = {"alRegridMode": 2.0, "alRegridRampupTime": 160.0, "alRegridFlattopTime": 240.0}
    times |= {"alRegridRampdownTime": 160.0, "alRegridDelaySamplesTime": 32.0, "aflRegridADCDuration": 496.0}
    positions = ramp_positions(Protocol(times), 160)
    assert positions is not None
    assert positions == pytest.approx(-positions[::-1], abs=1e-6)
    assert np.ptp(np.diff(positions)) > 0.5  # far from even
    weights = np.random.default_rng(0).normal(size=75)
    for between, allowed in ((0.0, 0.01), (0.25, 0.06)):  # points on the pixels, and beside them
        where = np.arange(-35, 40) + between
        even = np.exp(-2j * np.pi * np.outer(np.arange(160) - 80, where) / 160) @ weights
        uneven = np.exp(-2j * np.pi * np.outer(positions, where) / 160) @ weights
        found = regridding(positions, 0.0) @ uneven
        assert np.linalg.norm((found - even)[1:]) < allowed * np.linalg.norm(even)
        assert np.linalg.norm(uneven - even) > 0.3 * np.linalg.norm(even)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"sKSpace.ucTrajectory": "0x2"}, "radial"),
        ({"sKSpace.ucTrajectory": "0x4"}, "spiral"),
        ({"sSliceAcceleration.lMultiBandFactor": "4"}, "multi-band"),
    ],
)
def test_what_is_no_plain_grid_is_refused(tmp_path: Path, changes: dict[str, str], match: str) -> None:
    path = write(tmp_path / "meas.dat", image(samples(COILS, NY, NX)), head=header(changes))
    with pytest.raises(ScanError, match=match):
        read_twix(path)


def test_lines_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    kspace = samples(2, COILS, NY, NX)
    path = tmp_path / "meas.dat"
    odd = [*image(kspace[0]), line(samples(COILS, 48), Lin=3)]
    with pytest.raises(ScanError, match="expected one length"):
        read_twix(write(path, odd))
    aborted = [*image(kspace[0], z=0.0), *image(kspace[1], z=5.0, Sli=1)[:-2]]
    with pytest.raises(ScanError, match="slice 1 holds other lines"):
        read_twix(write(path, aborted))
    with pytest.raises(ScanError, match="none of its 1 measurements"):
        read_twix(write(path, [line(samples(COILS, 64), "NOISEADJSCAN")]))
    with pytest.raises(ScanError, match="counters are damaged"):
        read_twix(write(path, [*image(kspace[0]), line(kspace[0][:, :, 0], Lin=60000)]))


def test_truncated_files_are_refused_and_a_missing_end_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "meas.dat", image(samples(COILS, NY, NX)))
    data = path.read_bytes()
    path.write_bytes(data[:-300])
    with pytest.raises(ScanError, match="truncated"):
        read_twix(path)
    open_ended = bytearray(data[:-192])
    struct.pack_into("<Q", open_ended, 24, len(open_ended) - 10240)
    path.write_bytes(open_ended)
    scan = read_twix(path)
    assert any("aborted" in warning for warning in scan.warnings)
    path.write_bytes(data)
    with pytest.raises(ScanError, match="open the scan again"):
        scan.kspace[0]


def test_nobody_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "meas.dat", image(samples(COILS, NY, NX)))
    scan = read_twix(path)
    assert b"CANARY" in path.read_bytes()
    assert b"CANARY" not in pickle.dumps(scan)
    assert "CANARY" not in repr(scan) + repr(scan.metadata) + repr(scan.warnings)


def test_a_hostile_header_takes_no_time(tmp_path: Path) -> None:
    """Numbers are read by name alone: no nesting, no list as long as its index says."""
    head = header(extra="sSliceArray.asSlice[4294967295].dThickness = 4\n" + " =" * 200_000 + "\n" + "a[" * 100_000)
    assert read_twix(write(tmp_path / "meas.dat", image(samples(COILS, NY, NX)), head=head)).crop == (16, 12)
    assert read_protocol(b"alTR[0] = 1e999\nalTE[0] = nan\nalTR[0] = 5 \n").values == {}


def test_without_twixtools_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "meas.dat", image(samples(COILS, NY, NX)))
    monkeypatch.setitem(sys.modules, "twixtools", None)
    assert is_twix(path)
    with pytest.raises(MissingExtraError, match="nirvana-mri\\[twix\\]"):
        read_twix(path)


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    kspace = samples(COILS, NY, NX)
    lines = [line(samples(COILS, 32), "NOISEADJSCAN"), *image(kspace), marker("SYNCDATA", b"x" * 40)]
    path = write(tmp_path / "meas.dat", lines)
    data = path.read_bytes()
    body = data.index(lines[0])
    step = len(lines[1])
    heads = [(body + n * step, body + n * step + 192) for n in range(NX)]
    done = survives(path, damaged(data, [(0, 60), (10240, body), *heads, (body, len(data))], 150), read_twix)
    assert min(done) > 20


def test_other_files_are_not_twix(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"\0" * 23)
    (tmp_path / "zeros").write_bytes(b"\0" * 20000)
    (tmp_path / "text").write_text("hello " * 4000)
    assert not any(is_twix(tmp_path / name) for name in ("short", "zeros", "text", "missing", "."))
    with pytest.raises(ScanError, match="zeros"):
        read_twix(tmp_path / "zeros")


REAL = {"gre": ((1, 2, 320, 160), (160, 160), 1.25), "epi": ((1, 2, 160, 80), (80, 80), 2.5)}


@pytest.mark.parametrize("name", REAL)
def test_real_phantoms(shared_data: Path, name: str) -> None:
    shape, crop, pixel = REAL[name]
    scan = read_twix(shared_data / "kspace" / f"phantom2_twix_{name}.dat")
    assert (scan.shape, scan.crop, scan.volumes, scan.fully_sampled) == (shape, crop, 1, True)
    assert scan.geometry.voxel_mm == pytest.approx((4.0, pixel, pixel))
    assert scan.geometry.affine is not None
    middle = scan.geometry.affine @ [crop[1] // 2, crop[0] // 2, 0, 1]
    assert middle[:3] == pytest.approx([2.5897, -53.9224, -53.9995], abs=1e-3)  # the header's position, in RAS
    assert scan.metadata["field_strength_t"] == pytest.approx(2.8936, abs=1e-3)
    assert_looks_like(rss(scan), PICTURES[name])


def test_the_real_gradient_echo_is_what_twixtools_reads(shared_data: Path) -> None:
    import twixtools

    path = shared_data / "kspace" / "phantom2_twix_gre.dat"
    (theirs,) = twixtools.read_twix(str(path), verbose=False)
    expected = np.stack([block.data for block in theirs["mdb"]], axis=-1)
    assert np.array_equal(read_twix(path).kspace[0], expected)
    turn = theirs["geometry"][0].prs_to_pcs()  # columns phase, readout, slice in LPS
    affine = read_twix(path).geometry.affine
    assert affine is not None
    assert np.allclose(affine[:3, :3], np.diag([-1, -1, 1]) @ turn * [1.25, 1.25, 4.0], atol=1e-5)


def test_the_real_echo_planar_phantom_looks_like_the_gradient_echo(shared_data: Path) -> None:
    """Regridded, turned and in phase, both pictures of one phantom agree; without, they do not."""
    pictures = [rss(read_twix(shared_data / "kspace" / f"phantom2_twix_{name}.dat")) for name in REAL]
    coarse = [picture.reshape(40, len(picture) // 40, 40, -1).mean(axis=(1, 3)) for picture in pictures]
    assert np.corrcoef(coarse[0].ravel(), coarse[1].ravel())[0, 1] > 0.93


@pytest.mark.parametrize("name", REAL)
def test_damaged_real_files_are_read_or_refused(shared_data: Path, tmp_path: Path, name: str) -> None:
    data = (shared_data / "kspace" / f"phantom2_twix_{name}.dat").read_bytes()
    regions = [(0, 200), (10240, 10300), (len(data) // 2, len(data))]
    done = survives(tmp_path / "meas.dat", damaged(data, regions, 40), read_twix)
    assert sum(done) == 40


PICTURES = {  # seen once, and found to be the phantom that they should be
    "gre": "33EJHF533JMNHKG6AN8GHKIAGQ4GIUO7FR4FIVRA9P4DHVTB3GGMGTQ733CLFI63",
    "epi": "22CIGE422JNNILE5AL5FHKCAHO3GGUP7HQ3FFVRAAQ4EFVTC2HGMGVR723CLFI53",
}
