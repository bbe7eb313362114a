"""The three protocols: what each lets count, and that fastmri's is fastMRI's."""

import argparse
import dataclasses

import h5py
import numpy as np
import pytest

import nirvana_mri as nm
from nirvana_mri.errors import DataError, ProtocolError, UsageError
from nirvana_mri.eval import metrics, rules
from nirvana_mri.eval.foreground import foreground, foreground_nmse, foreground_psnr, foreground_ssim_each
from nirvana_mri.eval.protocol import FASTMRI, FOREGROUND, PER_SLICE, PROTOCOLS, require_same
from nirvana_mri.eval.run import evaluate_files


def objects(slices=3, size=(40, 36), seed=0):
    """Noisy discs before air, of different brightness."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : size[0] * 1j, -1 : 1 : size[1] * 1j]
    disc = (x**2 + y**2 < 0.4).astype(np.float32)
    target = np.stack([disc * (1 + n) + 0.02 * random.random(size) for n in range(slices)]).astype(np.float32)
    return target, (target + 0.1 * random.normal(size=target.shape)).astype(np.float32)


@pytest.mark.parametrize(
    ("key", "size"),
    [
        ("reconstruction_rss", (32, 32)),
        ("reconstruction_rss", (40, 32)),
        ("reconstruction_rss", (320, 203)),
        ("reconstruction_esc", (33, 33)),
    ],
)
def test_the_default_is_fastmri_evaluate(tmp_path, key, size):
    """Square, tall, 203 wide, single-coil: the published program's means to 1e-6."""
    fastmri = pytest.importorskip("fastmri.evaluate")
    folders = tmp_path / "predictions", tmp_path / "targets"
    for seed in range(2):
        target, prediction = objects(2, size, seed)
        for folder, name, picture in zip(folders, ("reconstruction", key), (prediction, target), strict=True):
            folder.mkdir(exist_ok=True)
            with h5py.File(folder / f"{seed}.h5", "w") as file:
                file[name] = 1e-5 * picture
    asked = argparse.Namespace(
        predictions_path=folders[0], target_path=folders[1], acquisition=None, acceleration=None
    )  # fmt: skip
    expected = fastmri.evaluate(asked, key).means()
    study = evaluate_files(*folders)
    assert study.protocol.name == "fastmri"
    for ours, theirs in (("ssim", "SSIM"), ("psnr", "PSNR"), ("nmse", "NMSE")):
        assert study.mean[ours] == pytest.approx(np.asarray(expected[theirs]).item(), abs=1e-6)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nan_is_an_error_and_no_score(protocol):
    target, prediction = objects()
    prediction[1, 2, 3] = np.nan
    with pytest.raises(DataError, match="NaN"):
        nm.evaluate(prediction, target, protocol)


def test_a_foreground_of_everything_gives_fastmri_scores():
    target, prediction = objects()
    mask = np.ones(target.shape, bool)
    each = foreground_ssim_each(target, prediction, mask)
    assert each == pytest.approx(metrics.ssim_each(target, prediction), abs=1e-7)
    assert foreground_psnr(target, prediction, mask) == pytest.approx(metrics.psnr(target, prediction), abs=1e-5)
    assert foreground_nmse(target, prediction, mask) == pytest.approx(metrics.nmse(target, prediction), rel=1e-5)


def test_air_does_not_count_in_the_foreground():
    target, prediction = objects()
    air = ~foreground(target)
    assert 0.4 < air.mean() < 0.9
    worse = prediction + np.where(air, 0.3, 0).astype(np.float32)
    assert nm.evaluate(worse, target, "fastmri-foreground").nmse == nm.evaluate(
        prediction, target, "fastmri-foreground"
    ).nmse  # fmt: skip
    assert nm.evaluate(worse, target).nmse > nm.evaluate(prediction, target).nmse


def test_the_foreground_is_whole_and_scales_with_nothing():
    target, _ = objects()
    target[:, 18:22, 16:20] = 0  # a dark hole in the object
    mask = foreground(target)
    assert mask[2, 18:22, 16:20].all()
    assert not mask[:, :3, :3].any()
    np.testing.assert_array_equal(foreground(target * 2.0**-20), mask)
    with pytest.raises(DataError, match="everywhere"):
        foreground(np.ones((1, 9, 9), np.float32))


def test_slices_without_foreground_are_left_out_of_its_ssim():
    target, prediction = objects()
    target[0], prediction[0] = 0, 0.5
    scores = rules.score("fastmri-foreground", target, prediction)
    assert scores.each[0] is None
    assert scores.ssim == pytest.approx(np.mean(scores.each[1:]))


def test_per_slice_is_the_mean_of_slices_scored_alone():
    target, prediction = objects()
    score = nm.evaluate(prediction, target, "per-slice")
    alone = [nm.evaluate(prediction[n : n + 1], target[n : n + 1]) for n in range(3)]
    for key in ("ssim", "psnr", "nmse", "haarpsi"):
        assert getattr(score, key) == pytest.approx(np.mean([getattr(each, key) for each in alone]), rel=1e-6)
    assert score.ssim != nm.evaluate(prediction, target).ssim
    target[1] = 0
    with pytest.raises(DataError, match=r"first 1 .*--protocol fastmri"):
        nm.evaluate(prediction, target, "per-slice")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("power", [-20, 30])
def test_a_common_power_of_two_moves_nothing(protocol, power):
    target, prediction = objects()
    scale = np.float32(2.0**power)
    assert rules.score(protocol, scale * target, scale * prediction) == rules.score(protocol, target, prediction)


def test_the_worst_slice_is_named():
    target, prediction = objects(4, (36, 36))
    prediction[2] += 0.5
    number, value = nm.evaluate(prediction, target).worst_slice
    assert (number, value) == (2, min(metrics.ssim_each(target, prediction)))


def test_protocols_are_kept_apart():
    assert len({protocol.hash for protocol in PROTOCOLS.values()}) == 3
    for other, field in ((FOREGROUND, "mask"), (PER_SLICE, "data_range")):
        with pytest.raises(ProtocolError, match=field):
            require_same([("a", FASTMRI), ("b", other)])
    target, prediction = objects()
    with pytest.raises(UsageError, match="per-slice"):
        nm.evaluate(prediction, target, "fastMRI")


def test_acceleration_stands_beside_the_rule():
    rates = [dataclasses.replace(FASTMRI, acceleration=rate) for rate in (4.0, 4.0, 8.0)]
    assert require_same([("a", rates[0]), ("b", rates[1])]).acceleration == 4.0
    assert require_same([("a", rates[0]), ("c", rates[2])]).acceleration is None
