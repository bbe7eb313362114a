"""Where each readout goes in k-space: rows from its centre sample, column and partition from its steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.io.hdf5 import SafeFile
from nirvana_mri.io.header import Header
from nirvana_mri.io.ismrmrd.lines import PACKED, REVERSED, has
from nirvana_mri.io.sampling import as_columns

MOST_EMPTY = 100  # encoded samples for each measured one: more is no acquisition, and would take the memory

_COPIED = {"channels": "i4", "samples": "i4", "length": "i8", "address": "u8", "object": "i8", "number": "i8"}
_PLACE = {"plane": "i4", "column": "i4", "start": "i4", "stop": "i4", "first": "i4", "reversed": "?"}
PLACED = np.dtype([*_PLACE.items(), *_COPIED.items()])


@dataclass(frozen=True, eq=False)
class Placement:
    """Lines as records of PLACED, sorted by plane (slice, or partition in 3-D) and place in the file.

    A line fills rows [start, stop) of a column with its samples from ``first`` on, turned round first where reversed.
    ``planes`` is their number, measured or not.
    """

    lines: NDArray[Any]
    planes: int
    coils: int
    ny: int
    nx: int


def place_lines(
    file: SafeFile, lines: NDArray[Any], header: Header, slices: list[int], slab: bool
) -> tuple[Placement, list[str]]:
    """The lines of one volume on the encoded grid; ``slices`` are the values of idx.slice in anatomical order.

    Row of sample s: s − center_sample + ny // 2. A reversed readout is that of a whole one turned round, first
    sample last. Column and partition: step − center + n // 2. Raises: ScanError where a line does not fit.
    """
    ny, nx, nz = header.encoded_matrix or (0, 0, 0)
    measured = int(np.maximum(lines["samples"] - lines["pre"] - lines["post"], 0).sum())
    planes = nz if slab else len(slices)
    if ny * nx * planes > MOST_EMPTY * measured:
        raise file.fail(
            f"the matrix {ny}x{nx} in {planes} planes has over {MOST_EMPTY} times the {measured} samples of the lines; "
            "the file is incomplete or encodedSpace wrong"
        )
    coils = _channels(file, lines)
    placed = np.zeros(len(lines), PLACED)
    for name in _COPIED:
        placed[name] = lines[name]
    placed["first"] = lines["pre"]
    placed["start"] = lines["pre"] - lines["center"] + ny // 2
    placed["stop"] = lines["samples"] - lines["post"] - lines["center"] + ny // 2
    _turn(placed, lines, ny)
    notes = []
    if header.phase_center is None:
        notes.append(f"the header has no encodingLimits: step {nx // 2} is taken as the centre of k-space")
    placed["column"] = lines["step1"] - (nx // 2 if header.phase_center is None else header.phase_center) + nx // 2
    if slab:
        center = nz // 2 if header.partition_center is None else header.partition_center
        placed["plane"] = lines["step2"] - center + nz // 2
    else:
        order = np.argsort(slices)
        placed["plane"] = order[np.searchsorted(np.asarray(slices)[order], lines["slice"])]
    _check_inside(file, placed, (ny, nx, planes))
    placed = placed[np.lexsort((placed["object"], placed["address"], placed["plane"]))]
    return Placement(placed, planes, coils, ny, nx), notes


def _channels(file: SafeFile, lines: NDArray[Any]) -> int:
    """The number of coils; every line's own claims checked against each other."""
    packed = np.flatnonzero(has(lines, PACKED))
    if packed.size:
        raise file.fail(f"line {lines['number'][packed[0]]} is compressed; write the file again without compression")
    coils = int(lines["channels"][0])
    if coils < 1 or (lines["channels"] != coils).any():
        raise file.fail(f"lines have {lines['channels'].min()} to {lines['channels'].max()} coils, expected one number")
    wrong = np.flatnonzero(lines["length"] != 2 * lines["channels"].astype(np.int64) * lines["samples"])
    if wrong.size:
        line = lines[wrong[0]]
        raise file.fail(
            f"line {line['number']} stores {line['length']} numbers, expected 2 x {coils} coils x "
            f"{line['samples']} samples; export the scan again"
        )
    return coils


def _turn(placed: NDArray[Any], lines: NDArray[Any], ny: int) -> None:
    turned = has(lines, REVERSED)
    placed["reversed"] = turned
    start, stop = placed["start"].copy(), placed["stop"].copy()
    placed["start"] = np.where(turned, ny - stop, start)
    placed["stop"] = np.where(turned, ny - start, stop)
    placed["first"] = np.where(turned, lines["post"], lines["pre"])


def _check_inside(file: SafeFile, placed: NDArray[Any], matrix: tuple[int, int, int]) -> None:
    ny, nx, planes = matrix
    hints = {"rows": "center_sample, discard and encodedSpace x", "column": "kspace_encoding_step_1 and encodedSpace y"}
    hints["partition"] = "kspace_encoding_step_2 and encodedSpace z"
    for what, start, stop, n in (
        ("rows", placed["start"], placed["stop"], ny),
        ("column", placed["column"], placed["column"] + 1, nx),
        ("partition", placed["plane"], placed["plane"] + 1, planes),
    ):
        outside = np.flatnonzero((start < 0) | (stop > n) | (start >= stop))
        if outside.size:
            line = outside[0]
            raise file.fail(
                f"line {placed['number'][line]} goes to {what} {start[line]}:{stop[line]} of 0:{n}; check {hints[what]}"
            )


def sampling(placement: Placement, plane: int) -> NDArray[np.bool_]:
    """bool ``[ny, nx]``, True where some line of a plane was measured."""
    mask = np.zeros((placement.ny, placement.nx), bool)
    mine = placement.lines[placement.lines["plane"] == plane]
    for start, stop in np.unique(np.stack([mine["start"], mine["stop"]], axis=1), axis=0):
        alike = (mine["start"] == start) & (mine["stop"] == stop)
        mask[start:stop, mine["column"][alike]] = True
    return mask


def common_sampling(file: SafeFile, placement: Placement, slab: bool) -> tuple[NDArray[np.bool_], list[str]]:
    """``Scan.acquired``, which holds for every plane, and notes.

    In 3-D the measured partitions must be a whole range about the centre, all sampled alike: only then is one
    slice's k-space independent of the others' after a transform along them. Raises: ScanError otherwise.
    """
    present = np.unique(placement.lines["plane"])
    mask = sampling(placement, int(present[0]))
    unlike = next((int(n) for n in present[1:] if (sampling(placement, int(n)) != mask).any()), None)
    if unlike is not None:
        advice = (
            "partitions cannot be separated; reconstruct it with a 3-D program" if slab else "split the file by slice"
        )
        kind = "partition" if slab else "slice"
        raise file.fail(f"{kind} {unlike} measured other samples than {kind} {int(present[0])}: {advice}")
    notes = []
    if slab and present.size < placement.planes:
        centre = placement.planes // 2
        if present.size != present[-1] - present[0] + 1 or not present[0] <= centre <= present[-1]:
            raise file.fail(
                f"{present.size} of {placement.planes} partitions were measured, with gaps: undersampled along "
                "kspace_encode_step_2, which is not supported; reconstruct it with a 3-D program"
            )
        notes.append(f"{present.size} of {placement.planes} partitions were measured: the others count as zero")
    return as_columns(mask), notes
