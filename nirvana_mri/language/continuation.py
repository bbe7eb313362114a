"""How likely a model finds given continuations of a prompt, and what it writes itself; the prompt is read once."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nirvana_mri.backbone import Cache, NirvanaLM
from nirvana_mri.backbone.ops.precision import at_least_float32
from nirvana_mri.backbone.tokenizer import Tokenizer

PIECE = 1024  # tokens of a prompt read at once, so that its length does not set the memory


@dataclass(frozen=True)
class Continuation:
    """Its negative log-likelihood [nats], and whether each of its tokens was the likeliest one at its place."""

    nats: float
    likeliest: bool


@torch.no_grad()
def read_prompt(model: NirvanaLM, ids: Sequence[int], piece: int = PIECE) -> Cache:
    """The cache after a prompt of any length, none included."""
    cache = model.new_cache(1)
    for start in range(0, len(ids), piece):
        model(input_ids=_row(model, ids[start : start + piece]), cache=cache, compute_logits=False)
    return cache


@torch.no_grad()
def continuations(model: NirvanaLM, cache: Cache, last: int, texts: Sequence[Sequence[int]]) -> list[Continuation]:
    """The score of each text after a cache and one more token, ``last``; the cache stays as it is."""
    longest = max(len(text) for text in texts)
    rows = [[last, *text[:-1], *[last] * (longest - len(text))] for text in texts]  # causal: what follows is not seen
    branch = copy.deepcopy(cache)
    branch.reorder(torch.zeros(len(texts), dtype=torch.long, device=model.embedding.weight.device))
    logits = model(input_ids=torch.cat([_row(model, row) for row in rows]), cache=branch).logits
    assert logits is not None
    scores = at_least_float32(logits).log_softmax(-1)
    found = []
    for score, text in zip(scores, texts, strict=True):
        target = torch.tensor(text, device=score.device)
        reached = score[: len(text)]
        nats = -float(reached.gather(1, target[:, None]).double().sum())
        found.append(Continuation(nats, bool((reached.argmax(-1) == target).all())))
    return found


@torch.no_grad()
def write_on(model: NirvanaLM, cache: Cache, last: int, count: int) -> list[int]:
    """The next tokens after a cache and one more token, each the likeliest; the cache moves on."""
    written: list[int] = []
    for _ in range(count):
        logits = model(input_ids=_row(model, [last]), cache=cache, last_logits_only=True).logits
        assert logits is not None
        last = int(logits[0, -1].argmax())
        written.append(last)
    return written


def split(tokenizer: Tokenizer, before: str, text: str) -> tuple[list[int], list[int]]:
    """The tokens of ``before + text``, up to where they leave those of ``before``, and from there on."""
    whole, front = tokenizer.encode(before + text), tokenizer.encode(before)
    shared = 0
    while shared < min(len(whole), len(front)) and whole[shared] == front[shared]:
        shared += 1
    return whole[:shared], whole[shared:]


def _row(model: NirvanaLM, ids: Sequence[int]) -> Tensor:
    return torch.tensor([list(ids)], device=model.embedding.weight.device)
