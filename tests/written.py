"""Volumes to write, affines to write them with, and Debian's validators. Tests import it as ``written``."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray

from nirvana_mri.volume import NOT_FOR_CLINICAL_USE, Volume

SHA256 = "ab12" * 16
needs_dicom3tools = pytest.mark.skipif(
    not shutil.which("dciodvfy") or not shutil.which("dcentvfy"), reason="no dciodvfy, dcentvfy; run: make peers"
)
needs_dcm2niix = pytest.mark.skipif(not shutil.which("dcm2niix"), reason="no dcm2niix; run: make peers")


def provenance(**more: Any) -> dict[str, Any]:
    sampling = {"mask": "equispaced_fraction", "acceleration": 4.0, "center_fraction": 0.08, "seed": 0}
    return {
        "method": "nirvana",
        "model": "nano",
        "model_sha256": SHA256,
        "sampling": {**sampling, "achieved_acceleration": 3.98, "origin": "retrospective"},
        "simulated": False,
        "toolkit_version": "0.1.0",
        "notice": NOT_FOR_CLINICAL_USE,
        **more,
    }


def volume(
    shape: tuple[int, int, int] = (3, 8, 6),
    affine: NDArray[np.float64] | None = None,
    known: bool = True,
    seed: int = 0,
    **more: Any,
) -> Volume:
    """Random voxels of a scan's order of size, lying obliquely."""
    voxels = np.random.default_rng(seed).random(shape, np.float32) * 3e-4
    return Volume(
        voxels=voxels,
        affine=oblique((0.4, -0.3, 0.8), (0.5, 0.75, 4.0), (-40.0, 12.5, 30.0)) if affine is None else affine,
        mask=np.arange(shape[2]) % 4 == 0,
        provenance=provenance(**more),
        name="brain",
        slices=tuple(range(shape[0])),
        orientation_known=known,
        warnings=("a warning of the scan's",),
    )


def oblique(
    angles: tuple[float, float, float],
    sizes: tuple[float, float, float],
    origin: tuple[float, float, float],
    flip: bool = False,
) -> NDArray[np.float64]:
    """(x, y, slice) -> RAS mm: turned about three axes; ``flip`` counts the slices the other way."""
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        one, other = (n for n in range(3) if n != axis)
        plane = np.eye(3)
        plane[[one, one, other, other], [one, other, one, other]] = (
            np.cos(angle),
            -np.sin(angle),
            np.sin(angle),
            np.cos(angle),
        )
        turn = turn @ plane
    affine = np.eye(4)
    affine[:3, :3] = turn * sizes * np.array([1, 1, -1 if flip else 1])
    affine[:3, 3] = origin
    return affine


_angle = st.floats(-np.pi, np.pi)
_size = st.floats(0.2, 8.0)
_place = st.floats(-300, 300)
affines = st.builds(
    oblique,
    st.tuples(_angle, _angle, _angle),
    st.tuples(_size, _size, _size),
    st.tuples(_place, _place, _place),
    st.booleans(),
)


def images(folder: Path) -> list[pydicom.Dataset]:
    """The series in ``folder`` by instance number."""
    return sorted((pydicom.dcmread(path) for path in folder.iterdir()), key=lambda image: int(image.InstanceNumber))


def affine_of(series: list[pydicom.Dataset]) -> NDArray[np.float64]:
    """What a series of one volume says of its place, by the standard alone (PS3.3 C.7.6.2.1.1)."""
    first = series[0]
    row, column = np.array(first.ImageOrientationPatient, float).reshape(2, 3)
    down, across = (float(length) for length in first.PixelSpacing)
    positions = np.array([image.ImagePositionPatient for image in series], float)
    through = np.cross(row, column) * float(first.SpacingBetweenSlices)
    step = (positions[-1] - positions[0]) / (len(series) - 1) if len(series) > 1 else through
    affine = np.eye(4)
    affine[:3] = np.column_stack([row * across, column * down, step, positions[0]])
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def faults(folder: Path) -> tuple[list[str], list[str]]:
    """(errors, warnings) of dciodvfy over every file, and of dcentvfy over the series; each said once."""
    files = sorted(folder.iterdir())
    said: set[str] = set()
    for file in files:
        done = subprocess.run(["dciodvfy", "-new", file], capture_output=True, text=True, check=False)
        said |= set((done.stderr + done.stdout).splitlines())
        assert bool(done.returncode) == ("Error" in done.stderr + done.stdout)
    together = subprocess.run(["dcentvfy", *files], capture_output=True, text=True, check=False)
    errors = [line for line in said if line.startswith("Error")]
    errors += (together.stderr + together.stdout).splitlines()
    return errors, [line for line in said if line.startswith("Warning")]
