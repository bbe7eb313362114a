"""The likeliest answer among those that a grammar allows, written by the frozen language model token by token."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nirvana_mri.backbone import Cache, NirvanaLM
from nirvana_mri.backbone.ops.precision import at_least_float32
from nirvana_mri.errors import DataError
from nirvana_mri.findings.grammar import Grammar, Walk
from nirvana_mri.findings.statement import Statement, parse

SCORE = (
    "geometric mean, over the places where the vocabulary left a choice, of the chosen token's probability among the "
    "tokens allowed there; uncalibrated: not the probability that the statement is true"
)


@dataclass(frozen=True)
class Said:
    """A statement and its score from 0 to 1 (see SCORE)."""

    statement: Statement
    score: float


class _Reader:
    """A language model after a prompt, which reads on only when its opinion is asked for."""

    def __init__(self, model: NirvanaLM, prompt: Float[Tensor, "1 token channel"]) -> None:
        self.model = model
        self.cache: Cache = model.new_cache(1)
        self._logits = self._read(inputs_embeds=prompt)
        self._unread: list[int] = []

    def take(self, token: int) -> None:
        self._unread.append(token)

    def choose(self, allowed: list[int]) -> tuple[int, float]:
        """The likeliest of the tokens, the first of equals, and the logarithm of its share among them."""
        if self._unread:
            ids = torch.tensor([self._unread], device=self.model.embedding.weight.device)
            self._logits, self._unread = self._read(input_ids=ids), []
        shares = at_least_float32(self._logits[allowed]).double().log_softmax(0)
        if not bool(torch.isfinite(shares).all()):
            raise DataError("the model's likelihoods are not finite; its weights or this slice hold bad numbers")
        best = int(shares.argmax())
        return allowed[best], float(shares[best])

    def _read(self, **given: Tensor) -> Tensor:
        logits = self.model(cache=self.cache, last_logits_only=True, **given).logits
        assert logits is not None
        return logits[0, -1]


@torch.no_grad()
def write(
    model: NirvanaLM, scan: Float[Tensor, "1 token channel"], grammar: Grammar, after: bool = False
) -> tuple[Said, ...]:
    """What the model says when it has read a scan's tokens and the vocabulary's question; that first with ``after``.

    Greedy: at each place the likeliest of the tokens that the grammar allows; where there is but one, the model is not
    asked. Nothing is drawn, so that the same model and scan give the same answer. Raises: DataError for likelihoods
    that are not finite.
    """
    question = grammar.tokenizer.encode(f" {grammar.vocabulary.question}")
    words = model.embedding(torch.tensor([question], device=scan.device))
    reader = _Reader(model, torch.cat([words, scan] if after else [scan, words], dim=1))
    walk, begun = Walk(grammar), 0
    logarithms: list[float] = []
    said: dict[Statement, float] = {}
    while not walk.ended:
        token, *others = walk.allowed
        if others:
            token, logarithm = reader.choose([token, *others])
            logarithms.append(logarithm)
        reader.take(token)
        if walk.take(token):
            (statement,) = parse(walk.text[begun:])
            said.setdefault(statement, math.exp(sum(logarithms) / len(logarithms)) if logarithms else 1.0)
            begun, logarithms = len(walk.text), []
    return tuple(Said(statement, score) for statement, score in said.items())
