"""Law of the kernels: every implementation equals naive.py in output, state and gradient, at odd lengths too."""

from collections.abc import Iterator

import pytest
import torch
from backbone_support import error, noise
from torch import Tensor

from nirvana_mri.backbone.ops import gated_delta, trigger
from nirvana_mri.backbone.ops.trigger import tiled
from nirvana_mri.backbone.ops.trigger.weights import FastWeights, SlowWeights
from nirvana_mri.errors import UsageError

LENGTHS = [1, 17, 63, 64, 65, 200]
FAST_FORMS = sorted(set(gated_delta.IMPLEMENTATIONS) - {"naive"})
TRIGGER_FORMS = sorted(set(trigger.IMPLEMENTATIONS) - {"naive"})


@pytest.fixture(autouse=True)
def _poisoned_memory() -> Iterator[None]:
    """Memory that nobody wrote holds NaN (torch.empty fills itself so in deterministic mode)."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def with_gradients(outputs: tuple[Tensor, ...], inputs: list[Tensor]) -> list[Tensor]:
    """The outputs, and the gradients of one random functional of all of them."""
    functional = sum((noise(*out.shape, seed=7 + i) * out).sum() for i, out in enumerate(outputs))
    return [out.detach() for out in outputs] + list(torch.autograd.grad(functional, inputs))


def delta_inputs(tokens: int) -> list[Tensor]:
    """Raw q and k with tiny and zero rows; decays from almost none to e^-20; a start that is not zero."""
    q, k, v = (noise(2, tokens, 3, 8, seed=seed) for seed in (0, 1, 2))
    q[0, tokens // 2], k[1, tokens // 2] = 0, 1e-3
    g = -20 * torch.rand(2, tokens, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64) ** 8
    beta = noise(2, tokens, 3, seed=4).sigmoid()
    return [x.requires_grad_() for x in (q, k, v, g, beta, noise(2, 3, 8, 8, seed=5))]


@pytest.mark.parametrize("implementation", FAST_FORMS)
@pytest.mark.parametrize("tokens", LENGTHS)
def test_gated_delta_rule_equals_its_definition(tokens: int, implementation: str) -> None:
    inputs = delta_inputs(tokens)
    naive = with_gradients(gated_delta.gated_delta_rule(*inputs, implementation="naive"), inputs)
    fast = with_gradients(gated_delta.gated_delta_rule(*inputs, implementation=implementation), inputs)
    for found, expected in zip(fast, naive, strict=True):
        assert error(found, expected) <= 1e-10


@pytest.mark.parametrize("implementation", FAST_FORMS)
def test_a_float32_decay_keeps_its_digits_after_a_strong_one(implementation: str) -> None:
    """After e^-2000 a running sum in float32 could not tell the small decays of the next tokens."""
    inputs = [x.detach() for x in delta_inputs(64)]
    inputs[3] = torch.full_like(inputs[3], -0.01)
    inputs[3][:, 5] = -2000.0
    exact, _ = gated_delta.gated_delta_rule(*inputs, implementation="naive")
    found, _ = gated_delta.gated_delta_rule(*(x.float() for x in inputs), implementation=implementation)
    assert error(found.double(), exact) <= 2e-6


@pytest.mark.parametrize("implementation", FAST_FORMS)
def test_the_state_joins_two_halves(implementation: str) -> None:
    *sequence, start = (x.detach() for x in delta_inputs(100))
    whole, last = gated_delta.gated_delta_rule(*sequence, start, implementation=implementation)
    first, middle = gated_delta.gated_delta_rule(*(x[:, :37] for x in sequence), start, implementation=implementation)
    second, end = gated_delta.gated_delta_rule(*(x[:, 37:] for x in sequence), middle, implementation=implementation)
    assert error(torch.cat([first, second], dim=1), whole) <= 1e-12
    assert error(end, last) <= 1e-12


def trigger_inputs(*shape: int) -> tuple[SlowWeights, FastWeights, list[Tensor]]:
    slow = SlowWeights(0.3 * noise(8, 8, 5, seed=1), *(noise(8, 5, seed=seed) for seed in (2, 3, 4)))
    fast = FastWeights(*(1 + 0.3 * noise(*shape, 5, seed=seed) for seed in (5, 6, 7, 8)))
    vectors = [noise(*shape, 8, seed=seed) for seed in (9, 10, 11)]
    for x in (*slow, *fast, *vectors):
        x.requires_grad_()
    return slow, fast, vectors


@pytest.mark.parametrize("implementation", TRIGGER_FORMS)
@pytest.mark.parametrize("shape", [(1,), (2, 17), (1, 64), (3, 2, 11)], ids=str)
def test_trigger_equals_its_definition(
    shape: tuple[int, ...], implementation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiled, "TILE", 16)
    slow, fast, vectors = trigger_inputs(*shape)
    leaves = [*slow, *fast, *vectors]
    results = []
    for name in ("naive", implementation):
        update, predict = trigger.IMPLEMENTATIONS[name]
        task_vector, learned = update(slow, fast, *vectors, 0.3, 0.2)
        results.append(with_gradients((task_vector, *learned, predict(slow, fast, vectors[0])), leaves))
    for expected, found in zip(*results, strict=True):
        assert error(found, expected) <= 1e-10


@pytest.mark.parametrize("implementation", TRIGGER_FORMS)
def test_trigger_makes_no_matrix_per_token(implementation: str) -> None:
    """The largest tensor that autograd keeps is tokens x concept x logit, not tokens x concept x concept."""
    slow, fast, vectors = trigger_inputs(2, 50)
    sizes: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
        trigger.IMPLEMENTATIONS[implementation][0](slow, fast, *vectors, 0.01, 0.01)
    assert max(sizes) == 2 * 50 * 8 * 5


@pytest.mark.parametrize("implementation", trigger.IMPLEMENTATIONS)
def test_rate_zero_learns_nothing(implementation: str) -> None:
    slow, fast, vectors = trigger_inputs(2, 9)
    task_vector, after = trigger.trigger_update(slow, fast, *vectors, 0.0, implementation=implementation)
    other, _ = trigger.trigger_update(slow, fast, *vectors, 0.1, implementation=implementation)
    assert all(torch.equal(p, before) for p, before in zip(after, fast, strict=True))
    assert error(task_vector, other) > 1e-4


def test_low_precision_stays_outside() -> None:
    """Memory and Trigger compute in float32 for bfloat16 inputs, under autocast as well; float64 stays float64."""
    inputs = [x.detach().bfloat16() for x in delta_inputs(70)]
    slow, fast, vectors = trigger_inputs(2, 9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, state = gated_delta.gated_delta_rule(*inputs)
        _, low = trigger.trigger_update(slow, fast, *vectors, 0.01)
        _, half = trigger.trigger_update(
            SlowWeights(*(x.bfloat16() for x in slow)),
            FastWeights(*(x.bfloat16() for x in fast)),
            *(x.bfloat16() for x in vectors),
            0.01,
        )
    assert (output.dtype, state.dtype) == (torch.bfloat16, torch.float32)
    exact, _ = gated_delta.gated_delta_rule(*(x.float() for x in inputs))
    assert torch.equal(output, exact.bfloat16())
    assert {p.dtype for p in low} == {torch.float64}
    assert {p.dtype for p in half} == {torch.float32}


def test_an_unknown_implementation_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'fast'.*naive, chunk"):
        gated_delta.gated_delta_rule(*delta_inputs(3), implementation="fast")
    slow, fast, vectors = trigger_inputs(3)
    with pytest.raises(UsageError, match=r"'fast'.*naive, tiled"):
        trigger.trigger_update(slow, fast, *vectors, 0.01, implementation="fast")
