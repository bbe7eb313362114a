"""Law of the gated delta rule: every implementation equals naive.py in output, state and gradient.

Triton's kernel runs here in its interpreter: the last test starts this file once more, in a process of its own.
"""

import pytest
import torch
from backbone_support import INTERPRETED, error, in_the_interpreter, noise, with_gradients
from torch import Tensor

from nirvana_mri.backbone.ops import gated_delta_rule, implementations
from nirvana_mri.errors import UsageError

pytestmark = pytest.mark.usefixtures("poisoned_memory")
LENGTHS = [1, 17, 63, 64, 65, 200, 1000]
FEW = [1, 17, 65]  # in the interpreter, whose kernel goes token by token
DTYPES = {
    "chunk": [torch.float64, torch.float32],
    "cpp": [torch.float64, torch.float32],
    "triton": [torch.float32],
    "fla": [torch.bfloat16],
}
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 3e-2}
FORMS = [name for name in DTYPES if name in implementations("gated_delta_rule")]
CASES = [pytest.param(form, dtype, id=f"{form}-{str(dtype)[6:]}") for form in FORMS for dtype in DTYPES[form]]
HEADS = 1 if INTERPRETED else 3  # where not said otherwise: the interpreter is slow


def delta_inputs(tokens: int, heads: int = HEADS, key: int = 8, value: int = 8, batch: int = 2) -> list[Tensor]:
    """Raw q and k with tiny and zero rows; decays from almost none to e^-20; a start that is not zero."""
    q, k = (noise(batch, tokens, heads, key, seed=seed) for seed in (0, 1))
    q[0, tokens // 2], k[-1, tokens // 2] = 0, 1e-3
    k[0, tokens // 3] = 0
    v = noise(batch, tokens, heads, value, seed=2)
    g = -20 * torch.rand(batch, tokens, heads, generator=torch.Generator().manual_seed(3), dtype=torch.float64) ** 8
    beta = noise(batch, tokens, heads, seed=4).sigmoid()
    return [q, k, v, g, beta, noise(batch, heads, key, value, seed=5)]


def placed(inputs: list[Tensor], form: str, dtype: torch.dtype) -> list[Tensor]:
    """The inputs as this implementation takes them, each of them a leaf that wants a gradient."""
    device = "cuda" if form in ("triton", "fla") and torch.cuda.is_available() else "cpu"
    return [x.detach().to(device, dtype).requires_grad_() for x in inputs]


def worst(found: list[Tensor], exact: list[Tensor]) -> float:
    return max(error(x.cpu().double(), y.double()) for x, y in zip(found, exact, strict=True))


def compare(inputs: list[Tensor], form: str, dtype: torch.dtype, views: object = list) -> float:
    """The largest error in output, state and gradients beside naive.py in float64 on the same (rounded) inputs.

    views: what is made of the inputs before the call, without changing shapes.
    """
    given = placed(inputs, form, dtype)
    exact = [x.detach().cpu().double().requires_grad_() for x in given]
    expected = with_gradients(gated_delta_rule(*views(exact), implementation="naive"), exact)
    found = gated_delta_rule(*views(given), implementation=form)
    assert found[0].dtype == dtype
    functional = sum((noise(*out.shape, seed=7 + i).to(out) * out).sum() for i, out in enumerate(found))
    gradients = torch.autograd.grad(functional, given)
    return worst([out.detach() for out in found] + list(gradients), expected)


@pytest.mark.parametrize(("form", "dtype"), CASES)
@pytest.mark.parametrize("tokens", FEW if INTERPRETED else LENGTHS)
def test_gated_delta_rule_equals_its_definition(tokens: int, form: str, dtype: torch.dtype) -> None:
    assert compare(delta_inputs(tokens), form, dtype) <= TOLERANCE[dtype]


@pytest.mark.parametrize(("form", "dtype"), CASES)
@pytest.mark.parametrize(("key", "value"), [(5, 37), (128, 128), (37, 5), (16, 64)])
def test_gated_delta_rule_takes_any_head_dim(key: int, value: int, form: str, dtype: torch.dtype) -> None:
    tokens = 9 if INTERPRETED else 70
    assert compare(delta_inputs(tokens, heads=2, key=key, value=value), form, dtype) <= TOLERANCE[dtype]


def awkward(inputs: list[Tensor]) -> list[Tensor]:
    """The same numbers in memory that is permuted, or strided, or whose rows are one row."""
    q, k, v, g, beta, state = inputs
    q = q.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    k = torch.stack([k, torch.full_like(k, torch.nan)], dim=-1)[..., 0]
    v = torch.cat([v, torch.full_like(v, torch.nan)], dim=1)[:, : v.shape[1]]
    beta = beta[:, :1].expand_as(beta)
    return [q, k, v, g.mT.contiguous().mT, beta, state.mT.contiguous().mT]


@pytest.mark.parametrize(("form", "dtype"), CASES)
def test_gated_delta_rule_takes_any_strides(form: str, dtype: torch.dtype) -> None:
    assert not any(x.is_contiguous() for x in awkward(delta_inputs(20, heads=3)))
    assert compare(delta_inputs(20, heads=3, key=6), form, dtype, awkward) <= TOLERANCE[dtype]


@pytest.mark.parametrize(("form", "dtype"), CASES)
def test_a_decay_keeps_its_digits_after_a_strong_one(form: str, dtype: torch.dtype) -> None:
    """After e^-2000 a running sum in float32 could not tell the small decays of the next tokens."""
    inputs = delta_inputs(64)
    inputs[3] = torch.full_like(inputs[3], -0.01)
    inputs[3][:, 5] = -2000.0
    given = [x.detach() for x in placed(inputs, form, dtype)]
    exact, _ = gated_delta_rule(*(x.cpu().double() for x in given), implementation="naive")
    found, _ = gated_delta_rule(*given, implementation=form)
    assert worst([found], [exact]) <= min(2e-6 if dtype != torch.bfloat16 else 1, TOLERANCE[dtype])


@pytest.mark.parametrize(("form", "dtype"), CASES)
def test_the_state_joins_two_halves(form: str, dtype: torch.dtype) -> None:
    *sequence, start = (x.detach() for x in placed(delta_inputs(100), form, dtype))
    untouched = start.clone()
    whole, last = gated_delta_rule(*sequence, start, implementation=form)
    first, middle = gated_delta_rule(*(x[:, :37] for x in sequence), start, implementation=form)
    second, end = gated_delta_rule(*(x[:, 37:] for x in sequence), middle, implementation=form)
    assert error(torch.cat([first, second], dim=1), whole) <= TOLERANCE[dtype] / 10
    assert error(end, last) <= TOLERANCE[dtype] / 10
    assert torch.equal(start, untouched)


@pytest.mark.parametrize(("form", "dtype"), CASES)
@pytest.mark.parametrize("tokens", [1, 40])
def test_without_a_start_the_memory_is_empty(tokens: int, form: str, dtype: torch.dtype) -> None:
    *sequence, start = (x.detach() for x in placed(delta_inputs(tokens), form, dtype))
    found = gated_delta_rule(*sequence, implementation=form)
    expected = gated_delta_rule(*sequence, torch.zeros_like(start), implementation=form)
    assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))


@pytest.mark.parametrize(("form", "dtype"), CASES)
def test_the_same_call_gives_the_same_bits(form: str, dtype: torch.dtype) -> None:
    inputs = [x.detach() for x in placed(delta_inputs(70), form, dtype)]
    first, second = (gated_delta_rule(*inputs, implementation=form) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


@pytest.mark.parametrize("form", sorted({"chunk", "cpp"} & set(FORMS)))
def test_low_precision_stays_outside(form: str) -> None:
    """Computed in float32 for bfloat16 inputs, under autocast as well."""
    inputs = [x.detach().bfloat16() for x in delta_inputs(70)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, state = gated_delta_rule(*inputs, implementation=form)
    assert (output.dtype, state.dtype) == (torch.bfloat16, torch.float32)
    exact, _ = gated_delta_rule(*(x.float() for x in inputs), implementation=form)
    assert torch.equal(output, exact.bfloat16())


def test_an_unknown_implementation_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'fast'.*naive, chunk"):
        gated_delta_rule(*delta_inputs(3), implementation="fast")


@pytest.mark.slow
def test_the_triton_kernel_keeps_the_law_in_its_interpreter() -> None:
    """Slow: the interpreter takes a millisecond and more per token and program."""
    in_the_interpreter(__file__, "triton", len(FEW) + 4 + 1 + 1 + 1 + 2 + 1)
