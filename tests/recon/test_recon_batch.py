"""Which scan goes where, in which form, and what is not done again."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from dicom_support import write_series
from pydicom.dataset import Dataset
from tiny import head, tiny_scan

from nirvana_mri.errors import UsageError
from nirvana_mri.io.cfl import write_cfl
from nirvana_mri.io.save import load_volume
from nirvana_mri.recon.batch import Outcome, Recipe, run
from nirvana_mri.recon.jobs import Job, Reading, Writing, plan

RECIPE = Recipe(method="zero-filled", accelerate=3)


def larger(made: Dataset, number: int, volume: int) -> Dataset:
    made.Rows, made.Columns = 32, 24
    made.PixelData = (500 * (volume + 1) * head(32, 24, 5)[number]).astype(np.uint16).tobytes()
    return made


def series(folder: Path, volumes: int = 1) -> Path:
    return write_series(folder, 5, volumes, larger)


def do(jobs: list[Job], recipe: Recipe = RECIPE, *, redo: bool = False, **options: object) -> list[Outcome]:
    done = list(run(jobs, recipe, redo=redo, **options))  # type: ignore[arg-type]
    for outcome in done:
        if outcome.error is not None:
            raise outcome.error
    return done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Scans of several kinds, a BART pair among them, and files that are none."""
    made = tmp_path / "scans"
    made.mkdir()
    kspace = tiny_scan(48, 40, out=made / "a.h5").kspace[0]
    write_cfl(made / "b", kspace.transpose(1, 2, 0)[:, :, None])
    np.save(made / "c.npy", kspace)
    (made / "notes.txt").write_text("no scan")
    (made / "broken.hdf5").write_bytes(b"no longer HDF5")
    return made


def names(jobs: list[Job]) -> list[str]:
    return [job.out.name for job in jobs]


def test_a_folder_stands_for_the_scans_in_it(folder: Path, tmp_path: Path) -> None:
    jobs = plan([folder], tmp_path / "out")
    assert [job.scan.name for job in jobs] == ["a.h5", "b.cfl", "broken.hdf5", "c.npy"]
    assert names(jobs) == ["a.h5", "b.h5", "broken.hdf5", "c.h5"]
    nifti = plan([folder], tmp_path / "out", Writing("nifti"))
    assert names(nifti) == ["a.nii.gz", "b.nii.gz", "broken.nii.gz", "c.nii.gz"]
    assert names(plan([folder], tmp_path / "out", Writing("dicom")))[0] == "a.dcm"


@pytest.mark.parametrize("nested", [False, True])
def test_a_folder_that_holds_dicom_is_one_series(tmp_path: Path, nested: bool) -> None:
    folder = tmp_path / "study.v1"
    series(folder / "below" if nested else folder)
    (folder / "notes.txt").write_text("no picture")
    assert plan([folder], tmp_path / "x.nii.gz") == [Job(folder, tmp_path / "x.nii.gz")]
    assert names(plan([folder], tmp_path / "out")) == ["study.v1.h5"]


def test_scans_beside_folders_of_dicom_are_the_scans(folder: Path, tmp_path: Path) -> None:
    series(folder / "earlier.dcm")
    assert len(plan([folder], tmp_path / "out")) == 4


@pytest.mark.parametrize("name", ["x.h5", "x.nii.gz", "x.png", "x.dcm"])
def test_several_scans_need_a_folder(folder: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="go into a folder"):
        plan([folder], tmp_path / name)


@pytest.mark.parametrize(
    ("out", "writing", "said"),
    [
        ("x.txt", Writing(), "cannot write .txt"),
        ("x.h5", Writing("nifti"), "was asked for"),
        ("x.h5", Writing(assume_orientation="axial"), "means nothing in h5"),
        ("x.nii.gz", Writing(floating=True), "means nothing in nifti"),
        ("x.dcm", Writing(keep_identifiers=True), "without reference_dicom"),
        ("x.dcm", Writing(reference_dicom=Path("nowhere")), "no such file or folder"),
    ],
)
def test_outputs_that_cannot_be_are_refused_at_once(
    folder: Path, tmp_path: Path, out: str, writing: Writing, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        plan([folder / "a.h5"], tmp_path / out, writing)


def test_a_series_is_not_written_into_itself(tmp_path: Path) -> None:
    folder = series(tmp_path / "series.dcm")
    with pytest.raises(UsageError):
        plan([folder], folder)
    with pytest.raises(UsageError, match="among the files of the series"):
        plan([folder], folder / "new.dcm")


@pytest.mark.parametrize("kind", ["h5", "nifti"])
def test_what_is_done_is_not_done_again(folder: Path, tmp_path: Path, kind: str) -> None:
    jobs = plan([folder / "a.h5"], tmp_path / "out", Writing(kind))
    writing = Writing(kind)
    assert not do(jobs, writing=writing)[0].skipped
    assert do(jobs, writing=writing)[0].skipped
    assert not do(jobs, writing=writing, redo=True)[0].skipped
    assert not do(jobs, Recipe(method="zero-filled", accelerate=2), writing=writing)[0].skipped
    assert not do(jobs, writing=writing)[0].skipped
    later = jobs[0].out.stat().st_mtime_ns + 10**9
    os.utime(jobs[0].scan, ns=(later, later))
    assert not do(jobs, writing=writing)[0].skipped


@pytest.mark.parametrize("damage", ["picture", "sidecar", "no sidecar", "other picture"])
def test_a_damaged_nifti_is_made_again(folder: Path, tmp_path: Path, damage: str) -> None:
    job = plan([folder / "a.h5"], tmp_path / "out", Writing("nifti"))[0]
    do([job])
    beside = job.out.with_name("a.json")
    whole = job.out.read_bytes(), beside.read_text()
    if damage == "picture":
        job.out.write_bytes(whole[0][: len(whole[0]) // 2])
    elif damage == "sidecar":
        beside.write_text(json.dumps(json.loads(whole[1]) | {"request": None}))
    elif damage == "no sidecar":
        beside.unlink()
    else:
        beside.write_text(json.dumps(json.loads(whole[1]) | {"image_sha256": "0" * 64}))
    assert not do([job])[0].skipped
    assert job.out.read_bytes() == whole[0]
    assert do([job])[0].skipped


def test_a_series_that_got_a_newer_file_is_made_again(tmp_path: Path) -> None:
    folder = series(tmp_path / "series")
    jobs = plan([folder], tmp_path / "out")
    do(jobs)
    assert do(jobs)[0].skipped
    later = jobs[0].out.stat().st_mtime_ns + 10**9
    os.utime(next(folder.iterdir()), ns=(later, later))
    assert not do(jobs)[0].skipped


@pytest.mark.parametrize("kind", ["dicom", "png"])
def test_dicom_and_png_are_always_made_again(folder: Path, tmp_path: Path, kind: str) -> None:
    writing = Writing(kind, assume_orientation="axial" if kind == "dicom" else None)
    jobs = plan([folder / "a.h5"], tmp_path / "out", writing)
    assert not do(jobs, writing=writing)[0].skipped
    assert not do(jobs, writing=writing)[0].skipped


def test_how_a_file_is_read_is_part_of_the_request(folder: Path, tmp_path: Path) -> None:
    jobs = plan([folder / "c.npy"], tmp_path / "out")
    plain, swapped = Reading(axes="coil ny nx"), Reading(axes="coil nx ny")
    assert not do(jobs, reading=plain)[0].skipped
    assert do(jobs, reading=plain)[0].skipped
    assert not do(jobs, reading=swapped)[0].skipped
    assert load_volume(jobs[0].out).voxels.shape == (1, 40, 48)


def test_several_volumes_go_into_one_nifti_or_one_series(tmp_path: Path) -> None:
    folder = series(tmp_path / "series", volumes=3)
    plain = Recipe(method="zero-filled")
    seen: list[tuple[int, int]] = []
    outcome = do(plan([folder], tmp_path / "x.nii.gz"), plain, progress=lambda *told: seen.append(told))[0]
    assert outcome.volumes == 3
    assert seen == [(done, 15) for done in range(1, 16)]
    first, last = (load_volume(tmp_path / "x.nii.gz", volume) for volume in (0, 2))
    assert first.voxels.max() == pytest.approx(500 * head(32, 24, 5).max(), rel=2e-3)
    np.testing.assert_allclose(last.voxels, 3 * first.voxels, atol=2.5)
    assert last.provenance["source"]["volume"] == 2
    do(plan([folder], tmp_path / "x.dcm"), plain)
    assert len(list((tmp_path / "x.dcm").iterdir())) == 15
    assert do([Job(folder, tmp_path / "x.nii.gz")], plain)[0].skipped


def test_an_h5_holds_one_volume(tmp_path: Path) -> None:
    folder = series(tmp_path / "series", volumes=3)
    jobs = plan([folder], tmp_path / "x.h5")
    with pytest.raises(UsageError, match="choose --volume 0 to 2"):
        do(jobs)
    assert not (tmp_path / "x.h5").exists()
    do(jobs, Recipe(method="zero-filled"), reading=Reading(volume=1))
    found = load_volume(tmp_path / "x.h5")
    assert found.voxels.max() == pytest.approx(1000 * head(32, 24, 5).max(), rel=2e-3)
    assert found.provenance["source"]["volume"] == 1


def test_an_unknown_orientation_is_told_before_the_work(folder: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    jobs = plan([folder / "a.h5"], tmp_path / "x.dcm")
    with pytest.raises(UsageError, match=r"a\.h5.*assume_orientation"):
        do(jobs, progress=lambda *told: seen.append(told))
    assert seen == []
    do(jobs, writing=Writing(assume_orientation="sagittal"))
    assert len(list((tmp_path / "x.dcm").iterdir())) == 1


def test_an_outcome_holds_no_voxels(folder: Path, tmp_path: Path) -> None:
    volume = do(plan([folder / "a.h5"], tmp_path / "out"))[0].volume
    assert volume is not None
    assert volume.voxels.shape == (1, 48, 40)
    assert volume.voxels.base is not None
    assert volume.voxels.base.nbytes <= 8


def test_a_folder_that_is_one_scan_is_one_job(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "kspace" / "bruker_tubes1_100"
    assert plan([folder], tmp_path / "x.h5") == [Job(folder, tmp_path / "x.h5")]
