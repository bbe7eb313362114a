"""nirvana-mri backbone generate: text that goes on from a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nirvana_mri.cli.options import DeviceOption
from nirvana_mri.cli.shell import say
from nirvana_mri.errors import UsageError


def generate(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What the text begins with; may be empty.")] = "",
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="NAME|FILE", help="nano, or a backbone file.")
    ] = "nano",
    tokenizer: Annotated[
        Path | None, typer.Option("--tokenizer", metavar="FILE", help="For a model whose file holds none.")
    ] = None,
    tokens: Annotated[int, typer.Option("--tokens", metavar="N", help="Write at most so many.")] = 80,
    samples: Annotated[int, typer.Option("--samples", metavar="N", help="Write so many texts, side by side.")] = 1,
    temperature: Annotated[float, typer.Option("--temperature", help="0 takes the likeliest token.")] = 0.8,
    top_p: Annotated[
        float, typer.Option("--top-p", help="Draw among the likeliest that have this share together (1: all).")
    ] = 0.9,
    seed: Annotated[int, typer.Option("--seed", help="The same seed writes the same text.")] = 0,
    device: DeviceOption = "cpu",
) -> None:
    """Let the language model write on. Nothing that it writes is a fact, and nothing is medical advice.

    Example: nirvana-mri backbone generate "The old man looked at the sea, and" --seed 3
    """
    if tokens < 1 or samples < 1:
        raise UsageError(f"--tokens is {tokens}, --samples {samples}; expected 1 or more")
    import torch

    from nirvana_mri.language.load import load_language_model

    language = load_language_model(model, tokenizer, device)
    words = language.tokenizer
    ids = torch.tensor([[words.end_id, *words.encode(prompt)]] * samples, device=device)
    written = language.model.generate(
        input_ids=ids,
        max_new_tokens=tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        stop_ids=(words.end_id,),
    )
    for number, row in enumerate(written.tolist(), start=1):
        if samples > 1:
            say(f"--- {number}")
        kept = row[: row.index(words.end_id)] if words.end_id in row else row
        say(prompt + words.decode(kept))
