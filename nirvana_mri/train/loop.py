"""The training loop: plain, exact to resume, and unable to move the backbone."""

import logging
import math
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.language.optimizer import schedule
from nirvana_mri.recon.checkpoint import backbone_sha256, frozen_part
from nirvana_mri.recon.frozen import BESIDE, is_large, stored_low, write_beside
from nirvana_mri.train.cache import HybridCache
from nirvana_mri.train.config import TrainConfig
from nirvana_mri.train.data import Example, Examples
from nirvana_mri.train.engine import Engine, make_engine
from nirvana_mri.train.exchange import Answers, read_answers
from nirvana_mri.train.facts import training_facts
from nirvana_mri.train.index import Index, read_index
from nirvana_mri.train.manifest import Manifest, read_manifest, split
from nirvana_mri.train.objective import Objective, make_objective
from nirvana_mri.train.optimizer import codec_optimizers
from nirvana_mri.train.outputs import BEST, INDEX, STATE, Outputs
from nirvana_mri.train.pace import RECENT, Pace
from nirvana_mri.train.stages import trained_parameters
from nirvana_mri.train.start import ancestry, initial_model, taught_findings
from nirvana_mri.train.state import Run, codec_weights, resume
from nirvana_mri.train.subjects import Subject, subjects_of
from nirvana_mri.train.validation import count_of, validate, validation_examples

PATIENCE = 60.0  # seconds after which a checkpoint is due, however few steps they were
Progress = Callable[[int, int, dict[str, float]], None]


def train(
    config: TrainConfig, progress: Progress | None = None, indexing: Callable[[int, int], None] | None = None
) -> Path:
    """Train codecs round a frozen backbone; the path of the best model.

    Leaves in ``config.out``: ``last.safetensors`` and ``best.safetensors`` (averaged weights as they are at the end,
    and where held-out SSIM was highest; ``reconstruct --model`` takes either), ``state.safetensors`` (to resume),
    ``metrics.csv`` (a row a step, with the seconds that it waited for its examples), ``validation/`` (a picture each
    time), ``index.json`` and ``manifest.json`` (what the data hold, and who is on which side). Where nothing can be
    held out, best is last, and a warning says so.
    ``indexing`` is told of the files looked at.

    Raises DataError for unusable data or a patient on two sides, CheckpointError for a run that cannot be resumed, and
    RuntimeError should the backbone's bytes have changed.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    engine = make_engine(config)
    with engine.ahead():
        index = read_index(config.data, config.index or config.out / INDEX, config.skip_bad, indexing)
    manifest = _manifest(config, index)
    data = _data(config, index, manifest)
    if not data.held_out and engine.first:
        logging.getLogger(__name__).warning("%s: no subject can be held out; training without validation", config.data)
    taught = taught_findings(config, data.answers, data.training)
    learned = None if taught is None else taught["vocabulary"]
    model = initial_model(config, manifest, learned)
    large = is_large(model)
    frozen = frozen_part(model, beside=large)
    if model.backbone is not None:
        model.backbone.recompute = large if config.recompute is None else config.recompute
        if config.precision == "bf16":
            stored_low(model.backbone, torch.bfloat16)
    model.to(engine.device)
    objective = make_objective(config, model, engine.lowered, learned)
    parameters = trained_parameters(model, config.stage)
    optimizers = codec_optimizers(parameters, config.optimizer)
    run = Run(model, optimizers, {name: tensor.detach().clone() for name, tensor in codec_weights(model)})
    run.frozen = frozen
    facts = training_facts(config, manifest, data.training, taught, ancestry(config))
    run.protocol = objective.protocol
    run.recipe = facts["recipe"] | {"manifest": manifest.sha256, "backbone_sha256": frozen.sha256}
    if data.answers is not None:
        run.recipe |= {"answers": data.answers.sha256, "encoder": asdict(model.config.encoder)}
    state = config.out / STATE
    if config.resume:
        resume(run, state)
    elif state.exists():
        raise UsageError(f"{config.out} holds a run already; continue it with --resume or choose another folder")
    config.out.mkdir(parents=True, exist_ok=True)
    if large and engine.first and not (config.out / BESIDE).exists():
        write_beside(model, config.out)
    outputs = Outputs(run, config, manifest, facts, engine.first)
    _steps(run, objective, config, engine, data, outputs, progress)
    moved = backbone_sha256(model) != frozen.sha256
    engine.leave()
    if moved:
        raise RuntimeError("the frozen backbone changed while training; this is a bug, and the model is not saved")
    return config.out / BEST


def _manifest(config: TrainConfig, index: Index) -> Manifest:
    if config.manifest is None:
        return split(index.entries, config.held_out, config.validation_fraction, config.seed)
    if config.held_out:
        raise UsageError("the manifest says who is held out; leave held_out or manifest out")
    return read_manifest(config.manifest, index.entries)


@dataclass(frozen=True)
class Data:
    """Who is trained on, who is held out, and (stage encoder) what is to be said of them."""

    training: list[Subject]
    held_out: list[Subject]
    answers: Answers | None


def _data(config: TrainConfig, index: Index, manifest: Manifest) -> Data:
    """The two sides, read through a cache if wanted. Raises: UsageError where the disk has no room for that."""
    cache = None if config.cache is None else HybridCache(config.cache)
    training, held_out = (subjects_of(index, names, cache) for names in (manifest.training, manifest.validation))
    if cache is not None:
        cache.require_room(subject.entry for subject in training + held_out)
    answers = read_answers(config.pairs, config.annotations) if config.stage == "encoder" else None
    return Data(training, held_out, answers)


def _steps(
    run: Run,
    objective: Objective,
    config: TrainConfig,
    engine: Engine,
    data: Data,
    outputs: Outputs,
    progress: Progress | None,
) -> None:
    validation = validation_examples(data.held_out, config, engine, data.answers)
    learner = engine.spread(objective)
    recent: deque[float] = deque(maxlen=RECENT)
    pace = Pace()
    kept_at = time.monotonic()
    for examples in pace.over(_stream(data, config, run.step, engine)):
        row = _step(run, learner, examples, config, engine) | {"waited": round(pace.waited, 4)}
        recent.append(row["loss"])
        pace.stepped()
        done = run.step == config.max_steps
        if data.held_out and (run.step % config.validate_every == 0 or done):
            scores = validate(run, objective, validation, count_of(data.held_out), engine, outputs.picture())
            run.scores = {"step": run.step, **scores}
            best = objective.better(run.scores, run.best)
            run.best = run.scores if best else run.best
            outputs.judged(best)
            row |= scores
            done = done or 0 < config.patience * config.validate_every <= run.step - run.best["step"]
        outputs.row(row)
        if run.step % config.checkpoint_every == 0 or done or engine.agree(time.monotonic() - kept_at > PATIENCE):
            outputs.checkpoint()
            kept_at = time.monotonic()
        if progress is not None and engine.first:
            speed = {"slices_per_second": pace.steps_per_second * config.batch, "waiting": pace.waiting}
            progress(run.step, config.max_steps, row | speed | {"loss": sum(recent) / len(recent)})
        if done:
            break
    outputs.close(validated=bool(data.held_out))


def _stream(data: Data, config: TrainConfig, first: int, engine: Engine) -> Iterator[list[Example]]:
    """This process's examples of each step from ``first`` on: every n-th of the batch."""
    mine = range(first * config.batch + engine.rank, config.max_steps * config.batch, engine.world)
    loader = DataLoader(
        Subset(Examples(data.training, config, data.answers), mine),
        batch_size=None,
        num_workers=config.workers,
        prefetch_factor=4 if config.workers else None,
        worker_init_fn=_single_thread,
    )
    examples = iter(loader)
    for _ in range(first, config.max_steps):
        yield list(islice(examples, config.batch // engine.world))


def _single_thread(worker: int) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # a cluster's notice is for the process that trains


def _step(
    run: Run, learner: nn.Module, examples: list[Example], config: TrainConfig, engine: Engine
) -> dict[str, float]:
    rate = config.rate * schedule(run.step, config.max_steps, config.warm_up)
    for group in (group for optimizer in run.optimizers for group in optimizer.param_groups):
        group["lr"] = rate * group["share"]
    run.model.train()
    run.model.zero_grad(set_to_none=True)
    total = 0.0
    parts = list(portions(examples, config.micro))
    rounds = engine.rounds(len(parts))
    for number in range(rounds):
        weight = 1.0 if number < len(parts) else 0.0  # of a portion that is seen again, for others' sake
        part = [example.to(engine.device) for example in parts[min(number, len(parts) - 1)]]
        with engine.portion(learner, last=number + 1 == rounds):
            loss = weight * learner(part) / len(examples)
            engine.backward(loss)
        total += float(loss.detach())
    total = engine.total([total])[0] / engine.world
    if not math.isfinite(total):
        raise DataError(
            f"the loss of step {run.step + 1} is {total}; the learning rate may be too high, or a scan corrupt"
        )
    norm = engine.step(run.optimizers, config.clip)
    memory = min(config.average, (run.step + 1) / (run.step + 10))
    with torch.no_grad():
        for name, tensor in codec_weights(run.model):
            run.average[name].lerp_(tensor.detach(), 1 - memory)
    run.step += 1
    return {"step": run.step, "loss": total, "rate": rate, "gradient_norm": norm}


def portions(examples: list[Example], most: int) -> Iterator[list[Example]]:
    """The examples in groups of one matrix, of at most so many (0: no limit)."""
    groups: dict[tuple[int, int], list[Example]] = {}
    for example in examples:
        groups.setdefault(example.matrix, []).append(example)
    for group in groups.values():
        for start in range(0, len(group), most or len(group)):
            yield group[start : start + (most or len(group))]
