"""Volumes to files and back, whole or not at all."""

import json
import os
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

import nirvana_mri as nm
from nirvana_mri.atomic import atomic_path, check_target, same_file
from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.io.save import check_output, load_volume, output_format
from nirvana_mri.volume import NOT_FOR_CLINICAL_USE, Volume


def make_volume(kind: type = np.float32) -> Volume:
    rng = np.random.default_rng(0)
    provenance = {
        "method": "nirvana",
        "model": "nano",
        "model_sha256": "ab" * 32,
        "sampling": {"mask": "equispaced_fraction", "seed": 0},
        "acceleration": 4.0,
        "toolkit_version": nm.__version__,
        "notice": NOT_FOR_CLINICAL_USE,
    }
    return Volume(
        voxels=(rng.normal(size=(3, 8, 6)) + 1j * rng.normal(size=(3, 8, 6))).astype(kind)
        if kind is np.complex64
        else rng.random((3, 8, 6), np.float32),
        affine=np.diag([0.5, 0.6, 5.0, 1.0]),
        mask=np.arange(12) % 4 == 0,
        provenance=provenance,
        name="brain",
        slices=(4, 5, 9),
        warnings=("orientation unknown",),
    )


@pytest.mark.parametrize("kind", [np.float32, np.complex64])
def test_a_saved_volume_is_read_back(tmp_path: Path, kind: type) -> None:
    volume = make_volume(kind)
    assert nm.save(volume, tmp_path / "out.h5") == tmp_path / "out.h5"
    again = load_volume(tmp_path / "out.h5")
    assert again.voxels.dtype == kind
    for name in ("voxels", "affine", "mask"):
        assert np.array_equal(getattr(again, name), getattr(volume, name))
    for name in ("provenance", "name", "slices", "orientation_known", "warnings"):
        assert getattr(again, name) == getattr(volume, name)


def test_other_tools_find_what_they_look_for(tmp_path: Path) -> None:
    nm.save(make_volume(), tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["reconstruction"].dtype == np.float32
        assert file["mask"].dtype == bool
        assert file.attrs["notice"] == NOT_FOR_CLINICAL_USE
        assert file.attrs["method"] == "nirvana"
        assert file.attrs["model_sha256"] == "ab" * 32
        assert file.attrs["acceleration"] == 4.0
        assert file.attrs["slices"].tolist() == [4, 5, 9]
        assert json.loads(file.attrs["provenance"])["sampling"]["seed"] == 0


def test_the_notice_cannot_be_left_out(tmp_path: Path) -> None:
    volume = replace(make_volume(), provenance={"method": "x", "notice": "approved"})
    nm.save(volume, tmp_path / "out.h5")
    assert load_volume(tmp_path / "out.h5").provenance["notice"] == NOT_FOR_CLINICAL_USE


def test_a_reconstruction_made_elsewhere_is_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "file1000.h5", "w") as file:
        file["reconstruction"] = np.ones((2, 8, 6))
    volume = load_volume(tmp_path / "file1000.h5")
    assert volume.voxels.dtype == np.float32
    assert volume.provenance["method"] == "unknown"
    assert volume.provenance["acceleration"] is None
    assert volume.slices == (0, 1)
    assert volume.mask.size == 0
    assert volume.name == "file1000"


@pytest.mark.parametrize("name", ["out.bmp", "out", "out.h5.bak", "out.nii.bz2"])
def test_other_formats_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"supported: \.h5, \.hdf5"):
        nm.save(make_volume(), tmp_path / name)


@pytest.mark.parametrize(
    ("name", "asked", "kind"),
    [
        ("x.h5", None, "h5"),
        ("x.HDF5", None, "h5"),
        ("x.nii", None, "nifti"),
        ("x.NII.gz", "nifti", "nifti"),
        ("x.png", None, "png"),
        ("x.dcm", None, "dicom"),
        ("x.dcm/", None, "dicom"),
        ("x/", None, "dicom"),
        ("x", "dicom", "dicom"),
        ("x.img", "nifti", "nifti"),
    ],
)
def test_the_format_is_the_suffix_or_the_name(name: str, asked: str | None, kind: str) -> None:
    assert output_format(name, asked) == kind


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("x.h5", {"format": "tiff"}, "expected one of h5, nifti, png, dicom"),
        ("x.h5", {"format": "png"}, "is h5 by its suffix, and png was asked for"),
        ("x.h5/", {}, "a folder by its last sign, a file by its suffix"),
        ("x.h5", {"floating": True}, "floating means nothing in h5"),
        ("x.nii", {"reference_dicom": "ref"}, "reference_dicom means nothing in nifti"),
        ("x.png", {"assume_orientation": "axial"}, "assume_orientation means nothing in png"),
        ("x.nii", {"keep_identifiers": True}, "keep_identifiers means nothing in nifti"),
        ("x.nii", {"assume_orientation": "oblique"}, "expected one of axial, sagittal, coronal"),
        ("x.h5", {"volumes": 2}, r"2 volumes do not go into one \.h5"),
        ("x.dcm", {"orientation_known": False}, r"assume_orientation \(axial, sagittal, coronal\)"),
        ("x.dcm", {"orientation_known": True, "assume_orientation": "axial"}, "has its own orientation"),
        ("x.dcm", {"keep_identifiers": True}, "keep_identifiers without reference_dicom"),
        ("x.dcm", {"reference_dicom": "nowhere"}, "nowhere: no such file or folder"),
    ],
)
def test_options_that_cannot_work_are_refused_beforehand(
    tmp_path: Path, name: str, options: dict[str, object], match: str
) -> None:
    with pytest.raises(UsageError, match=match) as caught:
        check_output(f"{tmp_path}/{name}", **options)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x.h5", "x.nii.gz", "x.png", "x.dcm"])
def test_no_format_takes_what_is_no_picture(tmp_path: Path, name: str) -> None:
    good = replace(make_volume(), slices=(4, 5, 6), orientation_known=True)
    bad = good.voxels.copy()
    bad[1, 2, 3] = np.inf
    for change, match in (({"voxels": bad}, "slice 1 has NaN or Inf"), ({"voxels": bad[0]}, "voxels are")):
        with pytest.raises(DataError, match=match):
            nm.save(replace(good, **change), tmp_path / name)
    with pytest.raises(UsageError, match="no volume to write"):
        nm.save([], tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x.nii.gz", "x.png", "x.dcm"])
def test_volumes_that_do_not_belong_together(tmp_path: Path, name: str) -> None:
    good = replace(make_volume(), slices=(4, 5, 6), orientation_known=True)
    for other, match in (
        (replace(good, voxels=good.voxels[:2]), "do not fit in one file"),
        (replace(good, affine=np.eye(4)), "lie in different places"),
    ):
        with pytest.raises(DataError, match=match):
            nm.save([good, other], tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_an_h5_has_one_volume(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="volume 1 is not there"):
        load_volume(tmp_path / "x.h5", 1)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"voxels": np.ones((8, 6), np.float32)}, "voxels are"),
        ({"voxels": np.ones((3, 8, 6), int)}, "voxels are"),
        ({"provenance": {"method": object()}}, "not JSON-ready"),
        ({"provenance": {"psnr": float("nan")}}, "not JSON-ready"),
    ],
)
def test_what_cannot_be_saved_leaves_the_old_file_alone(tmp_path: Path, change: dict[str, object], match: str) -> None:
    path = nm.save(make_volume(), tmp_path / "out.h5")
    before = path.read_bytes()
    with pytest.raises(DataError, match=match):
        nm.save(replace(make_volume(), **change), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = nm.save(make_volume(), tmp_path / "out.h5")
    before = path.read_bytes()

    def full(file: h5py.File, name: str, *_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(h5py.File, "__setitem__", full)
    with pytest.raises(DataError, match="cannot be written"):
        nm.save(make_volume(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_overwriting_can_be_forbidden(tmp_path: Path) -> None:
    path = nm.save(make_volume(), tmp_path / "out.h5")
    nm.save(make_volume(), path)
    with pytest.raises(UsageError, match="exists already"):
        nm.save(make_volume(), path, overwrite=False)


BAD: dict[str, tuple[dict[str, object], dict[str, object], str]] = {
    "a scan": ({"kspace": np.ones((1, 8, 6))}, {}, "is it a scan?"),
    "rank": ({"reconstruction": np.ones((8, 6))}, {}, "expected real or complex"),
    "whole numbers": ({"reconstruction": np.ones((1, 8, 6), int)}, {}, "expected real or complex"),
    "NaN": ({"reconstruction": np.full((1, 8, 6), np.nan)}, {}, "NaN or Inf"),
    "mask": ({"reconstruction": np.ones((1, 8, 6)), "mask": np.full(6, 3)}, {}, "other than 0 and 1"),
    "slices": ({"reconstruction": np.ones((1, 8, 6))}, {"slices": [1, 2]}, "attribute slices"),
    "affine": ({"reconstruction": np.ones((1, 8, 6))}, {"affine": np.full((4, 4), np.inf)}, "attribute affine"),
    "no JSON": ({"reconstruction": np.ones((1, 8, 6))}, {"provenance": "{"}, "is not JSON"),
    "other JSON": ({"reconstruction": np.ones((1, 8, 6))}, {"provenance": "[1]"}, "is a JSON list"),
}


@pytest.mark.parametrize("case", BAD)
def test_reconstructions_that_cannot_be_used(tmp_path: Path, case: str) -> None:
    datasets, attrs, match = BAD[case]
    with h5py.File(tmp_path / "out.h5", "w") as file:
        for name, value in datasets.items():
            file[name] = value
        file.attrs.update(attrs)
    with pytest.raises(DataError, match=match) as caught:
        load_volume(tmp_path / "out.h5")
    assert "\n" not in str(caught.value)


def test_a_missing_or_foreign_reconstruction(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_volume(tmp_path / "out.h5")
    (tmp_path / "out.h5").write_text("SSIM")
    with pytest.raises(DataError, match="cannot be read"):
        load_volume(tmp_path / "out.h5")


def test_failure_inside_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_path(tmp_path / "new.txt") as temporary:
            temporary.write_text("half")
            assert temporary.parent == tmp_path
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_success_replaces_at_once_and_keeps_the_usual_permissions(tmp_path: Path) -> None:
    target = tmp_path / "new.txt"
    target.write_text("old")
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    (tmp_path / "plain.txt").write_text("")
    assert target.stat().st_mode == (tmp_path / "plain.txt").stat().st_mode
    assert len(list(tmp_path.iterdir())) == 2


def test_a_link_is_replaced_where_it_points(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    link = tmp_path / "link.h5"
    link.symlink_to(tmp_path / "store" / "real.h5")
    nm.save(make_volume(), link)
    assert link.is_symlink()
    assert (tmp_path / "store" / "real.h5").is_file()


def test_missing_folders_are_made(tmp_path: Path) -> None:
    check_target(tmp_path / "new" / "deep" / "out.h5")
    assert list(tmp_path.iterdir()) == [], "looking makes nothing"
    assert nm.save(make_volume(), tmp_path / "new" / "deep" / "out.h5").is_file()


def test_targets_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    (tmp_path / "folder.h5").mkdir()
    (tmp_path / "file").write_text("not a folder")
    for path, match in (
        (tmp_path / "file" / "out.h5", "is a file, not a folder"),
        (tmp_path / "folder.h5", "is a folder"),
        (tmp_path / "pipe.h5", "not a regular file"),
    ):
        with pytest.raises(UsageError, match=match):
            nm.save(make_volume(), path)
        with pytest.raises(UsageError, match=match):
            check_target(path)


def test_one_file_under_two_names(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    path.write_text("")
    (tmp_path / "link.h5").symlink_to(path)
    os.link(path, tmp_path / "hard.h5")
    assert same_file(path, tmp_path / "link.h5")
    assert same_file(path, tmp_path / "hard.h5")
    assert same_file(tmp_path / "new.h5", str(tmp_path / "." / "new.h5"))
    assert not same_file(path, tmp_path / "other.h5")
