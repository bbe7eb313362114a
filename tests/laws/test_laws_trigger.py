"""Law of the Trigger: every implementation equals naive.py in output, logits and gradient, at odd lengths too."""

from collections.abc import Iterator

import pytest
import torch
from backbone_support import error, noise, with_gradients
from torch import Tensor

from nirvana_mri.backbone.ops import TriggerBank, TriggerLogits, implementations, trigger_update
from nirvana_mri.backbone.ops.trigger import tiled
from nirvana_mri.errors import UsageError

FORMS = sorted(set(implementations("trigger_update")) - {"naive"})


@pytest.fixture(autouse=True)
def _poisoned_memory() -> Iterator[None]:
    """Memory that nobody wrote holds NaN (torch.empty fills itself so in deterministic mode)."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def trigger_inputs(*shape: int) -> tuple[list[Tensor], TriggerLogits, TriggerBank]:
    """q, k and v, logits near one, and a bank; all ask for gradients."""
    bank = TriggerBank(0.3 * noise(8, 8, 5, seed=1), *(noise(8, 5, seed=seed) for seed in (2, 3, 4)))
    logits = TriggerLogits(*(1 + 0.3 * noise(*shape, 5, seed=seed) for seed in (5, 6, 7, 8)))
    vectors = [noise(*shape, 8, seed=seed) for seed in (9, 10, 11)]
    for x in (*bank, *logits, *vectors):
        x.requires_grad_()
    return vectors, logits, bank


@pytest.mark.parametrize("rates", [(0.3, 0.2), (0.0, 0.0), (0.1, 0.0)], ids=str)
@pytest.mark.parametrize("implementation", FORMS)
@pytest.mark.parametrize("shape", [(1,), (2, 17), (1, 64), (3, 2, 11)], ids=str)
def test_trigger_equals_its_definition(
    shape: tuple[int, ...], implementation: str, rates: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiled, "TILE", 16)
    vectors, logits, bank = trigger_inputs(*shape)
    results = []
    for name in ("naive", implementation):
        task_vector, learned = trigger_update(*vectors, logits, bank, *rates, implementation=name)
        leaves = [*vectors[: 3 if any(rates) else 1], *logits, *bank]
        results.append(with_gradients((task_vector, *learned), leaves))
    for expected, found in zip(*results, strict=True):
        assert error(found, expected) <= 1e-10


@pytest.mark.parametrize("implementation", FORMS)
def test_trigger_makes_no_matrix_per_token(implementation: str) -> None:
    """The largest tensor that autograd keeps is tokens x concept x logit, not tokens x concept x concept."""
    vectors, logits, bank = trigger_inputs(2, 50)
    sizes: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
        trigger_update(*vectors, logits, bank, 0.01, 0.01, implementation=implementation)
    assert max(sizes) == 2 * 50 * 8 * 5


@pytest.mark.parametrize("implementation", implementations("trigger_update"))
def test_rate_zero_learns_nothing(implementation: str) -> None:
    vectors, logits, bank = trigger_inputs(2, 9)
    task_vector, after = trigger_update(*vectors, logits, bank, 0.0, 0.0, implementation=implementation)
    other, _ = trigger_update(*vectors, logits, bank, 0.1, 0.1, implementation=implementation)
    assert all(torch.equal(p, before) for p, before in zip(after, logits, strict=True))
    assert error(task_vector, other) > 1e-4


def test_low_precision_stays_outside() -> None:
    """Computed in float32 for bfloat16 inputs, under autocast as well; float64 stays float64."""
    vectors, logits, bank = trigger_inputs(2, 9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, wide = trigger_update(*vectors, logits, bank, 0.01, 0.01)
        task_vector, half = trigger_update(
            *(x.bfloat16() for x in vectors),
            TriggerLogits(*(x.bfloat16() for x in logits)),
            TriggerBank(*(x.bfloat16() for x in bank)),
            0.01,
            0.01,
        )
    assert task_vector.dtype == torch.bfloat16
    assert {p.dtype for p in wide} == {torch.float64}
    assert {p.dtype for p in half} == {torch.float32}


def test_an_unknown_implementation_is_refused() -> None:
    vectors, logits, bank = trigger_inputs(3)
    with pytest.raises(UsageError, match=r"'fast'.*naive, tiled"):
        trigger_update(*vectors, logits, bank, 0.01, 0.01, implementation="fast")
