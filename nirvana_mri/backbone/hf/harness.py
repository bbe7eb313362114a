"""lm-evaluation-harness on one of our models."""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerFast

from nirvana_mri.backbone.hf.configuration import NirvanaConfig
from nirvana_mri.backbone.hf.modeling import NirvanaForCausalLM
from nirvana_mri.backbone.model import NirvanaLM
from nirvana_mri.backbone.tokenizer import BPETokenizer, Tokenizer
from nirvana_mri.errors import DataError, MissingExtraError, UsageError


def wrapped(model: NirvanaLM, end_id: int) -> NirvanaForCausalLM:
    """The same weights as a transformers model. Raises: UsageError for the baselines' architectures."""
    adapter: Any = NirvanaForCausalLM(NirvanaConfig.from_backbone(model.config, eos_token_id=end_id))
    adapter.load_state_dict({f"model.{name}": tensor for name, tensor in model.state_dict().items()})
    weight = model.embedding.weight
    moved: NirvanaForCausalLM = adapter.to(device=weight.device, dtype=weight.dtype).eval()
    return moved


def fast_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """A transformers tokenizer with the same ids. Raises: UsageError for one that is no tokenizer.json."""
    if not isinstance(tokenizer, BPETokenizer):
        raise UsageError(f"a {type(tokenizer).__name__} has no form for transformers; name a tokenizer.json")
    from tokenizers import Tokenizer as Library

    library = Library.from_str(tokenizer.serialised)
    end = library.id_to_token(tokenizer.end_id)
    return PreTrainedTokenizerFast(tokenizer_object=library, eos_token=end, pad_token=end, padding_side="left")


def evaluate_tasks(
    model: NirvanaLM,
    tokenizer: Tokenizer,
    tasks: Sequence[str | dict[str, Any]],
    *,
    limit: int | None = None,
    seed: int = 0,
    max_length: int = 2048,
    batch_size: int = 1,
) -> dict[str, dict[str, Any]]:
    """The harness's numbers by task; limit takes so many examples of each, max_length so many tokens of a text.

    Raises: UsageError where lm-eval is missing or a task has no such name, DataError where its data cannot be had.
    """
    try:
        import lm_eval
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ImportError as problem:
        raise MissingExtraError("lm-evaluation-harness", "lm-eval") from problem
    manager = TaskManager()
    unknown = [name for name in tasks if isinstance(name, str) and not manager.match_tasks([name])]
    if unknown:
        raise UsageError(f"lm-eval has no task named {', '.join(unknown)}; list them with: lm-eval ls tasks")
    harness = HFLM(
        pretrained=wrapped(model, tokenizer.end_id),
        tokenizer=fast_tokenizer(tokenizer),
        batch_size=batch_size,
        max_length=max_length,
    )
    try:
        found = lm_eval.simple_evaluate(harness, tasks=list(tasks), task_manager=manager, limit=limit, random_seed=seed)
    except (OSError, ValueError) as problem:
        raise DataError(f"lm-eval could not run {', '.join(map(str, tasks)):.80}: {problem!s:.200}") from problem
    assert found is not None
    return {name: dict(numbers) for name, numbers in found["results"].items()}
