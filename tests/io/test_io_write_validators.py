"""Series held against Debian's dicom3tools, and their geometry against dcm2niix, which knows nothing of us."""

import importlib.util
import subprocess
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from written import faults, images, needs_dcm2niix, needs_dicom3tools, oblique, volume

import nirvana_mri as nm
from nirvana_mri.volume import Volume

UPRIGHT = np.diag([0.5, 0.75, 4.0, 1.0])
CASES: dict[str, tuple[list[Volume], dict[str, object]]] = {
    "unknown part": ([volume()], {}),
    "brain": ([volume(metadata={"acquisition": "AXT2", "tr_ms": 2000.0, "te_ms": 30.0})], {}),
    "knee": ([volume(metadata={"acquisition": "CORPD_FBK"})], {}),
    "assumed": ([volume(affine=UPRIGHT, known=False)], {"assume_orientation": "sagittal"}),
    "one slice": ([volume((1, 8, 6))], {}),
    "many slices": ([volume((40, 8, 6))], {}),
    "series": ([volume(seed=0), volume(seed=1), volume(seed=2)], {}),
    "odd pixels": ([volume((2, 7, 5))], {}),
    "zero": ([replace(volume(), voxels=np.zeros((3, 8, 6), np.float32))], {}),
    "long names": ([volume(model="a\\very^long=name " * 9, simulated=True)], {}),
    "floats": ([volume(), volume(seed=1)], {"floating": True}),
    "brain floats": ([volume(metadata={"acquisition": "AXT2"})], {"floating": True}),
}


@needs_dicom3tools
@pytest.mark.parametrize("case", CASES)
def test_the_validators_find_no_error_and_at_most_one_warning(tmp_path: Path, case: str) -> None:
    volumes, options = CASES[case]
    if "floating" in options and not importlib.util.find_spec("highdicom"):
        pytest.skip("no highdicom (extra dicom)")
    errors, warnings = faults(nm.save(volumes, tmp_path / "x.dcm", **options))
    assert errors == []
    assert len(warnings) <= 1


@needs_dicom3tools
def test_a_series_beside_its_reference_is_clean(tmp_path: Path) -> None:
    source = nm.save(volume(metadata={"acquisition": "AXT2"}), tmp_path / "source.dcm")
    for keep in (False, True):
        options = {"reference_dicom": source, "keep_identifiers": keep}
        errors, warnings = faults(nm.save(volume(), tmp_path / "x.dcm", **options))
        assert (errors, warnings) == ([], [])
    together = tmp_path / "together"
    together.mkdir()
    for folder in (source, tmp_path / "x.dcm"):
        for path in folder.iterdir():
            (together / f"{folder.stem}{path.name}").write_bytes(path.read_bytes())
    assert faults(together)[0] == [], "patient, study and frame are those of the source"


@needs_dicom3tools
def test_the_validators_would_see_a_fault(tmp_path: Path) -> None:
    folder = nm.save(volume(), tmp_path / "x.dcm")
    for image in images(folder):
        image.PatientName = "Another^One" if image.InstanceNumber == 1 else image.PatientName
        del image.SOPClassUID
        image.save_as(folder / f"{int(image.InstanceNumber):05d}.dcm", enforce_file_format=False)
    assert faults(folder)[0]


AFFINES = {
    "upright": UPRIGHT,
    "turned": oblique((0.4, -0.3, 0.8), (0.5, 0.75, 4.0), (-40.0, 12.5, 30.0)),
    "backwards": oblique((0.4, -0.3, 0.8), (0.5, 0.75, 4.0), (-40.0, 12.5, 30.0), flip=True),
    "sagittal": oblique((1.5, 1.2, -0.2), (0.9, 0.9, 1.2), (101.25, -77.0, 3.3)),
    "coronal": oblique((-1.4, 0.1, 2.9), (1.1, 0.3, 7.0), (-1.25, 212.0, 88.8), flip=True),
}


@needs_dcm2niix
@pytest.mark.parametrize("case", AFFINES)
@pytest.mark.parametrize("count", [1, 3])
def test_dcm2niix_finds_the_same_place_and_voxels(tmp_path: Path, case: str, count: int) -> None:
    made = [volume((6, 20, 14), AFFINES[case], seed=seed) for seed in range(count)]
    folder = nm.save(made, tmp_path / "x.dcm")
    (tmp_path / "out").mkdir()
    command = ["dcm2niix", "-b", "n", "-z", "n", "-f", "y", "-o", tmp_path / "out", folder]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = (tmp_path / "out").glob("*.nii")
    theirs = nib.as_closest_canonical(nib.load(path))
    ours = nib.as_closest_canonical(nib.load(nm.save(made, tmp_path / "x.nii")))
    assert theirs.shape == ours.shape
    ends = np.array([[0, 0, 0, 1], [*(n - 1 for n in ours.shape[:3]), 1]]).T
    assert np.abs((theirs.affine - ours.affine) @ ends).max() < 1e-4
    scale = 32767 / max(one.voxels.max() for one in made)
    assert np.abs(np.asarray(theirs.dataobj) - np.asarray(ours.dataobj) * scale).max() < 0.51
