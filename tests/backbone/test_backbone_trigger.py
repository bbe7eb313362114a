"""The Trigger's Triton kernels compiled for an H200, which takes a compiler and no GPU."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

COMPILE = r"""
import json, pathlib, re, subprocess, sys, tempfile
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from nirvana_mri.backbone.ops.trigger import fused, kernels

TYPES = {torch.bfloat16: "*bf16", torch.float32: "*fp32"}
OF_THE_MODEL = {"q_ptr", "k_ptr", "v_ptr", "a_ptr", "ln_ptr", "bias_ptr", "shift_ptr",
                "task_ptr", "g_task", "gq_ptr", "gk_ptr", "gv_ptr"}
cuobjdump = pathlib.Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


def usage(name, dtype):
    kernel = getattr(kernels, name)
    constants = fused.launch_options(name, 64, 32, dtype) | fused.arithmetic(dtype) | {"LEARNS": True}
    options = {key: constants.pop(key) for key in ("num_warps", "num_stages")}
    constants = {key: value for key, value in constants.items() if key in kernel.arg_names}
    kinds = {"stride": "i32", "tokens": "i32", "lr_linear": "fp32", "lr_ln": "fp32"}
    signature = {
        name: "constexpr" if name in constants
        else kinds.get(name) or (TYPES[dtype] if name in OF_THE_MODEL else "*fp32")
        for name in kernel.arg_names
    }
    aligned = [at for at, name in enumerate(signature) if signature[name][0] in "*i"]
    source = ASTSource(
        kernel,
        signature,
        {(list(signature).index(name),): value for name, value in constants.items()},
        {(at,): [["tt.divisibility", 16]] for at in aligned},
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        said = subprocess.run([cuobjdump, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    found = {key: int(re.search(rf"\b{key}:(\d+)", said)[1]) for key in ("REG", "STACK", "LOCAL")}
    return found | {"wgmma": compiled.asm["ptx"].count("wgmma.mma_async")}


names = [name for name in vars(kernels) if name.endswith("_kernel")]
json.dump({f"{name} {dtype}": usage(name, dtype) for dtype in TYPES for name in names}, sys.stdout)
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_the_kernels_compile_for_an_h200_without_spilling() -> None:
    """Slow: ten compilations. Every kernel at the 1.3B shapes keeps its numbers in registers."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    ended = subprocess.run(
        [sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    found = json.loads(ended.stdout)
    assert len(found) == 10
    assert {name: use for name, use in found.items() if use["STACK"] or use["LOCAL"]} == {}
    assert all(use["wgmma"] for name, use in found.items() if "bfloat16" in name and "learning" not in name)
