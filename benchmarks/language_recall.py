"""Recall that small models can learn: words with numbers, text in between, and the words asked again.

Training documents list pairs and ask all of them at once. A test puts book text between the pairs and the questions, so
that the prompt has an exact number of tokens, and counts the digits that the model finds likeliest.
"""

import random

import torch

from nirvana_mri.backbone import NirvanaLM
from nirvana_mri.backbone.tokenizer import Tokenizer
from nirvana_mri.language.needle import NAMES

PAIRS = 8


def recall_document(draw: random.Random) -> str:
    """Pairs, then a question about each in another order."""
    pairs = _pairs(draw)
    return _listed(pairs) + "".join(_question(word) + number + ".\n" for word, number in _shuffled(pairs, draw))


def recall_accuracy(
    model: NirvanaLM, tokenizer: Tokenizer, filler: list[int], length: int, trials: int, seed: int
) -> float:
    """Share of digits found, over trials of PAIRS questions each; every prompt has ``length`` tokens."""
    found = asked = 0
    for trial in range(trials):
        draw = random.Random(f"recall {seed} {length} {trial}")
        pairs = _pairs(draw)
        head = tokenizer.encode(_listed(pairs))
        tails = [tokenizer.encode(_question(word)) for word, _ in pairs]
        room = length - 1 - len(head) - max(map(len, tails))
        start = draw.randrange(len(filler) - room)
        for (_, number), tail in zip(pairs, tails, strict=True):
            middle = filler[start : start + length - 1 - len(head) - len(tail)]
            answer = tokenizer.encode(number)
            ids = torch.tensor([[tokenizer.end_id, *head, *middle, *tail, *answer]])
            with torch.no_grad():
                logits = model(input_ids=ids).logits[0, -len(answer) - 1 : -1]
            found += int((logits.argmax(-1) == ids[0, -len(answer) :]).sum())
            asked += len(answer)
    return found / asked


def _pairs(draw: random.Random) -> list[tuple[str, str]]:
    return [(word, f"{draw.randrange(100):02d}") for word in draw.sample(NAMES, PAIRS)]


def _shuffled(pairs: list[tuple[str, str]], draw: random.Random) -> list[tuple[str, str]]:
    return draw.sample(pairs, len(pairs))


def _listed(pairs: list[tuple[str, str]]) -> str:
    return "".join(f"The number of {word} is {number}.\n" for word, number in pairs)


def _question(word: str) -> str:
    return f"\nThe number of {word} is "
