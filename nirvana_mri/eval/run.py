"""Score many files, one volume in memory at a time: predictions as they are, or scans reconstructed on the way."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nirvana_mri.errors import NirvanaError, UsageError
from nirvana_mri.eval import statistics
from nirvana_mri.eval.context import Patients, contrast_of, field_of
from nirvana_mri.eval.evaluate import made_here, score_volume
from nirvana_mri.eval.pairing import find_sets
from nirvana_mri.eval.protocol import Protocol, protocol_named
from nirvana_mri.eval.regions import Annotations, Box
from nirvana_mri.eval.study import Row, Study, make_study, mask_hash
from nirvana_mri.eval.target import Target, open_target
from nirvana_mri.io.save import load_volume
from nirvana_mri.physics.masks import MASKS
from nirvana_mri.recon.batch import Recipe
from nirvana_mri.recon.jobs import scans_in
from nirvana_mri.recon.open import open_scan
from nirvana_mri.scan import Scan
from nirvana_mri.volume import Volume

Progress = Callable[[int, int], None]
PREDICTION = "prediction"  # a set of volumes whose method is not said, or not one


@dataclass(frozen=True)
class Rule:
    """How to score: a protocol's name, boxes to look into, the bootstrap's settings, and whether what is missing may
    be left out.
    """

    protocol: str = "fastmri"
    annotations: Annotations | None = None
    draws: int = statistics.DRAWS
    seed: int = 0
    allow_missing: bool = False

    def __post_init__(self) -> None:
        protocol_named(self.protocol)
        if self.draws < 1:
            raise UsageError(f"draws is {self.draws}; expected at least 1, 2000 say")

    def boxes(self, path: Path) -> tuple[Box, ...]:
        """The boxes on a file."""
        return self.annotations.boxes.get(path.stem, ()) if self.annotations else ()

    def study(self, rows: Sequence[Row], **more: Any) -> Study:
        """The rows with all that is said about them."""
        notes = self.annotations.notes if self.annotations else ()
        if self.annotations and not any(row.score.regions for row in rows):
            notes = (*notes, f"{self.annotations.path.name} has no box on what was scored")
        more["warnings"] = (*more["warnings"], *notes)
        return make_study(rows, draws=self.draws, seed=self.seed, annotated=self.annotations is not None, **more)


def evaluate_files(
    predictions: str | Path | Sequence[str | Path],
    targets: str | Path,
    progress: Progress | None = None,
    rule: Rule | None = None,
) -> Study:
    """Score prediction files (dataset ``reconstruction``) against the scans of the same name.

    Each is a file or a folder; two files are a pair whatever they are called. Several sets of predictions stand side by
    side under their names. `progress(done, total)` is called after each volume. Predictions without a target are
    ignored but named in ``Study.extra``.

    Raises: DataError where a target has no prediction, before anything is scored, or a file cannot be used;
    ProtocolError where two volumes would be scored by different rules, or one scan was sampled in two ways.
    """
    rule = rule or Rule()
    found = find_sets(predictions, targets, rule.allow_missing)
    names, made, wanted, missing, extra = found.names, found.made, found.wanted, found.missing, found.extra
    patients, rows = Patients(), []
    for path in wanted:
        target = open_target(path)
        for name, of in zip(names, made, strict=True):
            volume = load_volume(of[path])
            rows.append(_row(found.shown(path), name, volume, target, patients.label(path), rule, rule.boxes(path)))
            if progress is not None:
                progress(len(rows), len(wanted) * len(names))
    warnings = [f"{len(extra)} predictions without a target are ignored: {', '.join(extra)}"] if extra else []
    if missing:
        warnings.append(f"{len(missing)} targets without a prediction are left out: {', '.join(missing)}")
    if len(names) == 1:
        rows = _named_by_method(rows)
    return rule.study(rows, missing=missing, extra=extra, warnings=tuple(warnings), untold=len(patients.untold))


def evaluate_methods(
    scans: Sequence[Path],
    recipes: Mapping[str, Recipe],
    progress: Progress | None = None,
    rule: Rule | None = None,
) -> Study:
    """Reconstruct each scan by every recipe, and score it against the scan's own target; ``recipes`` are by name.

    `progress(done, total)` is called after each volume. Raises: DataError or ScanError for a scan that cannot be used,
    unless ``rule.allow_missing``, which leaves it out and names it; UsageError for a scan of which nothing is left out.
    """
    rule = rule or Rule()
    paths = [path for given in scans for path in scans_in(given)]
    doubled = [path.name for path in paths if [other.name for other in paths].count(path.name) > 1]
    if doubled:
        raise UsageError(f"two scans are called {doubled[0]}; evaluate them apart")
    patients, rows, warnings = Patients(), list[Row](), list[str]()
    missing: list[str] = []
    for place, path in enumerate(paths):
        try:
            found = []
            for name, recipe in recipes.items():
                found.append(_reconstructed(path, name, recipe, patients, rule))
                if progress is not None:
                    progress(place * len(recipes) + len(found), len(paths) * len(recipes))
            rows += found
        except UsageError:
            raise
        except (NirvanaError, OSError) as problem:
            if not rule.allow_missing or (len(missing) + 1 == len(paths)):
                raise
            missing.append(path.name)
            warnings.append(f"left out: {problem}")
    return rule.study(rows, missing=tuple(missing), warnings=tuple(warnings), untold=len(patients.untold))


def _reconstructed(path: Path, name: str, recipe: Recipe, patients: Patients, rule: Rule) -> Row:
    scan = open_scan(path)
    if scan.volumes > 1:
        raise UsageError(f"{path} holds {scan.volumes} volumes; reconstruct the one that is meant, and score that")
    target = open_target(scan)
    _require_undersampled(scan, recipe)
    return _row(path.name, name, recipe.apply(scan), target, patients.label(path), rule, rule.boxes(path))


def _require_undersampled(scan: Scan, recipe: Recipe) -> None:
    if scan.fully_sampled and recipe.accelerate is None and recipe.mask in MASKS:
        raise UsageError(f"{scan.path or scan.name} is fully sampled, and nothing is left out; add --accelerate 4, say")


def _row(file: str, name: str, volume: Volume, target: Target, patient: str, rule: Rule, boxes: tuple[Box, ...]) -> Row:
    protocol: Protocol = protocol_named(rule.protocol)
    made = volume.provenance if made_here(volume) else {}
    sampling = made.get("sampling")
    told = {**sampling, "mask_hash": mask_hash(volume.mask)} if isinstance(sampling, Mapping) else None
    return Row(
        score=score_volume(file, volume, target, protocol, boxes),
        method=name or str(made.get("method") or PREDICTION),
        patient=patient,
        contrast=contrast_of(target.metadata),
        field_strength_t=field_of(target.metadata),
        sampling=told,
        model=made.get("model"),
        model_sha256=made.get("model_sha256"),
        simulated=target.simulated,
    )


def _named_by_method(rows: list[Row]) -> list[Row]:
    """One set is one method: by its name where all files say the same."""
    names = {row.method for row in rows}
    return rows if len(names) == 1 else [replace(row, method=PREDICTION) for row in rows]
