"""Who is trained on and who is held out: by patient, written down, and refused where one stands on both sides."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nirvana_mri.atomic import atomic_path
from nirvana_mri.errors import DataError
from nirvana_mri.train.index import Entry

SIDES = ("training", "validation", "test")
LARGEST = 64 << 20  # bytes


@dataclass(frozen=True)
class Manifest:
    """Names of files by side, each with its fingerprint. ``test`` is never read while training."""

    training: dict[str, str]
    validation: dict[str, str]
    test: dict[str, str]

    @property
    def sha256(self) -> str:
        """Of all sides, whatever the order of the names."""
        return hashlib.sha256(json.dumps(self.sides(), sort_keys=True).encode()).hexdigest()

    def sides(self) -> dict[str, dict[str, str]]:
        return {side: getattr(self, side) for side in SIDES}

    def write(self, path: Path) -> None:
        """JSON that :func:`read_manifest` takes: a name to a fingerprint, side by side."""
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps({**self.sides(), "sha256": self.sha256}, indent=1), encoding="utf-8")


def split(entries: tuple[Entry, ...], held_out: tuple[str, ...], fraction: float, seed: int) -> Manifest:
    """Hold out the named files, or without names a share of the patients drawn by seed (none where there is but one).

    Raises: DataError for unknown names, for a name whose patient would be trained on as well, and where nobody is left.
    """
    names = [entry.name for entry in entries]
    unknown = sorted(set(held_out) - set(names))
    if unknown:
        raise DataError(f"held-out subjects {unknown} are not in the data; it holds {_some(names)}")
    chosen = set(held_out)
    if not chosen and fraction:
        patients = list(_patients(entries).values())
        count = min(max(1, round(fraction * len(patients))), len(patients) - 1)  # somebody is left to learn from
        drawn = np.random.default_rng(seed).permutation(len(patients))[:count]
        chosen = {entry.name for number in drawn for entry in patients[number]}
    kept, held = (
        {entry.name: entry.fingerprint for entry in entries if (entry.name in chosen) is side} for side in (False, True)
    )
    manifest = Manifest(kept, held, {})
    require_apart(manifest, entries)
    if not manifest.training:
        raise DataError(f"all {len(names)} subjects are held out; nothing is left to train on")
    return manifest


def read_manifest(path: Path, entries: tuple[Entry, ...]) -> Manifest:
    """A split that was written down: ``{"training": …, "validation": …, "test": …}``, each a list of names or an object
    of names and fingerprints. Files that it does not name are left alone.

    Raises: DataError for a file that is not such JSON, a name that the data do not hold, a file that is not the one
    that was named (its fingerprint differs), and a patient on two sides.
    """
    found = _parse(path)
    by_name = {entry.name: entry for entry in entries}
    sides: dict[str, dict[str, str]] = {}
    for side in SIDES:
        named = found.get(side) or {}
        sides[side] = {}
        for name in named:
            entry = by_name.get(name)
            if entry is None:
                if side == "test":
                    continue  # test files may lie elsewhere
                raise DataError(
                    f"{path}: {side} names {name!r:.80}, which the data do not hold: {_some(list(by_name))}"
                )
            wanted = named[name] if isinstance(named, dict) else entry.fingerprint
            if wanted != entry.fingerprint:
                raise DataError(f"{path}: {name!r:.80} is not the file it was made with; its bytes have changed")
            sides[side][name] = entry.fingerprint
    manifest = Manifest(**sides)
    require_apart(manifest, entries)
    if not manifest.training:
        raise DataError(f"{path}: nobody is in training; name at least one file there")
    return manifest


def _parse(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"{path}: no such manifest; expected JSON with training, validation and test")
    if path.stat().st_size > LARGEST:
        raise DataError(f"{path}: larger than {LARGEST >> 20} MiB; is it a manifest?")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as problem:
        raise DataError(f"{path}: not JSON ({problem!s:.100}); expected training, validation and test") from problem
    usable = isinstance(found, dict) and all(
        isinstance(found.get(side, []), list | dict) and all(isinstance(name, str) for name in found.get(side, []))
        for side in SIDES
    )
    if not usable:
        raise DataError(f"{path}: expected an object whose training, validation and test name files")
    return found


def require_apart(manifest: Manifest, entries: tuple[Entry, ...]) -> None:
    """DataError where files of one patient, or copies of one file, stand on two sides."""
    side_of = {name: side for side, names in manifest.sides().items() for name in names}
    for side, names in manifest.sides().items():
        twice = [name for name in names if side_of[name] != side]
        if twice:
            raise DataError(f"{twice[0]} is in {side} and in {side_of[twice[0]]}; leave it in one")
    for members in _patients(entries).values():
        placed = [entry.name for entry in members if entry.name in side_of]
        for name in placed:
            if side_of[name] != side_of[placed[0]]:
                raise DataError(
                    f"{placed[0]} ({side_of[placed[0]]}) and {name} ({side_of[name]}) are of one patient, or copies; "
                    "put both on one side"
                )


def _patients(entries: tuple[Entry, ...]) -> dict[str, list[Entry]]:
    """Files by patient, in the order of their first names; copies of a file belong together whatever their names."""
    leader: dict[str, str] = {}
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        found = {leader[key] for key in (entry.patient, entry.fingerprint) if key in leader}
        first = min(found, key=list(groups).index) if found else entry.patient
        members = groups.setdefault(first, [])
        for other in found - {first}:
            members += groups.pop(other)
        members.append(entry)
        for each in members:
            leader[each.patient] = leader[each.fingerprint] = first
    return groups


def _some(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
