"""Many volumes: side by side, in groups, by patient, without growing memory."""

import json
import tracemalloc

import h5py
import numpy as np
import pytest
from tiny import tiny_scan

from nirvana_mri.errors import DataError, ProtocolError, UsageError
from nirvana_mri.eval.context import Patients, group_of, tesla, times
from nirvana_mri.eval.run import Rule, evaluate_files, evaluate_methods
from nirvana_mri.io.fastmri import write_fastmri
from nirvana_mri.io.header import make_header
from nirvana_mri.io.save import save
from nirvana_mri.recon.batch import Recipe
from nirvana_mri.volume import Volume

COLUMNS = np.arange(20) % 4 == 0


def pictures(seed=0, shape=(2, 20, 20)):
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def write_targets(folder, count, patient=lambda n: f"secret-{n}", acquisition=lambda n: "AXT2", shape=(2, 20, 20)):
    folder.mkdir()
    for n in range(count):
        with h5py.File(folder / f"{n}.h5", "w") as file:
            file["reconstruction_rss"] = pictures(n, shape)
            file["ismrmrd_header"] = make_header((20, 20), (3.0, 1.0, 1.0), (20, 20), (0, 20))
            file.attrs["acquisition"] = acquisition(n)
            if patient(n):
                file.attrs["patient_id"] = patient(n)


def write_predictions(folder, count, noise=0.1, acceleration=4.0, shape=(2, 20, 20), **more):
    folder.mkdir()
    for n in range(count):
        random = np.random.default_rng(100 + n)
        voxels = (pictures(n, shape) + noise * random.normal(size=shape)).astype(np.float32)
        rate = acceleration(n) if callable(acceleration) else acceleration
        made = {"method": "sense", "toolkit_version": "0.1.0", "sampling": {"achieved_acceleration": rate, **more}}
        save(Volume(voxels, np.eye(4), COLUMNS, made, name=str(n), slices=tuple(range(shape[0]))), folder / f"{n}.h5")


def test_the_json_is_the_contract(tmp_path):
    write_targets(tmp_path / "t", 4)
    write_predictions(tmp_path / "p", 4)
    study = evaluate_files(tmp_path / "p", tmp_path / "t")
    content = json.loads(json.dumps(study.as_dict("nirvana-mri evaluate p"), allow_nan=False))
    assert set(content) == {
        *("protocol", "methods", "volumes", "mean", "intervals", "by_method", "groups", "paired", "missing", "extra"),
        *("sampling", "bootstrap", "notice", "toolkit_version", "command", "methods_paragraph", "citations"),
    }
    row = content["volumes"][0]
    assert set(row) == {
        *("file", "method", "ssim", "psnr", "nmse", "ms_ssim", "haarpsi", "edge_sharpness", "acceleration", "group"),
        *("contrast", "field_strength_t", "patient", "worst_slice"),
    }
    assert (row["group"], row["contrast"], row["method"]) == ("AXT2 · 4x", "AXT2", "sense")
    assert content["protocol"]["hash"] == study.protocol.hash
    assert content["protocol"]["acceleration"] == 4.0
    assert set(content["by_method"][0]) >= {"method", "count", "patients", "mean", "intervals"}
    low, high = content["intervals"]["ssim"]
    assert low <= content["mean"]["ssim"] <= high
    assert content["mean"]["ms_ssim"] is None  # smaller than its window
    assert content["sampling"]["achieved_acceleration"] == 4.0
    assert "not for clinical use" in content["notice"]


def test_a_patient_is_a_label_and_never_itself(tmp_path):
    write_targets(tmp_path / "t", 4, patient=lambda n: f"secret-{n // 2}")
    write_predictions(tmp_path / "p", 4)
    study = evaluate_files(tmp_path / "p", tmp_path / "t")
    assert [row.patient for row in study.rows] == ["p1", "p1", "p2", "p2"]
    assert "secret" not in json.dumps(study.as_dict()) + repr(study)
    assert study.as_dict()["intervals"]["ssim"] is None
    assert "2 patients: no intervals" in study.as_dict()["notice"]


def test_files_that_do_not_say_their_patient_count_one_each_and_are_told(tmp_path):
    write_targets(tmp_path / "t", 3, patient=lambda n: None)
    write_predictions(tmp_path / "p", 3)
    study = evaluate_files(tmp_path / "p", tmp_path / "t")
    assert study.by_method()[0]["patients"] == 3
    assert any(note.startswith("3 files do not say their patient") for note in study.notes)
    labels = Patients()
    assert [labels.label(tmp_path / f"sub-0{n}_T1.npy") for n in (1, 1, 2)] == ["p1", "p1", "p2"]
    assert not labels.untold


def test_groups_are_of_contrast_acceleration_and_field(tmp_path):
    write_targets(tmp_path / "t", 4, acquisition=lambda n: ("AXT1", "AXT2")[n % 2])
    write_predictions(tmp_path / "p", 4, acceleration=lambda n: (4.0, 7.9)[n // 2])
    study = evaluate_files(tmp_path / "p", tmp_path / "t")
    assert [entry["group"] for entry in study.groups()] == ["AXT1 · 4x", "AXT1 · 8x", "AXT2 · 4x", "AXT2 · 8x"]
    assert [entry["count"] for entry in study.groups()] == [1, 1, 1, 1]
    assert study.protocol.acceleration is None
    assert any("4x, 8x" in note for note in study.notes)
    assert study.as_dict()["sampling"]["achieved_acceleration"] == "varies"


def test_names_of_groups():
    assert group_of("AXT2", 3.97, 2.8936) == "AXT2 · 4x · 3T"
    assert [times(rate) for rate in (None, 1.0, 3.2, 4.15, 7.7)] == [None, "1x", "3.2x", "4x", "8x"]
    assert [tesla(field) for field in (1.494, 0.55, 7.0)] == ["1.5T", "0.55T", "7T"]
    assert group_of(None, None, None) == "all"


def test_sets_stand_side_by_side_on_the_scans_that_both_have(tmp_path):
    write_targets(tmp_path / "t", 5)
    write_predictions(tmp_path / "good", 5, noise=0.05)
    write_predictions(tmp_path / "bad", 4, noise=0.2)
    sets = [tmp_path / "good", tmp_path / "bad"]
    with pytest.raises(DataError, match=r"no prediction of 4\.h5"):
        evaluate_files(sets, tmp_path / "t")
    study = evaluate_files(sets, tmp_path / "t", rule=Rule(allow_missing=True))
    assert (study.methods, study.missing) == (("good", "bad"), ("4.h5",))
    assert [entry["count"] for entry in study.by_method()] == [4, 4]
    ssim = study.paired()[0]
    assert (ssim["methods"], ssim["metric"], ssim["pairs"]) == (["good", "bad"], "ssim", 4)
    means = [entry["mean"]["ssim"] for entry in study.by_method()]
    assert ssim["difference"] == pytest.approx(means[0] - means[1])
    assert ssim["difference"] > 0
    assert ssim["effect_size"] == 1
    assert ssim["interval"][0] > 0


def test_one_scan_sampled_in_two_ways_is_not_compared(tmp_path):
    write_targets(tmp_path / "t", 3)
    write_predictions(tmp_path / "four", 3)
    write_predictions(tmp_path / "eight", 3, acceleration=8.0)
    with pytest.raises(ProtocolError, match=r"achieved_acceleration: 4\.0 and 8\.0"):
        evaluate_files([tmp_path / "four", tmp_path / "eight"], tmp_path / "t")


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    for seed in range(3):
        tiny_scan(slices=2, out=folder / f"{seed}.h5", seed=seed)
    return folder


def recipes(*methods, **more):
    return {name: Recipe(method=name, **{"accelerate": 4, "center_fraction": 0.16, **more}) for name in methods}


def test_scans_are_reconstructed_and_scored_side_by_side(scans):
    seen = []
    study = evaluate_methods([scans], recipes("sense", "zero-filled"), lambda *told: seen.append(told))
    assert seen == [(n, 6) for n in range(1, 7)]
    assert study.methods == ("sense", "zero-filled")
    assert study.by_method()[0]["mean"]["ssim"] > study.by_method()[1]["mean"]["ssim"]
    assert study.as_dict()["sampling"]["mask"] == "equispaced_fraction"
    assert any("3 scans are simulated" in note for note in study.notes)
    text = study.as_dict()["methods_paragraph"] + " ".join(study.as_dict()["citations"])
    for used in ("Zbontar", "Wang Z, Bovik", "Reisenhofer", "Uecker", "Pruessmann", study.protocol.hash):
        assert used in text
    for unused in ("Lustig", "2510.26083", "Multiscale", "fastMRI+", "Otsu"):
        assert unused not in text


def test_a_full_scan_of_which_nothing_is_left_out_is_no_test(scans):
    with pytest.raises(UsageError, match="--accelerate 4"):
        evaluate_methods([scans], recipes("sense", accelerate=None))
    with pytest.raises(UsageError, match="two scans are called"):
        evaluate_methods([scans, scans / "0.h5"], recipes("sense"))


def test_a_bad_scan_stops_or_is_left_out_and_named(scans, tmp_path):
    (tmp_path / "1.h5").write_bytes((scans / "1.h5").read_bytes())
    kspace = np.random.default_rng(0).normal(size=(1, 2, 32, 32)).astype(np.complex64)
    mask = np.arange(32) % 2 == 0
    write_fastmri(tmp_path / "0.h5", np.where(mask, kspace, 0), mask=mask)
    with pytest.raises(DataError, match=r"0\.h5: no target"):
        evaluate_methods([tmp_path], recipes("zero-filled"))
    study = evaluate_methods([tmp_path], recipes("zero-filled"), rule=Rule(allow_missing=True))
    assert study.missing == ("0.h5",)
    assert "no target" in study.warnings[0]


def test_memory_does_not_grow_with_the_number_of_files(tmp_path):
    shape = (4, 96, 96)
    peaks = []
    for count in (3, 12):
        write_targets(tmp_path / f"t{count}", count, shape=shape)
        write_predictions(tmp_path / f"p{count}", count, shape=shape)
        tracemalloc.start()
        evaluate_files(tmp_path / f"p{count}", tmp_path / f"t{count}", rule=Rule(draws=100))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    volume = 4 * np.prod(shape)
    assert peaks[1] < peaks[0] + volume
