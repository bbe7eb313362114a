"""Whether a model knows the last word of a passage, as in LAMBADA (Paperno et al., ACL 2016)."""

import math
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.language.continuation import continuations, read_prompt, split
from nirvana_mri.language.documents import read_pieces, read_text
from nirvana_mri.language.load import LanguageModel
from nirvana_mri.language.protocol import TextProtocol, wilson
from nirvana_mri.language.sentences import sentence_spans

BEFORE = 5  # whole sentences in front of the one whose last word is asked for
WORDS = (40, 250)  # in a drawn passage
TARGET = re.compile(r"(?<=\S) ([^\W\d_]{4,})(?= ?[.!?][.!?\"'”’)\]]*$)")
MOST = 16 * 2**20  # bytes of a text from which passages are drawn
DRAWN = (
    f"drawn by seed from running text: {BEFORE} sentences and the next up to its last word, of 4 letters or more, that "
    f"occurs before in the passage; {WORDS[0]} to {WORDS[1]} words; not the LAMBADA set"
)
GIVEN = "given, one a document, drawn by seed where there are more; the last word without closing punctuation"


@dataclass(frozen=True)
class Passage:
    """Text up to the white space before its last word, and that word."""

    context: str
    word: str


@dataclass(frozen=True)
class LastWordScore:
    """Passages whose last word was the likeliest, token by token; nats is the mean of the words."""

    passages: int
    hits: int
    nats: float
    seconds: float
    protocol: TextProtocol

    @property
    def accuracy(self) -> float:
        return self.hits / self.passages

    @property
    def interval(self) -> tuple[float, float]:
        """95 %."""
        return wilson(self.hits, self.passages)

    @property
    def target_perplexity(self) -> float:
        """exp of the mean loss of a whole word."""
        return math.exp(self.nats)

    def numbers(self) -> dict[str, Any]:
        """The numbers alone, JSON-ready."""
        return {
            "passages": self.passages,
            "hits": self.hits,
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "target_perplexity": self.target_perplexity,
            "nats_per_word": self.nats,
            "seconds": self.seconds,
        }

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, with the protocol."""
        return {"task": "lastword", **self.numbers(), "protocol": self.protocol.as_dict()}


def last_word(
    language: LanguageModel,
    source: str | Path,
    *,
    trials: int = 200,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> LastWordScore:
    """How often the last words of passages are the likeliest, and how likely they are.

    Each of a word's tokens is predicted after the passage and the word's tokens before; all must be the likeliest, as
    in greedy writing. Raises: UsageError for no trials, DataError where there are no passages.
    """
    passages = draw_passages(source, trials, seed)
    began, hits, nats = time.perf_counter(), 0, []
    for done, passage in enumerate(passages, start=1):
        prompt, word = split(language.tokenizer, passage.context, f" {passage.word}")
        cache = read_prompt(language.model, [language.tokenizer.end_id, *prompt][:-1])
        last = prompt[-1] if prompt else language.tokenizer.end_id
        (found,) = continuations(language.model, cache, last, [word])
        hits += found.likeliest
        nats.append(found.nats)
        if progress is not None:
            progress(done, len(passages))
    mean = math.fsum(nats) / len(nats)
    if not mean < 700:
        raise DataError(f"the words cost {mean:g} nats each; the model's weights are no language model's")
    protocol = TextProtocol.of(
        language,
        "lastword",
        passages=GIVEN if holds_passages(source) else DRAWN,
        trials=trials,
        seed=seed,
        hit="every token of the last word is the likeliest",
        first_token="predicted after the end-of-document token",
    )
    return LastWordScore(len(passages), hits, mean, time.perf_counter() - began, protocol)


def together(scores: Mapping[str, LastWordScore]) -> LastWordScore:
    """The score of all passages of several texts. Raises: UsageError for different protocols."""
    parts = list(scores.values())
    if any(part.protocol.hash != parts[0].protocol.hash for part in parts):
        raise UsageError(
            "these texts were scored by different rules (documents as passages, or excerpts); score them apart"
        )
    passages = sum(part.passages for part in parts)
    nats = math.fsum(part.passages * part.nats for part in parts) / passages
    hits, seconds = sum(part.hits for part in parts), math.fsum(part.seconds for part in parts)
    return LastWordScore(passages, hits, nats, seconds, parts[0].protocol)


def draw_passages(source: str | Path, count: int, seed: int) -> list[Passage]:
    """At most so many passages, in the order of the source: its documents, or excerpts of a running text.

    Every document of a .jsonl or .parquet is one passage; from other files (Path) and texts (str) they are drawn.
    Raises: UsageError for a count below 1, DataError where there is none.
    """
    if count < 1:
        raise UsageError(f"trials is {count}; expected at least 1 passage")
    if holds_passages(source):
        assert isinstance(source, Path)
        return _sample(_given(source), count, seed)
    text = source if isinstance(source, str) else read_text(source, MOST)
    found = _sample(_excerpts(text), count, seed)
    if not found:
        where = "the text" if isinstance(source, str) else str(source)
        raise DataError(f"{where}: no passage of {BEFORE + 1} sentences ends in a word seen before; give a longer text")
    return found


def holds_passages(source: str | Path) -> bool:
    return isinstance(source, Path) and source.suffix in (".jsonl", ".parquet")


def _given(path: Path) -> Iterator[Passage]:
    for number, piece in enumerate(read_pieces(path), start=1):
        *context, word = piece.text.rstrip(" \t\r\n.!?\"'”’)]").rsplit(None, 1) or [""]
        if not context:
            raise DataError(f"{path}: document {number} is {piece.text!r:.60}; expected a passage of several words")
        yield Passage(context[0], word)


def _excerpts(text: str) -> Iterator[Passage]:
    spans = sentence_spans(text)
    for index in range(BEFORE, len(spans)):
        first, (start, stop) = spans[index - BEFORE][0], spans[index]
        target = TARGET.search(text[start:stop])
        if target is None or stop - first > 40 * WORDS[1]:
            continue
        context = text[first : start + target.start()]
        word = target.group(1)
        if WORDS[0] <= len(context.split()) <= WORDS[1] and re.search(rf"\b{re.escape(word)}\b", context):
            yield Passage(context, word)


def _sample(passages: Iterable[Passage], count: int, seed: int) -> list[Passage]:
    """So many of them, each as likely, in their order; they are passed once (Vitter's algorithm R)."""
    draw = random.Random(f"passages {seed}")
    kept: list[tuple[int, Passage]] = []
    for number, passage in enumerate(passages):
        if number < count:
            kept.append((number, passage))
        elif (slot := draw.randrange(number + 1)) < count:
            kept[slot] = (number, passage)
    return [passage for _, passage in sorted(kept, key=lambda pair: pair[0])]
