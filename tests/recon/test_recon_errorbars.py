"""Error bars: what they promise holds on subjects like those of the calibration, and they refuse what they cannot."""

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import load_program
from tiny import head

from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.recon.errorbars import (
    CalibratedBars,
    Subject,
    calibrate,
    coverage,
    foreground,
    mean_interval,
    subject_of,
)


def drawn(count: int, seed: int, pixels: int = 300) -> list[Subject]:
    """Subjects whose errors are drawn: heavy tails, a level of their own that the residual only half reflects."""
    draw = np.random.default_rng(seed)
    subjects = []
    for _ in range(count):
        own = float(np.exp(draw.normal(0, 0.4)))
        truth = draw.uniform(1, 2, (1, 10, pixels // 10))
        scale = draw.uniform(0.02, 0.2, truth.shape)
        error = own * scale * draw.standard_t(4, truth.shape)
        residual = own * float(np.exp(draw.normal(0, 0.3)))
        subjects.append(subject_of(truth + error, truth, scale, residual))
    return subjects


def test_nine_of_ten_in_the_mean_over_exchangeable_subjects() -> None:
    """Over 20 calibrations, each on 240 subjects and judged on as many others: a single one may be off by chance."""
    found = []
    for seed in range(20):
        subjects = drawn(480, seed)
        found.append(coverage(calibrate(subjects[:240], 0.9), subjects[240:]).mean())
    assert min(found) >= 0.88
    assert max(found) <= 0.92
    assert np.mean(found) == pytest.approx(0.9, abs=0.006)


def test_the_program_draws_subjects_independently_and_judges_each_file_by_the_others(
    project_root: Path, tmp_path: Path
) -> None:
    program = load_program(project_root / "scripts" / "calibrate_error_bars.py")
    files = [tmp_path / "a.npy", tmp_path / "b.npy"]
    for path, count in zip(files, (9, 4), strict=True):
        np.save(path, head(32, 32, count))
    options = Namespace(volumes=files, draws=400, noise=(0.01, 0.02), slices=2)
    asked = program.drawn(options, np.random.default_rng(0))
    assert len({one.seed for one in asked}) == 400
    assert 160 < sum(one.path == files[0] for one in asked) < 240
    assert {one.slices for one in asked if one.path == files[0]} == {(3, 4), (3, 5), (4, 5)}
    assert {one.slices for one in asked if one.path == files[1]} == {(1,)}
    assert all(0.01 <= one.noise <= 0.02 for one in asked)
    options.draws = None
    assert [(one.path, one.slices) for one in program.drawn(options, np.random.default_rng(0))] == [
        (files[0], (3, 5)), (files[1], (1,)),
    ]  # fmt: skip
    usual, strange = drawn(40, 1), [replace(one, scores=3 * one.scores) for one in drawn(12, 2)]
    found = program.unseen([*usual, *strange], ["usual"] * 40 + ["strange"] * 12, 0.9)
    assert found["strange"]["mean"] == coverage(calibrate(usual, 0.9), strange).mean() < 0.75
    assert found["usual"]["mean"] > 0.95
    assert (found["usual"]["subjects"], found["strange"]["subjects"]) == (40, 12)
    assert program.unseen(usual[:12], ["a"] * 6 + ["b"] * 6, 0.9) == {}  # six cannot calibrate bars of 90 %


def test_few_subjects_get_wider_bars_never_narrower_ones() -> None:
    """The finite-sample correction: with 9 subjects, the least for 90 %, the mean coverage is above the level."""
    found = [coverage(calibrate(drawn(9, seed), 0.9), drawn(60, 1000 + seed)).mean() for seed in range(40)]
    assert np.mean(found) >= 0.9
    with pytest.raises(UsageError, match="at least 9"):
        calibrate(drawn(8, 0), 0.9)


@given(st.floats(0.5, 0.95), st.integers(20, 60), st.integers(0, 5))
def test_the_quantile_is_the_smallest_that_keeps_the_correction(level: float, count: int, seed: int) -> None:
    subjects = drawn(count, seed, pixels=20)
    bars = calibrate(subjects, level)
    narrower = replace(bars, quantile=bars.quantile * 0.999999)
    missed = [1 - coverage(one, subjects) for one in (bars, narrower)]
    corrected = [(part.sum() + 1) / (count + 1) for part in missed]
    assert corrected[0] <= 1 - level + 1e-6
    assert corrected[1] > 1 - level - 1e-6


@given(st.floats(1e-3, 1e3))
def test_a_unit_of_the_residual_changes_no_bar(unit: float) -> None:
    subjects = drawn(30, 1)
    other = [Subject(subject.scores, subject.residual * unit) for subject in subjects]
    one, two = calibrate(subjects), calibrate(other)
    scale = np.linspace(0.1, 1, 5)
    np.testing.assert_allclose(one.half_widths(scale, 2.0), two.half_widths(scale, 2.0 * unit), rtol=1e-5)
    assert two.residual_median == pytest.approx(one.residual_median * unit)


def test_bars_grow_with_the_scans_own_residual() -> None:
    bars = calibrate(drawn(30, 0))
    scale = np.ones((2, 3))
    np.testing.assert_allclose(bars.half_widths(scale, 3.0), 3 * bars.half_widths(scale, 1.0), rtol=1e-6)


def test_they_are_written_and_read(tmp_path: Path) -> None:
    made = calibrate(drawn(30, 0), 0.9, {"method": "sense", "acceleration": 4.0})
    assert CalibratedBars.load(made.save(tmp_path / "bars.json")) == made
    for text in ("", "{}", '{"schema": "other"}', "[1]", made.save(tmp_path / "x").read_text().replace("0.9", "1.5")):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(DataError, match=r"no file of error bars|calibrate them"):
            CalibratedBars.load(tmp_path / "bad.json")
    with pytest.raises(DataError, match="no file"):
        CalibratedBars.load(tmp_path / "none.json")


def test_bars_of_another_method_are_refused_and_of_another_acceleration_said() -> None:
    made = {"method": "nirvana", "model_sha256": "ab", "combine": "rss", "acceleration": 4.0}
    bars = calibrate(drawn(30, 0), 0.9, made)
    assert bars.check(made) == ()
    assert "8.00x" in bars.check({**made, "acceleration": 8.0})[0]
    for key, value in (("method", "sense"), ("model_sha256", "cd"), ("combine", "sense")):
        with pytest.raises(UsageError, match=key):
            bars.check({**made, key: value})


def test_air_is_not_judged() -> None:
    picture = np.zeros((20, 20))
    picture[5:15, 5:15] = 1
    assert foreground(picture).sum() == 100
    with pytest.raises(DataError, match="foreground"):
        subject_of(np.zeros((1, 4, 4)), np.zeros((1, 4, 4)), np.ones((1, 4, 4)), 1.0)


def test_an_interval_narrows_with_subjects() -> None:
    values = np.linspace(0.8, 1, 11)
    mean, low, high = mean_interval(values)
    assert low < mean < high
    assert mean == pytest.approx(0.9)
    assert mean_interval(np.tile(values, 9))[1] > low
    assert mean_interval(values[:1]) == (pytest.approx(0.8), 0.0, 1.0)
