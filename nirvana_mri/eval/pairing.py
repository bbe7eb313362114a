"""Which prediction belongs to which target: the one of the same file name, as in fastMRI."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nirvana_mri.errors import DataError, UsageError

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


@dataclass(frozen=True)
class Sets:
    """Sets of predictions of the same scans: under ``names``, each ``made[i]`` from target to prediction.

    ``wanted`` are the targets that every set has; a set alone is called "", and its files say what it is.
    """

    names: tuple[str, ...]
    made: tuple[Mapping[Path, Path], ...]
    wanted: tuple[Path, ...]
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    def shown(self, target: Path) -> str:
        """What the scores of a target are listed under."""
        return target.name if len(self.names) > 1 else self.made[0][target].name


def find_sets(predictions: str | Path | Sequence[str | Path], targets: str | Path, allow_missing: bool = False) -> Sets:
    """The sets of predictions, each a file or a folder, with what all of them have. Raises: as :func:`pair_files`, and
    UsageError where they share no target.
    """
    places = [Path(predictions)] if isinstance(predictions, str | Path) else [Path(given) for given in predictions]
    names = _set_names(places)
    found = [pair_files(given, Path(targets), allow_missing=allow_missing) for given in places]
    made = tuple({target: prediction for prediction, target in pairs.pairs} for pairs in found)
    # a target that one set lacks is left out of all, or their means would be over different scans
    wanted = tuple(target for target in made[0] if all(target in of for of in made))
    if not wanted:
        raise UsageError(f"{targets}: no target has a prediction in every set; give sets of the same scans")
    lacking = (
        name for pairs in found for name in (*pairs.missing, *(t.name for _, t in pairs.pairs if t not in wanted))
    )
    extra = (name for pairs in found for name in pairs.extra)
    return Sets(tuple(names), made, wanted, tuple(dict.fromkeys(lacking)), tuple(dict.fromkeys(extra)))


def _set_names(places: Sequence[Path]) -> list[str]:
    """What each set is called: its folder or file; "" for one alone."""
    if len(places) == 1:
        return [""]
    names = [given.resolve().stem if given.is_file() else given.resolve().name for given in places]
    if len(set(names)) < len(names):
        raise UsageError(f"two sets of predictions are called {max(names, key=names.count)}; rename a folder")
    return names


def _listed(place: Path, what: str) -> dict[str, Path]:
    if place.is_file():
        return {place.name: place}
    if not place.is_dir():
        raise DataError(f"{place}: no such file or folder of {what}s; check the path")
    files = {path.name: path for path in sorted(place.iterdir()) if path.suffix.lower() in SUFFIXES and path.is_file()}
    if not files:
        raise DataError(f"{place}: no {what} files in this folder, expected {' or '.join(SUFFIXES)}")
    return files
