"""What a checkpoint says of its training: recipe, split, and the ranges that it covers."""

from pathlib import Path
from typing import Any

from nirvana_mri.recon.checkpoint import save_checkpoint
from nirvana_mri.train.augment import SMALLEST
from nirvana_mri.train.config import TrainConfig
from nirvana_mri.train.data import SIMULATED_COILS, Subject
from nirvana_mri.train.state import Run

PROTOCOL = "mean over fixed held-out examples of the training's own masks and noise; compare within a run only"


def training_facts(config: TrainConfig, training: list[Subject], held_out: list[Subject]) -> dict[str, Any]:
    return {
        "recipe": config.recipe(),
        "split": {"training": [s.name for s in training], "validation": [s.name for s in held_out]},
        "data_kind": sorted({"measured k-space" if s.scan else "k-space simulated from pictures" for s in training}),
        "covers": _covers(config, training),
    }


def _covers(config: TrainConfig, training: list[Subject]) -> dict[str, Any]:
    """The ranges that training saw, for the warnings of later: acceleration, masks, coils, matrix, anatomy if told."""
    coils, sides = [], []
    for subject in training:
        if subject.scan is not None:
            coils.append(subject.scan.shape[1])
            sides += [*subject.scan.crop, subject.scan.shape[3]]
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
    save_checkpoint(run.model, path, covers=covers, training=training, codecs=run.average)


def _metrics(run: Run) -> dict[str, Any]:
    """The held-out scores that these weights are kept with; empty before the first."""
    return {} if not run.scores else {**run.scores, "protocol": PROTOCOL}
