"""ISMRMRD's HDF5 layout (Inati et al. 2017, doi 10.1002/mrm.26089) → Scan, read one slice at a time.

A group, mostly ``dataset``, with ``xml`` (the header) and ``data``: a table of readouts, each with a head, a
trajectory and its samples. Cartesian 2-D stacks, and 3-D slabs whose partitions can be separated.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from nirvana_mri.errors import DataError
from nirvana_mri.io.hdf5 import HDF5_ERRORS, LARGEST_READ, SafeFile
from nirvana_mri.io.header import Header
from nirvana_mri.io.ismrmrd.encoding import check_trajectory, choose_encoding
from nirvana_mri.io.ismrmrd.geometry import order_slices, picture_axes
from nirvana_mri.io.ismrmrd.lines import NOISE, has, left_out, read_lines
from nirvana_mri.io.ismrmrd.noise import read_noise
from nirvana_mri.io.ismrmrd.placement import common_sampling, place_lines
from nirvana_mri.io.ismrmrd.source import LineFile, LineSlices, SlabSlices
from nirvana_mri.io.ismrmrd.volumes import choose_volume, repeated, split_calibration, without_repeated_calibration
from nirvana_mri.scan import Scan, SliceSource

__all__ = ["is_ismrmrd", "read_ismrmrd"]

FROM_HEADER = ("field_strength_t", "tr_ms", "te_ms", "ti_ms", "flip_angle_deg")


def is_ismrmrd(path: str | Path) -> bool:
    """True for an HDF5 file with a group that lists ``xml`` and ``data``, and no fastMRI ``kspace`` beside it."""
    try:
        if not Path(path).is_file() or not h5py.is_hdf5(path):
            return False
        with SafeFile(path) as file:
            return not file.has("kspace") and file.group_with("xml", "data") is not None
    except (DataError, *HDF5_ERRORS):
        return False


def read_ismrmrd(
    path: str | Path, *, volume: int | None = None, encoding: int | None = None, calibration: bool = False
) -> Scan:
    """One volume of an ISMRMRD file: ``volume`` counts repetitions, sets, phases and contrasts, these fastest.

    Without ``volume`` it is the first, or all repetitions as one where they complement each other. With
    ``calibration`` it is the separate calibration scan instead. The heads of all lines are read, no samples but
    the noise measurement's. Raises: ScanError where the file cannot be used as it is, UsageError for a volume or
    encoding that is not there; what the file merely lacks becomes ``Scan.warnings``.
    """
    path = Path(path)
    with SafeFile(path) as file:
        group = file.group_with("xml", "data")
        if group is None:
            raise file.fail("no group with xml and data: not ISMRMRD; check the file")
        every, numbers = read_lines(file, f"{group}/data")
        source = LineFile(path, int(file.file.userblock_size), file.bytes_present, numbers)
        out, notes = left_out(every)
        lines = every[~out & ~has(every, NOISE)]
        number, header = choose_encoding(file, f"{group}/xml", lines, encoding, calibration)
        notes += check_trajectory(file, header)
        _check_matrix(file, header)
        lines, more = _of_picture(lines, number, header, calibration)
        lines, chosen, volumes, counters, merged = choose_volume(file, lines, volume)
        notes += more + merged
        times, more = repeated(lines)
        kspace, acquired, crop, geometry, places = _picture(file, source, header, lines)
        noise, quiet = read_noise(source, every[has(every, NOISE)], lines, times, header)
        return Scan(
            name=path.stem,
            kspace=kspace,
            acquired=acquired,
            crop=crop,
            geometry=geometry,
            multicoil=kspace.shape[1] > 1,
            metadata=_metadata(header, counters),
            warnings=tuple(notes + more + places + quiet),
            path=path,
            file_format="ISMRMRD h5",
            noise=noise,
            volume=chosen,
            volumes=volumes,
        )


def _check_matrix(file: SafeFile, header: Header) -> None:
    if header.encoded_matrix is None:
        raise file.fail("the header has no encodedSpace matrix: lines cannot be placed; write the header again")


def _of_picture(
    lines: NDArray[Any], encoding: int, header: Header, calibration: bool
) -> tuple[NDArray[Any], list[str]]:
    """The lines of the picture, or of the separate calibration, in one encoding."""
    elsewhere = int((lines["encoding"] != encoding).sum())
    notes = [f"left out: {elsewhere} lines of other encodings"] if elsewhere else []
    mine, more = split_calibration(lines[lines["encoding"] == encoding], header.calibration_mode, calibration)
    return mine, notes + more


def _picture(
    file: SafeFile, source: LineFile, header: Header, lines: NDArray[Any]
) -> tuple[SliceSource, NDArray[np.bool_], tuple[int, int], Any, list[str]]:
    """(slices, what was acquired, matrix of the picture, geometry, notes) of the lines of one volume."""
    lines = without_repeated_calibration(lines)
    encoded = header.encoded_matrix or (0, 0, 0)
    slab = encoded[2] > 1
    if slab and np.unique(lines["slice"]).size > 1:
        raise file.fail(f"holds {np.unique(lines['slice']).size} slabs in 3-D, expected one; split the file by slice")
    if not slab and lines["step2"].any():
        raise file.fail(f"lines have kspace_encode_step_2 up to {lines['step2'].max()}, but encodedSpace z is 1")
    axes, notes = picture_axes(header, encoded)
    slices, geometry, more = order_slices(file, lines, axes, slab)
    placement, placed = place_lines(file, lines, header, slices, slab)
    if placement.coils * placement.ny * placement.nx * 8 > LARGEST_READ:
        raise file.fail(f"a slice is larger than {LARGEST_READ >> 30} GiB; split the file")
    acquired, sampled = common_sampling(file, placement, slab)
    kspace: SliceSource
    if slab:
        kspace = SlabSlices(source, placement, acquired, axes[2].start, axes[2].kept)
    else:
        kspace = LineSlices(source, placement, acquired)
    return kspace, acquired, (axes[0].kept, axes[1].kept), geometry, notes + more + placed + sampled


def _metadata(header: Header, counters: dict[str, int]) -> dict[str, Any]:
    """The allow-listed numbers of the header, and which volume this is."""
    metadata = {name: getattr(header, name) for name in FROM_HEADER if getattr(header, name) is not None}
    contrast = counters.get("contrast", 0)
    if contrast < len(header.echo_times_ms):
        metadata["te_ms"] = header.echo_times_ms[contrast]
    if header.encoded_matrix:
        metadata["encoding_size"] = header.encoded_matrix
    if header.recon_matrix:
        metadata["recon_size"] = header.recon_matrix
    return metadata | counters
