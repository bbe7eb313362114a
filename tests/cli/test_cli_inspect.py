"""nirvana-mri inspect: one JSON object or tables on stdout; the exit code says how bad it is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from tiny import head, tiny_scan

from nirvana_mri.io.fastmri import write_fastmri

Run = Callable[..., Any]
CONTRACT = {
    "format": str,
    "slices": int,
    "coils": int,
    "matrix": list,
    "voxel_mm": (list, type(None)),
    "geometry_known": bool,
    "acceleration": float,
    "calibration_lines": int,
    "raw": bool,
    "findings": list,
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As if measured: k-space with phase and noise, nowhere marked as simulated."""
    path = tmp_path_factory.mktemp("measured") / "head.h5"
    write_fastmri(path, np.stack(list(tiny_scan(slices=3).kspace)))
    return path


def spoilt(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    kspace = np.stack(list(tiny_scan(slices=3).kspace))
    write_fastmri(path, change(kspace).astype(np.complex64))
    return path


def magnitudes(kspace: np.ndarray) -> np.ndarray:
    return np.fft.fftshift(np.fft.fft2(np.abs(np.fft.ifft2(kspace))), axes=(-2, -1))


def copied(kspace: np.ndarray) -> np.ndarray:
    return np.concatenate([kspace, kspace[:, :1]], axis=1)


def test_json_is_one_object_that_keeps_the_contract(run: Run, measured: Path) -> None:
    done = run("inspect", measured, "--json")
    assert done.exit_code == 0
    stored = json.loads(done.stdout)
    for key, kind in CONTRACT.items():
        assert isinstance(stored[key], kind), key
    assert (stored["format"], stored["slices"], stored["coils"]) == ("fastMRI h5", 3, 4)
    assert stored["matrix"] == [64, 56]
    assert (stored["acceleration"], stored["calibration_lines"]) == (1, 56)
    assert stored["raw"] is True
    assert stored["geometry_known"] is False
    assert stored["findings"] == []
    assert stored["slices_inspected"] == stored["slices_screened"] == [0, 1, 2]
    assert done.stderr == ""


def test_tables_show_what_it_is_lacks_and_suffers_from(run: Run, scan_file: Path) -> None:
    done = run("inspect", scan_file)
    assert done.exit_code == 0
    for word in ("3 slices, 4 coils", "missing", "orientation", "noise scan", "findings", "none"):
        assert word in done.stdout
    assert "warning: " in done.stderr


@pytest.mark.parametrize(
    ("change", "name", "severity", "codes"),
    [(magnitudes, "magnitude-born", "error", (1, 1)), (copied, "duplicate-coils", "warning", (0, 1))],
)
def test_the_exit_code_is_the_severity(
    run: Run, tmp_path: Path, change: Any, name: str, severity: str, codes: tuple[int, int]
) -> None:
    path = spoilt(tmp_path / "bad.h5", change)
    done = run("inspect", path, "--json")
    found = json.loads(done.stdout)["findings"]
    assert {(item["name"], item["severity"]) for item in found} == {(name, severity)}
    assert all(set(item) == {"name", "severity", "message"} for item in found)
    assert (done.exit_code, run("inspect", path, "--strict").exit_code) == codes
    assert f"{severity}: " in " ".join(run("inspect", path).stdout.split())


def test_information_is_no_reason_to_fail(run: Run, tmp_path: Path) -> None:
    voxels = (head(64, 56, 4) * 1000 + np.random.default_rng(0).random((4, 64, 56)) * 40).astype(np.float32)
    nib.save(nib.Nifti1Image(voxels.T, np.diag([2.0, 2, 5, 1])), tmp_path / "head.nii")
    done = run("inspect", tmp_path / "head.nii", "--json", "--strict")
    stored = json.loads(done.stdout)
    assert done.exit_code == 0
    assert (stored["format"], stored["coils"], stored["raw"]) == ("NIfTI", 1, False)
    assert stored["voxel_mm"] == [5, 2, 2]
    assert [(item["name"], item["severity"]) for item in stored["findings"]] == [("magnitude-born", "info")]
    assert "pictures" in run("inspect", tmp_path / "head.nii").stdout


def test_an_array_is_named_its_axes(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "head.npy", tiny_scan().kspace[0])
    assert run("inspect", tmp_path / "head.npy", "--json").exit_code == 2
    done = run("inspect", tmp_path / "head.npy", "--json", "--axes", "coil ny nx")
    assert json.loads(done.stdout)["matrix"] == [64, 56]


def test_what_cannot_be_read_or_asked_fails(run: Run, tmp_path: Path, scan_file: Path) -> None:
    (tmp_path / "bad.h5").write_text("no scan")
    bad = run("inspect", tmp_path / "bad.h5", "--json")
    assert (bad.exit_code, bad.stdout) == (1, "")
    assert run("inspect", scan_file, "--volume", "1").exit_code == 2
    assert run("inspect", scan_file, "--json", "out.json").exit_code == 2


def test_the_help_states_the_exit_codes(run: Run) -> None:
    words = " ".join(run("inspect", "--help").stdout.replace("│", " ").split())
    assert "Exit code: 0" in words
    assert "--strict" in words
