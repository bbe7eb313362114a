"""What a data folder holds: each file looked at once, and remembered until it changes."""

import hashlib
import json
import logging
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nirvana_mri.atomic import atomic_path
from nirvana_mri.errors import DataError, ScanError
from nirvana_mri.io.nifti import SUFFIXES, read_image_volume
from nirvana_mri.io.patient import patient_key
from nirvana_mri.recon.open import open_scan

SCAN_SUFFIXES = (".h5", ".hdf5")
FORMAT = "nirvana-index/1"
BLOCKS, BLOCK = 16, 1 << 16  # of a file, spread evenly, that its fingerprint covers
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Entry:
    """One usable file: a fully sampled scan (shape slices, coils, ny, nx), or pictures to simulate from (three axes).

    ``name`` is its place in the data folder without the suffix. ``patient`` is a key that files of one patient share,
    ``fingerprint`` a hash of its size and of 16 blocks of 64 KiB spread over it. ``isotropic`` pictures can be cut
    across any axis.
    """

    name: str
    file: str
    size: int
    modified: int
    fingerprint: str
    patient: str
    shape: tuple[int, ...]
    crop: tuple[int, int]
    isotropic: bool = False

    @property
    def is_scan(self) -> bool:
        return len(self.shape) == 4


@dataclass(frozen=True)
class Index:
    """The usable files of a folder by name, and what was wrong with the others."""

    folder: Path
    entries: tuple[Entry, ...]
    bad: tuple[str, ...] = ()


def read_index(
    data: Path, cache: Path | None = None, skip_bad: bool = False, progress: Progress | None = None
) -> Index:
    """Look at every scan and picture volume in a folder (and the folders in it), or at one file.

    ``cache`` remembers what was found; a file is looked at again where its size or time has changed. Raises: DataError
    where nothing is there, and for the first file that cannot be used; with ``skip_bad`` such files are named in a
    warning, counted, and left out.
    """
    if not data.exists():
        raise DataError(f"{data}: no such folder; expected scans (.h5) or pictures ({', '.join(SUFFIXES)}) in it")
    folder = data if data.is_dir() else data.parent
    paths = sorted(data.rglob("*")) if data.is_dir() else [data]
    paths = [path for path in paths if path.name.lower().endswith((*SCAN_SUFFIXES, *SUFFIXES)) and path.is_file()]
    salt, known = _remembered(cache)
    entries, bad = [], []
    for number, path in enumerate(paths):
        if progress is not None:
            progress(number, len(paths))
        try:
            entries.append(_entry(path, folder, known, salt))
        except DataError as problem:
            if not skip_bad:
                raise
            bad.append(str(problem))
            logging.getLogger(__name__).warning("left out: %s", problem)
    if bad:
        logging.getLogger(__name__).warning("%s: %d of %d files left out", data, len(bad), len(paths))
    if not entries:
        raise DataError(f"{data}: nothing to train on; expected scans (.h5) or pictures ({', '.join(SUFFIXES)})")
    _require_names(entries)
    if cache is not None:
        _remember(cache, salt, entries)
    return Index(folder, tuple(entries), tuple(bad))


def _entry(path: Path, folder: Path, known: dict[str, Entry], salt: bytes) -> Entry:
    file = path.relative_to(folder).as_posix()
    stat = path.stat()
    old = known.get(file)
    if old is not None and (old.size, old.modified) == (stat.st_size, stat.st_mtime_ns):
        return old
    name = file[: len(file) - len(path.name)] + path.name.split(".")[0]
    isotropic = False
    if path.name.lower().endswith(SCAN_SUFFIXES):
        scan = open_scan(path)
        if not scan.fully_sampled:
            raise ScanError(f"{path}: undersampled, so there is no truth to train on; use fully sampled scans")
        shape: tuple[int, ...] = scan.shape
        crop = scan.crop
    else:
        pictures, geometry = read_image_volume(path)
        shape, crop = pictures.shape, (pictures.shape[1], pictures.shape[2])
        isotropic = geometry.voxel_mm is not None and max(geometry.voxel_mm) < 1.5 * min(geometry.voxel_mm)
    patient = patient_key(path, name, salt)
    return Entry(
        name, file, stat.st_size, stat.st_mtime_ns, fingerprint(path), patient, tuple(map(int, shape)), crop, isotropic
    )


def fingerprint(path: Path) -> str:
    """32 hex digits of a file's size and of blocks spread over it: quick where hashing all of it is not."""
    size = path.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=16)
    with path.open("rb") as file:
        for start in sorted({number * max(0, size - BLOCK) // (BLOCKS - 1) for number in range(BLOCKS)}):
            file.seek(start)
            digest.update(file.read(BLOCK))
    return digest.hexdigest()


def _require_names(entries: list[Entry]) -> None:
    seen: dict[str, str] = {}
    for entry in entries:
        if entry.name in seen:
            raise DataError(f"{entry.file} and {seen[entry.name]} differ in their suffix alone; rename one of them")
        seen[entry.name] = entry.file


def _remembered(cache: Path | None) -> tuple[bytes, dict[str, Entry]]:
    """The salt of the patients' keys and the entries by file; fresh ones where the cache is missing or not ours."""
    if cache is not None and cache.is_file():
        try:
            found = json.loads(cache.read_text(encoding="utf-8"))
            if found["format"] == FORMAT:
                return bytes.fromhex(found["salt"]), {each["file"]: _from_json(each) for each in found["entries"]}
        except (OSError, ValueError, KeyError, TypeError):
            logging.getLogger(__name__).warning("%s: not an index of this version; made anew", cache)
    return secrets.token_bytes(16), {}


def _from_json(values: dict[str, Any]) -> Entry:
    return Entry(**{**values, "shape": tuple(values["shape"]), "crop": tuple(values["crop"])})


def _remember(cache: Path, salt: bytes, entries: list[Entry]) -> None:
    values = {"format": FORMAT, "salt": salt.hex(), "entries": [asdict(entry) for entry in entries]}
    with atomic_path(cache) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_text(json.dumps(values, indent=1), encoding="utf-8")
