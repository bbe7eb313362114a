"""New tokens, one after another: the prompt is read once, then each step costs one token."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nirvana_mri.backbone.budget import require_memory
from nirvana_mri.errors import DataError, UsageError

if TYPE_CHECKING:
    from nirvana_mri.backbone.cache import Cache
    from nirvana_mri.backbone.model import NirvanaLM

PREFILL = 4096  # tokens of the prompt read at once, so that its length does not set the memory


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn: temperature 0 takes the likeliest; top_k and top_p cut the tail before the draw."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not (isinstance(self.temperature, float | int) and 0 <= self.temperature < math.inf):
            raise UsageError(f"temperature is {self.temperature!r}; expected a number from 0 up")
        if self.top_k is not None and (not isinstance(self.top_k, int) or self.top_k < 1):
            raise UsageError(f"top_k is {self.top_k!r}; expected a positive integer, or None")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UsageError(f"top_p is {self.top_p!r}; expected a number above 0, up to 1, or None")

    def generators(self, batch: int) -> list[torch.Generator]:
        """One for each row, so that a row's draws do not depend on how many others there are."""
        return [torch.Generator().manual_seed((self.seed << 20) + row) for row in range(batch)]


def generate(model: "NirvanaLM", **arguments: object) -> Int[Tensor, "batch token"]:
    """The ids of the new tokens, as many as the longest row has; arguments as in stream."""
    steps = list(stream(model, **arguments))  # type: ignore[arg-type]
    given = arguments.get("input_ids") if arguments.get("inputs_embeds") is None else arguments.get("inputs_embeds")
    assert isinstance(given, Tensor)
    return torch.stack(steps, dim=1) if steps else given.new_zeros(given.shape[0], 0, dtype=torch.long)


def stream(
    model: "NirvanaLM",
    *,
    max_new_tokens: int,
    input_ids: Int[Tensor, "batch token"] | None = None,
    inputs_embeds: Float[Tensor, "batch token channel"] | None = None,
    attention_mask: Tensor | None = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    stop_ids: Sequence[int] = (),
) -> Iterator[Int[Tensor, " batch"]]:
    """The next token of every row, step by step, after a prompt of ids or of vectors.

    Shorter prompts are padded on the left (attention_mask 0). A row that has drawn one of stop_ids is finished: it
    yields the padding id (or that stop id, in a model without one) until all rows are finished or max_new_tokens are
    out. The same seed gives the same tokens. Nothing is computed before the first token is asked for, except that wrong
    arguments are refused at once: UsageError for those, DataError for ids outside the vocabulary or a prompt too long
    for the memory.
    """
    if not isinstance(max_new_tokens, int) or max_new_tokens < 0:
        raise UsageError(f"max_new_tokens is {max_new_tokens!r}; expected an integer from 0 up")
    if any(not 0 <= token < model.config.vocab_size for token in stop_ids):
        raise UsageError(f"stop_ids {list(stop_ids)} must lie in the vocabulary, 0 to {model.config.vocab_size - 1}")
    sampling = Sampling(temperature, top_k, top_p, seed)
    prompt = _prompt(input_ids, inputs_embeds, attention_mask)
    return _steps(model, prompt, attention_mask, max_new_tokens, sampling, tuple(stop_ids))


def _prompt(ids: Tensor | None, vectors: Tensor | None, mask: Tensor | None) -> dict[str, Tensor]:
    if (ids is None) == (vectors is None):
        given = "neither" if ids is None else "both"
        raise UsageError(f"generate needs either input_ids or inputs_embeds, got {given}; pass exactly one")
    name, prompt = ("input_ids", ids) if ids is not None else ("inputs_embeds", vectors)
    assert prompt is not None
    if prompt.ndim < 2 or prompt.numel() == 0:
        raise UsageError(f"{name} is {tuple(prompt.shape)}; expected [batch, token, ...], not empty")
    if mask is not None and (mask.shape != prompt.shape[:2] or not bool(mask[:, -1].bool().all())):
        raise UsageError(
            f"attention_mask {tuple(mask.shape)} must be [batch, token] = {tuple(prompt.shape[:2])} and end in 1 in "
            "every row; pad the shorter prompts on the left"
        )
    return {name: prompt}


@torch.no_grad()
def _steps(
    model: "NirvanaLM",
    prompt: dict[str, Tensor],
    mask: Tensor | None,
    steps: int,
    sampling: Sampling,
    stop_ids: tuple[int, ...],
) -> Iterator[Int[Tensor, " batch"]]:
    if steps == 0:
        return
    ((name, given),) = prompt.items()
    batch, tokens = given.shape[:2]
    require_memory(model.config, model.embedding.weight, batch, min(tokens, PREFILL), cached=tokens + steps)
    cache = model.new_cache(batch)
    logits = _prefill(model, cache, name, given, mask)
    generators = sampling.generators(batch)
    finished = torch.zeros(batch, dtype=torch.bool)
    filler = model.config.pad_token_id if model.config.pad_token_id is not None else (stop_ids or (0,))[0]
    for step in range(steps):
        drawn = draw(logits, sampling, generators).cpu()
        drawn = drawn.masked_fill(finished, filler)
        yield drawn.to(given.device)
        for stop in stop_ids:
            finished |= drawn == stop
        if step + 1 == steps or bool(finished.all()):
            return
        output = model(input_ids=drawn[:, None].to(given.device), cache=cache)
        logits = output.logits[:, -1]


def _prefill(model: "NirvanaLM", cache: "Cache", name: str, prompt: Tensor, mask: Tensor | None) -> Tensor:
    """Logits after the whole prompt, read in pieces; a piece that is padding alone changes nothing."""
    output = None
    for start in range(0, prompt.shape[1], PREFILL):
        piece = slice(start, start + PREFILL)
        output = model(
            **{name: prompt[:, piece]},
            attention_mask=None if mask is None else mask[:, piece],
            cache=cache,
            last_logits_only=True,
        )
    assert output is not None
    return output.logits[:, -1]


def draw(
    logits: Float[Tensor, "batch vocabulary"], sampling: Sampling, generators: list[torch.Generator]
) -> Int[Tensor, " batch"]:
    """One token for each row. Raises: DataError where the logits are not finite."""
    if not bool(torch.isfinite(logits).all()):
        raise DataError("the model's logits are not finite; its weights or the prompt's vectors hold bad numbers")
    if sampling.temperature == 0:
        return logits.argmax(-1)
    scaled = logits.double().cpu() / sampling.temperature
    ordered, order = scaled.sort(dim=-1, descending=True, stable=True)
    share = ordered.softmax(-1)
    if sampling.top_k is not None:
        share[:, sampling.top_k :] = 0
    if sampling.top_p is not None:
        before = share.cumsum(-1) / share.sum(-1, keepdim=True) - share / share.sum(-1, keepdim=True)
        share = share.masked_fill(before >= sampling.top_p, 0)  # the first token always stays
    reached = share.cumsum(-1)
    uniform = torch.stack([torch.rand(1, generator=g, dtype=torch.float64) for g in generators])
    place = torch.searchsorted(reached, uniform * reached[:, -1:], right=True)
    last = (share > 0).sum(-1, keepdim=True) - 1
    return order.gather(1, torch.minimum(place, last))[:, 0].to(logits.device)
