import argparse
import dataclasses
import json
import re

import h5py
import numpy as np
import pytest
from support import centred_ifft2

from nirvana_mri.errors import DataError, ProtocolError
from nirvana_mri.eval.evaluate import evaluate
from nirvana_mri.eval.run import Rule, evaluate_files
from nirvana_mri.eval.target import open_target
from nirvana_mri.io.fastmri import write_fastmri
from nirvana_mri.io.save import save
from nirvana_mri.recon.open import open_scan
from nirvana_mri.volume import Volume

COLUMNS = np.arange(20) % 4 == 0


def pictures(shape, seed=0):
    return (1e-5 * np.random.default_rng(seed).random(shape)).astype(np.float32)


def noisy(target, seed=1):
    return (target + 0.1 * target.max() * np.random.default_rng(seed).normal(size=target.shape)).astype(np.float32)


def made(voxels, slices=(), **provenance):
    """A Volume as the toolkit makes it."""
    stamp = {"method": "zero-filled", "toolkit_version": "0.1.0", **provenance}
    slices = slices or tuple(range(len(voxels)))
    return Volume(voxels, np.eye(4), COLUMNS, stamp, name="scan", slices=slices)


def write_target(path, target, key="reconstruction_rss"):
    with h5py.File(path, "w") as file:
        file[key] = target


def write_prediction(path, prediction):
    with h5py.File(path, "w") as file:
        file["reconstruction"] = prediction


def kspace(slices=3, coils=2, ny=16, nx=20, seed=0):
    rng = np.random.default_rng(seed)
    shape = (slices, coils, ny, nx)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


@pytest.fixture
def folders(tmp_path):
    for name in ("predictions", "targets"):
        (tmp_path / name).mkdir()
    return tmp_path / "predictions", tmp_path / "targets"


@pytest.mark.parametrize("key", ["reconstruction_rss", "reconstruction_esc"])
def test_means_equal_fastmri_evaluate(folders, key):
    """Square, non-square, narrower than its crop, odd, larger prediction, volumes of different length."""
    fastmri = pytest.importorskip("fastmri.evaluate")
    predictions, targets = folders
    sizes = [((3, 20, 20), (20, 20)), ((2, 33, 17), (33, 17)), ((1, 16, 15), (20, 21)), ((4, 31, 30), (30, 31))]
    for i, (size, predicted) in enumerate(sizes):
        large = pictures((size[0], 40, 40), seed=i)
        write_target(targets / f"{i}.h5", large[:, : size[1], : size[2]], key)
        write_prediction(predictions / f"{i}.h5", noisy(large[:, : predicted[0], : predicted[1]], seed=i))
    arguments = argparse.Namespace(
        target_path=targets, predictions_path=predictions, acquisition=None, acceleration=None
    )
    expected = fastmri.evaluate(arguments, key).means()
    report = evaluate_files(predictions, targets)
    assert report.protocol.target == key
    for ours, theirs in (("ssim", "SSIM"), ("psnr", "PSNR"), ("nmse", "NMSE")):
        assert report.mean[ours] == pytest.approx(np.asarray(expected[theirs]).item(), abs=1e-6)


def test_report_is_the_promised_json(folders):
    predictions, targets = folders
    target = pictures((2, 16, 16))
    for name in ("b.h5", "a.h5"):
        write_target(targets / name, target)
        write_prediction(predictions / name, noisy(target))
    save(made(target, sampling={"achieved_acceleration": 3.9}), predictions / "a.h5")
    seen = []
    report = evaluate_files(predictions, targets, progress=lambda done, total: seen.append((done, total)))
    content = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert set(content) >= {"protocol", "volumes", "mean", "intervals", "by_method", "groups", "paired", "notice"}
    assert [row["file"] for row in content["volumes"]] == ["a.h5", "b.h5"]
    assert all({"file", "ssim", "psnr", "nmse", "acceleration", "group"} <= set(row) for row in content["volumes"])
    assert [row["acceleration"] for row in content["volumes"]] == [3.9, None]
    assert content["volumes"][0]["psnr"] is None  # equal to its target: infinite
    assert content["mean"]["ssim"] == pytest.approx(np.mean([row["ssim"] for row in content["volumes"]]))
    assert content["protocol"]["hash"] == report.protocol.hash
    assert seen == [(1, 2), (2, 2)]


def test_acceleration_comes_from_the_mask_where_it_is_not_stated():
    target = pictures((1, 16, 20))
    assert evaluate(made(target), target[:, :, :16].repeat(1, 0)).acceleration == 4
    foreign = dataclasses.replace(made(target), provenance={"method": "unknown", "toolkit_version": None})
    assert evaluate(foreign, target[:, :, :16]).acceleration is None


def test_missing_predictions_stop_before_scoring_and_extra_ones_are_named(folders):
    predictions, targets = folders
    target = pictures((1, 16, 16))
    for name in ("a.h5", "b.h5", "c.h5"):
        write_target(targets / name, target)
    for name in ("a.h5", "z.h5"):
        write_prediction(predictions / name, target)
    with pytest.raises(DataError, match=r"no prediction of b\.h5 and of 1 more"):
        evaluate_files(predictions, targets)
    rest = evaluate_files(predictions, targets, rule=Rule(allow_missing=True))
    assert (rest.missing, [row.file for row in rest.volumes]) == (("b.h5", "c.h5"), ["a.h5"])
    (targets / "b.h5").unlink()
    (targets / "c.h5").unlink()
    study = evaluate_files(predictions, targets)
    assert study.extra == ("z.h5",)
    assert "z.h5" in study.warnings[0]


def test_files_and_folders_pair(folders):
    predictions, targets = folders
    target = pictures((1, 16, 16))
    write_target(targets / "a.h5", target)
    write_prediction(predictions / "a.h5", noisy(target))
    write_prediction(predictions / "other.h5", noisy(target))
    scores = [
        evaluate_files(predictions / "a.h5", targets / "a.h5"),
        evaluate_files(predictions / "other.h5", targets / "a.h5"),
        evaluate_files(predictions / "a.h5", targets),
        evaluate_files(predictions, targets / "a.h5"),
    ]
    assert [report.volumes[0].file for report in scores] == ["a.h5", "other.h5", "a.h5", "a.h5"]
    assert len({report.mean["ssim"] for report in scores}) == 1
    with pytest.raises(DataError, match=r"no target is called other\.h5"):
        evaluate_files(predictions / "other.h5", targets)
    with pytest.raises(DataError, match="no such file or folder"):
        evaluate_files(predictions, targets / "nowhere")
    (targets / "a.h5").unlink()
    with pytest.raises(DataError, match="no target files"):
        evaluate_files(predictions, targets)


def test_some_slices_are_compared_with_those_alone():
    fastmri = pytest.importorskip("fastmri.evaluate")
    target = pictures((6, 18, 16))
    target[0] *= 10  # the data range must be that of the slices compared
    prediction = noisy(target)
    score = evaluate(made(prediction[2:5], slices=(2, 3, 4)), target)
    assert score.slices == (2, 3, 4)
    assert score.as_dict()["slices"] == [2, 3, 4]
    assert "some" in score.protocol.slices
    assert score.protocol.hash != evaluate(made(prediction), target).protocol.hash
    expected = fastmri.ssim(target[2:5, 1:17], prediction[2:5, 1:17]).item()
    assert score.ssim == pytest.approx(expected, abs=1e-6)
    assert evaluate(made(prediction[2:5], slices=(2, 3, 4)), target[2:5]).ssim == score.ssim


def test_slices_that_do_not_fit():
    target = pictures((6, 16, 16))
    with pytest.raises(ProtocolError, match="slice 6"):
        evaluate(made(target[:2], slices=(5, 6)), target)
    with pytest.raises(ProtocolError, match="does not say which"):
        evaluate(target[:2], target)
    foreign = dataclasses.replace(made(target[:2]), provenance={"method": "unknown", "toolkit_version": None})
    with pytest.raises(ProtocolError, match="does not say which"):
        evaluate(foreign, target)  # load_volume numbers slices from 0 whatever they were


def test_volumes_scored_by_different_rules_are_not_averaged(folders):
    predictions, targets = folders
    target = pictures((4, 16, 16))
    for name in ("a.h5", "b.h5"):
        write_target(targets / name, target)
    save(made(target), predictions / "a.h5")
    save(made(target[1:3], slices=(1, 2)), predictions / "b.h5")
    with pytest.raises(ProtocolError, match=r"a\.h5 and b\.h5 .*slices"):
        evaluate_files(predictions, targets)


def test_complex_predictions_count_by_magnitude_and_negative_ones_as_they_are():
    target = pictures((2, 16, 16))
    prediction = noisy(target)
    phase = np.exp(1j * np.linspace(0, 6, 16)).astype(np.complex64)
    assert evaluate(np.abs(prediction) * phase, target).ssim == pytest.approx(
        evaluate(np.abs(prediction), target).ssim, abs=1e-6
    )
    assert (prediction < 0).any()
    assert evaluate(prediction, target).nmse != evaluate(np.abs(prediction), target).nmse


@pytest.mark.parametrize(
    ("prediction", "target", "error", "tells"),
    [
        ((2, 16, 15), (2, 16, 16), ProtocolError, "prediction pictures are 16x15"),
        ((2, 16, 16), (2, 15, 16), ProtocolError, "target pictures are 15x16"),
        ((16, 16), (2, 16, 16), ProtocolError, "(16, 16)"),
        ((2, 16, 16), (16, 16), DataError, "(16, 16)"),
    ],
)
def test_sizes_that_do_not_fit(prediction, target, error, tells):
    with pytest.raises(error, match=re.escape(tells)):
        evaluate(np.ones(prediction, np.float32), np.ones(target, np.float32))


def test_nan_is_no_prediction():
    target = pictures((3, 16, 16))
    prediction = target.copy()
    prediction[1, 2, 3] = np.nan
    with pytest.raises(DataError, match="first 1"):
        evaluate(prediction, target)
    with pytest.raises(DataError, match="NaN"):
        evaluate(target, prediction)


def test_target_of_a_scan_with_reference(tmp_path):
    reference = pictures((3, 16, 16))
    path = write_fastmri(tmp_path / "scan.h5", kspace(), reference=reference)
    for source in (path, str(path), open_scan(path)):
        target = open_target(source)
        assert target.kind == "reconstruction_rss"
        np.testing.assert_array_equal(target.volume((0, 1, 2)), reference)
    single = write_fastmri(tmp_path / "single.h5", kspace()[:, 0], reference=reference)
    assert open_target(single).kind == "reconstruction_esc"


def test_single_coil_files_that_hold_both_targets_are_scored_by_esc(tmp_path):
    """fastMRI's single-coil knee files also carry the RSS of the multi-coil acquisition."""
    path = write_fastmri(tmp_path / "single.h5", kspace()[:, 0], reference=pictures((3, 16, 16)))
    with h5py.File(path, "a") as file:
        file["reconstruction_rss"] = pictures((3, 16, 16), seed=9)
    assert open_target(path).kind == "reconstruction_esc"


def test_target_computed_from_fully_sampled_kspace(tmp_path):
    full = kspace()
    path = write_fastmri(tmp_path / "scan.h5", full, voxel_mm=(3.0, 1.0, 1.0), crop=(12, 11))
    target = open_target(path)
    assert target.kind == "rss computed from k-space"
    rss = np.sqrt((np.abs(centred_ifft2(full)) ** 2).sum(axis=1))[:, 2:14, 4:15]
    np.testing.assert_allclose(target.volume((0, 1, 2)), rss, rtol=1e-5)
    score = evaluate(made(noisy(rss)), path)
    assert score.protocol.target == "rss computed from k-space"


def test_undersampled_scan_without_target_is_refused(tmp_path):
    mask = np.arange(20) % 2 == 0
    path = write_fastmri(tmp_path / "scan.h5", np.where(mask, kspace(), 0), mask=mask)
    with pytest.raises(DataError, match=r"scan\.h5: no target"):
        open_target(path)


def test_missing_or_foreign_target_file(tmp_path):
    with pytest.raises(DataError, match="no such target"):
        open_target(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(DataError, match=r"text\.h5"):
        open_target(tmp_path / "text.h5")
    write_target(tmp_path / "flat.h5", pictures((16, 16)))
    with pytest.raises(DataError, match=re.escape("(16, 16)")):
        open_target(tmp_path / "flat.h5")


def test_target_follows_the_order_of_slices():
    target = pictures((4, 16, 16))
    prediction = noisy(target)
    forth = evaluate(made(prediction[[1, 2, 3]], slices=(1, 2, 3)), target)
    back = evaluate(made(prediction[[3, 1, 2]], slices=(3, 1, 2)), target)
    assert back.ssim == pytest.approx(forth.ssim, abs=1e-7)
