"""Contact sheets: every slice is there, on square pixels, in one window, and the foot says what it is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.signal import fftconvolve
from written import volume

import nirvana_mri as nm
from nirvana_mri.errors import DataError
from nirvana_mri.io.writers import png as module
from nirvana_mri.io.writers.png import write_png

EVEN = np.diag([0.5, 0.5, 4.0, 1.0])


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L"))


def bright(shape: tuple[int, int, int], affine: np.ndarray = EVEN) -> nm.Volume:
    """A white disc's worth of contrast: half of each slice is white."""
    voxels = np.zeros(shape, np.float32)
    voxels[:, :, shape[2] // 2 :] = 7.0
    return replace(volume(shape, affine), voxels=voxels)


def test_every_slice_is_on_the_sheet_once(tmp_path: Path) -> None:
    made = volume((5, 200, 160), EVEN)
    sheet = read(write_png(made, tmp_path / "x.png")).astype(float)
    low, high = np.percentile(made.voxels, (1, 99.5))
    for picture in made.voxels:
        grey = np.rint(np.clip((picture - low) / (high - low), 0, 1) * 255)[60:100, 60:100]  # beside the label
        score = fftconvolve(sheet - sheet.mean(), (grey - grey.mean())[::-1, ::-1], mode="valid")
        row, column = np.unravel_index(score.argmax(), score.shape)
        assert np.abs(sheet[row : row + 40, column : column + 40] - grey).max() <= 1
        score[row, column] = 0
        assert score.max() < 0.8 * (grey - grey.mean()).var() * grey.size


@pytest.mark.parametrize(("sizes", "shape"), [((0.5, 1.0), (400, 200)), ((1.0, 0.5), (200, 400))])
def test_pixels_are_square_on_the_sheet(sizes: tuple[float, float], shape: tuple[int, int]) -> None:
    dx, dy = sizes
    made = volume((1, 200, 200), np.diag([dx, dy, 4.0, 1.0]))
    assert module._square(made.voxels[0] * 0, made, 1).shape == shape


def test_small_pictures_are_repeated_and_many_large_ones_averaged() -> None:
    made = volume((1, 9, 7), EVEN)
    assert module._square(made.voxels[0] * 0, made, 1).shape == (135, 105)
    large = np.arange(4096, dtype=np.float32)[None].repeat(4096, 0) / 4096 * 255
    tile = module._square(large, replace(made, affine=EVEN), 9)
    assert tile.shape == (1366, 1366)
    assert abs(float(tile.mean()) - 127) < 1
    assert (np.diff(tile[5].astype(int)) >= 0).all()


def test_the_foot_and_the_file_say_what_it_is(tmp_path: Path) -> None:
    made = volume((2, 64, 64), EVEN, known=False, simulated=True)
    said = " ".join(text for text, _ in module._foot([made], [(0.0, 1.0)], 500))
    for words in (
        "NOT FOR CLINICAL USE",
        "synthetic k-space",
        "nano ab12ab12ab12",
        "equispaced_fraction 4x",
        "achieved",
    ):
        assert words in said
    assert "orientation unknown" in said
    image = Image.open(write_png(made, tmp_path / "x.png"))
    assert image.text["Warning"] == "NOT FOR CLINICAL USE"
    assert "nano ab12ab12ab12" in image.text["Description"]
    assert "brain" not in str(image.text)
    assert all(len(line) <= 40 for line, _ in module._foot([made], [(0.0, 1.0)], 40))


def test_the_foot_is_drawn(tmp_path: Path) -> None:
    sheet = read(write_png(bright((1, 200, 600)), tmp_path / "x.png"))
    assert sheet.shape[0] > 200 + 4 * 13
    assert (sheet[210:] > 120).mean() > 0.01


def test_volumes_have_their_own_windows(tmp_path: Path) -> None:
    one = bright((1, 130, 130))
    sheet = read(nm.save([one, replace(one, voxels=one.voxels * 1000)], tmp_path / "x.png"))
    band = sheet[60:100]  # below the labels
    assert set(np.unique(band)) == {0, module.PAPER, 255}
    assert (band == 255).sum() == (band == 0).sum() == 40 * 130


def test_the_same_volume_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = (nm.save(volume(), tmp_path / name).read_bytes() for name in ("one.png", "two.png"))
    assert one == two


def test_a_picture_without_contrast_is_black(tmp_path: Path) -> None:
    flat = replace(volume((1, 130, 130), EVEN), voxels=np.zeros((1, 130, 130), np.float32))
    shown = module._tiles([flat], [module._window(flat)])[0].picture
    assert shown.dtype == np.uint8
    nm.save(flat, tmp_path / "x.png")


@pytest.mark.parametrize(
    ("voxels", "match"),
    [
        (np.ones((3, 8, 6), np.complex64), "a PNG shows magnitudes"),
        (np.zeros((2049, 1, 1), np.float32), "too many for a sheet"),
        (np.zeros((1, 6001, 1), np.float32), "too many for a sheet"),
    ],
)
def test_what_a_sheet_cannot_show(tmp_path: Path, voxels: np.ndarray, match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        nm.save(replace(volume(), voxels=voxels, slices=()), tmp_path / "x.png")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = nm.save(volume(), tmp_path / "x.png")
    before = path.read_bytes()

    def full(place: Path, data: bytes) -> None:
        place.touch()
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match="cannot be written"):
        nm.save(volume(seed=1), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
