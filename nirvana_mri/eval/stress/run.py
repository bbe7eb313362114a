"""All stresses on all slices: figures for the JSON, and the worst pictures for the page."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nirvana_mri import __version__
from nirvana_mri.errors import UsageError
from nirvana_mri.eval.protocol import FASTMRI, Protocol
from nirvana_mri.eval.stress.bench import REFUSED, Bench, Level, Measured, Values
from nirvana_mri.eval.stress.case import Asked, take_slice
from nirvana_mri.eval.stress.methods import methods_of, solvers_of
from nirvana_mri.eval.stress.stress import Stress
from nirvana_mri.eval.stress.table import STRESSES
from nirvana_mri.eval.target import COMPUTED
from nirvana_mri.physics.sampling import achieved_acceleration
from nirvana_mri.recon.checkpoint import LoadedModel
from nirvana_mri.scan import Scan
from nirvana_mri.volume import NOT_FOR_CLINICAL_USE

SCHEMA = "nirvana-mri stress 1"
Progress = Callable[[int, int, str], None]

PROTOCOL: Protocol = replace(
    FASTMRI,
    name="stress",
    target=f"{COMPUTED}, moved as the stress says",
    crop="the finished picture, no square cut out of it",
    data_range="maximum of the target slice",
    aggregation="each slice by itself, unweighted mean over slices; no foreground mask, no intensity alignment",
    slices="those listed with each scan",
)


@dataclass(frozen=True, eq=False)
class Shown:
    """The slice on which a stress came nearest to its limits, or furthest beyond: to be looked at."""

    test: int
    scan: str
    slice: int
    measured: Measured
    margin: float


@dataclass(frozen=True, eq=False)
class Stressed:
    """``result`` is the JSON; ``shown`` holds, by stress, what the page shows."""

    result: dict[str, Any]
    shown: Mapping[str, Shown]


def run_stress(
    loaded: LoadedModel,
    scans: Sequence[tuple[Scan, Sequence[int]]],
    asked: Asked,
    stresses: Mapping[str, Stress] = STRESSES,
    *,
    seed: int = 0,
    quick: bool = False,
    device: str = "cpu",
    command: str = "",
    progress: Progress | None = None,
) -> Stressed:
    """The model under stress beside CG-SENSE and zero-filled, on the given slices of fully sampled scans.

    Figures are means over all slices. The same arguments give the same figures. ``progress(done, total, name)`` is
    called after each level of each slice.

    Raises: ScanError for a scan that is not fully sampled or a slice that no method can start from; UsageError where
    nothing is left to try.
    """
    began = time.monotonic()
    benches = _benches(loaded, scans, asked, device)
    plan, skipped = _plan(stresses, benches, quick)
    total, done = len(plan) * len(benches), 0
    tests: list[dict[str, Any]] = []
    shown: dict[str, Shown] = {}
    for name, level in plan:
        each = []
        for scan, number, bench in benches:
            draw = np.random.default_rng([seed, zlib.crc32(name.encode()), number])
            measured = stresses[name].measure(bench, level, draw)
            each.append(measured)
            _show(shown, name, Shown(len(tests), scan, number, measured, _margin(stresses[name], measured)))
            done += 1
            if progress is not None:
                progress(done, total, name)
        tests.append(_test(name, stresses[name], level, each))
    passed = sum(test["passed"] for test in tests)
    result = {
        "schema": SCHEMA,
        "model": loaded.name,
        "model_sha256": loaded.sha256,
        "covers": dict(loaded.covers),
        "scans": [scan.name for scan, _ in scans],
        "slices": {scan.name: [int(number) for number in numbers] for scan, numbers in scans},
        "simulated": any(scan.simulated for scan, _ in scans),
        "sampling": _sampling(asked, benches),
        "protocol": PROTOCOL.as_dict(),
        "quick": quick,
        "stresses": {name: stresses[name].as_dict() for name in stresses},
        "baseline": _mean([bench.baseline_scores for _, _, bench in benches]),
        "tests": tests,
        "skipped": skipped,
        "summary": {"passed": passed, "failed": len(tests) - passed, "total": len(tests)},
        "notice": NOT_FOR_CLINICAL_USE,
        "toolkit_version": __version__,
        "command": command,
        "seed": seed,
        "seconds": round(time.monotonic() - began, 1),
    }
    return Stressed(result, shown)


def _benches(
    loaded: LoadedModel, scans: Sequence[tuple[Scan, Sequence[int]]], asked: Asked, device: str
) -> list[tuple[str, int, Bench]]:
    solvers = solvers_of(loaded.model)
    methods = methods_of(solvers, device)
    benches = [
        (scan.name, int(number), Bench(take_slice(scan, int(number), asked), methods, solvers))
        for scan, numbers in scans
        for number in numbers
    ]
    if not benches:
        raise UsageError("no slices to try; give a fully sampled scan")
    return benches


def _plan(
    stresses: Mapping[str, Stress], benches: Sequence[tuple[str, int, Bench]], quick: bool
) -> tuple[list[tuple[str, Level]], list[dict[str, Any]]]:
    """(name, level) of what is tried, and what is not, with the reason."""
    plan, skipped = [], []
    for name, stress in stresses.items():
        for level in stress.quick if quick else stress.levels:
            hindrances = (stress.hindrance(level, bench.sampled) for _, _, bench in benches)
            reason = next((words for words in hindrances if words), "")
            if reason:
                skipped.append({"name": name, "level": _plain(level), "reason": reason})
            else:
                plan.append((name, level))
    return plan, skipped


def _test(name: str, stress: Stress, level: Level, each: Sequence[Measured]) -> dict[str, Any]:
    values, change = _mean([one.values for one in each]), _mean([one.change for one in each])
    passed, margin = stress.criterion.judge(values, change)
    return {
        "name": name,
        "level": _plain(level),
        "unit": stress.unit,
        **stress.criterion.as_dict(),
        "passed": passed,
        "margin": margin,
        "values": values,
        "change": change,
        "details": _mean([{"level": dict(one.details)} for one in each])["level"],
    }


def _mean(tables: Sequence[Mapping[str, Mapping[str, Any]]]) -> Values:
    """Figures averaged over slices; a method that refused one slice refused, and a figure missing once is missing."""
    names = dict.fromkeys(name for table in tables for name in table)
    return {name: _mean_figures([table[name] for table in tables if name in table]) for name in names}


def _mean_figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    refusal = next((row for row in rows if REFUSED in row), None)
    if refusal is not None:
        return dict(refusal)
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    return {key: None if None in column else float(np.mean(column)) for key, column in columns.items()}


def _margin(stress: Stress, measured: Measured) -> float:
    margin = stress.criterion.judge(measured.values, measured.change)[1]
    return float("inf") if margin is None else margin


def _show(shown: dict[str, Shown], name: str, candidate: Shown) -> None:
    """Keep the worst that has pictures of every method."""
    whole = len(candidate.measured.pictures) == len(candidate.measured.values)
    if whole and (name not in shown or candidate.margin < shown[name].margin):
        shown[name] = candidate


def _sampling(asked: Asked, benches: Sequence[tuple[str, int, Bench]]) -> dict[str, Any]:
    achieved = [achieved_acceleration(bench.sampled.mask, bench.sampled.acquired) for _, _, bench in benches]
    return {
        "mask": asked.mask,
        "acceleration": asked.accelerate,
        "center_fraction": asked.center_fraction,
        "seed": asked.seed,
        "achieved_acceleration": round(float(np.mean(achieved)), 4),
    }


def _plain(level: Level) -> Any:
    return list(level) if isinstance(level, tuple) else level
