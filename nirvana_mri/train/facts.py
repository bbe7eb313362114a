"""What a checkpoint says of its training: recipe, split, and the ranges that it covers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nirvana_mri.recon.checkpoint import save_checkpoint
from nirvana_mri.train.augment import SMALLEST
from nirvana_mri.train.config import TrainConfig
from nirvana_mri.train.manifest import Manifest
from nirvana_mri.train.state import Run
from nirvana_mri.train.subjects import SIMULATED_COILS, Subject


def training_facts(
    config: TrainConfig,
    manifest: Manifest,
    training: list[Subject],
    taught: Mapping[str, str] | None = None,
    begun_from: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """``taught`` names the vocabulary of findings that the encoder was trained to have said, if it was; ``begun_from``
    is the model whose weights the run took up, if any.
    """
    return {
        **({} if begun_from is None else {"begun_from": dict(begun_from)}),
        **({} if taught is None else {"findings": dict(taught)}),
        "recipe": config.recipe(),
        "split": {side: list(names) for side, names in manifest.sides().items()},
        "manifest": {**manifest.sides(), "sha256": manifest.sha256},
        "data_kind": sorted(
            {"measured k-space" if s.entry.is_scan else "k-space simulated from pictures" for s in training}
        ),
        "covers": _covers(config, training),
    }


def _covers(config: TrainConfig, training: list[Subject]) -> dict[str, Any]:
    """The ranges that training saw, for the warnings of later: acceleration, masks, coils, matrix, anatomy if told."""
    coils, sides = [], []
    for subject in training:
        if subject.entry.is_scan:
            coils.append(subject.entry.shape[1])
            sides += [*subject.entry.crop, subject.entry.shape[3]]
        else:
            coils += SIMULATED_COILS
            sides += [SMALLEST, config.largest]
    masks = config.masks
    return {
        "accelerations": [min(masks.accelerations), max(masks.accelerations)],
        "masks": list(masks.kinds),
        "coils": [min(coils), max(coils)],
        "matrix": [min(sides), max(sides)],
        "anatomy": list(config.anatomy),
    }


def save_model(run: Run, path: Path, facts: dict[str, Any]) -> None:
    """The averaged weights as a model file, with what is known of its training until now."""
    training = {**facts, "steps": run.step, "metrics": _metrics(run)}
    covers = training.pop("covers")
    save_checkpoint(run.model, path, covers=covers, training=training, codecs=run.average, frozen=run.frozen)


def _metrics(run: Run) -> dict[str, Any]:
    """The held-out scores that these weights are kept with; empty before the first."""
    return {} if not run.scores else {**run.scores, "protocol": run.protocol}
