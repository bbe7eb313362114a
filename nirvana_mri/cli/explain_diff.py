"""nirvana-mri explain-diff."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nirvana_mri.cli.shell import say


def explain_diff(
    first: Annotated[Path, typer.Argument(metavar="A.json", help="Scores, as evaluate --json writes them.")],
    second: Annotated[Path, typer.Argument(metavar="B.json", help="The other scores.")],
) -> None:
    """Say why two scores differ: the rule, the sampling, the scans, the model, or the method itself.

    Scores of different protocols are not compared: the fields that differ are named instead.

    Example: nirvana-mri explain-diff ours.json theirs.json
    """
    from nirvana_mri.eval.explain import explain
    from nirvana_mri.eval.scores_file import read_scores

    for sentence in explain(read_scores(first), read_scores(second)):
        say("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in sentence))
