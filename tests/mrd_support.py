"""ISMRMRD files for the tests, written by the ismrmrd library. Tests import it as ``mrd_support``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

NOISE, CALIBRATION, CALIBRATION_AND_IMAGING, REVERSED = 19, 20, 21, 22
Triple = tuple[float, float, float]


@dataclass
class Line:
    """One readout ``[coil, sample]``; ``flags`` are ISMRMRD's numbers, ``idx`` its counters."""

    data: NDArray[np.complex64]
    step1: int = 0
    center: int | None = None
    flags: tuple[int, ...] = ()
    idx: dict[str, int] = field(default_factory=dict)
    position: Triple = (0, 0, 0)
    directions: tuple[Triple, Triple, Triple] | None = None  # read, phase, slice
    pre: int = 0
    post: int = 0
    encoding: int = 0
    dwell: float = 5.0


def encoding_xml(
    encoded: tuple[int, int, int],
    recon: tuple[int, int, int] | None = None,
    pixel: Triple = (1.0, 1.0, 5.0),
    center: int | None = None,
    center2: int | None = None,
    trajectory: str = "cartesian",
    mode: str = "",
    more: str = "",
) -> str:
    """One <encoding>; both spaces have pixels of ``pixel`` mm, so that recon is the middle of encoded."""

    def space(name: str, matrix: tuple[int, int, int]) -> str:
        sizes = "".join(f"<{axis}>{n}</{axis}>" for axis, n in zip("xyz", matrix, strict=True))
        fields = "".join(f"<{axis}>{n * mm:.9g}</{axis}>" for axis, n, mm in zip("xyz", matrix, pixel, strict=True))
        return f"<{name}><matrixSize>{sizes}</matrixSize><fieldOfView_mm>{fields}</fieldOfView_mm></{name}>"

    centers = encoded[1] // 2 if center is None else center, encoded[2] // 2 if center2 is None else center2
    limits = "".join(
        f"<kspace_encoding_step_{n}><minimum>0</minimum><maximum>0</maximum><center>{c}</center></kspace_encoding_step_{n}>"
        for n, c in enumerate(centers, 1)
    )
    parallel = f"<parallelImaging><calibrationMode>{mode}</calibrationMode></parallelImaging>" if mode else ""
    return (
        f"<encoding>{space('encodedSpace', encoded)}{space('reconSpace', recon or encoded)}"
        f"<encodingLimits>{limits}</encodingLimits><trajectory>{trajectory}</trajectory>{more}{parallel}</encoding>"
    )


def header_xml(*encodings: str, more: str = "") -> str:
    return f'<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">{more}{"".join(encodings)}</ismrmrdHeader>'


def write_mrd(path: Path, xml: str, lines: Iterable[Line], group: str = "dataset") -> Path:
    """The file; the test that asks for it is skipped without the ismrmrd library."""
    ismrmrd = pytest.importorskip("ismrmrd", reason="the ismrmrd library is not installed: pip install ismrmrd")
    with ismrmrd.Dataset(str(path), group, mode="w") as dataset:
        dataset.write_xml_header(xml.encode())
        for line in lines:
            acquisition = ismrmrd.Acquisition.from_array(np.ascontiguousarray(line.data, np.complex64))
            acquisition.idx.kspace_encode_step_1 = line.step1
            for name, value in line.idx.items():
                setattr(acquisition.idx, name, value)
            for flag in line.flags:
                acquisition.set_flag(flag)
            acquisition.center_sample = line.data.shape[1] // 2 if line.center is None else line.center
            acquisition.discard_pre, acquisition.discard_post = line.pre, line.post
            acquisition.encoding_space_ref, acquisition.sample_time_us = line.encoding, line.dwell
            acquisition.position[:] = line.position
            for name, vector in zip(("read_dir", "phase_dir", "slice_dir"), line.directions or (), strict=False):
                getattr(acquisition, name)[:] = vector
            dataset.append_acquisition(acquisition)
    return path


def random_kspace(*shape: int, seed: int = 0) -> NDArray[np.complex64]:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


def lines_of(kspace: NDArray[np.complex64], columns: Iterable[int] | None = None, **more: object) -> list[Line]:
    """One line for each column of k-space ``[coil, ny, nx]``."""
    every = range(kspace.shape[2]) if columns is None else columns
    return [Line(kspace[:, :, column], column, **more) for column in every]  # type: ignore[arg-type]


def matrix_of(kspace: NDArray[np.complex64], planes: int = 1) -> tuple[int, int, int]:
    return kspace.shape[1], kspace.shape[2], planes
