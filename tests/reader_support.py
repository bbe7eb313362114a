"""A tiny model that has words, and may know labels. Tests import it as ``reader_support``."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from language_support import tiny_tokenizer
from tiny import head, tiny_config, tiny_scan

from nirvana_mri.backbone import NirvanaLM
from nirvana_mri.recon.checkpoint import save_checkpoint
from nirvana_mri.recon.model import NirvanaRecon
from nirvana_mri.train import TrainConfig


def reader(labels: int = 0, stem: str = "linear") -> NirvanaRecon:
    """Its language model, as drawn, has the words of the tiny tokenizer."""
    words, config = tiny_tokenizer(), tiny_config()
    lm = replace(config.lm, vocab_size=words.vocab_size, initializer_range=0.1)
    encoder = replace(config.encoder, labels=labels, stem=stem)
    torch.manual_seed(0)
    backbone = NirvanaLM(lm).requires_grad_(False).eval()
    return NirvanaRecon(replace(config, lm=lm, encoder=encoder), backbone, words)


def lessons(folder: Path) -> TrainConfig:
    """A run of stage encoder that begins with a reader: of a scan, held out, and of pictures."""
    data = folder / "data"
    data.mkdir()
    tiny_scan(64, 56, slices=2, out=data / "a.h5", seed=1)
    np.save(data / "b.npy", head(150, 140, 3))
    save_checkpoint(reader(), folder / "start.safetensors", covers={}, training={})
    return TrainConfig(
        data, folder / "run", stage="encoder", start_from=str(folder / "start.safetensors"), max_steps=3,
        workers=0, warm_up=1, held_out=("a",), logs=("none",), largest=128,
    )  # fmt: skip
