"""The model that a run begins with: another run's, or a preset's round the language model that was asked for."""

import copy
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from nirvana_mri.backbone import BackboneConfig, load_backbone
from nirvana_mri.backbone.file import stored_tokenizer
from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.findings.statement import GRID
from nirvana_mri.findings.vocabulary import vocabulary
from nirvana_mri.recon.checkpoint import LoadedModel, load_model
from nirvana_mri.recon.model import NirvanaRecon, NirvanaReconConfig
from nirvana_mri.train.config import TrainConfig
from nirvana_mri.train.exchange import Answers
from nirvana_mri.train.manifest import Manifest
from nirvana_mri.train.outputs import LAST
from nirvana_mri.train.subjects import Subject


def initial_model(config: TrainConfig, manifest: Manifest, taught: str | None = None) -> NirvanaRecon:
    """Weights before the first step, on the CPU in float32: the same for the same seed. A new encoder that is to learn
    words sees by convolutions, and knows the labels of the vocabulary ``taught``, if one is named.

    Raises: UsageError for a language model that is not there or contradicts itself, DataError where the model to begin
    with was trained on what is to be held out.
    """
    torch.manual_seed(config.seed)
    if config.start_from is not None:
        loaded = load_model(config.start_from)
        _require_unseen(loaded, manifest)
        if config.backbone is None and config.backbone_file is None:
            return copy.deepcopy(loaded.model)  # a loaded model is shared; this one will change
        model = _around(config, replace(loaded.model.config, backbone=config.backbone or "pretrained"))
        model.encoder.load_state_dict(loaded.model.encoder.state_dict())
        model.decoder.load_state_dict(loaded.model.decoder.state_dict())
        return model
    return _around(config, None, taught)


def _around(config: TrainConfig, found: NirvanaReconConfig | None, taught: str | None = None) -> NirvanaRecon:
    """New codecs, of the sizes ``found`` or the preset's, round the language model that the run asks for."""
    if config.backbone_file is not None:
        if config.backbone not in (None, "pretrained"):
            raise UsageError(f"--backbone {config.backbone} and --backbone-file contradict each other; choose one")
        backbone = load_backbone(config.backbone_file, dtype=torch.float32)
        found = _sizes(config, taught, backbone.config) if found is None else replace(found, lm=backbone.config)
        return NirvanaRecon(found, backbone, stored_tokenizer(config.backbone_file))
    if found is not None:
        return NirvanaRecon(found)
    if config.preset == "base" and config.backbone in (None, "pretrained"):
        raise UsageError(
            "the language model of preset base does not come with the package; make a file of the published weights "
            "(nirvana-mri backbone import) and name it with --backbone-file, or draw weights with --backbone random"
        )
    return NirvanaRecon(_sizes(config, taught))


def taught_findings(config: TrainConfig, answers: Answers | None, training: Sequence[Subject]) -> dict[str, str] | None:
    """The vocabulary of findings that the run's model will know, by name and sha256: learned in stage encoder, kept
    from the model it begins with in stage decoder, which leaves the encoder as it is; lost in stage joint.
    """
    if answers is not None:
        simulated = any(not subject.entry.is_scan for subject in training)
        spoken = answers.taught((subject.name for subject in training), simulated)
        return None if spoken is None else {"vocabulary": spoken.name, "sha256": spoken.sha256}
    before = config.out / LAST if config.resume else config.start_from
    if config.stage != "decoder" or before is None or (config.resume and not (config.out / LAST).is_file()):
        return None
    kept: dict[str, str] | None = load_model(before).training.get("findings")
    return kept


def _sizes(config: TrainConfig, taught: str | None, lm: BackboneConfig | None = None) -> NirvanaReconConfig:
    """The preset with what the run changes of it."""
    build = {"nano": NirvanaReconConfig.nano, "base": NirvanaReconConfig.base}[config.preset]
    found = build(lm, backbone=config.backbone or "pretrained", passes=config.passes, trigger=config.trigger)
    if not config.consistency:
        found = replace(found, decoder=replace(found.decoder, consistency_steps=0))
    if config.stage == "encoder":
        labels = 0 if taught is None else len(vocabulary(taught).labels)
        found = replace(found, encoder=replace(found.encoder, stem="convolutions", labels=labels, cells=GRID))
    if config.encoder_depth:
        found = replace(found, encoder=replace(found.encoder, depth=config.encoder_depth))
    return found


def ancestry(config: TrainConfig) -> dict[str, Any] | None:
    """The model that the run began with, JSON-ready: its sha256, and the steps and subjects (name to fingerprint, null
    where that is not known) that its weights, and those before them, have seen. None where nothing was trained before.
    """
    if config.start_from is None:
        return None
    loaded = load_model(config.start_from)
    before = loaded.training.get("begun_from") or {"steps": 0}
    steps = int(loaded.training.get("steps") or 0) + before["steps"]
    return {"sha256": loaded.sha256, "steps": steps, "seen": seen_by(loaded)}


def seen_by(loaded: LoadedModel) -> dict[str, str | None]:
    """Whom a model was trained on, it or one that it began with: names to fingerprints, None where only names are
    known.
    """
    training = loaded.training
    own = training.get("manifest", {}).get("training") or dict.fromkeys(training.get("split", {}).get("training", ()))
    seen: dict[str, str | None] = dict(own)
    for name, fingerprint in (training.get("begun_from") or {}).get("seen", {}).items():
        taken = fingerprint is not None and seen.get(name, fingerprint) != fingerprint  # another file of that name
        seen[f"{name} ({fingerprint[:8]})" if taken else name] = fingerprint
    return seen


def _require_unseen(loaded: LoadedModel, manifest: Manifest) -> None:
    """DataError where the model to begin with was trained on what is to be held out now; a warning where all that is
    known of its training are names, and one of them is the same.
    """
    seen = seen_by(loaded)
    for name, fingerprint in manifest.validation.items():
        if fingerprint in seen.values():
            raise DataError(
                f"{loaded.name} was trained on {name}, which would be held out now; hold out others, or begin anew"
            )
        if name in seen and seen[name] is None:
            logging.getLogger(__name__).warning(
                "%s was trained on a file named %s, which is held out now: its scores may flatter", loaded.name, name
            )
