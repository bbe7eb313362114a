"""Which prediction belongs to which target: the one of the same file name, as in fastMRI."""

from pathlib import Path

from nirvana_mri.errors import DataError

SUFFIXES = (".h5", ".hdf5")


def pair_files(predictions: Path, targets: Path) -> tuple[list[tuple[Path, Path]], tuple[str, ...]]:
    """(prediction, target) paths in the order of the targets' names, and a warning that names what was left over.

    Each argument is a file or a folder; two files are a pair whatever they are called. Raises DataError for a
    target without a prediction, or where there is nothing to pair.
    """
    if predictions.is_file() and targets.is_file():
        return [(predictions, targets)], ()
    made, wanted = _listed(predictions, "prediction"), _listed(targets, "target")
    if predictions.is_file():
        if predictions.name not in wanted:
            raise DataError(f"{targets}: no target is called {predictions.name}; give the target file itself")
        wanted = {predictions.name: wanted[predictions.name]}
    missing = [name for name in wanted if name not in made]
    if missing:
        others = f" and of {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(
            f"{predictions}: no prediction of {missing[0]}{others}; reconstruct them or move the targets away"
        )
    extra = [name for name in made if name not in wanted]
    warnings = (f"{len(extra)} predictions without a target are ignored: {', '.join(extra)}",) if extra else ()
    return [(made[name], path) for name, path in wanted.items()], warnings


def _listed(place: Path, what: str) -> dict[str, Path]:
    if place.is_file():
        return {place.name: place}
    if not place.is_dir():
        raise DataError(f"{place}: no such file or folder of {what}s; check the path")
    files = {path.name: path for path in sorted(place.iterdir()) if path.suffix.lower() in SUFFIXES and path.is_file()}
    if not files:
        raise DataError(f"{place}: no {what} files in this folder, expected {' or '.join(SUFFIXES)}")
    return files
