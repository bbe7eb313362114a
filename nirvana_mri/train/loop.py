"""The training loop: plain, exact to resume, and unable to move the backbone."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Subset

from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.language.optimizer import schedule
from nirvana_mri.metrics_file import MetricsFile
from nirvana_mri.recon.checkpoint import backbone_sha256, load_model
from nirvana_mri.recon.model import NirvanaRecon, NirvanaReconConfig
from nirvana_mri.train.config import TrainConfig
from nirvana_mri.train.data import Example, Examples, Subject, open_subjects, split_subjects
from nirvana_mri.train.facts import save_model, training_facts
from nirvana_mri.train.loss import image_loss, ssim
from nirvana_mri.train.stages import require_trainable, trained_parameters
from nirvana_mri.train.state import Run, codec_weights, keep, put_weights, resume

VALIDATION_EXAMPLES = 8
COLUMNS = ("step", "loss", "seconds", "ssim", "psnr")
Progress = Callable[[int, int, dict[str, float]], None]


def train(config: TrainConfig, progress: Progress | None = None) -> Path:
    """Train codecs round a frozen backbone; the path of the finished model.

    Leaves in ``config.out``: ``model.safetensors`` (averaged weights, what ``reconstruct --model`` takes),
    ``last.safetensors`` (to resume) and ``metrics.csv``. Raises DataError for unusable data, CheckpointError for a run
    that cannot be resumed, and RuntimeError should the backbone's bytes have changed.
    """
    require_trainable(config.stage)
    if config.threads:
        torch.set_num_threads(config.threads)
    training, held_out = split_subjects(open_subjects(config.data), config)
    model = _initial_model(config)
    before = backbone_sha256(model)
    parameters = trained_parameters(model, config.stage)
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4)
    run = Run(model, optimizer, {})
    config.out.mkdir(parents=True, exist_ok=True)
    if config.resume:
        resume(run, config.out / "last.safetensors", config.seed)
    elif (config.out / "last.safetensors").exists():
        raise UsageError(f"{config.out} holds a run already; continue it with --resume or choose another folder")
    if not run.average:
        run.average = {name: tensor.detach().clone() for name, tensor in codec_weights(model)}
    facts = training_facts(config, training, held_out)
    _steps(run, config, training, held_out, facts, progress)
    if backbone_sha256(model) != before:
        raise RuntimeError("the frozen backbone changed while training; this is a bug, and the model is not saved")
    return save_model(run, config, facts)


def _initial_model(config: TrainConfig) -> NirvanaRecon:
    torch.manual_seed(config.seed)
    if config.start_from is not None:
        model = copy.deepcopy(load_model(config.start_from).model)  # a loaded model is shared; this one will change
    elif config.preset == "nano":
        model = NirvanaRecon(NirvanaReconConfig.nano(backbone=config.backbone))
    else:
        raise UsageError(f"preset is {config.preset!r}; expected 'nano' (larger ones need a GPU engine)")
    return model.to(config.device)


def _steps(
    run: Run,
    config: TrainConfig,
    training: list[Subject],
    held_out: list[Subject],
    facts: dict[str, Any],
    progress: Progress | None,
) -> None:
    validation = _validation_examples(held_out, config)
    metrics = MetricsFile(config.out / "metrics.csv", COLUMNS, run.step)
    started, losses = time.monotonic(), []
    for example in _stream(training, config, run.step):
        losses.append(_step(run, example, config))
        run.step += 1
        if run.step % 50 == 0 or run.step == config.steps:
            row = {"step": run.step, "loss": sum(losses) / len(losses), "seconds": time.monotonic() - started}
            losses = []
            if validation and (run.step % config.validate_every == 0 or run.step == config.steps):
                row |= validate(run, validation)
            metrics.write(row)
            if progress is not None:
                progress(run.step, config.steps, {key: value for key, value in row.items() if key != "step"})
        if run.step % config.checkpoint_every == 0 or run.step == config.steps:
            keep(run, config.out / "last.safetensors", config.seed)
            save_model(run, config, facts)


def _stream(training: list[Subject], config: TrainConfig, first: int) -> Iterator[Example]:
    examples = Examples(training, config, stream=0)
    loader = DataLoader(
        Subset(examples, range(first, config.steps)),
        batch_size=None,
        num_workers=config.workers,
        prefetch_factor=4 if config.workers else None,
        worker_init_fn=_single_thread,
    )
    yield from loader


def _single_thread(worker: int) -> None:
    torch.set_num_threads(1)


def _step(run: Run, example: Example, config: TrainConfig) -> float:
    for group in run.optimizer.param_groups:
        group["lr"] = config.learning_rate * schedule(run.step, config.steps, config.warm_up)
    run.model.train()
    image = run.model([example.problem])[0]
    picture = example.problem.finish(image) / example.problem.scale
    loss = image_loss(picture, example.target, example.data_range, config.l1_weight)
    if not torch.isfinite(loss):
        raise DataError(
            f"the loss of step {run.step} is {float(loss)}; the learning rate may be too high, or a scan corrupt"
        )
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for g in run.optimizer.param_groups for p in g["params"]], config.clip)
    run.optimizer.step()
    memory = min(config.average, (run.step + 1) / (run.step + 10))
    with torch.no_grad():
        for name, tensor in codec_weights(run.model):
            run.average[name].lerp_(tensor.detach(), 1 - memory)
    return float(loss.detach())


def _validation_examples(held_out: list[Subject], config: TrainConfig) -> list[Example]:
    if not held_out:
        return []
    examples = Examples(held_out, config, stream=1, whole=True)
    return [examples[number] for number in range(VALIDATION_EXAMPLES)]


def validate(run: Run, examples: list[Example]) -> dict[str, float]:
    """Mean SSIM and PSNR [dB] of the averaged weights over fixed held-out examples."""
    current = {name: tensor.detach().clone() for name, tensor in codec_weights(run.model)}
    put_weights(run.model, run.average)
    run.model.eval()
    similarity, decibels = [], []
    with torch.no_grad():
        for example in examples:
            picture = example.problem.finish(run.model([example.problem])[0]) / example.problem.scale
            similarity.append(float(ssim(picture / example.data_range, example.target / example.data_range, 1.0)))
            error = float((picture - example.target).square().mean())
            decibels.append(10 * math.log10(example.data_range**2 / error))
    put_weights(run.model, current)
    return {"ssim": sum(similarity) / len(examples), "psnr": sum(decibels) / len(examples)}
