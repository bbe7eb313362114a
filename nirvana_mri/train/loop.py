"""The training loop: plain, exact to resume, and unable to move the backbone."""

import copy
import csv
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from nirvana_mri.errors import CheckpointError, DataError, UsageError
from nirvana_mri.io.atomic import atomic_path
from nirvana_mri.recon.checkpoint import backbone_sha256, load_model, save_checkpoint
from nirvana_mri.recon.model import NirvanaRecon, NirvanaReconConfig
from nirvana_mri.train.augment import SMALLEST
from nirvana_mri.train.config import TrainConfig
from nirvana_mri.train.data import SIMULATED_COILS, Example, Examples, Subject, open_subjects, split_subjects
from nirvana_mri.train.loss import image_loss, ssim
from nirvana_mri.train.stages import trained_parameters

log = logging.getLogger(__name__)
VALIDATION_EXAMPLES = 8
Progress = Callable[[int, int, dict[str, float]], None]


@dataclass(eq=False)
class Run:
    """All that changes while training."""

    model: NirvanaRecon
    optimizer: torch.optim.AdamW
    average: dict[str, Tensor]
    step: int = 0


def train(config: TrainConfig, progress: Progress | None = None) -> Path:
    """Train codecs round a frozen backbone; the path of the finished model.

    Leaves in ``config.out``: ``model.safetensors`` (averaged weights, what ``reconstruct --model`` takes),
    ``last.safetensors`` (to resume) and ``metrics.csv``. Raises DataError for unusable data, CheckpointError for a run
    that cannot be resumed, and RuntimeError should the backbone's bytes have changed.
    """
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
        _resume(run, config)
    elif (config.out / "last.safetensors").exists():
        raise UsageError(f"{config.out} holds a run already; continue it with --resume or choose another folder")
    if not run.average:
        run.average = {name: tensor.detach().clone() for name, tensor in _codecs(model)}
    facts = _facts(config, training, held_out)
    _steps(run, config, training, held_out, facts, progress)
    if backbone_sha256(model) != before:
        raise RuntimeError("the frozen backbone changed while training; this is a bug, and the model is not saved")
    return _save(run, config, facts)


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
    with _metrics(config.out / "metrics.csv", run.step) as write:
        started, losses = time.monotonic(), []
        for example in _stream(training, config, run.step):
            losses.append(_step(run, example, config))
            run.step += 1
            if run.step % 50 == 0 or run.step == config.steps:
                row = {"step": run.step, "loss": sum(losses) / len(losses), "seconds": time.monotonic() - started}
                losses = []
                if validation and (run.step % config.validate_every == 0 or run.step == config.steps):
                    row |= validate(run, validation)
                write(row)
                if progress is not None:
                    progress(run.step, config.steps, {key: value for key, value in row.items() if key != "step"})
            if run.step % config.checkpoint_every == 0 or run.step == config.steps:
                _keep(run, config)
                _save(run, config, facts)


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
        group["lr"] = config.learning_rate * schedule(run.step, config)
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
    keep = min(config.average, (run.step + 1) / (run.step + 10))
    with torch.no_grad():
        for name, tensor in _codecs(run.model):
            run.average[name].lerp_(tensor.detach(), 1 - keep)
    return float(loss.detach())


def schedule(step: int, config: TrainConfig) -> float:
    """Share of the learning rate: a linear warm-up, then half a cosine down to nothing."""
    if step < config.warm_up:
        return (step + 1) / config.warm_up
    done = (step - config.warm_up) / max(1, config.steps - config.warm_up)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _validation_examples(held_out: list[Subject], config: TrainConfig) -> list[Example]:
    if not held_out:
        return []
    examples = Examples(held_out, config, stream=1, whole=True)
    return [examples[number] for number in range(VALIDATION_EXAMPLES)]


def validate(run: Run, examples: list[Example]) -> dict[str, float]:
    """Mean SSIM and PSNR [dB] of the averaged weights over fixed held-out examples."""
    current = {name: tensor.detach().clone() for name, tensor in _codecs(run.model)}
    _put(run.model, run.average)
    run.model.eval()
    similarity, decibels = [], []
    with torch.no_grad():
        for example in examples:
            picture = example.problem.finish(run.model([example.problem])[0]) / example.problem.scale
            similarity.append(float(ssim(picture / example.data_range, example.target / example.data_range, 1.0)))
            error = float((picture - example.target).square().mean())
            decibels.append(10 * math.log10(example.data_range**2 / error))
    _put(run.model, current)
    return {"ssim": sum(similarity) / len(examples), "psnr": sum(decibels) / len(examples)}


def _codecs(model: NirvanaRecon) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        if not name.startswith("backbone."):
            yield name, parameter


def _put(model: NirvanaRecon, tensors: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in _codecs(model):
            parameter.copy_(tensors[name])


class _metrics:
    """``metrics.csv``, appended row by row; rows beyond the resumed step are dropped first."""

    columns = ("step", "loss", "seconds", "ssim", "psnr")

    def __init__(self, path: Path, first: int) -> None:
        self.path = path
        rows = []
        if first and path.exists():
            with path.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if int(row["step"]) <= first]
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(rows)

    def __enter__(self) -> Callable[[dict[str, Any]], None]:
        return self.write

    def __exit__(self, *_: object) -> None:
        return None

    def write(self, row: dict[str, Any]) -> None:
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(row)


def _keep(run: Run, config: TrainConfig) -> None:
    """All that resuming needs, in one file: weights, averages, and the optimiser's moments."""
    tensors = {f"model.{name}": tensor.detach() for name, tensor in _codecs(run.model)}
    tensors |= {f"average.{name}": tensor for name, tensor in run.average.items()}
    for number, values in run.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{key}": torch.as_tensor(value) for key, value in values.items()}
    with atomic_path(config.out / "last.safetensors") as temporary:
        save_file(
            {k: v.contiguous() for k, v in tensors.items()},
            temporary,
            {"step": str(run.step), "seed": str(config.seed)},
        )


def _resume(run: Run, config: TrainConfig) -> None:
    from safetensors import safe_open

    path = config.out / "last.safetensors"
    if not path.exists():
        raise CheckpointError(f"{path}: nothing to resume; start without --resume")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    if metadata.get("seed") != str(config.seed):
        raise CheckpointError(f"{path} was trained with seed {metadata.get('seed')}, not {config.seed}; use its seed")
    tensors = load_file(path)
    _put(run.model, {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    run.average = {k.removeprefix("average."): v for k, v in tensors.items() if k.startswith("average.")}
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, number, name = key.split(".")
            state.setdefault(int(number), {})[name] = value
    run.optimizer.load_state_dict({"state": state, "param_groups": run.optimizer.state_dict()["param_groups"]})
    run.step = int(metadata["step"])


def _facts(config: TrainConfig, training: list[Subject], held_out: list[Subject]) -> dict[str, Any]:
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


def _save(run: Run, config: TrainConfig, facts: dict[str, Any]) -> Path:
    path = config.out / "model.safetensors"
    training = {**facts, "steps": run.step}
    covers = training.pop("covers")
    save_checkpoint(run.model, path, covers=covers, training=training, codecs=run.average)
    return path
