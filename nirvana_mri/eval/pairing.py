"""Which prediction belongs to which target: the one of the same file name, as in fastMRI."""

from dataclasses import dataclass
from pathlib import Path

from nirvana_mri.errors import DataError

SUFFIXES = (".h5", ".hdf5")


@dataclass(frozen=True)
class Pairs:
    """(prediction, target) paths in the order of the targets' names; ``missing`` targets have no prediction, ``extra``
    predictions no target.
    """

    pairs: tuple[tuple[Path, Path], ...]
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()


def pair_files(predictions: Path, targets: Path, *, allow_missing: bool = False) -> Pairs:
    """Which files are scored, and the names of those that are not.

    Each argument is a file or a folder; two files are a pair whatever they are called. Raises: DataError for a
    target without a prediction, unless ``allow_missing``, and where there is nothing to pair.
    """
    if predictions.is_file() and targets.is_file():
        return Pairs(((predictions, targets),))
    made, wanted = _listed(predictions, "prediction"), _listed(targets, "target")
    if predictions.is_file():
        if predictions.name not in wanted:
            raise DataError(f"{targets}: no target is called {predictions.name}; give the target file itself")
        wanted = {predictions.name: wanted[predictions.name]}
    missing = tuple(name for name in wanted if name not in made)
    if missing and (not allow_missing or len(missing) == len(wanted)):
        others = f" and of {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(
            f"{predictions}: no prediction of {missing[0]}{others}; reconstruct them, move the targets away, or score "
            "the rest with --allow-missing"
        )
    pairs = tuple((made[name], path) for name, path in wanted.items() if name in made)
    return Pairs(pairs, missing, tuple(name for name in made if name not in wanted))


def _listed(place: Path, what: str) -> dict[str, Path]:
    if place.is_file():
        return {place.name: place}
    if not place.is_dir():
        raise DataError(f"{place}: no such file or folder of {what}s; check the path")
    files = {path.name: path for path in sorted(place.iterdir()) if path.suffix.lower() in SUFFIXES and path.is_file()}
    if not files:
        raise DataError(f"{place}: no {what} files in this folder, expected {' or '.join(SUFFIXES)}")
    return files
