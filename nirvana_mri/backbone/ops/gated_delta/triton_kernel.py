"""The gated delta rule token by token in Triton: generation's step, and short sequences, on a GPU.

One program keeps one block of columns of one head's state in registers and goes through the tokens; normalising,
forgetting, correcting and reading are one pass. With TRITON_INTERPRET=1, set before this module is imported, the same
kernel runs on a CPU.
"""

from contextlib import nullcontext
from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from nirvana_mri.backbone.ops.gated_delta.naive import L2_EPS
from nirvana_mri.backbone.ops.gated_delta.recompute import with_recomputed_gradients
from nirvana_mri.backbone.ops.gated_delta.shapes import check_shapes

COLUMNS = 16  # of the state, in one program


def gated_delta_rule_triton(
    q: Float[Tensor, "batch token head key"],
    k: Float[Tensor, "batch token head key"],
    v: Float[Tensor, "batch token head value"],
    g: Float[Tensor, "batch token head"],
    beta: Float[Tensor, "batch token head"],
    state: Float[Tensor, "batch head key value"] | None = None,
) -> tuple[Float[Tensor, "batch token head value"], Float[Tensor, "batch head key value"]]:
    """Outputs of every token and the last state (float32); arguments as in gated_delta_rule_naive.

    q, k and v in bfloat16, float16 or float32 as they are; the arithmetic is float32. Gradients come from the chunked
    form.
    """
    return with_recomputed_gradients(_forward, q, k, v, g, beta, state)


def _forward(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, state: Tensor | None
) -> tuple[Float[Tensor, "batch token head value"], Float[Tensor, "batch head key value"]]:
    check_shapes(q, k, v, g, beta, state)
    batch, tokens, heads, key = q.shape
    value = v.shape[3]
    output = torch.empty(v.shape, dtype=v.dtype, device=v.device)
    after = torch.empty(batch, heads, key, value, dtype=torch.float32, device=v.device)
    given = [x.detach().contiguous() for x in (q, k, v, g, beta)]
    before = after if state is None else state.detach().contiguous()  # without a start nothing is read from it
    block = launch_options(key, value, state is not None)
    grid = (batch * heads, triton.cdiv(value, block["COLUMNS"]))
    with torch.cuda.device(q.device) if q.is_cuda else nullcontext():
        recurrence[grid](*given, before, output, after, tokens, heads, key, value, key**-0.5, L2_EPS, **block)
    return output, after


def launch_options(key: int, value: int, has_start: bool) -> dict[str, Any]:
    """What the kernel is compiled for: its block of the state, and 16 numbers of it per thread."""
    rows, columns = triton.next_power_of_2(key), min(COLUMNS, triton.next_power_of_2(value))
    warps = min(8, max(1, rows * columns // 512))
    return {"HAS_START": has_start, "ROWS": rows, "COLUMNS": columns, "num_warps": warps}


@triton.jit(do_not_specialize=["tokens"])
@no_type_check
def recurrence(
    q,
    k,
    v,
    g,
    beta,
    before,
    output,
    after,
    tokens,
    heads,
    key,
    value,
    scale,
    eps,
    HAS_START: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One head (first axis of the grid), one block of the state's columns (second axis), all tokens."""
    head = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, ROWS)
    j = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    in_key, in_value = i < key, j < value
    start = head * key * value
    here = i[:, None] * value + j[None, :]
    inside = in_key[:, None] & in_value[None, :]
    if HAS_START:
        state = tl.load(before + start + here, mask=inside, other=0.0)
    else:
        state = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    token = (head // heads) * tokens * heads + head % heads
    for _ in range(tokens):
        unit_q = tl.load(q + token * key + i, mask=in_key, other=0.0).to(tl.float32)
        unit_k = tl.load(k + token * key + i, mask=in_key, other=0.0).to(tl.float32)
        target = tl.load(v + token * value + j, mask=in_value, other=0.0).to(tl.float32)
        unit_q = unit_q * tl.rsqrt(tl.sum(unit_q * unit_q, 0) + eps) * scale
        unit_k = unit_k * tl.rsqrt(tl.sum(unit_k * unit_k, 0) + eps)
        state = state * tl.exp(tl.load(g + token))
        written = (target - tl.sum(state * unit_k[:, None], 0)) * tl.load(beta + token)
        state = state + unit_k[:, None] * written[None, :]
        read = tl.sum(state * unit_q[:, None], 0)
        tl.store(output + token * value + j, read.to(output.dtype.element_ty), mask=in_value)
        token += heads
    tl.store(after + start + here, state, mask=inside)
