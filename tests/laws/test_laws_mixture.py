"""Law of the mixture: every implementation equals naive.py in output, gates and gradient.

Triton's kernels run here in their interpreter: the last test starts this file once more, in a process of its own.
"""

import pytest
import torch
from backbone_support import INTERPRETED, error, in_the_interpreter, noise
from torch import Tensor

from nirvana_mri.backbone.ops import implementations
from nirvana_mri.backbone.ops.mixture import OPERATION, mix_branches
from nirvana_mri.errors import UsageError

pytestmark = pytest.mark.usefixtures("poisoned_memory")
LENGTHS = [1, 17, 63, 64, 65, 200, 1000]
FEW = [1, 17, 65]  # in the interpreter, where every token is a program of its own
DTYPES = {"fused": [torch.float64, torch.float32], "triton": [torch.float32]}
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
FORMS = [name for name in DTYPES if name in implementations("mix_branches")]
CASES = [pytest.param(form, dtype, id=f"{form}-{str(dtype)[6:]}") for form in FORMS for dtype in DTYPES[form]]


def mixture_inputs(*shape: int, channels: int = 24) -> list[Tensor]:
    """Three branches, and the logits of both gates."""
    branches = [noise(*shape, channels, seed=seed) for seed in (1, 2, 3)]
    return [*branches, noise(*shape, 1, seed=4), 3 * noise(*shape, 1, seed=5)]


def results(form: str, leaves: list[Tensor], given: list[Tensor]) -> list[Tensor]:
    """The mixture, the gates, and the gradients of one random functional of all three."""
    outputs = mix_branches(*given, implementation=form)
    functional = sum((noise(*out.shape, seed=7 + i).to(out) * out).sum() for i, out in enumerate(outputs))
    return [*(out.detach() for out in outputs), *torch.autograd.grad(functional, leaves)]


def compare(inputs: list[Tensor], form: str, dtype: torch.dtype, awkward: bool = False) -> float:
    """The largest error beside naive.py in float64 on the same numbers."""
    device = "cuda" if form == "triton" and torch.cuda.is_available() else "cpu"
    leaves = [x.to(device, dtype, copy=True).requires_grad_() for x in inputs]
    exact = [x.detach().cpu().double().requires_grad_() for x in leaves]
    given = [torch.stack([x, torch.full_like(x, torch.nan)], dim=-1)[..., 0] if awkward else x for x in leaves]
    found = results(form, leaves, given)
    assert {x.dtype for x in found} == {dtype}
    return max(error(x.cpu().double(), y) for x, y in zip(found, results("naive", exact, exact), strict=True))


@pytest.mark.parametrize(("form", "dtype"), CASES)
@pytest.mark.parametrize("tokens", FEW if INTERPRETED else LENGTHS)
def test_mixture_equals_its_definition(tokens: int, form: str, dtype: torch.dtype) -> None:
    assert compare(mixture_inputs(tokens), form, dtype) <= TOLERANCE[dtype]


@pytest.mark.parametrize(("form", "dtype"), CASES)
@pytest.mark.parametrize("channels", [1, 33, 2048, 2500])
def test_mixture_of_any_width(channels: int, form: str, dtype: torch.dtype) -> None:
    assert compare(mixture_inputs(2, 3, channels=channels), form, dtype) <= TOLERANCE[dtype]


@pytest.mark.parametrize(("form", "dtype"), CASES)
def test_mixture_takes_views(form: str, dtype: torch.dtype) -> None:
    assert compare(mixture_inputs(2, 33), form, dtype, awkward=True) <= TOLERANCE[dtype]


@pytest.mark.parametrize("form", [*FORMS, "naive"])
def test_the_mixture_by_hand(form: str) -> None:
    """Gates of 1/2 and 3/4: 3/4 · 8 + 1/2 · 4 + 3/8 · 16 = 14, 3/4 · 1 + 1/2 · 2 + 3/8 · 8 = 4.75."""
    device = "cuda" if form == "triton" and torch.cuda.is_available() else "cpu"
    delta, attention, correction = (torch.tensor([x], device=device) for x in ([8.0, 1.0], [4.0, 2.0], [16.0, 8.0]))
    half, three_quarters = (torch.tensor([[x]], device=device).logit() for x in (0.5, 0.75))
    mixed, t, t2 = mix_branches(delta, attention, correction, half, three_quarters, implementation=form)
    torch.testing.assert_close(mixed.cpu(), torch.tensor([[14.0, 4.75]]))
    torch.testing.assert_close(torch.cat([t, t2], 1).cpu(), torch.tensor([[0.5, 0.75]]))


def test_bfloat16_stays() -> None:
    given = [x.bfloat16() for x in mixture_inputs(9)]
    found = mix_branches(*given)
    exact = mix_branches(*(x.double() for x in given), implementation="naive")
    assert {x.dtype for x in found} == {torch.bfloat16}
    assert max(error(x.double(), y) for x, y in zip(found, exact, strict=True)) <= 1e-2


def test_an_unknown_implementation_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'fast'.*naive, fused"):
        mix_branches(*mixture_inputs(3), implementation="fast")


def test_a_cpu_gets_the_fused_form() -> None:
    """In Triton's interpreter too, which is for tests."""
    assert OPERATION.choose(None, torch.empty(3)).name == "fused"


@pytest.mark.slow
def test_the_triton_kernels_keep_the_law_in_their_interpreter() -> None:
    """Slow: a process of its own, and the interpreter takes milliseconds for each token."""
    in_the_interpreter(__file__, "triton or gets", len(FEW) + 4 + 1 + 1 + 1)
