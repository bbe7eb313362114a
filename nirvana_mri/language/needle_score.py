"""How often a model finds the needle: by writing the number, and by preferring it to nine others."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.language.continuation import PIECE, continuations, read_prompt, write_on
from nirvana_mri.language.load import LanguageModel
from nirvana_mri.language.needle import DISTRACTORS, NEEDLE, QUESTION, Haystack, NeedlePrompt, needle_prompt
from nirvana_mri.language.protocol import TextProtocol, wilson

DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
CHANCE = 1 / (1 + DISTRACTORS)


@dataclass(frozen=True)
class NeedleCell:
    """One length and depth: of the trials, how many numbers were written, and how many preferred to the others."""

    length: int
    depth: float
    trials: int
    written: int
    chosen: int
    seconds: float
    cache_bytes: int


@dataclass(frozen=True)
class NeedleScore:
    """All lengths and depths."""

    cells: tuple[NeedleCell, ...]
    protocol: TextProtocol

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: accuracy and choice_accuracy by length and depth, with their 95 % intervals."""
        written = self._table(lambda cell: cell.written / cell.trials)
        chosen = self._table(lambda cell: cell.chosen / cell.trials)
        return {
            "task": "niah",
            "accuracy": written,
            "choice_accuracy": chosen,
            "chance": CHANCE,
            "trials": self.cells[0].trials,
            "intervals": {
                "accuracy": self._table(lambda cell: list(wilson(cell.written, cell.trials))),
                "choice_accuracy": self._table(lambda cell: list(wilson(cell.chosen, cell.trials))),
            },
            "cache_bytes": self._table(lambda cell: cell.cache_bytes),
            "seconds_per_prompt": self._table(lambda cell: cell.seconds / cell.trials),
            "protocol": self.protocol.as_dict(),
        }

    def _table(self, value: Callable[[NeedleCell], Any]) -> dict[str, dict[str, Any]]:
        table: dict[str, dict[str, Any]] = {}
        for cell in self.cells:
            table.setdefault(str(cell.length), {})[str(cell.depth)] = value(cell)
        return table


def needle_in_haystack(
    language: LanguageModel,
    *,
    lengths: Sequence[int] = (512,),
    depths: Sequence[float] = DEPTHS,
    trials: int = 20,
    digits: int = 7,
    seed: int = 0,
    data: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> NeedleScore:
    """The share of hidden numbers that come back, for prompts of exactly so many tokens and needles at these depths.

    Each prompt is read in pieces into the streaming cache, whose size does not grow past the window. ``written``: the
    likeliest tokens, one after another, spell the number and end there. ``chosen``: it is likelier than nine random
    numbers of as many digits; chance is 1 in 10, and a memory that keeps which digits occurred, but not their order, is
    already above it. The haystack is repeated noise, or sentences of ``data`` from a random
    place. Raises: UsageError for numbers that cannot be, DataError for a text that is too short.
    """
    _require(lengths, depths, trials, digits)
    haystack = Haystack(language.tokenizer, data, max(lengths))
    cells: list[NeedleCell] = []
    for length in lengths:
        for depth in depths:
            made = (
                needle_prompt(haystack, length, depth, digits, random.Random(f"needle {seed} {length} {depth} {trial}"))
                for trial in range(trials)
            )
            began, written, chosen, held = time.perf_counter(), 0, 0, 0
            for trial, prompt in enumerate(made, start=1):
                right, preferred, held = _try(language, prompt)
                written, chosen = written + right, chosen + preferred
                if progress is not None:
                    progress(len(cells) * trials + trial, len(lengths) * len(depths) * trials)
            cells.append(NeedleCell(length, depth, trials, written, chosen, time.perf_counter() - began, held))
    protocol = TextProtocol.of(
        language,
        "niah",
        haystack="repeated noise (S-NIAH-1)" if data is None else f"sentences of {data.name}",
        needle=NEEDLE,
        question=QUESTION,
        digits=digits,
        seed=seed,
        trials=trials,
        length="tokens of the whole prompt, with the end-of-document token that it begins with",
        accuracy="greedy writing gives the number exactly",
        choice_accuracy=f"the number is likelier than {DISTRACTORS} random ones of as many digits (chance {CHANCE:g})",
        pieces=PIECE,
    )
    return NeedleScore(tuple(cells), protocol)


def _try(language: LanguageModel, prompt: NeedlePrompt) -> tuple[bool, bool, int]:
    """Whether the number was written, whether it was preferred, and the bytes of the cache after the prompt."""
    *most, last = prompt.ids
    cache = read_prompt(language.model, most)
    held = cache.nbytes
    right, *others = continuations(language.model, cache, last, [prompt.answer, *prompt.distractors])
    if not all(abs(found.nats) < float("inf") for found in (right, *others)):
        raise DataError("the model's likelihoods are not finite; its weights hold bad numbers")
    said = language.tokenizer.decode(write_on(language.model, cache, last, len(prompt.answer) + 1)).strip()
    digits = len(prompt.number)
    return (
        said.startswith(prompt.number) and not said[digits : digits + 1].isdigit(),
        right.nats < min(other.nats for other in others),
        held,
    )


def _require(lengths: Sequence[int], depths: Sequence[float], trials: int, digits: int) -> None:
    if not lengths or len(set(lengths)) < len(lengths) or min(lengths) < 1:
        raise UsageError(f"lengths are {list(lengths)}; expected different numbers of tokens")
    if not depths or len(set(depths)) < len(depths) or not all(0 <= depth <= 1 for depth in depths):
        raise UsageError(f"depths are {list(depths)}; expected different numbers from 0 (the front) to 1 (the end)")
    if trials < 1:
        raise UsageError(f"trials is {trials}; expected at least 1")
    if not 2 <= digits <= 18:
        raise UsageError(f"digits is {digits}; expected 2 to 18")
