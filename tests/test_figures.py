"""Panels of pictures: one grey window, errors five times, nothing of pyplot."""

import io
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from nirvana_mri.figures import Panel, comparison, png, save_png
from nirvana_mri.volume import NOT_FOR_CLINICAL_USE


def pictures(ny: int = 40, nx: int = 32) -> tuple[np.ndarray, list[Panel]]:
    target = np.tile(np.linspace(0, 1, nx, dtype=np.float32), (ny, 1))
    return target, [Panel("near", target + 0.1, "SSIM 0.9"), Panel("same", target)]


def test_one_window_for_pictures_and_errors() -> None:
    target, panels = pictures()
    figure = comparison(panels, target)
    images = [axes.images[0] for axes in figure.axes if axes.images]
    assert len(images) == 5  # three pictures, two errors
    assert len({image.get_clim() for image in images}) == 1
    assert images[0].get_clim() == (0, pytest.approx(np.percentile(target, 99.8)))
    np.testing.assert_array_equal(images[0].get_array(), target)
    np.testing.assert_allclose(images[2].get_array(), 0.5, atol=1e-6)  # five times 0.1
    assert not np.any(images[4].get_array())


def test_titles_captions_and_notice() -> None:
    target, panels = pictures()
    figure = comparison(panels, target, "a brain")
    words = [text.get_text() for text in figure.findobj(match=lambda found: hasattr(found, "get_text"))]
    for wanted in ("target", "near", "same", "SSIM 0.9", "a brain", NOT_FOR_CLINICAL_USE):
        assert wanted in words
    assert any("× 5" in word for word in words)


def test_without_a_target_there_are_no_errors() -> None:
    _, panels = pictures()
    figure = comparison(panels, None)
    assert sum(bool(axes.images) for axes in figure.axes) == 2


@pytest.mark.parametrize("shape", [(40, 32), (32, 64), (96, 24)])
def test_panels_do_not_overlap(shape: tuple[int, int]) -> None:
    target, panels = pictures(*shape)
    figure = comparison(panels, target, "a title")
    boxes = [axes.get_position() for axes in figure.axes]
    for i, one in enumerate(boxes):
        assert one.y0 >= 0
        assert one.y1 <= 1
        for other in boxes[:i]:
            apart = one.x1 <= other.x0 or other.x1 <= one.x0 or one.y1 <= other.y0 or other.y1 <= one.y0
            assert apart


def test_the_same_figure_gives_the_same_bytes(tmp_path: Path) -> None:
    target, panels = pictures()
    first, second = (png(comparison(panels, target)) for _ in range(2))
    assert first == second
    assert matplotlib.image.imread(io.BytesIO(first)).ndim == 3
    assert save_png(comparison(panels, target), tmp_path / "c.png").read_bytes() == first


def test_black_pictures_can_be_drawn() -> None:
    nothing = np.zeros((20, 20), np.float32)
    assert png(comparison([Panel("dark", nothing)], nothing))


def test_pyplot_is_not_loaded() -> None:
    code = "import sys, nirvana_mri.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
