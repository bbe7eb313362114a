"""Several images in one DICOM file: Enhanced MR, Siemens mosaics; and packed pixels."""

import gzip
import shutil
from pathlib import Path

import nibabel.nicom
import numpy as np
import pydicom
import pydicom.data
import pytest
from dicom_support import SHAPE, SPACING, STEP, enhanced, expected_affine, item, pixels, save, single, write_series
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, RLELossless

from nirvana_mri.errors import DataError
from nirvana_mri.io.dicom.reader import read_dicom


@pytest.mark.parametrize("echoes", [False, True])
def test_enhanced_frames_are_sorted_and_scaled(tmp_path: Path, echoes: bool) -> None:
    path = save(enhanced(echoes=echoes), tmp_path / "enhanced.dcm")
    for volume in range(2):
        picture = read_dicom(path, volume=volume)
        assert (picture.shape, picture.volumes, picture.warnings) == ((4, *SHAPE), 2, ())
        # Frame n was stored with the pixels of the slice that it lies at; each frame has its own scale.
        for number in range(4):
            expected = pixels(volume * 4 + number + 1) * (volume + 0.5) - number
            np.testing.assert_allclose(picture.pixels[number], expected, rtol=1e-6)
        np.testing.assert_allclose(picture.geometry.affine, expected_affine(), atol=1e-6)
        assert picture.geometry.voxel_mm == pytest.approx((STEP, *SPACING))
        assert picture.metadata["te_ms"] == 10 + 5 * volume * echoes
        assert picture.metadata["tr_ms"] == 500


def test_files_of_one_enhanced_series_are_times(tmp_path: Path) -> None:
    for volume in range(3):
        made = enhanced(volumes=1)
        made.InstanceNumber = 3 - volume
        for frame in made.PerFrameFunctionalGroupsSequence:
            frame.FrameContentSequence[0].TemporalPositionIndex = 3 - volume
            frame.PixelValueTransformationSequence[0].RescaleIntercept = volume
        save(made, tmp_path / f"{volume}.dcm")
    assert read_dicom(tmp_path / "0.dcm").volumes == 1
    assert [read_dicom(tmp_path, volume=n).pixels[0].min() % 0.5 for n in range(3)] == [0, 0, 0]
    firsts = [read_dicom(tmp_path, volume=n).pixels[0] for n in range(3)]
    np.testing.assert_allclose([first - firsts[2] for first in firsts], np.broadcast_to(
        np.array([2, 1, 0])[:, None, None], (3, *SHAPE)), atol=1e-3)  # fmt: skip


def test_a_field_map_beside_its_magnitude_is_left_out(tmp_path: Path) -> None:
    made = enhanced()
    for frame in made.PerFrameFunctionalGroupsSequence[1::2]:
        kind = item(FrameType=["ORIGINAL", "PRIMARY", "T1", "FIELD_MAP"], ComplexImageComponent="REAL")
        frame.MRImageFrameTypeSequence = [kind]
    picture = read_dicom(save(made, tmp_path / "x.dcm"))
    assert picture.volumes == 1
    assert "4 of map" in picture.warnings[0]


def broken(name: str) -> Dataset:
    made = enhanced()
    frames = made.PerFrameFunctionalGroupsSequence
    if name == "fewer descriptions":
        made.PerFrameFunctionalGroupsSequence = list(frames)[:-1]
    elif name == "more frames":
        made.NumberOfFrames = 9
        made.PerFrameFunctionalGroupsSequence = [*frames, frames[0]]
    elif name == "no place":
        del frames[3].PlanePositionSequence
    elif name == "missing frame":
        made.PerFrameFunctionalGroupsSequence = list(frames)[:-1]
        made.NumberOfFrames = 7
    elif name == "too many":
        made.NumberOfFrames = 100_000
    elif name == "stacks":
        for frame in list(frames)[:4]:
            frame.PlaneOrientationSequence = [item(ImageOrientationPatient=[0, 1, 0, 0, 0, -1])]
    return made


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fewer descriptions", "declares 8 frames but describes 7"),
        ("more frames", "cut short: 384 bytes"),
        ("no place", "ImagePositionPatient"),
        ("missing frame", "has 1 images at slice 0"),
        ("too many", "100000 frames"),
        ("stacks", r"2 orientations \(4 \+ 4"),
    ],
)
def test_broken_enhanced_files_are_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_dicom(save(broken(name), tmp_path / "x.dcm"))


# --- Siemens mosaics ---


def real_mosaic(b_value: int) -> Dataset:
    """A real 48-slice diffusion mosaic whose pixels were blanked by those who published it."""
    source = Path(nibabel.nicom.__file__).parent / "tests" / "data" / f"siemens_dwi_{b_value}.dcm.gz"
    if not source.is_file():
        pytest.skip("this nibabel came without its test files")
    with gzip.open(source) as file:
        return pydicom.dcmread(file)


def test_a_real_mosaic_is_split_in_place(tmp_path: Path) -> None:
    tiles = np.arange(49, dtype=np.uint16).reshape(7, 7)
    for volume, b_value in enumerate((0, 1000)):
        made = real_mosaic(b_value)
        made.PixelData = (np.kron(tiles, np.ones((128, 128), np.uint16)) + 100 * volume).tobytes()
        made.save_as(tmp_path / f"{b_value}.dcm")
    picture = read_dicom(tmp_path, volume=1)
    assert (picture.shape, picture.volumes) == ((48, 128, 128), 2)
    assert picture.metadata["b_value"] == 1000
    assert [float(picture.pixels[n].max()) for n in range(48)] == [100 + n for n in range(48)]
    from nibabel.nicom.dicomwrappers import wrapper_from_data

    affine = np.diag([-1.0, -1, 1, 1]) @ wrapper_from_data(real_mosaic(0)).affine  # rows first, LPS
    np.testing.assert_allclose(picture.geometry.affine, affine[:, [1, 0, 2, 3]], atol=1e-3)  # its vectors have 6 digits


@pytest.mark.parametrize("tag", [(0x19, 0x100A), (0x19, 0x10), (0x29, 0x1010), (0x29, 0x10), (0x18, 0x88)])
def test_a_mosaic_without_its_private_header_is_refused(tmp_path: Path, tag: tuple[int, int]) -> None:
    made = real_mosaic(0)
    del made[tag]
    made.save_as(tmp_path / "x.dcm")
    with pytest.raises(DataError, match="is a mosaic"):
        read_dicom(tmp_path / "x.dcm")


def test_a_mosaic_that_its_tiles_do_not_divide(tmp_path: Path) -> None:
    made = real_mosaic(0)
    made[0x19, 0x100A].value = 25
    made.save_as(tmp_path / "x.dcm")
    with pytest.raises(DataError, match="5 x 5 tiles do not divide"):
        read_dicom(tmp_path / "x.dcm")


# --- packed pixels ---


@pytest.mark.parametrize(
    "name", ["MR_small_RLE", "MR_small_implicit", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless"]
)
def test_the_same_picture_in_every_transfer_syntax(tmp_path: Path, name: str) -> None:
    """pydicom's own test files; JPEG-LS needs a decoder that the project does not ask for."""
    if "jpeg_ls" in name:
        pytest.importorskip("jpeg_ls")
    pictures = []
    for file in ("MR_small", name):
        folder = tmp_path / file
        folder.mkdir()
        shutil.copy(pydicom.data.get_testdata_file(f"{file}.dcm", download=False), folder)
        pictures.append(read_dicom(folder).pixels[0])
    assert pictures[0].shape == (64, 64)
    np.testing.assert_array_equal(pictures[1], pictures[0])


@pytest.mark.parametrize("pieces", ["one each", "table", "no table"])
def test_packed_frames(tmp_path: Path, pieces: str) -> None:
    made = enhanced()
    made.compress(RLELossless)
    plain = save(enhanced(), tmp_path / "plain.dcm")
    frames = list(pydicom.encaps.generate_frames(made.PixelData, number_of_frames=8))
    per_frame = 1 if pieces == "one each" else 2
    made.PixelData = encapsulate(frames, fragments_per_frame=per_frame, has_bot=pieces != "no table")
    path = save(made, tmp_path / "packed.dcm")
    if pieces == "no table":
        with pytest.raises(DataError, match="16 pieces of packed pixels for 8 frames"):
            read_dicom(path)
        return
    for packed, expected in zip(read_dicom(path).pixels, read_dicom(plain).pixels, strict=True):
        np.testing.assert_array_equal(packed, expected)


def with_syntax(syntax: str, content: bytes) -> Dataset:
    made = single(0, 1)
    made.file_meta.TransferSyntaxUID = syntax
    made.PixelData = encapsulate([content])
    made["PixelData"].is_undefined_length = True
    return made


def test_a_syntax_without_a_decoder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pydicom.pixels.decoders.base import get_decoder

    monkeypatch.setattr(get_decoder(JPEGLosslessSV1), "_available", {})
    path = save(with_syntax(JPEGLosslessSV1, b"\xff\xd8"), tmp_path / "x.dcm")
    with pytest.raises(DataError, match=r"JPEG Lossless, Non-Hierarchical, First-Order.*dcmdjpeg"):
        read_dicom(path)


@pytest.mark.parametrize(
    ("syntax", "message"),
    [
        ("1.2.840.10008.1.2.2", "Explicit VR Big Endian"),
        ("1.2.840.10008.1.2.1.99", "Deflated Explicit VR Little Endian"),
        ("1.2.840.10008.1.2.4.94", "JPIP"),
        ("1.2.3.4.5", "unknown"),
        ("1.2.840.10008.1.2.4.90", "packed picture of size"),
    ],
)
def test_syntaxes_that_are_not_read(tmp_path: Path, syntax: str, message: str) -> None:
    path = save(with_syntax("1.2.840.10008.1.2.4.90", b"no JPEG at all"), tmp_path / "x.dcm")
    content = path.read_bytes().replace(b"1.2.840.10008.1.2.4.90", syntax.encode().ljust(22, b"\0"))
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_dicom(path).pixels[0]


def test_a_packed_picture_of_another_size_is_not_unpacked(tmp_path: Path) -> None:
    made = single(0, 1)
    made.file_meta.TransferSyntaxUID = JPEG2000Lossless
    size = np.array([0xFF4F, 0xFF51, 41, 0], ">u2").tobytes() + np.array([60000, 60000, 0, 0], ">u4").tobytes()
    made.PixelData = encapsulate([size + bytes(40)])
    made["PixelData"].is_undefined_length = True
    with pytest.raises(DataError, match=r"size \(60000, 60000\), expected \(12, 16\)"):
        read_dicom(save(made, tmp_path / "x.dcm")).pixels[0]


def test_lossy_pixels_are_pointed_out(tmp_path: Path) -> None:
    def lossy(made: Dataset, _slice: int, _volume: int) -> Dataset:
        made.LossyImageCompression = "01"
        return made

    assert "with loss" in read_dicom(write_series(tmp_path, change=lossy)).warnings[0]
