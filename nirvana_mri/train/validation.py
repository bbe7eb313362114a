"""Held-out examples, fixed for a run, and how well the averaged weights do on them."""

import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nirvana_mri.figures import Panel, comparison, save_png
from nirvana_mri.train.config import TrainConfig
from nirvana_mri.train.data import Example, Subject, make_example
from nirvana_mri.train.engine import Engine
from nirvana_mri.train.loss import ssim
from nirvana_mri.train.state import Run, codec_weights, put_weights

EXAMPLES = (8, 32)  # at least, at most


def validation_examples(held_out: list[Subject], config: TrainConfig, engine: Engine) -> list[Example]:
    """This process's share of whole slices of the held-out subjects in turn.

    Each draws by its own name, whoever else is held out.
    """
    if not held_out:
        return []
    examples = []
    for number in range(engine.rank, count_of(held_out), engine.world):
        subject = held_out[number % len(held_out)]
        seed = [config.seed, 1, zlib.crc32(subject.name.encode()), number // len(held_out)]
        examples.append(make_example(subject, np.random.default_rng(seed), config, whole=True).to(engine.device))
    return examples


def count_of(held_out: list[Subject]) -> int:
    """How many examples all processes have together."""
    least, most = EXAMPLES
    return min(max(len(held_out), least), most)


def validate(
    run: Run, examples: list[Example], count: int, engine: Engine, show: Path | None = None
) -> dict[str, float]:
    """Mean SSIM and PSNR [dB] of the averaged weights over the ``count`` examples of all processes.

    With ``show`` the first example goes there as a picture: zero-filled and reconstructed beside the target.
    """
    current = {name: tensor.detach().clone() for name, tensor in codec_weights(run.model)}
    put_weights(run.model, run.average)
    run.model.eval()
    similarity = decibels = 0.0
    with torch.no_grad():
        for number, example in enumerate(examples):
            picture = example.problem.finish(run.model([example.problem])[0]) / example.problem.scale
            if show is not None and number == 0:
                _draw(example, picture, run.step, show)
            similarity += float(ssim(picture / example.data_range, example.target / example.data_range, 1.0))
            error = float((picture - example.target).square().mean())
            decibels += 10 * math.log10(example.data_range**2 / error)
    put_weights(run.model, current)
    similarity, decibels = engine.total([similarity, decibels])
    return {"ssim": similarity / count, "psnr": decibels / count}


def _draw(example: Example, picture: Tensor, step: int, path: Path) -> None:
    problem = example.problem
    before = problem.finish(problem.operator.adjoint(problem.data)) / problem.scale
    panels = []
    for title, shown in (("zero-filled", before), ("nirvana", picture)):
        score = float(ssim(shown / example.data_range, example.target / example.data_range, 1.0))
        panels.append(Panel(title, shown.cpu().numpy(), f"SSIM {score:.3f}"))
    figure = comparison(panels, example.target.cpu().numpy(), f"held out, step {step:,}")
    save_png(figure, path)
