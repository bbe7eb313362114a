"""NIfTI as pictures: turned, placed, scaled, lazy; and files that are damaged or made to do harm."""

import gzip
import pickle
import time
import tracemalloc
import warnings
from pathlib import Path

import nibabel
import numpy as np
import pytest

from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.io.nifti import is_nifti, read_image_volume, read_nifti
from nirvana_mri.scan import Picture

AFFINE = np.array([[-1.5, 0.1, 0, 11], [0.1, 2, 0.2, -7], [0, -0.2, 3, 5], [0, 0, 0, 1.0]])  # x runs to the left


def values(shape: tuple[int, ...] = (9, 8, 7), kind: type = np.int16) -> np.ndarray:
    return np.random.default_rng(3).integers(-500, 900, shape).astype(kind)


def write(path: Path, made: np.ndarray | None = None, affine: np.ndarray = AFFINE, image=nibabel.Nifti1Image) -> Path:
    nibabel.save(image(values() if made is None else made, affine), path)
    return path


def voxels(picture: Picture) -> np.ndarray:
    return np.stack(list(picture.pixels))


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        voxels(read_nifti(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def patched(path: Path, offset: int, content: bytes) -> Path:
    """The file with bytes of its header replaced (offsets as in nifti1.h), compressed or not."""
    zipped = path.suffix == ".gz"
    raw = bytearray(gzip.decompress(path.read_bytes()) if zipped else path.read_bytes())
    raw[offset : offset + len(content)] = content
    path.write_bytes(gzip.compress(bytes(raw)) if zipped else bytes(raw))
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("image", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "PIR", "SLA", "IPL"])
def test_any_storage_order_gives_the_same_picture(tmp_path: Path, suffix: str, image, axcodes: str) -> None:
    whole = nibabel.Nifti1Image(values(), AFFINE)
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(AFFINE), nibabel.orientations.axcodes2ornt(tuple(axcodes))
    )
    stored = whole.as_reoriented(turn)
    path = write(tmp_path / f"head{suffix}", np.asarray(stored.dataobj), stored.affine, image)
    picture = read_nifti(path)
    expected = whole.as_reoriented(
        nibabel.orientations.ornt_transform(
            nibabel.io_orientation(AFFINE), nibabel.orientations.axcodes2ornt(("L", "P", "S"))
        )
    )
    np.testing.assert_array_equal(voxels(picture), np.asarray(expected.dataobj).T)
    np.testing.assert_allclose(picture.geometry.affine, expected.affine, atol=1e-5)
    assert picture.geometry.orientation_known
    assert (picture.name, picture.file_format, picture.volumes) == ("head", "NIfTI", 1)
    assert picture.pixels[-1].dtype == np.float32
    assert is_nifti(path)
    arrays, geometry = read_image_volume(path)  # the reader of `simulate` says the same
    np.testing.assert_array_equal(arrays, voxels(picture))
    np.testing.assert_array_equal(geometry.affine, picture.geometry.affine)


def test_content_decides_and_not_the_name(tmp_path: Path) -> None:
    write(tmp_path / "head.nii.gz").rename(tmp_path / "anything")
    assert is_nifti(tmp_path / "anything")
    assert read_nifti(tmp_path / "anything").shape == (7, 8, 9)
    (tmp_path / "text.nii").write_text("text")
    assert not is_nifti(tmp_path / "text.nii")
    assert not is_nifti(tmp_path)
    assert not is_nifti(tmp_path / "nowhere")
    assert "no magic number" in refusal(tmp_path / "text.nii")
    assert "no such file" in refusal(tmp_path / "nowhere")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_volumes(tmp_path: Path, suffix: str) -> None:
    made = values((9, 8, 7, 3))
    path = write(tmp_path / f"series{suffix}", made, np.diag([-1.0, -1, 1, 1]))
    assert read_nifti(path).volumes == 3
    for number in range(3):
        picture = read_nifti(path, volume=number)
        assert picture.volume == number
        np.testing.assert_array_equal(voxels(picture), made[..., number].T)
    for wrong in (-1, 3):
        with pytest.raises(UsageError, match="from 0 to 2"):
            read_nifti(path, volume=wrong)


def test_scales_types_and_byte_orders(tmp_path: Path) -> None:
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    image = nibabel.Nifti1Image(values().astype(np.float32), np.diag([-1.0, -1, 1, 1]), header)
    image.header.set_slope_inter(0.25, -3)
    nibabel.save(image, tmp_path / "scaled.nii")
    theirs = nibabel.load(tmp_path / "scaled.nii")
    assert (theirs.dataobj.slope, theirs.header.endianness) == (0.25, ">")
    np.testing.assert_allclose(voxels(read_nifti(tmp_path / "scaled.nii")), theirs.get_fdata().T)
    complex_values = values(kind=np.complex64) * (1 + 2j)
    picture = read_nifti(write(tmp_path / "complex.nii", complex_values, np.diag([-1.0, -1, 1, 1])))
    assert picture.pixels[0].dtype == np.complex64
    np.testing.assert_array_equal(voxels(picture), complex_values.T)
    for kind in (np.uint8, np.float64, np.int32, np.uint16):
        made = values().astype(kind)
        np.testing.assert_array_equal(
            voxels(read_nifti(write(tmp_path / "x.nii", made, np.diag([-1.0, -1, 1, 1])))), made.T.astype(np.float32)
        )


def test_form_codes_and_units(tmp_path: Path) -> None:
    def place(sform: int, qform: int, units: str = "mm") -> Picture:
        image = nibabel.Nifti1Image(values(), None)
        image.header.set_sform(np.diag([-2.0, -2, 2, 1]), sform)
        image.header.set_qform(np.diag([-3.0, -3, 3, 1]), qform)
        image.header.set_xyzt_units(units)
        (tmp_path / "x.nii").write_bytes(image.to_bytes())
        return read_nifti(tmp_path / "x.nii")

    assert place(1, 1).geometry.voxel_mm == pytest.approx((2, 2, 2))
    assert place(0, 2).geometry.voxel_mm == pytest.approx((3, 3, 3))
    assert place(2, 0).geometry.orientation_known
    unknown = place(0, 0)
    assert not unknown.geometry.orientation_known
    assert "orientation unknown" in unknown.warnings[0]
    assert place(1, 0, "micron").geometry.voxel_mm == pytest.approx((0.002,) * 3)
    assert place(1, 0, "meter").geometry.voxel_mm == pytest.approx((2000,) * 3)


def test_a_slice_alone_is_read_and_no_file_stays_open(tmp_path: Path) -> None:
    path = write(tmp_path / "large.nii", np.ones((256, 256, 120), np.int16), np.diag([-1.0, -1, 1, 1]))
    picture = read_nifti(path)
    tracemalloc.start()
    assert picture.pixels[60].sum() == 256 * 256
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()
    travelled = pickle.loads(pickle.dumps(picture.pixels))
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(DataError, match="shorter since"):
        travelled[0]


def test_a_compressed_volume_is_unpacked_once_and_does_not_travel(tmp_path: Path) -> None:
    path = write(tmp_path / "head.nii.gz")
    picture = read_nifti(path)
    first = picture.pixels[0]
    assert len(pickle.dumps(picture.pixels)) < 3000
    path.unlink()
    np.testing.assert_array_equal(picture.pixels[0], first)
    with pytest.raises(IndexError):
        picture.pixels[7]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    ("offset", "content", "message"),
    [
        (0, np.int32(349).tobytes(), "sizeof_hdr|cannot be read"),
        (40, np.array([3, -9, 8, 7], "<i2").tobytes(), r"declares axes \(-9, 8, 7\)"),
        (40, np.array([3, 0, 8, 7], "<i2").tobytes(), "declares axes"),
        (40, np.array([9], "<i2").tobytes(), "declares axes|cannot be read"),
        (40, np.array([3, 30000, 30000, 30000], "<i2").tobytes(), r"2\*\*29"),
        (40, np.array([4, 9, 8, 7, 32000], "<i2").tobytes(), "declares 32256352 bytes but the file has"),
        (40, np.array([5, 3, 2, 2, 2, 3], "<i2").tobytes(), r"an image with axes \(3, 2, 2, 2, 3\)"),
        (70, np.array([128], "<i2").tobytes(), "colour"),
        (70, np.array([999], "<i2").tobytes(), "cannot be read"),
        (108, np.float32(1e9).tobytes(), "declares 1000001008 bytes"),
        (108, np.float32(0).tobytes(), "inside its header"),
        (108, np.float32(np.nan).tobytes(), "inside its header"),
        (108, np.float32(352.5).tobytes(), "inside its header"),
        (112, np.float32([np.inf, 0]).tobytes(), "scl_slope"),
        (112, np.float32([1, np.nan]).tobytes(), "scl_slope"),
        (280, np.float32(np.nan).tobytes(), "affine"),
        (280, np.float32([0] * 4).tobytes(), "affine"),
        (280, np.float32([0.1, 2, 0.2, -7]).tobytes(), "affine"),  # two rows alike
    ],
)
def test_headers_that_lie_are_refused(tmp_path: Path, suffix: str, offset: int, content: bytes, message: str) -> None:
    path = patched(write(tmp_path / f"x{suffix}"), offset, content)
    tracemalloc.start()
    with pytest.raises(DataError, match=message) as caught:
        read_nifti(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert "\n" not in str(caught.value)


def test_a_header_without_its_voxels(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Pair(values(), AFFINE), tmp_path / "x.img")
    assert "another file" in refusal(tmp_path / "x.hdr")
    assert not is_nifti(tmp_path / "x.hdr")


def test_nan_is_named(tmp_path: Path) -> None:
    made = values().astype(np.float32)
    made[3, 3, 2] = np.nan
    assert "slice 2 has NaN" in refusal(write(tmp_path / "x.nii", made, np.diag([-1.0, -1, 1, 1])))


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_truncation_is_named(tmp_path: Path, suffix: str, share: float) -> None:
    path = write(tmp_path / f"x{suffix}")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "is it complete?" in refusal(path)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """What a small file may unpack to is bounded, and checked before."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((800, 800, 800))
    header["vox_offset"], header["magic"] = 352, b"n+1"
    header.set_sform(np.eye(4), 1)
    with gzip.open(tmp_path / "x.nii.gz", "wb", compresslevel=9) as file:
        file.write(header.binaryblock + bytes(4))
        for _ in range(489):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    assert "unpack to volumes of 512000000" in refusal(tmp_path / "x.nii.gz")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def outcome(path: Path) -> str:
    """The message of the DataError that reading ends with, empty where it succeeds; nothing else is caught."""
    try:
        voxels(read_nifti(path))
    except DataError as error:
        return str(error)
    return ""


def test_damage_gives_one_line_or_a_valid_read(tmp_path: Path) -> None:
    """150 seeded cases over three kinds of file."""
    paths = [write(tmp_path / "a.nii"), write(tmp_path / "a.nii.gz")]
    paths.append(write(tmp_path / "b.nii", values((5, 4, 3, 2), np.float32), image=nibabel.Nifti2Image))
    whole = [path.read_bytes() for path in paths]
    rng = np.random.default_rng(5)
    outcomes = {"read": 0, "refused": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for case in range(150):
            content = bytearray(whole[case % 3])
            if case % 4 == 0:
                content = content[: rng.integers(len(content))]
            else:
                for place in rng.integers(540 if case % 4 < 3 else len(content), size=4):
                    content[min(place, len(content) - 1)] = rng.integers(256)
            (tmp_path / "x.nii").write_bytes(content)
            start = time.perf_counter()
            message = outcome(tmp_path / "x.nii")
            assert time.perf_counter() - start < 5
            assert "\n" not in message
            outcomes["refused" if message else "read"] += 1
    assert min(outcomes.values()) >= 20


def test_a_real_head_lies_as_nibabel_says(shared_data: Path) -> None:
    path = shared_data / "volumes" / "siemens_skyra_adult_t2_5mm.nii.gz"
    if not path.is_file():
        pytest.skip("no such volume in shared/data/volumes")
    picture = read_nifti(path)
    image = nibabel.load(path)
    theirs = nibabel.as_closest_canonical(image)
    ours = nibabel.as_closest_canonical(nibabel.Nifti1Image(voxels(picture).T, picture.geometry.affine))
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-4)
    np.testing.assert_allclose(ours.get_fdata(), theirs.get_fdata(), rtol=1e-6)
