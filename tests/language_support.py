"""What the tests of the language side share: a little text, a tokenizer learned from it, tiny models."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from nirvana_mri.backbone import BackboneConfig, NirvanaLM
from nirvana_mri.backbone.tokenizer import BPETokenizer, train_tokenizer

SENTENCES = (
    "The magnet hums while the patient lies still.",
    "A coil listens, and the echo comes back fainter each time.",
    "Nothing was measured twice; what was missed stays missing.",
    "She wrote the numbers down, one after another, until the page was full.",
    "In the evening the ship left the harbour, and no one waved.",
)


def some_text(sentences: int = 200, start: int = 0) -> str:
    """Sentences in an order that does not repeat soon."""
    order = [((start + n) * (start + n + 3) + n // 7) % len(SENTENCES) for n in range(sentences)]
    return "\n".join(f"{SENTENCES[which]} {n % 10}" for n, which in enumerate(order)) + "\n"


@cache
def tiny_tokenizer(vocab_size: int = 320) -> BPETokenizer:
    return train_tokenizer([some_text()], vocab_size)


def tiny_language_config(**changes: Any) -> BackboneConfig:
    options: dict[str, Any] = dict(
        vocab_size=tiny_tokenizer().vocab_size,
        hidden_size=32,
        num_layers=3,
        num_heads=2,
        concept_dim=8,
        logit_dim=4,
        intermediate_size=48,
        window_size=16,
        tie_word_embeddings=True,
        initializer_range=0.02,
        pad_token_id=2,
    )
    return BackboneConfig(**(options | changes))


def tiny_language_model(seed: int = 0, **changes: Any) -> NirvanaLM:
    return NirvanaLM(tiny_language_config(**changes), seed)


def write_jsonl(path: Path, documents: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": document}) + "\n" for document in documents), encoding="utf-8")
    return path
