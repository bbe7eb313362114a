"""Lint: signs that data are not what they pass for, or were damaged. Which slices are looked at, and what is said.

The thresholds were set on real scans: beside each stands what clean ones reach. ``error``: any score on such data
means nothing. ``warning``: the data are used as they are, and the picture will show it. ``info``: good to know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from nirvana_mri.physics.lint.levels import grey_levels
from nirvana_mri.ranges import number_ranges
from nirvana_mri.report.lint_look import Look, look_at
from nirvana_mri.scan import Scan

Severity = Literal["info", "warning", "error"]
CLOSE = 5  # slices looked at in every way
MOST_SAMPLES = 1 << 26  # of all coils together: more than 16 slices of a 15-coil 640x368 scan are screened for spikes
MOST_PICTURES = 25

HERMITIAN = 0.98  # raw scans reach 0.30, magnitudes 1.000
ALIKE = 1 - 3e-6  # coils of raw scans reach 0.934, 64 simulated ones without noise 1 − 2e-5, copies 1 − 3e-7
SPIKE = 60.0  # samples of clean scans reach 14
SPIKE_LINE = 3.5  # lines of clean scans reach 1.9, those of a scan with a spike 5.6
CLIPPED = 3  # samples at the limit; 1 in every raw scan
OFFSET = 8.0  # raw scans reach 1.0
STEP_RAW, STEP_PICTURE = 20.0, 7.0  # dB; raw scans reach 5.6, pictures that were not interpolated 5.9
BLOCKS = 8.0  # standard deviations; raw scans reach 5.7, JPEG of quality 90 and below begins at 15
WRAPPED = 0.05  # share of the rows; raw scans reach 0.01

PICTURES_ONLY = "the file holds pictures, no samples of coils"


@dataclass(frozen=True)
class Finding:
    """One sign, in words."""

    name: str
    severity: Severity
    message: str


@dataclass(frozen=True)
class Lint:
    """What was found, in which slices it was looked for, and what could not be judged, and why."""

    findings: tuple[Finding, ...]
    slices_inspected: tuple[int, ...]  # looked at in every way
    slices_screened: tuple[int, ...]  # for spikes and clipping
    not_judged: Mapping[str, str] = field(default_factory=dict)
    empty_coils: tuple[int, ...] = ()


def lint(scan: Scan, progress: Callable[[int, int], None] | None = None) -> Lint:
    """Look through a scan's slices, or an evenly spread part of them where there are many. Raises: ScanError."""
    close = evenly(len(scan.kspace), CLOSE)
    screened = close
    if scan.raw:
        coils, ny, nx = scan.shape[1:]
        screened = evenly(len(scan.kspace), max(CLOSE, MOST_SAMPLES // (coils * ny * nx)))
    elif scan.reference is not None:
        close = screened = evenly(len(scan.kspace), MOST_PICTURES)
    numbers = sorted({*close, *screened})
    looks = []
    for done, number in enumerate(numbers):
        if progress:
            progress(done, len(numbers))
        looks.append(look_at(scan, number, closely=number in close))
    if progress:
        progress(len(numbers), len(numbers))
    near = [look for look in looks if look.close is not None]
    found = _findings(scan, looks, near)
    return Lint(found, tuple(close), tuple(screened) if scan.raw else (), _not_judged(scan, near), _empty(near))


def evenly(count: int, most: int) -> list[int]:
    """At most so many numbers below ``count``, in the middles of equal parts."""
    parts = min(count, most)
    return [int((part + 0.5) * count / parts) for part in range(parts)]


def _findings(scan: Scan, looks: Sequence[Look], near: Sequence[Look]) -> tuple[Finding, ...]:
    hermitian = _hermitian(near)
    found = [_padding(scan, near), _magnitudes(scan, hermitian), _quantised(scan, near)]
    if scan.raw:
        # an object that is its own mirror image repeats its samples too
        twins = 2 if hermitian is not None and hermitian >= HERMITIAN else 1
        found += [_duplicates(near), _spikes(looks), _clipping(looks, CLIPPED * twins), _offset(near)]
    found.append(_wrapped(scan, near))
    return tuple(finding for finding in found if finding is not None)


def _hermitian(near: Sequence[Look]) -> float | None:
    values = [look.close.coherence for look in near if look.close and look.close.coherence is not None]
    return min(values) if values else None


def _padding(scan: Scan, near: Sequence[Look]) -> Finding | None:
    told = []
    for axis, name in ((0, "rows (readout)"), (1, "columns (phase encoding)")):
        borders = [look.close.borders[axis] for look in near if look.close]
        size = scan.shape[2 + axis]
        if borders and (width := min(border.empty for border in borders)):
            told.append(f"the outer {width} {name} of {size} on both sides are zero, and nothing declares them padding")
            continue
        steps = [border.step for border in borders]
        widths = [border.step_width for border in borders]
        limit = STEP_RAW if scan.raw else STEP_PICTURE
        if steps and float(np.median(steps)) >= limit and float(np.ptp(widths)) <= max(2.0, 0.05 * size):
            fall = f"{np.median(steps):.0f} dB at {np.median(widths):.0f} {name} of {size} from both ends"
            told.append(f"the spectrum falls by {fall}: the matrix was interpolated")
    if not told:
        return None
    advice = "crop the k-space before training or scoring: empty borders are easy to predict and flatter every score"
    return Finding("zero-padding", "warning", f"{'; '.join(told)}; {advice}")


def _magnitudes(scan: Scan, coherence: float | None) -> Finding | None:
    if not scan.raw:
        return Finding("magnitude-born", "info", "the file holds pictures: k-space can only be made from magnitudes")
    if coherence is None or coherence < HERMITIAN:
        return None
    message = f"the k-space is Hermitian ({coherence:.3f} of 1): it was computed from magnitudes, without phase"
    if scan.simulated:
        return Finding("magnitude-born", "info", f"{message}; the file says that it is simulated")
    return Finding("magnitude-born", "error", f"{message}, and is no raw data; scores on it do not hold for scans")


def _quantised(scan: Scan, near: Sequence[Look]) -> Finding | None:
    severity: Severity = "error" if scan.raw and not scan.simulated else "warning"
    told = []
    if scan.raw:
        counts = [min(look.close.levels, default=None) for look in near if look.close]
    else:
        values = np.concatenate([look.close.values for look in near if look.close] or [np.zeros(1)])
        counts = [grey_levels(values)]
    known = [count for count in counts if count is not None]
    if known and len(known) == len(counts):
        told.append(f"the picture takes only {max(known)} values: it was stored in 8 bits or fewer")
    blocks = [look.close.blocks for look in near if look.close]
    if blocks and float(np.median(blocks)) >= BLOCKS:
        told.append("the picture consists of 8x8 blocks: it was a JPEG")
    advice = "what such a picture lost cannot be scored" if told else ""
    return Finding("quantised", severity, f"{'; '.join(told)}; {advice}") if told else None


def _duplicates(near: Sequence[Look]) -> Finding | None:
    if not near or near[0].close is None or len(near[0].close.likeness) < 2:
        return None
    likeness = np.min([look.close.likeness for look in near if look.close], axis=0)
    pairs = np.argwhere(np.triu(likeness, 1) >= ALIKE)
    if not len(pairs):
        return None
    shown = ", ".join(f"{a} and {b}" for a, b in pairs[:3]) + (", ..." if len(pairs) > 3 else "")
    many = f"{len(pairs)} pairs of coils are" if len(pairs) > 1 else "two coils are"
    advice = "leave the copies out: they count their noise twice"
    return Finding("duplicate-coils", "warning", f"{many} the same but for a factor ({shown}); {advice}")


def _spikes(looks: Sequence[Look]) -> Finding | None:
    samples = [look for look in looks if look.spike >= SPIKE]
    lines = [look for look in looks if look.line >= SPIKE_LINE]
    told = []
    if samples:
        worst = max(samples, key=lambda look: look.spike)
        y, x = worst.spike_place
        where = f"row {y}, column {x} of slice {worst.number}"
        told.append(f"single samples stand out up to {worst.spike**0.5:.0f} times ({where}) in {_slices(samples)}")
    if lines:
        worst = max(lines, key=lambda look: look.line)
        told.append(f"{worst.line_name} of slice {worst.number} is {worst.line**0.5:.1f} times its neighbours' level")
    advice = "a spike puts stripes over the whole picture: mark it unmeasured"
    return Finding("spike", "warning", f"{'; '.join(told)}; {advice}") if told else None


def _clipping(looks: Sequence[Look], limit: int) -> Finding | None:
    clipped = [look for look in looks if look.at_limit >= limit]
    if not clipped:
        return None
    most = max(look.at_limit for look in clipped)
    advice = "the receiver was overdriven; scan again with less gain"
    return Finding(
        "clipping", "warning", f"up to {most} samples of a coil share its largest value in {_slices(clipped)}; {advice}"
    )


def _offset(near: Sequence[Look]) -> Finding | None:
    ratios = [look.close.centre for look in near if look.close]
    if not ratios or float(np.median(ratios)) < OFFSET:
        return None
    times = float(np.median(ratios)) ** 0.5
    message = f"a constant was added to the samples: it makes the centre pixel stand out {times:.0f} times"
    return Finding("dc-offset", "warning", f"{message}; subtract the mean of the outermost samples of each coil")


def _wrapped(scan: Scan, near: Sequence[Look]) -> Finding | None:
    judged = [look for look in near if look.close and look.close.wrapped is not None]
    found = [look for look in judged if look.close and (look.close.wrapped or 0) >= WRAPPED]
    if not found or len(found) < len(judged) / 4:
        return None
    share = max(look.close.wrapped or 0 for look in found if look.close)
    if not scan.raw:
        message = "reaches opposite edges of the picture: it was wrapped, or cropped"
        return Finding("wrapped", "info", f"the object {message} (in {share:.0%} of the lines, {_slices(found)})")
    message = f"the object reaches both ends of the phase encoding (in {share:.0%} of the rows, {_slices(found)})"
    return Finding("wrapped", "warning", f"{message}: what lies beyond the field of view was folded in")


def _not_judged(scan: Scan, near: Sequence[Look]) -> dict[str, str]:
    if not scan.raw:
        return dict.fromkeys(("duplicate-coils", "spike", "clipping", "dc-offset"), PICTURES_ONLY)
    reasons = {}
    if _hermitian(near) is None:
        reasons["magnitude-born"] = "too few samples were measured on both sides of the centre of k-space"
    if not any(look.close and look.close.wrapped is not None for look in near):
        reasons["wrapped"] = "undersampled: the folding of the acceleration hides that of the field of view"
    if scan.shape[1] < 2:
        reasons["duplicate-coils"] = "there is one coil"
    return reasons


def _empty(near: Sequence[Look]) -> tuple[int, ...]:
    diagonals = [np.diagonal(look.close.likeness) for look in near if look.close]
    return tuple(int(n) for n in np.flatnonzero(np.max(diagonals, axis=0) == 0)) if diagonals else ()


def _slices(looks: Sequence[Look]) -> str:
    numbers = [look.number for look in looks]
    return f"slice{'' if len(numbers) == 1 else 's'} {number_ranges(numbers)}"
