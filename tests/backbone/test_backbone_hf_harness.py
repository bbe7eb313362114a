"""lm-evaluation-harness on our own model: the same logits, the same tokens, and its numbers where it is installed."""

import math
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

from language_support import SENTENCES, some_text, tiny_language_model, tiny_tokenizer, write_jsonl

from nirvana_mri.backbone.hf.harness import evaluate_tasks, fast_tokenizer, wrapped
from nirvana_mri.backbone.tokenizer import Tokenizer
from nirvana_mri.errors import UsageError

TOKENIZER = tiny_tokenizer()


@pytest.mark.parametrize("tied", [True, False])
def test_the_wrapped_model_has_the_same_logits(tied: bool) -> None:
    model = tiny_language_model(3, tie_word_embeddings=tied).double()
    ids = torch.tensor([TOKENIZER.encode(some_text(2))])
    found = wrapped(model, TOKENIZER.end_id)
    assert torch.equal(found(ids).logits, model(input_ids=ids).logits)
    assert found.config.eos_token_id == TOKENIZER.end_id


def test_the_fast_tokenizer_has_the_same_ids() -> None:
    found = fast_tokenizer(TOKENIZER)
    for text in SENTENCES:
        assert found(text)["input_ids"] == TOKENIZER.encode(text)
    assert found.eos_token_id == TOKENIZER.end_id


def test_another_kind_of_tokenizer_is_refused() -> None:
    class Letters(Tokenizer):
        vocab_size, end_id, sha256 = 256, 0, "0" * 64

        def encode(self, text: str) -> list[int]:
            return list(text.encode())

        def decode(self, ids: Any) -> str:
            return bytes(ids).decode()

    with pytest.raises(UsageError, match=r"a Letters has no form for transformers; name a tokenizer\.json"):
        fast_tokenizer(Letters())


def test_the_harness_measures_last_words(tmp_path: Any) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is not among the project's dependencies")
    model = tiny_language_model(3).requires_grad_(False)
    path = write_jsonl(tmp_path / "a.jsonl", ["The magnet hums", "A coil listens"])
    task = {
        "task": "last_words",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(path)}, "cache_dir": str(tmp_path / "cache")},
        "output_type": "loglikelihood",
        "test_split": "test",
        "doc_to_text": "{{text.split(' ')[:-1]|join(' ')}}",
        "doc_to_target": "{{' ' + text.split(' ')[-1]}}",
        "metric_list": [{"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False}],
    }
    found = evaluate_tasks(model, TOKENIZER, [task])["last_words"]["perplexity,none"]
    nats = []
    for front, word in (("The magnet", " hums"), ("A coil", " listens")):
        ids, count = TOKENIZER.encode(front + word), len(TOKENIZER.encode(word))
        scores = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        nats.append(-sum(float(scores[n - 1, ids[n]]) for n in range(len(ids) - count, len(ids))))
    assert found == pytest.approx(math.exp(sum(nats) / 2), rel=1e-3)
    with pytest.raises(UsageError, match="no task named nonsense"):
        evaluate_tasks(model, TOKENIZER, ["nonsense"])
