"""The gated delta rule's optional implementations: how they are found, built, refused and chosen."""

import dataclasses
import inspect
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from backbone_support import error, noise
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from nirvana_mri.backbone.ops import gated_delta_rule, implementations
from nirvana_mri.backbone.ops.gated_delta import OPERATION, build
from nirvana_mri.backbone.ops.gated_delta.cpp import gated_delta_rule_cpp
from nirvana_mri.errors import UsageError

needs_compiler = pytest.mark.skipif(build.missing() is not None, reason=str(build.missing()))


def inputs(tokens: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    rows = [noise(2, tokens, 4, 32, seed=seed, dtype=dtype) for seed in range(3)]
    return [*rows, -noise(2, tokens, 4, seed=3, dtype=dtype).exp(), noise(2, tokens, 4, seed=4, dtype=dtype).sigmoid()]


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@needs_compiler
def test_the_number_of_threads_changes_no_bit(threads: None) -> None:
    """Long enough that more than one thread is worthwhile."""
    found = []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        found.append(gated_delta_rule(*inputs(600), implementation="cpp"))
    for output, state in found[1:]:
        assert torch.equal(output, found[0][0])
        assert torch.equal(state, found[0][1])


@needs_compiler
@pytest.mark.parametrize(
    ("index", "name"), [(1, "k is"), (2, "v is"), (3, "g is"), (4, "beta is"), (5, "initial_state is")]
)
def test_no_address_is_given_away_with_a_wrong_shape(index: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The types of the annotations are checked by the test run only; this must hold without them."""
    forward = sys.modules["nirvana_mri.backbone.ops.gated_delta.cpp"]._forward
    monkeypatch.setattr(sys.modules[forward.__module__], "library", lambda: pytest.fail("the library was called"))
    given = [*inputs(6), noise(2, 4, 32, 32, dtype=torch.float32)]
    given[index] = given[index][:1]
    with pytest.raises(UsageError, match=rf"{name} \[.*must be \["):
        forward(*given)


@needs_compiler
def test_dtypes_are_not_mixed() -> None:
    given = inputs(6)
    given[3] = given[3].double()
    with pytest.raises(UsageError, match=r"float64 among torch\.float32"):
        gated_delta_rule_cpp(*given)


@needs_compiler
def test_gradients_are_the_chunked_forms() -> None:
    given = [x.requires_grad_() for x in inputs(70, torch.float64)[:3]] + inputs(70, torch.float64)[3:]
    found, expected = (
        torch.autograd.grad(gated_delta_rule(*given, implementation=form)[1].sum(), given[1:3])
        for form in ("cpp", "chunk")
    )
    assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))


def compiler(folder: Path, does: str) -> str:
    """A program in the place of a compiler: it has a version, and then does this."""
    program = folder / "c++"
    program.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then echo test 1; exit 0; fi\n{does}\n')
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        (
            "echo 'x.cpp:3: warning: w' >&2; echo 'x.cpp:7:1: error: no int' >&2; exit 1",
            r"recurrence\.cpp: x\.cpp:7:1: error: no int$",
        ),
        ("exit 4", r"could not compile recurrence\.cpp: exit 4$"),
        ('for last; do :; done; echo no library > "$last"', r"no compiled library in .*set NIRVANA_CACHE"),
    ],
)
def test_a_compiler_that_fails_is_one_line(
    does: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", compiler(tmp_path, does))
    monkeypatch.setenv("NIRVANA_CACHE", str(tmp_path / "cache"))
    assert "cpp" not in implementations("gated_delta_rule")
    with pytest.raises(UsageError, match=reason) as caught:
        gated_delta_rule_cpp(*inputs(3))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("cache/.*"))


def test_a_compiler_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler -O1")
    with pytest.raises(
        UsageError, match=r"cpp cannot run here \(no program no-such-compiler.*\); choose from naive, chunk"
    ):
        gated_delta_rule(*inputs(3), implementation="cpp")


def test_without_any_compiler_the_others_remain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("NIRVANA_CACHE", str(tmp_path / "cache"))
    assert "install g++ or clang++" in str(build.missing())
    assert implementations("gated_delta_rule")[:2] == ["naive", "chunk"]
    assert "cpp" not in implementations("gated_delta_rule")


@needs_compiler
def test_the_library_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NIRVANA_CACHE comes before XDG_CACHE_HOME; what lies there is loaded, not compiled again."""
    monkeypatch.setenv("NIRVANA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert build.missing() is None
    (library,) = tmp_path.glob("**/*.so")
    assert library.parent == tmp_path / "cache"
    written = library.stat().st_mtime_ns
    build._attempt.cache_clear()
    assert build.missing() is None
    assert library.stat().st_mtime_ns == written
    monkeypatch.delenv("NIRVANA_CACHE")
    assert build.missing() is None
    assert (tmp_path / "xdg" / "nirvana-mri" / "kernels" / library.name).exists()


def stand_in(device: str, tokens: int, dtype: torch.dtype) -> Tensor:
    """A tensor without memory, on a device that this machine need not have."""
    with FakeTensorMode():
        return torch.empty(1, tokens, 2, 8, dtype=dtype, device=device)


@pytest.mark.parametrize(
    ("device", "tokens", "dtype", "absent", "expected"),
    [
        ("cpu", 1, torch.float32, "", "chunk"),
        ("cpu", 400, torch.bfloat16, "", "chunk"),
        ("cuda", 1, torch.bfloat16, "", "triton"),
        ("cuda", 16, torch.float32, "", "triton"),
        ("cuda", 17, torch.bfloat16, "", "fla"),
        ("cuda", 17, torch.float32, "", "chunk"),
        ("cuda", 1, torch.float64, "", "chunk"),
        ("cuda", 400, torch.bfloat16, "fla", "chunk"),
        ("cuda", 1, torch.bfloat16, "triton", "chunk"),
    ],
)
@pytest.mark.parametrize("interpreted", ["0", "1"])
def test_the_default_is_what_the_rule_says(
    device: str,
    tokens: int,
    dtype: torch.dtype,
    absent: str,
    expected: str,
    interpreted: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NIRVANA_KERNELS", raising=False)
    monkeypatch.setenv("TRITON_INTERPRET", interpreted)
    everything = tuple(
        dataclasses.replace(i, missing=lambda name=i.name: "absent" if name == absent else None)
        for i in OPERATION.implementations
    )
    operation = dataclasses.replace(OPERATION, implementations=everything)
    assert operation.choose(None, stand_in(device, tokens, dtype)).name == expected
    assert operation.choose("naive", stand_in(device, tokens, dtype)).name == "naive"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("name", ["triton", "fla"])
def test_what_needs_a_gpu_says_so(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(UsageError, match=rf"{name} cannot run here \(.*(not installed: pip install|no CUDA device)"):
        gated_delta_rule(*inputs(3), implementation=name)


@pytest.mark.skipif(find_spec("fla") is None, reason="fla-core is not installed")
def test_fla_cores_own_definitions_agree() -> None:
    """Its kernels need CUDA, its definitions do not: the same order of arguments, layout and state as ours."""
    from fla.ops.gated_delta_rule.naive import naive_chunk_gated_delta_rule, naive_recurrent_gated_delta_rule

    from nirvana_mri.backbone.ops.gated_delta import l2norm

    q, k, v, g, beta = inputs(70)
    start = noise(2, 4, 32, 32, dtype=torch.float32)
    ours = gated_delta_rule(q, k, v, g, beta, start, implementation="naive")
    options = dict(g=g, beta=beta, scale=32**-0.5, initial_state=start, output_final_state=True)
    for theirs in (naive_chunk_gated_delta_rule, naive_recurrent_gated_delta_rule):
        for found, expected in zip(theirs(l2norm(q), l2norm(k), v, **options), ours, strict=True):
            assert error(found, expected) <= 1e-5


@pytest.mark.skipif(find_spec("fla") is None, reason="fla-core is not installed")
def test_fla_core_is_called_as_its_signature_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place of its kernel, which needs CUDA, stands its definition; what is passed must fit the real one."""
    from fla.ops import gated_delta_rule as theirs
    from fla.ops.gated_delta_rule.naive import naive_chunk_gated_delta_rule

    from nirvana_mri.backbone.ops.gated_delta import l2norm
    from nirvana_mri.backbone.ops.gated_delta.fla_core import gated_delta_rule_fla

    signature = inspect.signature(theirs.chunk_gated_delta_rule)

    def definition(*positional: object, **named: object) -> tuple[Tensor, Tensor]:
        given = signature.bind(*positional, **named).arguments
        assert given.pop("use_qk_l2norm_in_kernel")
        assert given["q"].dtype == given["k"].dtype == given["v"].dtype == torch.bfloat16
        assert given["g"].dtype == given["beta"].dtype == given["initial_state"].dtype == torch.float32
        given |= {name: l2norm(given[name].float()) for name in ("q", "k")}
        return naive_chunk_gated_delta_rule(**given)

    monkeypatch.setattr(theirs, "chunk_gated_delta_rule", definition)
    q, k, v, g, beta = inputs(70)
    rows, start = [x.bfloat16() for x in (q, k, v)], noise(2, 4, 32, 32, dtype=torch.float32)
    found = gated_delta_rule_fla(*rows, g, beta, start)
    expected = gated_delta_rule(*(x.float() for x in rows), g, beta, start, implementation="naive")
    assert all(error(x, y) <= 1e-5 for x, y in zip(found, expected, strict=True))


COMPILE = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from nirvana_mri.backbone.ops.gated_delta.triton_kernel import launch_options, recurrence

rows, target = sys.argv[1:]
constants = launch_options(128, 128, True)
warps = constants.pop("num_warps")
types = {"q": rows, "k": rows, "v": rows, "output": rows, "scale": "fp32", "eps": "fp32"}
types |= dict.fromkeys(("tokens", "heads", "key", "value"), "i32") | dict.fromkeys(constants, "constexpr")
signature = {name: types.get(name, "*fp32") for name in recurrence.arg_names}
source = ASTSource(recurrence, signature, constants)
compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps})
open(target, "wb").write(compiled.asm["cubin"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("rows", ["*bf16", "*fp32"])
def test_the_kernel_compiles_for_an_h200_without_spills(
    rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slow: a process of its own, since here Triton may be interpreting. At head dim 128."""
    triton = pytest.importorskip("triton")
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.exists():
        pytest.skip("this triton brings no CUDA tools")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    cubin = tmp_path / "recurrence.cubin"
    made = subprocess.run(
        [sys.executable, "-c", COMPILE, rows, str(cubin)], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr[-3000:]
    usage = subprocess.run([tool, "-res-usage", cubin], capture_output=True, text=True, check=True).stdout
    assert "STACK:0 " in usage
    assert "LOCAL:0 " in usage
