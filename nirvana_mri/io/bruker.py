"""Bruker raw data (ParaVision 5 and 6: a folder with fid, acqp, method): plain 2-D gradient and spin echoes alone.

Of the parameter files only the numbers and codes named here are read; names and dates stay in them.
"""

from __future__ import annotations

import math
import operator
import re
from dataclasses import dataclass
from pathlib import Path
from typing import SupportsIndex

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.errors import ScanError, UsageError
from nirvana_mri.io.arrays.source import Mapped
from nirvana_mri.io.slices import check_slice
from nirvana_mri.scan import Geometry, Scan

PARTS = ("fid", "acqp", "method")
LARGEST_TEXT = 8 << 20
BLOCK = 1024  # bytes that a readout is padded to
TYPES = {"GO_32BIT_SGN_INT": "i4", "GO_16BIT_SGN_INT": "i2", "GO_32BIT_FLOAT": "f4"}
PARAMETER = re.compile(r"^##\$(\w{1,64})=(?:\([ \d,]{1,40}\)\s*\n)?([^#$<(]{1,100000})", re.MULTILINE)


def is_bruker(path: str | Path) -> bool:
    """True for a folder with Bruker's raw data, or the fid in it. Never raises."""
    try:
        folder = _folder(Path(path))
        return all((folder / part).is_file() for part in PARTS) and (folder / "acqp").open("rb").read(8) == b"##TITLE="
    except (OSError, ValueError):
        return False


def read_bruker(path: str | Path, *, volume: int | None = None) -> Scan:
    """The scan in a folder: one line of k-space after each excitation, all lines measured.

    Raises: ScanError for echo trains, EPI, 3-D, acceleration, several repetitions, and damaged files; UsageError for a
    volume that is not there.
    """
    folder = _folder(Path(path))
    if volume not in (None, 0):
        raise UsageError(f"volume {volume} is not there: {folder} has 1 (0 to 0)")
    values = {**_parameters(folder / "acqp"), **_parameters(folder / "method")}
    _check_plain(folder, values)
    ny, nx = _numbers(folder, values, "PVM_EncMatrix", 2)
    receivers = _numbers(folder, values, "PVM_EncNReceivers", 1)[0]
    (slices,) = _numbers(folder, values, "NI", 1)
    order = _numbers(folder, values, "ACQ_obj_order", slices, low=0)
    steps = [n + nx // 2 for n in _numbers(folder, values, "PVM_EncSteps1", nx, low=-nx)]
    if sorted(order) != list(range(slices)) or sorted(steps) != list(range(nx)):
        raise ScanError(f"{folder}: its {nx} lines of {slices} slices do not fill k-space; only full sampling is read")
    dtype = np.dtype((">" if values.get("BYTORDA") == "big" else "<") + TYPES[values["GO_raw_data_format"]])
    used = 2 * ny * receivers
    block = used
    if values.get("GO_block_size") == "Standard_KBlock_Format":
        block = -(-used * dtype.itemsize // BLOCK) * BLOCK // dtype.itemsize
    stored = Mapped(folder / "fid", 0, (nx, slices, block), dtype)
    stored.check()
    source = BrukerSlices(stored, (slices, receivers, ny, nx), tuple(order), tuple(steps))
    return Scan(
        name=folder.name,
        kspace=source,
        acquired=np.ones(nx, bool),
        crop=(ny, nx),
        geometry=_geometry(values, source.shape),
        multicoil=receivers > 1,
        warnings=("position and orientation are not read: the slices may be tilted against each other",),
        path=folder,
        file_format="Bruker raw",
    )


@dataclass(frozen=True, eq=False)
class BrukerSlices:
    """Slices complex64 ``[coil, ny, nx]``; holds no open file. Raises on reading: ScanError (see `check_slice`)."""

    stored: Mapped
    shape: tuple[int, int, int, int]
    order: tuple[int, ...]  # the slice of each excitation in turn
    steps: tuple[int, ...]  # the column of each line in turn

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: SupportsIndex) -> NDArray[np.complex64]:
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"slice {number} is not there: the scan has {len(self)} (0 to {len(self) - 1})")
        number %= len(self)
        _, coils, ny, nx = self.shape
        lines = self.stored.read((slice(None), self.order.index(number), slice(0, 2 * ny * coils))).astype(np.float32)
        samples = np.empty((coils, ny, nx), np.complex64)
        samples[:, :, list(self.steps)] = lines.view(np.complex64).reshape(nx, coils, ny).transpose(1, 2, 0)
        check_slice(samples, np.ones(nx, bool), f"{self.stored.path}: slice {number}")
        return samples


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _parameters(path: Path) -> dict[str, str]:
    """Numbers and codes of a parameter file; texts (in <>) and structures are passed over."""
    try:
        if path.stat().st_size > LARGEST_TEXT:
            raise ScanError(f"{path}: larger than {LARGEST_TEXT >> 20} MiB, expected a list of parameters")
        text = path.read_text("latin-1")
    except OSError as problem:
        raise ScanError(f"{path}: cannot be read ({problem.strerror}); keep it beside the fid") from problem
    return {found[1]: found[2].strip() for found in PARAMETER.finditer(text)}


def _check_plain(folder: Path, values: dict[str, str]) -> None:
    """Nothing for a scan whose lines come one by one. Raises: ScanError that names what is more than that."""
    expected: dict[str, tuple[str, ...]] = {
        "PVM_SpatDimEnum": ("2D",),
        "ACQ_dim": ("2",),
        "ACQ_rare_factor": ("1",),
        "ACQ_phase_factor": ("1",),
    }
    expected |= {"NR": ("1",), "NECHOES": ("1",), "GO_raw_data_format": tuple(TYPES)}
    for name, allowed in expected.items():
        if values.get(name) not in allowed:
            found = values.get(name, "missing")
            found = found if re.fullmatch(r"\w{1,30}", found, re.ASCII) else "not readable"
            raise ScanError(f"{folder}: {name} is {found}, expected {' or '.join(allowed)}; convert it to ISMRMRD")
    if any(name.startswith("PVM_EpiN") for name in values):
        raise ScanError(f"{folder}: an echo-planar scan, which is not read; convert it to ISMRMRD")


def _numbers(folder: Path, values: dict[str, str], name: str, count: int, low: int = 1) -> list[int]:
    words = values.get(name, "").split()
    if len(words) != count or not all(re.fullmatch(r"-?\d{1,6}", word) for word in words):
        raise ScanError(f"{folder}: {name} holds {len(words)} values, expected {count} whole numbers; is it complete?")
    numbers = [int(word) for word in words]
    if min(numbers) < low or math.prod(max(abs(n), 1) for n in numbers[:2]) > 1 << 30:
        raise ScanError(f"{folder}: {name} is {numbers[:5]}, which cannot be; is the file complete?")
    return numbers


def _geometry(values: dict[str, str], shape: tuple[int, int, int, int]) -> Geometry:
    words = [*values.get("PVM_SliceThick", "").split()[:1], *values.get("PVM_Fov", "").split()[:2]]
    try:
        thick, read, phase = (float(word) for word in words)
    except ValueError:
        return Geometry()
    if not all(0 < length < 2000 for length in (thick, read, phase)):
        return Geometry()
    slices, _, ny, nx = shape
    return Geometry((thick, read / ny, phase / nx), (thick * slices, read, phase))
