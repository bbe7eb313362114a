"""Volumes to NIfTI and back: where they lie, what the sidecar says, and nothing half-written."""

import gzip
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from written import SHA256, affines, volume

import nirvana_mri as nm
from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.io.save import load_volume
from nirvana_mri.io.writers.nifti import sidecar_path, write_nifti
from nirvana_mri.volume import NOT_FOR_CLINICAL_USE


def test_both_forms_say_where_an_upright_picture_lies(tmp_path) -> None:
    image = nib.load(nm.save(volume((3, 8, 8), np.diag([0.5, 0.75, 4, 1])), tmp_path / "x.nii"))
    assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (1, 1)


@given(affines, st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)))
def test_voxels_and_place_come_back(affine, shape) -> None:
    made = volume(shape, affine)
    with TemporaryDirectory() as folder:
        path = nm.save(made, f"{folder}/x.nii")
        image = nib.load(path)
        assert image.header.get_xyzt_units()[0] == "mm"
        assert int(image.header["sform_code"]) == 1
        corners = np.array([[0, 0, 0, 1], [shape[2] - 1, shape[1] - 1, shape[0] - 1, 1]]).T
        if image.header["qform_code"]:  # left out where float32 quaternions cannot say it, near half a turn
            assert np.abs((image.get_qform() - affine) @ corners).max() < 1e-2
        assert np.abs((image.get_sform() - affine) @ corners).max() < 1e-4
        data = np.asarray(image.dataobj)
        assert data.dtype == np.float32
        assert np.array_equal(data, made.voxels.transpose(2, 1, 0))
        assert np.array_equal(load_volume(path).voxels, made.voxels)


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "X.NII.GZ"])
@pytest.mark.parametrize("kind", [np.float32, np.complex64])
def test_all_that_a_volume_says_is_read_back(tmp_path: Path, name: str, kind: type) -> None:
    made = volume()
    made = replace(made, voxels=(made.voxels * (1 + 2j if kind is np.complex64 else 1)).astype(kind))
    again = load_volume(nm.save(made, tmp_path / name))
    assert again.voxels.dtype == kind
    assert np.array_equal(again.voxels, made.voxels)
    assert np.array_equal(again.mask, made.mask)
    for field in ("slices", "orientation_known", "warnings"):
        assert getattr(again, field) == getattr(made, field)
    assert {key: again.provenance[key] for key in made.provenance} == made.provenance


def test_the_sidecar_and_the_header_say_what_it_is(tmp_path: Path) -> None:
    path = nm.save(volume(simulated=True), tmp_path / "x.nii.gz")
    said = json.loads((tmp_path / "x.json").read_text())
    assert said["notice"] == NOT_FOR_CLINICAL_USE
    assert said["model_sha256"] == SHA256
    assert said["sampling"]["acceleration"] == 4.0
    assert said["orientation_known"] is True
    assert said["stamp"].startswith("synthetic k-space")
    assert said["warnings"] == ["a warning of the scan's"]
    assert said["image_sha256"] == hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()
    words = nib.load(path).header["descrip"].item().decode()
    assert words.startswith("NOT FOR CLINICAL USE; SYNTHETIC K-SPACE; nirvana (model nano ab12ab12ab12)")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "x.json", path]


def test_unknown_orientation_is_said_and_stays_unknown(tmp_path: Path) -> None:
    made = volume(affine=np.diag([0.5, 0.75, 4.0, 1.0]), known=False)
    path = nm.save(made, tmp_path / "x.nii")
    header = nib.load(path).header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (0, 0)
    assert np.allclose(header.get_zooms(), (0.5, 0.75, 4.0))
    assert json.loads((tmp_path / "x.json").read_text())["orientation"] == "orientation unknown"
    again = load_volume(path)
    assert not again.orientation_known
    assert np.array_equal(again.affine, made.affine)
    nm.save(replace(made, affine=np.eye(4)), path)
    assert "voxel size unknown" in json.loads((tmp_path / "x.json").read_text())["orientation"]


def test_an_assumed_orientation_is_stamped(tmp_path: Path) -> None:
    made = volume(affine=np.diag([0.5, 0.75, 4.0, 1.0]), known=False)
    path = nm.save(made, tmp_path / "x.nii", assume_orientation="coronal")
    image = nib.load(path)
    assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (2, 2)
    assert nib.aff2axcodes(image.affine) == ("L", "I", "P")
    said = json.loads((tmp_path / "x.json").read_text())
    assert said["orientation_known"] is False
    assert said["orientation"].startswith("orientation assumed coronal, not from the scan")
    assert not load_volume(path).orientation_known


def test_several_volumes_are_a_fourth_axis(tmp_path: Path) -> None:
    both = [volume(seed=0), volume(seed=1, method="sense")]
    path = nm.save(both, tmp_path / "x.nii.gz")
    data = np.asarray(nib.load(path).dataobj)
    assert data.shape == (6, 8, 3, 2)
    for number, made in enumerate(both):
        assert np.array_equal(data[..., number].T, made.voxels)
        again = load_volume(path, number)
        assert np.array_equal(again.voxels, made.voxels)
        assert again.provenance["method"] == made.provenance["method"]
    with pytest.raises(DataError, match="holds 2 volumes; choose one, from 0 to 1"):
        load_volume(path)
    with pytest.raises(DataError, match="volume 2 is not there"):
        load_volume(path, 2)


def test_the_same_volume_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        nm.save(volume(), tmp_path / name / "x.nii.gz")
    for file in ("x.nii.gz", "x.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert (tmp_path / "one" / "x.nii.gz").read_bytes()[3:8] == bytes(5), "gzip has neither name nor time"


def test_a_skewed_affine_is_only_in_the_sform(tmp_path: Path) -> None:
    skewed = np.eye(4)
    skewed[0, 1] = 0.2
    header = nib.load(nm.save(volume(affine=skewed), tmp_path / "x.nii")).header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (0, 1)
    assert np.allclose(header.get_sform(), skewed)


def test_a_full_disk_leaves_both_old_files_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = nm.save(volume(), tmp_path / "x.nii.gz")
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}

    def full(stream: gzip.GzipFile | Path, data: bytes | str, **_: object) -> None:
        if isinstance(stream, Path):
            stream.write_bytes(b"half")
        raise OSError("No space left on device")

    for place in ((gzip.GzipFile, "write"), (Path, "write_text")):
        with monkeypatch.context() as patch:
            patch.setattr(*place, full)
            with pytest.raises(DataError, match="cannot be written"):
                nm.save(volume(seed=1), path)
        assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_foreign_sidecar_is_never_replaced(tmp_path: Path) -> None:
    for text in ('{"EchoTime": 0.03}', "[1]", "{"):
        (tmp_path / "x.json").write_text(text)
        for write in (nm.save, write_nifti):
            with pytest.raises(UsageError, match="no sidecar of nirvana-mri's"):
                write(volume(), tmp_path / "x.nii.gz")
        assert [file.name for file in tmp_path.iterdir()] == ["x.json"]
        assert (tmp_path / "x.json").read_text() == text


def test_overwriting_can_be_forbidden_for_either_file(tmp_path: Path) -> None:
    path = nm.save(volume(), tmp_path / "x.nii")
    nm.save(volume(), path)
    path.unlink()
    with pytest.raises(UsageError, match=r"x\.json exists already"):
        nm.save(volume(), path, overwrite=False)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"affine": np.diag([1.0, 0.0, 1.0, 1.0])}, "cannot be inverted"),
        ({"affine": np.full((4, 4), np.nan)}, "cannot be inverted"),
        ({"slices": (4, 5, 9)}, "slices 4, 5, 9 are unevenly spaced"),
        ({"voxels": np.full((3, 8, 6), np.nan, np.float32)}, "slice 0 has NaN or Inf"),
        ({"voxels": np.zeros((1, 32768, 1), np.float32), "slices": (0,)}, "at most 32767 along an axis"),
        ({"provenance": {"method": object()}}, "not JSON-ready"),
    ],
)
def test_what_nifti_cannot_hold(tmp_path: Path, change: dict[str, object], match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        nm.save(replace(volume(), **change), tmp_path / "x.nii.gz")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_sidecar_of_each_suffix() -> None:
    for name in ("a.b.nii", "a.b.nii.gz", "a.b.NII.gz", "a.b"):
        assert sidecar_path(name) == Path("a.b.json")


def test_a_nifti_without_sidecar_is_read(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((6, 8, 3), np.int16), np.diag([1.0, 2, 3, 1])), tmp_path / "x.nii")
    again = load_volume(tmp_path / "x.nii")
    assert again.voxels.shape == (3, 8, 6)
    assert again.provenance["method"] == "unknown"
    assert again.orientation_known
    assert again.slices == (0, 1, 2)


def test_niftis_that_cannot_be_read(tmp_path: Path) -> None:
    path = write_nifti(volume(), tmp_path / "x.nii")
    whole = path.read_bytes()
    cases = {
        "cannot be read": whole[:500],
        "declares 10800000": whole[:42] + np.array([3000, 300, 3], "<i2").tobytes() + whole[48:],
        "declares 10800000000": whole[:42] + np.array([30000, 30000, 3], "<i2").tobytes() + whole[48:],
        "expected numbers": whole[:40] + np.array([2], "<i2").tobytes() + whole[42:],
        "NaN or Inf": whole[:-4] + np.array([np.nan], "<f4").tobytes(),
    }
    for match, content in cases.items():
        path.write_bytes(content)
        with pytest.raises(DataError, match=match) as caught:
            load_volume(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(whole)
    said = json.loads((tmp_path / "x.json").read_text())
    for broken in ({**said, "mask": {"shape": [99], "packed_bits": "AA=="}}, {**said, "volumes": []}):
        (tmp_path / "x.json").write_text(json.dumps(broken))
        with pytest.raises(DataError, match=r"x\.json"):
            load_volume(path)
    with pytest.raises(DataError, match="no such file"):
        load_volume(tmp_path / "y.nii")
