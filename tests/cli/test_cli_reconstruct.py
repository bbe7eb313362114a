"""nirvana-mri reconstruct: files in, files out, whatever is thrown at it."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tiny import tiny_scan

import nirvana_mri as nm
from nirvana_mri.io.save import load_volume

Run = Callable[..., Any]
FASTER = ("--method", "sense", "--accelerate", "4", "--center-fraction", "0.16")


def truncated(path: Path, whole: Path) -> None:
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])


def wrong_keys(path: Path, whole: Path) -> None:
    with h5py.File(path, "w") as file:
        file["data"] = np.ones((2, 4, 16, 16), np.complex64)


def not_a_number(path: Path, whole: Path) -> None:
    path.write_bytes(whole.read_bytes())
    with h5py.File(path, "r+") as file:
        file["kspace"][2, 1, 30, 28] = np.nan


def empty_mask(path: Path, whole: Path) -> None:
    path.write_bytes(whole.read_bytes())
    with h5py.File(path, "r+") as file:
        file["mask"] = np.zeros(56, bool)


def text(path: Path, whole: Path) -> None:
    path.write_text("this is no scan\n")


def empty(path: Path, whole: Path) -> None:
    path.write_bytes(b"")


def missing(path: Path, whole: Path) -> None:
    pass


BROKEN = (truncated, wrong_keys, not_a_number, empty_mask, text, empty, missing)


def test_a_scan_becomes_a_file(run: Run, scan_file: Path, model_file: Path, tmp_path: Path) -> None:
    done = run("reconstruct", scan_file, "-o", tmp_path / "recon.h5", "--model", model_file, *FASTER[2:])
    assert done.exit_code == 0
    volume = load_volume(tmp_path / "recon.h5")
    scan = nm.open_scan(scan_file)
    wanted = nm.reconstruct(scan, model_file, accelerate=4, center_fraction=0.16)
    np.testing.assert_array_equal(volume.voxels, wanted.voxels)
    np.testing.assert_array_equal(volume.mask, wanted.mask)
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"wrote {tmp_path / 'recon.h5'}: 3 slices, nirvana (model tiny ")
    assert volume.provenance["model_sha256"][:12] in last
    assert "equispaced_fraction 4x" in last
    assert last.endswith("not for clinical use")


def test_the_settings_arrive(run: Run, scan_file: Path, tmp_path: Path) -> None:
    words = ("--mask", "random", "--seed", "7", "--slices", "1:3", "--combine", "sense")
    assert run("reconstruct", scan_file, "-o", tmp_path / "r.h5", *FASTER, *words).exit_code == 0
    volume = load_volume(tmp_path / "r.h5")
    wanted = nm.reconstruct(
        nm.open_scan(scan_file), None, "sense", 4, "random", 0.16, 7, slices=[1, 2], combine="sense"
    )
    np.testing.assert_array_equal(volume.voxels, wanted.voxels)
    assert volume.slices == (1, 2)


def test_complex_keeps_the_phase(run: Run, scan_file: Path, tmp_path: Path) -> None:
    assert run("reconstruct", scan_file, "-o", tmp_path / "r.h5", *FASTER, "--complex").exit_code == 0
    assert load_volume(tmp_path / "r.h5").voxels.dtype == np.complex64


def test_a_mask_of_ones_own(run: Run, scan_file: Path, tmp_path: Path) -> None:
    mask = np.zeros(56, bool)
    mask[20:36] = mask[::3] = True
    np.save(tmp_path / "mine.npy", mask)
    words = ("--method", "sense", "--mask", tmp_path / "mine.npy")
    assert run("reconstruct", scan_file, "-o", tmp_path / "r.h5", *words).exit_code == 0
    np.testing.assert_array_equal(load_volume(tmp_path / "r.h5").mask, mask)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda make: make.__name__)
def test_a_broken_file_is_one_line_and_leaves_nothing(
    run: Run, scan_file: Path, tmp_path: Path, broken: Callable[[Path, Path], None]
) -> None:
    bad, out = tmp_path / "bad.h5", tmp_path / "out"
    broken(bad, scan_file)
    out.mkdir()
    done = run("reconstruct", bad, "-o", out / "recon.h5", *FASTER)
    assert done.exit_code == 1
    errors = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert str(bad) in errors[0]
    assert done.stdout == ""
    assert list(out.iterdir()) == []


def test_a_failure_keeps_the_older_file(run: Run, scan_file: Path, tmp_path: Path) -> None:
    not_a_number(tmp_path / "bad.h5", scan_file)
    (tmp_path / "recon.h5").write_bytes(b"older")
    assert run("reconstruct", tmp_path / "bad.h5", "-o", tmp_path / "recon.h5", *FASTER).exit_code == 1
    assert (tmp_path / "recon.h5").read_bytes() == b"older"
    assert run("reconstruct", scan_file, "-o", tmp_path / "recon.h5", *FASTER).exit_code == 0
    assert load_volume(tmp_path / "recon.h5").voxels.shape[0] == 3


def usage_error(run: Run, *words: Any) -> str:
    done = run("reconstruct", *words)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize(
    ("slices", "said"), [("3:4", "0:3"), ("2:1", "0:3"), ("a", "START:STOP"), ("-1", "START:STOP")]
)
def test_slices_that_are_not_there(run: Run, scan_file: Path, tmp_path: Path, slices: str, said: str) -> None:
    assert said in usage_error(run, scan_file, "-o", tmp_path / "r.h5", *FASTER, f"--slices={slices}")


@pytest.mark.parametrize(("slices", "numbers"), [("1", (1,)), (":2", (0, 1)), ("2:", (2,)), ("0:3", (0, 1, 2))])
def test_slices_as_one_writes_them(
    run: Run, scan_file: Path, tmp_path: Path, slices: str, numbers: tuple[int, ...]
) -> None:
    assert run("reconstruct", scan_file, "-o", tmp_path / "r.h5", *FASTER, "--slices", slices).exit_code == 0
    assert load_volume(tmp_path / "r.h5").slices == numbers


def test_wrong_use_is_refused_before_any_work(run: Run, scan_file: Path, tmp_path: Path) -> None:
    faster = ("--method", "sense", "--accelerate", "4")
    assert "would replace the scan" in usage_error(run, scan_file, "-o", scan_file, *faster)
    assert "would replace the scan" in usage_error(run, scan_file, "-o", scan_file.parent, *faster)
    assert "supported: .h5" in usage_error(run, scan_file, "-o", tmp_path / "r.txt", *faster)
    assert "is a file, not a folder" in usage_error(run, scan_file, "-o", scan_file / "r.h5", *faster)
    assert "names a file" in usage_error(run, scan_file, scan_file, "-o", tmp_path / "r.h5", *faster)
    assert "would both become" in usage_error(run, scan_file, scan_file, "-o", tmp_path / "out", *faster)
    assert "no scan in this folder" in usage_error(run, tmp_path, "-o", tmp_path / "out", *faster)
    assert "needs an acceleration" in usage_error(run, scan_file, "-o", tmp_path / "r.h5", "--mask", "random")
    assert "neither a file nor" in usage_error(run, scan_file, "-o", tmp_path / "r.h5", "--mask", "spiral", *faster)
    assert "cannot use" in usage_error(run, scan_file, "-o", tmp_path / "r.h5", "--device", "abacus", *faster)
    assert "neither a file nor" in usage_error(run, scan_file, "-o", tmp_path / "r.h5", "--model", "mega")
    assert list(tmp_path.iterdir()) == []


def test_the_same_name_twice_is_refused(run: Run, scan_file: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "head.h5").write_bytes(scan_file.read_bytes())
    said = usage_error(run, tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out", *FASTER)
    assert str(tmp_path / "a" / "head.h5") in said
    assert str(tmp_path / "b" / "head.h5") in said


@pytest.fixture
def folder(scan_file: Path, tmp_path: Path) -> Path:
    """Two good scans, one bad, and a file that is no scan."""
    made = tmp_path / "scans"
    made.mkdir()
    (made / "a.h5").write_bytes(scan_file.read_bytes())
    not_a_number(made / "b.h5", scan_file)
    tiny_scan(48, 40, 1, 2, out=made / "c.h5")
    (made / "notes.txt").write_text("no scan")
    return made


def test_one_bad_file_does_not_stop_the_rest(run: Run, folder: Path, tmp_path: Path) -> None:
    done = run("reconstruct", folder, "-o", tmp_path / "out", *FASTER)
    assert done.exit_code == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.h5", "c.h5"]
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2
    assert "b.h5" in errors[0]
    assert "2 written, 0 kept, 1 failed (b.h5)" in errors[1]


def test_a_second_run_goes_on(run: Run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (folder / "b.h5").unlink()
    assert run("reconstruct", folder, "-o", out, *FASTER).exit_code == 0
    (out / "c.h5").unlink()
    before = (out / "a.h5").stat().st_mtime_ns
    again = run("reconstruct", folder, "-o", out, *FASTER)
    assert "1 written, 1 kept, 0 failed" in again.stdout
    assert (out / "a.h5").stat().st_mtime_ns == before


@pytest.mark.parametrize("change", ["settings", "scan", "damage", "overwrite", "foreign"])
def test_what_is_no_longer_right_is_made_again(run: Run, folder: Path, tmp_path: Path, change: str) -> None:
    out = tmp_path / "out"
    (folder / "b.h5").unlink()
    (folder / "c.h5").unlink()
    run("reconstruct", folder, "-o", out, *FASTER)
    words = list(FASTER)
    if change == "settings":
        words += ["--seed", "1"]
    elif change == "scan":
        later = (out / "a.h5").stat().st_mtime_ns + 10**9
        os.utime(folder / "a.h5", ns=(later, later))
    elif change == "damage":
        (out / "a.h5").write_bytes((out / "a.h5").read_bytes()[:1000])
    elif change == "foreign":
        with h5py.File(out / "a.h5", "r+") as file:
            file.attrs["provenance"] = json.dumps({"method": "sense"})
    else:
        words.append("--overwrite")
    done = run("reconstruct", folder, "-o", out, *words)
    assert "1 written, 0 kept" in done.stdout


def test_another_model_is_another_request(run: Run, scan_file: Path, model_file: Path, tmp_path: Path) -> None:
    from tiny import tiny_model

    from nirvana_mri.recon.checkpoint import save_checkpoint

    other = tmp_path / "tiny.safetensors"  # the same name, other weights
    save_checkpoint(tiny_model(seed=1), other, covers={}, training={})
    words = ("reconstruct", scan_file, "-o", tmp_path / "out", *FASTER[2:], "--slices", "0", "--model")
    assert "1 written" in run(*words, model_file).stdout
    assert "1 kept" in run(*words, model_file).stdout
    assert "1 written" in run(*words, other).stdout


def test_an_existing_folder_takes_a_single_scan(run: Run, scan_file: Path, tmp_path: Path) -> None:
    assert run("reconstruct", scan_file, "-o", tmp_path, *FASTER).exit_code == 0
    assert (tmp_path / "head.h5").is_file()


def test_names_stay_so_that_scores_find_their_scan(run: Run, scan_file: Path, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "head.hdf5").write_bytes(scan_file.read_bytes())
    assert run("reconstruct", tmp_path / "scans", "-o", tmp_path / "out", *FASTER).exit_code == 0
    assert run("evaluate", tmp_path / "out", "--target", tmp_path / "scans").exit_code == 0


def test_undersampled_and_fully_sampled_scans_need_no_options(run: Run, scan_file: Path, tmp_path: Path) -> None:
    full = run("reconstruct", scan_file, "-o", tmp_path / "full.h5", "--method", "sense")
    assert "fully sampled" in full.stdout
    assert nm.evaluate(load_volume(tmp_path / "full.h5"), scan_file).ssim > 0.999


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A NIfTI of three slices, of two volumes."""
    import nibabel
    from tiny import head

    pictures = 100 * np.stack([head(40, 32, 3), 2 * head(40, 32, 3)])
    nibabel.save(nibabel.Nifti1Image(pictures.T, np.diag([-1.0, -1, 4, 1])), tmp_path / "series.nii.gz")
    return tmp_path / "series.nii.gz"


@pytest.mark.parametrize("name", ["out.h5", "out.hdf5", "out.nii", "out.nii.gz", "out.png", "out.dcm", "out.DCM"])
def test_the_suffix_says_what_is_written(run: Run, picture: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "made" / name
    done = run("reconstruct", picture, "-o", out, "--method", "zero-filled", "--volume", "1")
    assert done.exit_code == 0
    assert "synthetic k-space: from magnitude images" in done.stdout
    assert "synthetic k-space: from magnitude images" in done.stderr
    assert out.is_dir() == (out.suffix.lower() == ".dcm")
    again = run("reconstruct", picture, "-o", out, "--method", "zero-filled", "--volume", "1")
    assert again.exit_code == 0, "one output is made anew without asking"
    beside = {"out.json"} if ".nii" in name else set()
    assert {path.name for path in out.parent.iterdir()} == {name, *beside}


@pytest.mark.parametrize(("kind", "name"), [("h5", "head.h5"), ("nifti", "head.nii.gz"), ("png", "head.png")])
def test_a_format_names_the_files_of_a_folder(run: Run, scan_file: Path, tmp_path: Path, kind: str, name: str) -> None:
    words = ("reconstruct", scan_file, "-o", tmp_path / "out", *FASTER, "--format", kind)
    assert run(*words).exit_code == 0
    assert (tmp_path / "out" / name).is_file()
    assert ("1 kept" in run(*words).stdout) == (kind != "png")
    assert "1 written" in run(*words, "--overwrite").stdout


def test_all_volumes_go_into_one_nifti(run: Run, picture: Path, tmp_path: Path) -> None:
    done = run("reconstruct", picture, "-o", tmp_path / "out.nii.gz", "--method", "zero-filled")
    assert "3 slices x 2 volumes" in done.stdout
    assert load_volume(tmp_path / "out.nii.gz", 1).voxels.max() == pytest.approx(
        2 * load_volume(tmp_path / "out.nii.gz", 0).voxels.max()
    )
    assert "choose --volume 0 to 1" in usage_error_after(run, picture, "-o", tmp_path / "out.h5")


def usage_error_after(run: Run, *words: Any) -> str:
    done = run("reconstruct", *words, "--method", "zero-filled")
    assert done.exit_code == 2
    return done.stderr


def test_dicom_needs_an_orientation_and_says_when_it_is_assumed(run: Run, scan_file: Path, tmp_path: Path) -> None:
    words = (scan_file, "-o", tmp_path / "out.dcm", "--accelerate", "4")
    assert "give assume_orientation" in usage_error_after(run, *words)
    assert not (tmp_path / "out.dcm").exists()
    done = run("reconstruct", *words, "--method", "zero-filled", "--assume-orientation", "axial")
    assert done.exit_code == 0
    assert len(list((tmp_path / "out.dcm").iterdir())) == 3
    assert b"ASSUMED axial" in next((tmp_path / "out.dcm").iterdir()).read_bytes()
    wrong = run("reconstruct", *words, "--assume-orientation", "sideways")
    assert wrong.exit_code == 2


def test_a_reference_lends_its_links_only_when_asked(run: Run, picture: Path, tmp_path: Path) -> None:
    import pydicom

    source = tmp_path / "source.dcm"
    words = ("--method", "zero-filled")
    assert run("reconstruct", picture, "-o", source, *words, "--volume", "0").exit_code == 0
    for name, more in (("plain.dcm", ()), ("linked.dcm", ("--keep-identifiers",))):
        done = run("reconstruct", source, "-o", tmp_path / name, *words, "--reference-dicom", source, *more)
        assert done.exit_code == 0
        files = [next(folder.iterdir()) for folder in (source, tmp_path / name)]
        studies = {pydicom.dcmread(file).StudyInstanceUID for file in files}
        assert len(studies) == (1 if more else 2)


def test_a_plain_array_needs_its_axes(run: Run, scan_file: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", kspace=nm.open_scan(scan_file).kspace[0], other=np.ones((3, 4), np.complex64))
    words = (tmp_path / "data.npz", "-o", tmp_path / "out.h5")
    assert "--dataset" in usage_error_after(run, *words, "--axes", "coil ny nx")
    assert "--axes" in usage_error_after(run, *words, "--dataset", "kspace")
    assert "no option encoding" in usage_error_after(run, *words, "--encoding", "1")
    done = run(
        "reconstruct", *words, "--method", "zero-filled", "--dataset", "kspace", "--axes", "coil ny nx", "--debug"
    )
    assert done.exit_code == 0
    assert load_volume(tmp_path / "out.h5").voxels.shape == (1, 64, 56)


@pytest.mark.parametrize("name", ["out.h5", "out.nii.gz", "out.png", "out.dcm"])
def test_an_interrupt_leaves_no_file_and_no_thread(
    run: Run, scan_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    import threading

    from nirvana_mri.recon import work

    plain, seen = work.zero_filled, []

    def interrupted(*args: Any) -> Any:
        seen.append(args)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return plain(*args)

    monkeypatch.setattr(work, "zero_filled", interrupted)
    (tmp_path / "out").mkdir()
    words = ("--method", "zero-filled", *(("--assume-orientation", "axial") if name == "out.dcm" else ()))
    done = run("reconstruct", scan_file, "-o", tmp_path / "out" / name, *words)
    assert done.exit_code == 130
    assert len(seen) == 2
    assert list((tmp_path / "out").iterdir()) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]
