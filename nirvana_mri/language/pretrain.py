"""Pretraining a backbone on text: exact to resume, the same on one process or several."""

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from nirvana_mri.backbone import NirvanaLM
from nirvana_mri.backbone.file import save_backbone
from nirvana_mri.backbone.shards import whole
from nirvana_mri.backbone.tokenizer import BPETokenizer, Tokenizer, require_fit
from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.language.loss import NextTokenLoss
from nirvana_mri.language.optimizer import OPTIMIZERS, make_optimizers, schedule
from nirvana_mri.language.packing import PackedText, Source
from nirvana_mri.language.processes import PARALLEL, Processes, join, spread
from nirvana_mri.language.state import Kept, Run, keep, moments_of, put_moments, read_kept
from nirvana_mri.metrics_file import MetricsFile

PRECISIONS = ("fp32", "bf16")
RATES = {"adamw": 1e-3, "muon": 2e-2}
STATE, LAST, METRICS = "state.safetensors", "last.safetensors", "metrics.csv"
PLACES = (  # what a run may change when it goes on
    *("data", "out", "held_out", "resume", "max_steps", "checkpoint_every", "notes"),
    *("threads", "device", "parallel", "micro_tokens"),
)
COLUMNS = ("step", "tokens", "loss", "held_out_loss", "rate", "gradient_norm", "tokens_per_second")
HELD_OUT_ROWS = 16
PATIENCE = 60.0  # seconds after which a checkpoint is due, however few steps they were
Progress = Callable[[int, int, dict[str, float]], None]


@dataclass(frozen=True)
class PretrainConfig:
    """One run: what it reads, how it learns, for how long, and where it leaves its files.

    ``batch_tokens`` are all tokens of one step, over all processes; ``micro_tokens`` those that one process holds at
    once (0: all of its share). ``length`` is the number of tokens in a row; the first ``1 - long_share`` of the steps
    cut the same rows into pieces of ``short_length``, which is faster. The rate falls to the share ``last_rate`` of
    ``learning_rate`` (0: what suits the optimiser). ``parallel`` says how several processes share the work.
    """

    data: tuple[Path, ...]
    out: Path
    max_steps: int = 2000
    length: int = 512
    short_length: int = 0
    long_share: float = 1.0
    batch_tokens: int = 4096
    micro_tokens: int = 0
    optimizer: str = "adamw"
    learning_rate: float = 0.0
    last_rate: float = 0.0
    warm_up: int = 50
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 0
    buffer_rows: int = 2048
    precision: str = "fp32"
    recompute: bool = False
    checkpoint_every: int = 100
    threads: int = 0
    device: str = "cpu"
    parallel: str = "ddp"
    resume: bool = False
    held_out: Path | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("max_steps", "length", "batch_tokens", "buffer_rows", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.warm_up < 0:
            raise UsageError(f"warm_up is {self.warm_up}; expected at least 0")
        if self.short_length and self.length % self.short_length:
            raise UsageError(f"short_length is {self.short_length}; expected a divisor of length, {self.length}")
        if self.batch_tokens % self.length:
            raise UsageError(f"batch_tokens is {self.batch_tokens}; expected a multiple of length, {self.length}")
        for name, known in (("optimizer", OPTIMIZERS), ("precision", PRECISIONS), ("parallel", PARALLEL)):
            if getattr(self, name) not in known:
                raise UsageError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(known)}")
        if self.optimizer == "muon" and self.parallel == "fsdp":
            raise UsageError("muon needs whole matrices, which fsdp cuts up; choose adamw, or ddp")
        for name in ("learning_rate", "last_rate", "long_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is {getattr(self, name)}; expected from 0 to 1")

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return os.environ.get("RANK", "0") == "0"

    @property
    def rate(self) -> float:
        return self.learning_rate or RATES[self.optimizer]

    def recipe(self) -> dict[str, Any]:
        """What decides the numbers, JSON-ready; no path, and not how long the run is to be."""
        values = asdict(self) | {"learning_rate": self.rate}
        for name in PLACES:
            del values[name]
        return values


def pretrain(config: PretrainConfig, model: NirvanaLM, tokenizer: Tokenizer, progress: Progress | None = None) -> Path:
    """Train a language model on text; the path of the finished backbone file.

    Leaves in ``config.out``: last.safetensors (a backbone file), metrics.csv (a row a step) and state.safetensors (to
    resume). Under torchrun every process reads the same text and takes its share of each batch, so that the numbers do
    not depend on how many there are. Raises: DataError for unusable text or a loss that is not finite, UsageError for a
    folder that holds a run already, CheckpointError for a run that cannot be resumed.
    """
    require_fit(tokenizer, model.config.vocab_size, None)
    if config.threads:
        torch.set_num_threads(config.threads)
    processes = join(config.device)
    rows = config.batch_tokens // config.length
    if rows % processes.world:
        raise UsageError(f"{rows} rows a step on {processes.world} processes; choose --batch-tokens for a multiple")
    recipe = config.recipe() | {"model": asdict(model.config), "tokenizer": tokenizer.sha256}
    kept = _kept(config, recipe)
    if kept is not None:
        model.load_state_dict(kept.weights, strict=True)
    model.requires_grad_(True).train().to(processes.device)
    model.recompute = config.recompute
    learner = spread(NextTokenLoss(model), processes, config.parallel)
    optimizers = make_optimizers(model, config.optimizer, config.rate, config.weight_decay)
    run = Run(model, optimizers, PackedText(config.data, tokenizer, config.length, config.seed, config.buffer_rows))
    run.recipe = recipe
    if kept is not None:
        put_moments(optimizers, kept.moments)
        run.text.resume(kept.metadata["text"], kept.buffer)
        run.step, run.tokens = kept.metadata["step"], kept.metadata["tokens"]
    run.text.fill()  # before anything is written: text that cannot be used leaves nothing behind
    if processes.first:
        for half_written in config.out.glob(".*.tmp"):  # by an earlier part of this run, when it was killed
            half_written.unlink()
    _steps(run, config, processes, learner, progress)
    return config.out / LAST


def _kept(config: PretrainConfig, recipe: dict[str, Any]) -> Kept | None:
    """What an earlier part of this run left, where it is to go on."""
    state = config.out / STATE
    if config.resume and not state.exists() and (config.out / METRICS).exists():
        logging.getLogger(__name__).warning("%s: ended before its first checkpoint; begun anew", config.out)
        return None
    if config.resume:
        return read_kept(state, recipe)
    if state.exists():
        raise UsageError(f"{config.out} holds a run already; continue it with --resume or choose another folder")
    return None


def _steps(
    run: Run, config: PretrainConfig, processes: Processes, learner: nn.Module, progress: Progress | None
) -> None:
    held_out = None if config.held_out is None else _held_out_rows(config, run.text.tokenizer, processes)
    metrics = MetricsFile(config.out / METRICS, COLUMNS, run.step, processes.first)
    began, before = time.monotonic(), run.tokens
    kept_at = began
    while run.step < config.max_steps:
        row = _step(run, config, learner, processes)
        speed = (run.tokens - before) / max(1e-9, time.monotonic() - began)
        keeps = run.step % config.checkpoint_every == 0 or run.step == config.max_steps
        if keeps and held_out is not None:
            row |= {"held_out_loss": held_out_loss(learner, held_out)}
        metrics.write(row | {"tokens_per_second": round(speed, 1)})
        if keeps or processes.agree(time.monotonic() - kept_at > PATIENCE):
            _keep(run, config, processes)
            kept_at = time.monotonic()
        if progress is not None and processes.first:
            progress(run.step, config.max_steps, row)


def _step(run: Run, config: PretrainConfig, learner: nn.Module, processes: Processes) -> dict[str, float]:
    share = schedule(run.step, config.max_steps, config.warm_up, config.last_rate)
    for optimizer in run.optimizers:
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * share
    loss = torch.zeros(())
    pieces = list(_pieces(run, config, processes))
    for number, (ids, weight) in enumerate(pieces):
        with _gradients(learner, last=number + 1 == len(pieces)):
            with _precision(config, ids.device):
                part = learner(ids[:, :-1], ids[:, 1:]) * weight
            part.backward()
        loss += part.detach().cpu()
    loss = processes.mean(loss)
    if not math.isfinite(float(loss)):
        raise DataError(f"the loss of step {run.step + 1} is {float(loss)}; the learning rate may be too high")
    norm = whole(nn.utils.clip_grad_norm_(run.model.parameters(), config.clip))
    for optimizer in run.optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    run.step += 1
    run.tokens += config.batch_tokens
    rate = run.optimizers[0].param_groups[0]["lr"]
    return {"step": run.step, "tokens": run.tokens, "loss": float(loss), "rate": rate, "gradient_norm": float(norm)}


def _held_out_rows(config: PretrainConfig, tokenizer: Tokenizer, processes: Processes) -> Tensor:
    """The first rows of the held-out text, the same whatever the training reads."""
    assert config.held_out is not None
    source = Source(config.held_out)
    rows = [source.row(config.length, tokenizer)]
    while len(rows) < HELD_OUT_ROWS and source.done < 1:
        rows.append(source.row(config.length, tokenizer))
    return torch.tensor(rows).to(processes.device)


@torch.no_grad()
def held_out_loss(learner: nn.Module, rows: Int[Tensor, "row token"]) -> float:
    """Mean loss [nats per token] of rows, each from an empty memory; all processes do the same work."""
    return float(sum(learner(row[None, :-1], row[None, 1:]) for row in rows)) / len(rows)


def _gradients(learner: nn.Module, last: bool) -> AbstractContextManager[Any]:
    """Processes exchange gradients once a step, after the last portion."""
    if last or not isinstance(learner, nn.parallel.DistributedDataParallel):
        return nullcontext()
    return learner.no_sync()


def _pieces(run: Run, config: PretrainConfig, processes: Processes) -> Iterator[tuple[Tensor, float]]:
    """This process's rows of the next batch, in portions, each with its share of this process's tokens."""
    drawn = run.text.draw(config.batch_tokens // config.length)
    rows = torch.from_numpy(drawn[processes.rank :: processes.world]).long()
    if run.step < round((1 - config.long_share) * config.max_steps):
        short = config.short_length or config.length
        rows = torch.cat([rows[:, start : start + short + 1] for start in range(0, config.length, short)])
    length = rows.shape[1] - 1
    at_once = max(1, (config.micro_tokens or len(rows) * length) // length)
    for part in rows.split(at_once):
        yield part.to(processes.device), len(part) / len(rows)


def _precision(config: PretrainConfig, device: torch.device) -> Any:
    return torch.autocast(device.type, torch.bfloat16) if config.precision == "bf16" else nullcontext()


def _keep(run: Run, config: PretrainConfig, processes: Processes) -> None:
    """The state first, then the backbone file: whatever a kill leaves, the state is whole and the newer one."""
    weights = {name: whole(tensor) for name, tensor in run.model.state_dict().items()}
    moments = moments_of(run.optimizers)
    if not processes.first:
        return
    keep(run, config.out / STATE, weights, moments)
    with torch.device("meta"):
        plain = NirvanaLM(run.model.config)
    plain.load_state_dict(weights, strict=True, assign=True)
    source = {"pretrained": "nirvana-mri backbone pretrain", "step": run.step, "tokens": run.tokens, **config.notes}
    tokenizer = run.text.tokenizer
    save_backbone(plain, config.out / LAST, source, tokenizer if isinstance(tokenizer, BPETokenizer) else None)
