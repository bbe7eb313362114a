"""How well a model predicts text: perplexity and bits per byte, over the whole text and by position."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.language.blocks import longest_start, read_blocks
from nirvana_mri.language.load import LanguageModel
from nirvana_mri.language.loss import token_losses
from nirvana_mri.language.protocol import TextProtocol

Progress = Callable[[int, int], None]  # done, of how many
BIN = 1024  # positions whose losses are averaged
PIECE = 1024  # tokens read at once
HIGHEST = 700.0  # nats per token, beyond which a perplexity is no number


@dataclass(frozen=True)
class PositionBin:
    """The tokens at positions start to start + BIN of their documents; cache_bytes is the most held after them."""

    start: int
    tokens: int = 0
    nats: float = 0.0
    seconds: float = 0.0
    cache_bytes: int = 0

    def with_more(self, other: "PositionBin") -> "PositionBin":
        return PositionBin(
            self.start,
            self.tokens + other.tokens,
            self.nats + other.nats,
            self.seconds + other.seconds,
            max(self.cache_bytes, other.cache_bytes),
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            "start": self.start,
            "tokens": self.tokens,
            "loss_nats_per_token": self.nats / self.tokens,
            "seconds_per_token": self.seconds / self.tokens,
            "cache_bytes": self.cache_bytes,
        }


@dataclass(frozen=True)
class PerplexityScore:
    """The loss over all tokens of a text; bytes are those of its UTF-8 form, bins its positions in order."""

    documents: int
    bytes: int
    bins: tuple[PositionBin, ...]
    protocol: TextProtocol

    @property
    def tokens(self) -> int:
        return sum(part.tokens for part in self.bins)

    @property
    def nats(self) -> float:
        return math.fsum(part.nats for part in self.bins)

    @property
    def seconds(self) -> float:
        return math.fsum(part.seconds for part in self.bins)

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        return math.exp(self.loss)

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.bytes

    def numbers(self) -> dict[str, Any]:
        """The numbers alone, JSON-ready."""
        return {
            "tokens": self.tokens,
            "bytes": self.bytes,
            "documents": self.documents,
            "loss_nats_per_token": self.loss,
            "perplexity": self.perplexity,
            "bits_per_byte": self.bits_per_byte,
            "seconds_per_token": self.seconds / self.tokens,
            "by_position": [part.as_dict() for part in self.bins],
        }

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, with the protocol."""
        return {"task": "perplexity", **self.numbers(), "protocol": self.protocol.as_dict()}


def perplexity(
    language: LanguageModel,
    source: str | Path,
    *,
    context: int | None = None,
    stride: int | None = None,
    limit: int | None = None,
    piece: int = PIECE,
    progress: Progress | None = None,
) -> PerplexityScore:
    """The score of a text (a str) or of a file (a Path), every token of it predicted from what comes before.

    Each document starts from an empty memory, and its first token is predicted after the token that ends a document, as
    in training. Without ``context`` the document passes once through the streaming cache, ``piece`` tokens at a time,
    which changes no number. With it, windows of ``context`` tokens are read one by one without a cache, each ``stride``
    (default: half) after the last, and those many of its last tokens are scored: for attention that sees all before.
    ``limit`` ends the text after so many tokens. Raises: UsageError for numbers that cannot be, DataError for an
    unusable text or a loss that is not finite.
    """
    protocol = _protocol(language, context, stride, limit, piece)
    places: dict[int, PositionBin] = {}
    documents, size, left = 0, 0, limit
    reading: _Reading | None = None
    for block in read_blocks(source):
        text = block.text if left is None else longest_start(language.tokenizer, block.text, left)
        ids = language.tokenizer.encode(text)
        if ids and reading is None:
            reading = _Reading(language, protocol, piece, places)
            documents += 1
        size += len(text.encode())
        if reading is not None:
            reading.read(ids, block.ends or text != block.text)
        left = None if left is None else left - len(ids)
        if progress is not None:
            progress(*(block.done, block.total) if limit is None else (limit - (left or 0), limit))
        if text != block.text or left == 0:
            break
        reading = None if block.ends else reading
    if reading is not None:
        reading.read([], True)
    bins = tuple(places[place] for place in sorted(places))
    _require_finite(bins, source, limit)
    return PerplexityScore(documents, size, bins, protocol)


def combined(scores: Mapping[str, PerplexityScore]) -> PerplexityScore:
    """The score of all texts together, every token counting alike. Raises: UsageError for different protocols."""
    first = next(iter(scores.values()))
    if any(score.protocol != first.protocol for score in scores.values()):
        raise UsageError("these texts were scored by different rules; score them by one")
    places: dict[int, PositionBin] = {}
    for score in scores.values():
        for part in score.bins:
            places[part.start] = places.get(part.start, PositionBin(part.start)).with_more(part)
    bins = tuple(places[place] for place in sorted(places))
    documents, size = (sum(getattr(score, name) for score in scores.values()) for name in ("documents", "bytes"))
    return PerplexityScore(documents, size, bins, first.protocol)


class _Reading:
    """One document on its way through the model; what it gives is added to ``places``."""

    def __init__(
        self, language: LanguageModel, protocol: TextProtocol, piece: int, places: dict[int, PositionBin]
    ) -> None:
        self.model, self.places = language.model, places
        self.context, self.stride = protocol.rule["context"], protocol.rule["stride"]
        self.piece = piece
        self.cache = None if self.context else self.model.new_cache(1)
        self.seen = [language.tokenizer.end_id]  # inputs that the next tokens may need again
        self.waiting: list[int] = []
        self.position = 0

    def read(self, ids: list[int], ends: bool) -> None:
        self.waiting += ids
        start = 0
        while (left := len(self.waiting) - start) and (left >= (step := self._step()) or ends):
            step = min(step, left)
            self._score(self.waiting[start : start + step])
            start += step
        del self.waiting[:start]

    def _step(self) -> int:
        """Tokens to score next; with a cache no step crosses a bin's border, so that each bin knows its cache."""
        if self.context:
            return self.stride if self.position else self.context
        return min(self.piece, BIN - self.position % BIN)

    @torch.no_grad()
    def _score(self, new: list[int]) -> None:
        began = time.perf_counter()
        row = (self.seen + new)[-1 - (self.context or len(new)) :]
        device = self.model.embedding.weight.device
        inputs, labels = torch.tensor([row[:-1]], device=device), torch.tensor(new, device=device)
        hidden = self.model(input_ids=inputs, cache=self.cache, compute_logits=False).final_hidden[0, -len(new) :]
        losses = token_losses(hidden, self.model.head_weight, labels).double().cpu()
        seconds = (time.perf_counter() - began) / len(new)
        held = 0 if self.cache is None else self.cache.nbytes
        self.seen = row if self.context else row[-1:]
        self._add(losses.tolist(), seconds, held)

    def _add(self, losses: list[float], seconds: float, held: int) -> None:
        while losses:
            start = self.position // BIN * BIN
            part, losses = losses[: start + BIN - self.position], losses[start + BIN - self.position :]
            more = PositionBin(start, len(part), math.fsum(part), seconds * len(part), held)
            self.places[start] = self.places.get(start, PositionBin(start)).with_more(more)
            self.position += len(part)


def _protocol(
    language: LanguageModel, context: int | None, stride: int | None, limit: int | None, piece: int
) -> TextProtocol:
    for name, value in (("context", context), ("stride", stride), ("limit", limit), ("piece", piece)):
        if value is not None and value < 1:
            raise UsageError(f"{name} is {value}; expected at least 1 token")
    if stride is not None and (context is None or stride > context):
        raise UsageError(f"stride is {stride}, context {context}; a stride belongs to a context at least as long")
    if context is not None and stride is None:
        stride = max(1, context // 2)
    return TextProtocol.of(
        language,
        "perplexity",
        method="one pass with the streaming cache" if context is None else "sliding window without a cache",
        context=context,
        stride=stride,
        pieces=min(piece, BIN) if context is None else None,
        limit_tokens=limit,
        first_token="predicted after the end-of-document token",
        documents="each from an empty memory; the end-of-document token itself is not scored",
    )


def _require_finite(bins: tuple[PositionBin, ...], source: str | Path, limit: int | None) -> None:
    where = "the text" if isinstance(source, str) else str(source)
    tokens = sum(part.tokens for part in bins)
    if not tokens:
        short = "" if limit is None else f" within a limit of {limit}"
        raise DataError(f"{where}: has no tokens to score{short}; expected text")
    loss = sum(part.nats for part in bins) / tokens
    if not loss < HIGHEST:
        raise DataError(f"{where}: the loss is {loss:g} nats per token; the model's weights are no language model's")
