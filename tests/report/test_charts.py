"""Drawings of numbers: every value is drawn where it stands, the same bytes each time, whatever names are like."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.image import imread

from nirvana_mri.figures import png
from nirvana_mri.report.charts import PAPER, bars_with_intervals, lines_with_bands, strips

HOSTILE = ("_$\\frac{<b>", "a" * 80)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.lists(st.floats(-1e6, 1e6), max_size=40), min_size=1, max_size=4))
def test_a_strip_holds_one_dot_per_value(values: list[list[float]]) -> None:
    figure = strips({f"method {place}": each for place, each in enumerate(values)}, "SSIM")
    axes = figure.axes[0]
    dots = [np.asarray(cloud.get_offsets()) for cloud in axes.collections]
    assert [sorted(cloud[:, 0]) for cloud in dots] == [sorted(each) for each in values]
    for row, cloud in enumerate(dots):
        assert np.all(np.abs(cloud[:, 1] - (len(values) - 1 - row)) < 0.5)  # in its own row


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_strip_draws_no_value_that_is_none(bad: float) -> None:
    with pytest.raises(ValueError, match="leave it out"):
        strips({"sense": [0.9, bad]}, "PSNR [dB]")


def test_a_band_goes_from_low_to_high() -> None:
    x, mean = np.arange(2.0, 7), np.linspace(0.9, 0.6, 5)
    figure = lines_with_bands({"one": (x, mean, mean - 0.1, mean + 0.2), "two": (x, mean, None, None)}, "R", "SSIM")
    axes = figure.axes[0]
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), mean)
    assert len(axes.collections) == 1
    corners = axes.collections[0].get_paths()[0].vertices
    assert corners[:, 1].min() == pytest.approx((mean - 0.1).min())
    assert corners[:, 1].max() == pytest.approx((mean + 0.2).max())


def test_bars_start_at_zero_and_dots_need_not() -> None:
    rows = {"T1": {"one": (0.9, 0.85, 0.95), "two": (0.8, None, None)}, "T2": {"two": (0.7, 0.6, 0.8)}}
    bars = bars_with_intervals(rows, "SSIM").axes[0]
    assert sorted(bar.get_width() for bar in bars.patches) == [0.7, 0.8, 0.9]
    assert bars.get_xlim()[0] <= 0
    dots = bars_with_intervals(rows, "SSIM", from_zero=False).axes[0]
    assert dots.get_xlim()[0] > 0
    spans = sorted(tuple(line.get_xdata()) for line in dots.lines if len(line.get_xdata()) == 2)
    assert spans == [(0.6, 0.8), (0.85, 0.95)]


def hostile() -> tuple[Figure, ...]:
    return (
        strips({name: [1.0, 2.0] for name in HOSTILE}, HOSTILE[0]),
        lines_with_bands({name: ([1, 2], [3, 4], None, None) for name in HOSTILE}, HOSTILE[0], HOSTILE[0]),
        bars_with_intervals({HOSTILE[0]: dict.fromkeys(HOSTILE, (1.0, None, None))}, HOSTILE[0]),
    )


def test_names_are_no_formulas_and_the_ground_is_light() -> None:
    for figure, again in zip(hostile(), hostile(), strict=True):
        drawn = png(figure)
        assert drawn == png(again)
        corner = imread(io.BytesIO(drawn), format="png")[0, 0, :3]
        assert tuple(np.rint(corner * 255).astype(int)) == tuple(bytes.fromhex(PAPER[1:]))
    key = hostile()[1].legends[0].get_texts()
    assert [text.get_text() for text in key] == [HOSTILE[0], "a" * 17 + "…"]
