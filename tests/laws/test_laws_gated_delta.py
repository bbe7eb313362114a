"""Law of the gated delta rule: every implementation equals naive.py in output, state and gradient."""

from collections.abc import Iterator

import pytest
import torch
from backbone_support import error, noise, with_gradients
from torch import Tensor

from nirvana_mri.backbone.ops import gated_delta_rule, implementations
from nirvana_mri.errors import UsageError

LENGTHS = [1, 17, 63, 64, 65, 200, 1000]
FORMS = sorted(set(implementations("gated_delta_rule")) - {"naive"})


@pytest.fixture(autouse=True)
def _poisoned_memory() -> Iterator[None]:
    """Memory that nobody wrote holds NaN (torch.empty fills itself so in deterministic mode)."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def delta_inputs(tokens: int) -> list[Tensor]:
    """Raw q and k with tiny and zero rows; decays from almost none to e^-20; a start that is not zero."""
    q, k, v = (noise(2, tokens, 3, 8, seed=seed) for seed in (0, 1, 2))
    q[0, tokens // 2], k[1, tokens // 2] = 0, 1e-3
    g = -20 * torch.rand(2, tokens, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64) ** 8
    beta = noise(2, tokens, 3, seed=4).sigmoid()
    return [x.requires_grad_() for x in (q, k, v, g, beta, noise(2, 3, 8, 8, seed=5))]


@pytest.mark.parametrize("implementation", FORMS)
@pytest.mark.parametrize("tokens", LENGTHS)
def test_gated_delta_rule_equals_its_definition(tokens: int, implementation: str) -> None:
    inputs = delta_inputs(tokens)
    naive = with_gradients(gated_delta_rule(*inputs, implementation="naive"), inputs)
    fast = with_gradients(gated_delta_rule(*inputs, implementation=implementation), inputs)
    for found, expected in zip(fast, naive, strict=True):
        assert error(found, expected) <= 1e-10


@pytest.mark.parametrize("implementation", FORMS)
def test_a_float32_decay_keeps_its_digits_after_a_strong_one(implementation: str) -> None:
    """After e^-2000 a running sum in float32 could not tell the small decays of the next tokens."""
    inputs = [x.detach() for x in delta_inputs(64)]
    inputs[3] = torch.full_like(inputs[3], -0.01)
    inputs[3][:, 5] = -2000.0
    exact, _ = gated_delta_rule(*inputs, implementation="naive")
    found, _ = gated_delta_rule(*(x.float() for x in inputs), implementation=implementation)
    assert error(found.double(), exact) <= 2e-6


@pytest.mark.parametrize("implementation", FORMS)
def test_the_state_joins_two_halves(implementation: str) -> None:
    *sequence, start = (x.detach() for x in delta_inputs(100))
    whole, last = gated_delta_rule(*sequence, start, implementation=implementation)
    first, middle = gated_delta_rule(*(x[:, :37] for x in sequence), start, implementation=implementation)
    second, end = gated_delta_rule(*(x[:, 37:] for x in sequence), middle, implementation=implementation)
    assert error(torch.cat([first, second], dim=1), whole) <= 1e-12
    assert error(end, last) <= 1e-12


def test_low_precision_stays_outside() -> None:
    """Computed in float32 for bfloat16 inputs, under autocast as well."""
    inputs = [x.detach().bfloat16() for x in delta_inputs(70)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, state = gated_delta_rule(*inputs)
    assert (output.dtype, state.dtype) == (torch.bfloat16, torch.float32)
    exact, _ = gated_delta_rule(*(x.float() for x in inputs))
    assert torch.equal(output, exact.bfloat16())


def test_an_unknown_implementation_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'fast'.*naive, chunk"):
        gated_delta_rule(*delta_inputs(3), implementation="fast")
