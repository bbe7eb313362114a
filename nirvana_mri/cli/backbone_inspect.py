"""nirvana-mri backbone inspect."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from nirvana_mri.cli.options import JsonOption
from nirvana_mri.cli.shell import say, write_json
from nirvana_mri.errors import UsageError

BYTES_PER_TOKEN = 64  # read at most: far more than a token of any text has
TEXT_FILES = (".txt", ".md", ".jsonl", ".parquet")


def inspect(
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="A text file; or the text itself, where no such file is.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The page to write (.html).")],
    model: Annotated[str, typer.Option("--model", metavar="NAME|FILE", help="nano, or a backbone file.")] = "nano",
    tokenizer: Annotated[
        Path | None, typer.Option("--tokenizer", metavar="FILE", help="For a backbone file that holds none.")
    ] = None,
    tokens: Annotated[int, typer.Option("--tokens", metavar="N", help="Look at the first N tokens.")] = 300,
    clip: Annotated[
        float | None,
        typer.Option("--clip", metavar="NORM", help="Shorten longer updates of the fast weights to this norm."),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Make one page about what the memory does with a text: gates, fast weights, updates, gradients.

    Nothing is fetched when it is opened. The JSON holds every number of every layer and token.

    Example: nirvana-mri backbone inspect "The cat sat on the mat." -o page.html
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{out}: a page is .html; name it so")
    if tokens < 1:
        raise UsageError(f"--tokens is {tokens}; expected 1 or more")
    given, words = _text(text, tokens)
    import torch

    from nirvana_mri.atomic import atomic_path, check_target, same_file
    from nirvana_mri.language.load import load_language_model
    from nirvana_mri.language.memory import memory_record
    from nirvana_mri.language.memory_page import memory_page, token_texts

    check_target(out)
    inputs = tuple(path for path in (given, tokenizer, Path(model)) if path is not None and path.is_file())
    for path in inputs:
        if same_file(path, out):
            raise UsageError(f"{out} is an input; name another file for the page")
    loaded = load_language_model(model, tokenizer)
    ids = loaded.tokenizer.encode(words)[:tokens]
    record = memory_record(loaded.model, torch.tensor([ids]), clip=clip)
    pieces = token_texts(loaded.tokenizer, ids)
    source = "the text below" if given is None else given.name
    parameters = sum(parameter.numel() for parameter in loaded.model.parameters())
    about = [
        ("backbone", f"{Path(loaded.name).name}, {parameters:,} parameters"),
        ("sha256 of its weights", loaded.sha256[:12]),
        ("vocabulary", f"{loaded.tokenizer.vocab_size:,} tokens"),
        (
            "input",
            f"{source}, its first {len(ids):,} tokens" if len(ids) == tokens else f"{source}, {len(ids):,} tokens",
        ),
        ("learning rate of the fast weights", f"{record.rate:g}"),
        ("largest update allowed", "no limit" if record.clip is None else f"{record.clip:g}"),
    ]
    if json is not None:
        backbone = {"name": Path(loaded.name).name, "sha256": loaded.sha256, "parameters": parameters}
        values = {"backbone": backbone, "text": pieces, "ids": ids, **record.as_dict(per_token=True)}
        write_json(values, json, (*inputs, out))
    with atomic_path(out) as temporary:
        temporary.write_text(memory_page(record, about, pieces), encoding="utf-8")
    if json != Path("-"):
        say(f"wrote {out}: {len(ids)} tokens, {len(record.layers)} layers")


def _text(text: str, tokens: int) -> tuple[Path | None, str]:
    """The file, where there is one, and its beginning; else the text itself."""
    if not os.path.exists(text):  # unlike Path.exists, False for a text too long for a name
        if not text.strip():
            raise UsageError("TEXT is empty; give a text, or the path of a text file")
        if text.endswith(TEXT_FILES) and not any(x.isspace() for x in text):
            raise UsageError(f"{text}: no such file; give a text, or the path of a text file")
        return None, text
    path = Path(text)
    if not path.is_file():
        raise UsageError(f"{path} is no file; give a text, or the path of a text file")
    from nirvana_mri.language.documents import read_text

    return path, read_text(path, most=tokens * BYTES_PER_TOKEN)
