"""Held-out examples, fixed for a run, and how well the averaged weights do on them."""

import math
import zlib
from pathlib import Path

import numpy as np
import torch

from nirvana_mri.train.config import TrainConfig
from nirvana_mri.train.data import Example, make_example
from nirvana_mri.train.engine import Engine
from nirvana_mri.train.exchange import Answers
from nirvana_mri.train.objective import Objective
from nirvana_mri.train.state import Run, codec_weights, put_weights
from nirvana_mri.train.subjects import Subject

EXAMPLES = (8, 32)  # at least, at most


def validation_examples(
    held_out: list[Subject], config: TrainConfig, engine: Engine, answers: Answers | None
) -> list[Example]:
    """This process's share of whole slices of the held-out subjects in turn; all have as many, so the last ones of some
    may be over.

    Each draws by its own name, whoever else is held out.
    """
    if not held_out:
        return []
    examples = []
    rounds = math.ceil(count_of(held_out) / engine.world)
    for number in range(engine.rank, rounds * engine.world, engine.world):
        subject = held_out[number % len(held_out)]
        seed = [config.seed, 1, zlib.crc32(subject.name.encode()), number // len(held_out)]
        example = make_example(subject, np.random.default_rng(seed), config, whole=True, answers=answers)
        examples.append(example.to(engine.device))
    return examples


def count_of(held_out: list[Subject]) -> int:
    """How many examples all processes have together."""
    least, most = EXAMPLES
    return min(max(len(held_out), least), most)


def validate(
    run: Run, objective: Objective, examples: list[Example], count: int, engine: Engine, show: Path | None = None
) -> dict[str, float]:
    """Mean scores of the averaged weights over the ``count`` examples of all processes.

    With ``show`` the first example may go there as a picture.
    """
    current = {name: tensor.detach().clone() for name, tensor in codec_weights(run.model)}
    put_weights(run.model, run.average)
    run.model.eval()
    sums = [0.0] * len(objective.scores)
    with torch.no_grad():
        for number, example in enumerate(examples):
            found = objective.judge(example, show if number == 0 else None, f"held out, step {run.step:,}")
            if number * engine.world + engine.rank < count:
                sums = [total + value for total, value in zip(sums, found, strict=True)]
    put_weights(run.model, current)
    return dict(zip(objective.scores, (total / count for total in engine.total(sums)), strict=True))
