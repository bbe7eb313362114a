"""Law of the Trigger: every implementation equals naive.py in output, logits and gradient, at odd lengths too.

Triton's kernels run here in their interpreter: the last test starts this file once more, in a process of its own.
"""

from collections.abc import Callable

import pytest
import torch
from backbone_support import INTERPRETED, error, in_the_interpreter, noise
from torch import Tensor

from nirvana_mri.backbone.ops import TriggerBank, TriggerLogits, implementations, trigger_update
from nirvana_mri.backbone.ops.trigger import OPERATION, gradient
from nirvana_mri.errors import UsageError

pytestmark = pytest.mark.usefixtures("poisoned_memory")
LENGTHS = [1, 17, 63, 64, 65, 200, 1000]
FEW = [1, 17, 40]  # in the interpreter, whose tiles have 16 tokens
SOME = 36 if INTERPRETED else 70
SIZES = [(33, 7), (3, 20), *([] if INTERPRETED else [(64, 32), (16, 16), (130, 2)])]
DTYPES = {"tiled": [torch.float64, torch.float32], "triton": [torch.float32]}
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
FORMS = [name for name in DTYPES if name in implementations("trigger_update")]
CASES = [pytest.param(form, dtype, id=f"{form}-{str(dtype)[6:]}") for form in FORMS for dtype in DTYPES[form]]
RATES = (0.3, 0.2)


def trigger_inputs(*shape: int, concepts: int = 8, logits: int = 5) -> list[Tensor]:
    """q, k, v, four logits near one, and a bank's four."""
    vectors = [noise(*shape, concepts, seed=seed) for seed in (9, 10, 11)]
    near_one = [1 + 0.3 * noise(*shape, logits, seed=seed) for seed in (5, 6, 7, 8)]
    tables = [noise(concepts, logits, seed=seed) for seed in (2, 3, 4)]
    return [*vectors, *near_one, 0.3 * noise(concepts, concepts, logits, seed=1), *tables]


def placed(inputs: list[Tensor], form: str, dtype: torch.dtype) -> list[Tensor]:
    """The inputs as this implementation takes them, each of them a leaf that wants a gradient."""
    device = "cuda" if form == "triton" and torch.cuda.is_available() else "cpu"
    return [x.detach().to(device, dtype, copy=True).requires_grad_() for x in inputs]


def update(inputs: list[Tensor], form: str, rates: tuple[float, float] = RATES) -> tuple[Tensor, ...]:
    task_vector, learned = trigger_update(
        *inputs[:3], TriggerLogits(*inputs[3:7]), TriggerBank(*inputs[7:]), *rates, implementation=form
    )
    return task_vector, *learned


def compare(
    inputs: list[Tensor],
    form: str,
    dtype: torch.dtype,
    rates: tuple[float, float] = RATES,
    views: Callable[[list[Tensor]], list[Tensor]] = list,
) -> float:
    """The largest error in task vector, logits and gradients beside naive.py in float64 on the same numbers.

    views: what is made of the inputs before the call. Inputs that play no part have no gradient to compare.
    """
    given = placed(inputs, form, dtype)
    exact = [x.detach().cpu().double().requires_grad_() for x in given]
    expected = results(update(views(exact), "naive", rates), exact)
    found = results(update(views(given), form, rates), given)
    pairs = [(x, y) for x, y in zip(found, expected, strict=True) if y is not None]
    assert {x.dtype for x, _ in pairs} == {dtype}
    return max(error(x.cpu().double(), y) for x, y in pairs)


def results(outputs: tuple[Tensor, ...], leaves: list[Tensor]) -> list[Tensor | None]:
    """The outputs, and the gradients of one random functional of all of them."""
    functional = sum((noise(*out.shape, seed=7 + i).to(out) * out).sum() for i, out in enumerate(outputs))
    return [*(out.detach() for out in outputs), *torch.autograd.grad(functional, leaves, allow_unused=True)]


@pytest.mark.parametrize(("form", "dtype"), CASES)
@pytest.mark.parametrize("tokens", FEW if INTERPRETED else LENGTHS)
def test_trigger_equals_its_definition(
    tokens: int, form: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if INTERPRETED:  # the bank's gradient is summed over several of its tiles here too
        monkeypatch.setattr("nirvana_mri.backbone.ops.trigger.fused.BANK_TILE", 30)
    assert compare(trigger_inputs(tokens), form, dtype) <= TOLERANCE[dtype]


@pytest.mark.parametrize(("form", "dtype"), CASES)
@pytest.mark.parametrize("rates", [(0.0, 0.0), (0.1, 0.0), (0.0, 0.1)], ids=str)
@pytest.mark.parametrize("shape", [(2, 17), (3, 2, 11)], ids=str)
def test_trigger_at_any_rate_and_batch(
    shape: tuple[int, ...], rates: tuple[float, float], form: str, dtype: torch.dtype
) -> None:
    assert compare(trigger_inputs(*shape), form, dtype, rates) <= TOLERANCE[dtype]


@pytest.mark.parametrize(("form", "dtype"), CASES)
@pytest.mark.parametrize(("concepts", "logits"), SIZES)
def test_trigger_at_any_size(concepts: int, logits: int, form: str, dtype: torch.dtype) -> None:
    inputs = trigger_inputs(19, concepts=concepts, logits=logits)
    # Small enough steps that learning converges: otherwise rounding grows with the number of concepts.
    assert compare(inputs, form, dtype, (0.3 / concepts**2, 0.2 / concepts)) <= TOLERANCE[dtype]


def as_in_the_model(inputs: list[Tensor]) -> list[Tensor]:
    """q, k and v as views of one projection; one tensor as all four logits, expanded over the tokens."""
    q, k, v, p, *_ = inputs
    start = p[..., :1, :].expand_as(p)
    return [*torch.cat([q, k, v], dim=-1).chunk(3, dim=-1), start, start, start, start, *inputs[7:]]


def awkward(inputs: list[Tensor]) -> list[Tensor]:
    """The same numbers in memory that is permuted, or strided and among NaN; the strides all differ."""
    q, k, v, *logits = inputs[:7]
    q = q.mT.contiguous().mT
    k = torch.stack([k, torch.full_like(k, torch.nan)], dim=-1)[..., 0]
    v = torch.cat([v, torch.full_like(v, torch.nan)], dim=-1)[..., : v.shape[-1]]
    logits = [torch.stack([p, torch.full_like(p, torch.nan)], dim=-2)[..., 0, :] for p in logits]
    return [q, k, v, *logits, *(x.mT.contiguous().mT for x in inputs[7:])]


@pytest.mark.parametrize(("form", "dtype"), CASES)
@pytest.mark.parametrize("views", [as_in_the_model, awkward])
def test_trigger_takes_views(views: Callable[[list[Tensor]], list[Tensor]], form: str, dtype: torch.dtype) -> None:
    assert compare(trigger_inputs(2, SOME // 2), form, dtype, views=views) <= TOLERANCE[dtype]


@pytest.mark.parametrize(("form", "dtype"), CASES)
def test_trigger_repeats_its_bits(form: str, dtype: torch.dtype) -> None:
    given = placed(trigger_inputs(SOME), form, dtype)
    once, again = (results(update(given, form), given) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(once, again, strict=True))


@pytest.mark.parametrize(("form", "dtype"), CASES)
def test_trigger_of_no_tokens(form: str, dtype: torch.dtype) -> None:
    given = placed(trigger_inputs(2, 0), form, dtype)
    found = results(update(given, form), given)
    assert [x.shape for x in found[:5]] == [(2, 0, 8), *[(2, 0, 5)] * 4]
    assert all(not x.any() for x in found[12:])


@pytest.mark.parametrize("rates", [RATES, (0.0, 0.0)], ids=str)
@pytest.mark.parametrize(("form", "dtype"), CASES)
def test_a_frozen_bank_costs_no_gradient(
    form: str, dtype: torch.dtype, rates: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other gradients are the same; whoever starts on the bank's fails here."""
    given = placed(trigger_inputs(SOME // 2), form, dtype)
    wanted = given[:7] if any(rates) else [given[0], *given[3:7]]
    expected = results(update(given, form, rates), wanted)

    def refuse(*_: object) -> None:
        raise AssertionError("the bank's gradient was begun")

    monkeypatch.setattr(gradient.BankGradient, "__init__", refuse)
    frozen = [*given[:7], *(x.detach() for x in given[7:])]
    found = results(update(frozen, form, rates), wanted)
    assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))
    with pytest.raises(AssertionError, match="was begun"):
        results(update(given, form, rates), given)


@pytest.mark.parametrize("rates", [RATES, (0.0, 0.0)], ids=str)
@pytest.mark.parametrize(("form", "dtype"), CASES)
def test_trigger_keeps_little(form: str, dtype: torch.dtype, rates: tuple[float, float]) -> None:
    """Autograd keeps nothing larger than tokens x concept, but for the bank itself."""
    given = placed(trigger_inputs(2, 50, concepts=20, logits=5), form, dtype)
    sizes: list[int] = []
    bank = {x.data_ptr() for x in given[7:]}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: sizes.append(x.numel() if x.data_ptr() not in bank else 0) or x, lambda x: x
    ):
        update(given, form, rates)
    assert max(sizes) == 2 * 50 * 20


@pytest.mark.parametrize("rates", [RATES, (0.0, 0.0)], ids=str)
def test_the_tiles_pass_gradcheck(rates: tuple[float, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Against finite differences, which know nothing of naive.py; over a tile's edge."""
    monkeypatch.setattr("nirvana_mri.backbone.ops.trigger.tiled.TILE", 4)
    given = placed(trigger_inputs(6, concepts=3, logits=2), "tiled", torch.float64)
    assert torch.autograd.gradcheck(lambda *x: update(list(x), "tiled", rates), given)


@pytest.mark.parametrize("implementation", [*FORMS, "naive"])
def test_rate_zero_learns_nothing(implementation: str) -> None:
    given = placed(trigger_inputs(2, 9), implementation, torch.float32)
    task_vector, *after = update(given, implementation, (0.0, 0.0))
    other, *_ = update(given, implementation, (0.1, 0.1))
    assert all(torch.equal(p, before) for p, before in zip(after, given[3:7], strict=True))
    assert error(task_vector, other) > 1e-4


def test_low_precision_stays_outside() -> None:
    """Computed in float32 for bfloat16 inputs, under autocast as well; float64 stays float64."""
    inputs = trigger_inputs(2, 9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, *wide = update(inputs, "tiled")
        task_vector, *half = update([x.bfloat16() for x in inputs], "tiled")
    exact, *logits = update([x.bfloat16().float() for x in inputs], "tiled")
    assert {p.dtype for p in wide} == {torch.float64}
    assert all(torch.equal(p, expected) for p, expected in zip(half, logits, strict=True))
    assert torch.equal(task_vector, exact.bfloat16())


@pytest.mark.skipif("triton" not in FORMS or INTERPRETED, reason="bfloat16 in Triton needs a GPU")
def test_triton_in_bfloat16() -> None:
    """Exact products of bfloat16 numbers, summed in float32: the logits lose nothing.

    The gradients that meet the bank's matrices are rounded on the way back, to 8 bits.
    """
    given = placed(trigger_inputs(200, concepts=64, logits=32), "triton", torch.bfloat16)
    logits = [x.detach().float().requires_grad_() for x in given[3:7]]
    given = [*given[:3], *logits, *given[7:]]
    exact = [x.detach().cpu().double().requires_grad_() for x in given]
    rates = (0.3 / 64**2, 0.2 / 64)
    expected = results(update(exact, "naive", rates), exact)
    found = [x.cpu().double() for x in results(update(given, "triton", rates), given)]
    errors = [error(x, y) for x, y in zip(found, expected, strict=True)]
    assert max(errors[1:5]) <= 1e-5
    assert max(errors) <= 2e-2


def test_an_unknown_implementation_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'fast'.*naive, tiled"):
        update(trigger_inputs(3), "fast")


@pytest.mark.skipif("triton" in FORMS, reason="it can run here")
def test_triton_without_a_gpu_is_refused() -> None:
    with pytest.raises(UsageError, match=r"triton cannot run here \(.*\); choose from naive, tiled"):
        update(trigger_inputs(3), "triton")


def test_a_cpu_gets_the_tiles() -> None:
    """In Triton's interpreter too, which is for tests."""
    assert OPERATION.choose(None, torch.empty(3)).name == "tiled"


@pytest.mark.slow
def test_the_triton_kernels_keep_the_law_in_their_interpreter() -> None:
    """Slow: the interpreter takes milliseconds for each tile and program."""
    in_the_interpreter(__file__, "triton or gets", len(FEW) + 6 + 2 + 2 + 1 + 1 + 2 + 2 + 1 + 1)
