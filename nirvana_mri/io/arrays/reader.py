"""Plain arrays (npy, npz, mat) → Scan: the file holds numbers only, so the person says which axis is which."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from nirvana_mri.errors import ScanError, UsageError
from nirvana_mri.io.arrays.mat5 import list_mat5, read_mat5
from nirvana_mri.io.arrays.mat73 import list_mat73
from nirvana_mri.io.arrays.npy import npz_names, read_npy, read_npz
from nirvana_mri.io.arrays.scan import array_scan
from nirvana_mri.io.arrays.source import InMemory, Mapped, Stored
from nirvana_mri.io.names import numbered
from nirvana_mri.scan import Scan

AXES = ("slice", "partition", "coil", "ny", "nx", "volume")
NPY, ZIP = b"\x93NUMPY", b"PK\x03\x04"
MAT73, MAT5 = b"MATLAB 7.3", b"MATLAB 5.0"
HDF5_AT = 512  # where the HDF5 of a MATLAB file begins


def is_array(path: str | Path) -> bool:
    """True for npy, npz and MATLAB files, by their first bytes. Never raises."""
    try:
        return _kind(Path(path)) is not None
    except (OSError, ValueError):
        return False


def read_array(
    path: str | Path,
    *,
    axes: str | None = None,
    dataset: str | None = None,
    images: bool = False,
    volume: int | None = None,
) -> Scan:
    """The acquisition in an array of k-space, mapped where the file allows and read slice by slice.

    ``axes`` names the axes in the order of the file (MATLAB's order for mat, numpy's for npy and npz), "coil ny nx"
    for example, with commas or blanks between: slice, coil, ny (readout), nx (phase encoding), volume (time, echo),
    partition (a third, fully sampled encoding, which is transformed to slices). Axes of length 1 may be left out.
    ``dataset`` picks one of several arrays; messages number those whose names they do not repeat, "#2" picks that one.
    ``images`` says that the array holds complex coil images. What was not measured is told by its zeros.

    Raises: UsageError where the axes or the array are not named or do not fit; ScanError for real numbers, which are
    no k-space, and for damaged files.
    """
    path = Path(path)
    try:
        kind = _kind(path)
        stored = _open(path, kind, dataset)
    except OSError as problem:
        raise ScanError(f"{path}: cannot be read ({problem.strerror or problem}); check the path") from problem
    names = _names(path, stored.shape, axes)
    return array_scan(path, stored, names, volume=volume, images=images, file_format=f"array {kind}")


def _kind(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        start = file.read(128)
    if start.startswith(NPY):
        return "npy"
    if start.startswith(MAT73):
        return "mat 7.3"
    if start.startswith(MAT5) and start[126:] in (b"IM", b"MI"):
        return "mat"
    if start.startswith(ZIP) and start[30:].split(b".npy")[0] != start[30:]:
        return "npz"
    return None


def _open(path: Path, kind: str | None, dataset: str | None) -> Stored:
    """The array that is meant, which must be complex."""
    if kind == "npy":
        stored: Stored = read_npy(path)
        assert isinstance(stored, Mapped)
        _check_complex(path, stored.dtype.kind == "c", f"{stored.dtype} {stored.shape}")
        return stored
    if kind == "npz":
        members = npz_names(path)
        stored = read_npz(path, members[_choose(path, list(members), dataset)])
        assert isinstance(stored, InMemory)
        _check_complex(path, stored.values.dtype.kind == "c", f"{stored.values.dtype} {stored.shape}")
        return stored
    if kind == "mat":
        arrays = {array.name: array for array in list_mat5(path)}
        chosen = arrays[_choose(path, [n for n, a in arrays.items() if a.is_complex] or list(arrays), dataset, arrays)]
        _check_complex(path, chosen.is_complex, f"real {chosen.shape}")
        return InMemory(read_mat5(path, chosen))
    if kind == "mat 7.3":
        found = {array.name: array for array in list_mat73(path)}
        picked = found[_choose(path, [n for n, a in found.items() if a.is_complex] or list(found), dataset, found)]
        _check_complex(path, picked.is_complex, f"real {picked.shape}")
        return picked
    raise ScanError(f"{path}: no npy, npz or MATLAB array; save the k-space with numpy.save")


def _check_complex(path: Path, is_complex: bool, found: str) -> None:
    if not is_complex:
        raise ScanError(
            f"{path}: {found}: real numbers are no k-space; save it as complex64 (real and imaginary part joined)"
        )


def _choose(path: Path, likely: list[str], dataset: str | None, all_names: Collection[str] = ()) -> str:
    """The name that was asked for, or the only one that it can be."""
    names = list(all_names or likely)
    said = numbered(names)
    shown = ", ".join(repr(said[name]) for name in sorted(names)[:10])
    if not names:
        raise ScanError(f"{path}: no numeric array in it; save the k-space as complex64")
    if dataset is not None:
        dataset = next((name for name in names if dataset == said[name]), dataset)
        if dataset not in names:
            raise UsageError(f"{path}: no array {dataset[:40]!r}; it holds {shown}: choose one with --dataset")
        return dataset
    if len(likely) > 1:
        raise UsageError(f"{path} holds several arrays ({shown}); choose one with --dataset")
    return likely[0]


def _names(path: Path, shape: tuple[int, ...], axes: str | None) -> tuple[str, ...]:
    """A name for each axis, "" for those of length 1 that were left out."""
    if axes is None:
        raise UsageError(
            f"{path} is an array {shape} that does not say which axis is which; name them, as in "
            f'--axes "{suggest(shape)}" (of {", ".join(AXES)}; ny is the readout)'
        )
    words = axes.replace(",", " ").split()
    unknown = [word for word in words if word not in AXES]
    if unknown or len(set(words)) != len(words) or not {"ny", "nx"} <= set(words):
        raise UsageError(
            f"axes {axes[:60]!r}: expected ny and nx, and each of {', '.join(AXES)} at most once, as in "
            f'--axes "{suggest(shape)}" for {shape}'
        )
    if {"slice", "partition"} <= set(words):
        raise UsageError(f"axes {axes[:60]!r}: slices of several partitions are several slabs; save each in its file")
    if len(words) == len(shape):
        return tuple(words)
    long = [n for n in shape if n > 1]
    if len(words) != len(long):
        raise UsageError(
            f"axes {axes[:60]!r} names {len(words)} axes, {path} has {len(shape)} {shape}; as in "
            f'--axes "{suggest(shape)}"'
        )
    left = iter(words)
    return tuple(next(left) if n > 1 else "" for n in shape)


def suggest(shape: tuple[int, ...]) -> str:
    """Names that might fit, for a message: the longest two axes the plane, the shortest of the rest the coils."""
    plane = sorted(sorted(range(len(shape)), key=lambda axis: -shape[axis])[:2])
    rest = [axis for axis in range(len(shape)) if axis not in plane]
    named = dict(zip(plane, ("ny", "nx"), strict=False))
    others = ("coil", "slice", "volume", "partition")
    named |= dict(zip(sorted(rest, key=lambda axis: shape[axis]), others, strict=False))
    return " ".join(named.get(axis, "...") for axis in range(len(shape)))
