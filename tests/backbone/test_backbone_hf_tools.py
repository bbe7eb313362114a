"""Tools that take any transformers model: PEFT's adapters, lm-eval's measurements."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

from backbone_support import error
from hf_support import tiny_hf, tiny_tokenizer
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from nirvana_mri.backbone import sha256
from nirvana_mri.backbone.hf import NirvanaForCausalLM
from nirvana_mri.errors import UsageError

X = torch.randint(3, 29, (2, 9), generator=torch.Generator().manual_seed(4))


def adapted(model: NirvanaForCausalLM, targets: Any, **options: Any) -> Any:
    """The model with LoRA pairs that are not zero, so that each one shows."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM", **options)
    return peft.get_peft_model(model, config)


def train(model: Any, steps: int = 3) -> list[float]:
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    losses = []
    for _ in range(steps):
        loss = model(input_ids=X, labels=X).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("tied", [True, False])
def test_every_projection_can_be_adapted(tied: bool) -> None:
    """A projection whose weight is read past its module would leave its adapter without a gradient."""
    base = tiny_hf(tie_word_embeddings=tied)
    targets = [name for name, module in base.named_modules() if isinstance(module, nn.Linear)]
    targets = [name for name in targets if not (tied and name == "model.head")]
    model = adapted(base, targets)
    model(input_ids=X, labels=X).loss.backward()
    idle = [name for name, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert idle == []
    assert sum(p.requires_grad for p in model.parameters()) == 2 * len(targets)
    assert len(targets) == 2 * 9 + 2 * (9 + 8 + 1 + 4) + (not tied)


def test_an_adapter_learns_generates_and_comes_back(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    base = tiny_hf()
    before = sha256(base.model)
    plain = base.generate(X, max_new_tokens=5, do_sample=False)
    model = adapted(base, ["mixer.memory.query", "gate_up"])
    losses = train(model.train())
    assert losses[-1] < losses[0]
    model.eval()
    found = model.generate(input_ids=X, max_new_tokens=5, do_sample=False, eos_token_id=None)
    again = model.generate(input_ids=X, max_new_tokens=5, do_sample=False, eos_token_id=None, use_cache=False)
    assert torch.equal(found, again)
    model.save_pretrained(tmp_path / "adapter")
    loaded = peft.PeftModel.from_pretrained(tiny_hf(), tmp_path / "adapter").eval()
    assert torch.equal(loaded(input_ids=X).logits, model(input_ids=X).logits)
    with model.disable_adapter():
        assert torch.equal(model.generate(input_ids=X, max_new_tokens=5, do_sample=False), plain)
    with pytest.raises(UsageError, match="merge_and_unload"):
        base.save_pretrained(tmp_path / "half")
    expected = model(input_ids=X).logits
    merged = model.merge_and_unload()
    assert sha256(merged.model) != before
    merged.save_pretrained(tmp_path / "merged")
    assert error(AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(X).logits, expected) <= 1e-12


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")  # the name before 5.22
def test_an_adapter_trains_with_recomputation() -> None:
    runs = []
    for recompute in (False, True):
        model = adapted(tiny_hf(), ["query"])
        if recompute:
            model.enable_input_require_grads()
            model.base_model.model.gradient_checkpointing_enable()
        runs.append(train(model.train()))
    assert runs[0] == pytest.approx(runs[1], rel=1e-12)


def test_transformers_loads_an_adapter_itself(tmp_path: Path) -> None:
    tiny_hf().save_pretrained(tmp_path / "base")
    model = adapted(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), ["query", "output.up"])
    expected = model(input_ids=X).logits
    model.save_pretrained(tmp_path / "adapter")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    plain.load_adapter(str(tmp_path / "adapter"))
    assert torch.equal(plain(X).logits, expected)
    with pytest.raises(UsageError, match=r"load the base model alone"):
        AutoModelForCausalLM.from_pretrained(tmp_path / "adapter")
    plain.save_pretrained(tmp_path / "again")
    assert sorted(path.name for path in (tmp_path / "again").glob("*.safetensors")) == ["adapter_model.safetensors"]


class Harness:
    """lm-eval's wrapper around the tiny model, and requests as its tasks send them."""

    def __init__(self) -> None:
        pytest.importorskip("lm_eval", reason="the extra lm-eval is not installed")
        from lm_eval.models.huggingface import HFLM

        self.model = tiny_hf(dtype=torch.float32)
        self.lm = HFLM(pretrained=self.model, tokenizer=tiny_tokenizer(), batch_size=2, max_length=64, device="cpu")

    def ask(self, kind: str, *arguments: tuple[Any, ...]) -> list[Any]:
        from lm_eval.api.instance import Instance

        requests = [Instance(kind, {}, argument, index) for index, argument in enumerate(arguments)]
        return getattr(self.lm, kind)(requests)


def log_likelihood(model: NirvanaForCausalLM, words: Tensor, begin: int) -> float:
    scores = model(words[None]).logits[0].log_softmax(-1)
    return float(sum(scores[t - 1, words[t]] for t in range(begin, len(words))))


def test_lm_eval_measures_likelihood() -> None:
    harness, tokenizer = Harness(), tiny_tokenizer()
    texts = [("a b c", " d e"), ("h i", " j"), ("k l m n o", " p q r")]
    found = harness.ask("loglikelihood", *texts)
    for (context, continuation), (score, _) in zip(texts, found, strict=True):
        words = torch.tensor(tokenizer(context + continuation)["input_ids"])
        expected = log_likelihood(harness.model, words, len(context.split()))
        assert math.isclose(score, expected, rel_tol=1e-4)


def test_lm_eval_generates_until_a_stop() -> None:
    harness, tokenizer = Harness(), tiny_tokenizer()
    harness.model.generation_config.eos_token_id = None
    options = {"until": ["</s>"], "max_gen_toks": 6, "do_sample": False}
    found = harness.ask("generate_until", ("a b c d", options), ("e f", options))
    for text, answer in zip(("a b c d", "e f"), found, strict=True):
        words = torch.tensor([tokenizer(text)["input_ids"]])
        expected = harness.model.model.generate(input_ids=words, max_new_tokens=6)[0]
        assert answer.split() == tokenizer.decode(expected, skip_special_tokens=True).split("</s>")[0].split()
