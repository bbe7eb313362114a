"""The volumes in a list of readouts: repetitions, sets, phases and contrasts, one picture each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.errors import UsageError
from nirvana_mri.io.hdf5 import SafeFile
from nirvana_mri.io.ismrmrd.lines import CALIBRATION, has

VOLUME = ("repetition", "set", "phase", "contrast")  # the last counts fastest


def split_calibration(lines: NDArray[Any], mode: str | None, calibration: bool) -> tuple[NDArray[Any], list[str]]:
    """The lines of the picture (or, with ``calibration``, of the separate calibration scan), and a note.

    ``mode`` is the header's calibrationMode. Where it says that the calibration was a scan of its own, its lines
    are no part of the picture: their contrast may be another. Embedded ones are.
    """
    only = has(lines, CALIBRATION)
    if calibration:
        return lines[only], []
    if only.all() or not only.any() or mode not in ("separate", "external"):
        return lines, []
    return lines[~only], [f"left out: {int(only.sum())} lines of a separate calibration scan"]


def choose_volume(
    file: SafeFile, lines: NDArray[Any], wanted: int | None
) -> tuple[NDArray[Any], int, int, dict[str, int], list[str]]:
    """(lines of one volume, its number, how many there are, its counters, notes).

    Without ``wanted`` it is the first one; or, where the repetitions complement each other (none is complete,
    together they are, and each line is in one of them or in all), all of them as one. A line that is in all is
    then taken from the last repetition, so that the noise is alike on every line: what
    ismrmrd_recon_cartesian_2d does too. Raises: UsageError for a volume that is not there.
    """
    keys = np.stack([lines[name] for name in VOLUME], axis=1)
    every, belongs = np.unique(keys, axis=0, return_inverse=True)
    belongs = belongs.reshape(-1)
    imaging = np.unique(belongs[~has(lines, CALIBRATION)])
    if 0 < imaging.size < len(every):  # counters that only calibration lines have are no volume
        renumbered = np.full(len(every), -1)
        renumbered[imaging] = np.arange(imaging.size)
        every, belongs = every[imaging], renumbered[belongs]
    count = len(every)
    if wanted is not None and not 0 <= wanted < count:
        raise UsageError(f"{file.path}: volume {wanted} is not there; choose one of 0 to {count - 1}")
    notes: list[str] = []
    if wanted is None and count > 1 and _complement(lines[belongs >= 0]):
        notes.append(
            f"{count} repetitions complement each other and are read as one volume, lines in all of them from the "
            f"last; volume=0 to {count - 1} opens one alone"
        )
        return _latest(lines[belongs >= 0]), 0, 1, {}, notes
    number = wanted or 0
    counters = {name: int(n) for name, n in zip(VOLUME, every[number], strict=True)} if count > 1 else {}
    return lines[belongs == number], number, count, counters, notes


def place_code(lines: NDArray[Any]) -> NDArray[np.int64]:
    """One number for (slice, step 2, step 1) of each line."""
    code: NDArray[np.int64] = lines["slice"].astype(np.int64) << 32
    return code | lines["step2"].astype(np.int64) << 16 | lines["step1"].astype(np.int64)


def _complement(lines: NDArray[Any]) -> bool:
    """True where the repetitions are parts of one fully sampled volume."""
    if any(np.unique(lines[name]).size > 1 for name in VOLUME[1:]):
        return False
    repetitions = np.unique(lines["repetition"])
    parts = [np.unique(place_code(lines[lines["repetition"] == n])) for n in repetitions]
    together, times = np.unique(np.concatenate(parts), return_counts=True)
    if not np.isin(times, (1, len(parts))).all() or any(part.size == together.size for part in parts):
        return False
    slices = np.unique(together >> 32).size
    steps = [int(np.ptp(part)) + 1 for part in (together & 0xFFFF, together >> 16 & 0xFFFF)]
    return bool(together.size == slices * steps[0] * steps[1])


def _latest(lines: NDArray[Any]) -> NDArray[Any]:
    """Each line from the last repetition that has it."""
    _, belongs = np.unique(place_code(lines), return_inverse=True)
    belongs = belongs.reshape(-1)
    last = np.zeros(int(belongs.max()) + 1, np.int64)
    np.maximum.at(last, belongs, lines["repetition"])
    return lines[lines["repetition"] == last[belongs]]


def without_repeated_calibration(lines: NDArray[Any]) -> NDArray[Any]:
    """The lines of one volume; a calibration line goes where the imaging itself measured the same one."""
    only = has(lines, CALIBRATION)
    return lines[~(only & np.isin(place_code(lines), place_code(lines[~only])))]


def repeated(lines: NDArray[Any]) -> tuple[int, list[str]]:
    """(how often each line was measured, 0 where that differs, notes); repeated lines are averaged on reading."""
    code = place_code(lines)
    _, times = np.unique(code, return_counts=True)
    fewest, most = int(times.min()), int(times.max())
    if most == 1:
        return 1, []
    alike = f"{most} times" if fewest == most else f"{fewest} to {most} times"
    notes = [f"lines were measured {alike}: their mean is used"]
    _, exactly = np.unique(np.stack([code, lines["average"]]), axis=1, return_counts=True)
    if exactly.max() > 1:
        notes.append(f"{int((exactly > 1).sum())} lines are repeated without another number of average")
    return (most if fewest == most else 0), notes
