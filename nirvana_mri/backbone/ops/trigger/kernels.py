"""The Trigger's Triton kernels: a tile of tokens each, the bank streamed as one matrix A_l after another.

No tensor of size tokens x concept x concept or tokens x concept x logit is in memory, and none that autograd keeps is
larger than tokens x concept. Everything is accumulated in float32. Products with A_l take the dtype in which A comes;
the small ones with the logits are float32 always (PRECISION says how the hardware multiplies).

C, L: concepts and logits; CB, LB: the powers of two above them; BLOCK: tokens in a tile. q, k and v have rows of any
stride, everything else is contiguous. The notation is that of gradient.py.
"""

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def _load(pointer, start, rows, ok, stride, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    columns = tl.arange(0, PADDED)
    at = pointer + start * stride + rows[:, None] * stride + columns[None, :]
    return tl.load(at, mask=ok[:, None] & (columns < WIDTH)[None, :], other=0.0)


@triton.jit
@no_type_check
def _store(pointer, start, rows, ok, x, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    columns = tl.arange(0, PADDED)
    at = pointer + start * WIDTH + rows[:, None] * WIDTH + columns[None, :]
    tl.store(at, x.to(pointer.dtype.element_ty), mask=ok[:, None] & (columns < WIDTH)[None, :])


@triton.jit
@no_type_check
def _load_column(pointer, start, rows, ok, index, WIDTH: tl.constexpr):
    return tl.load(pointer + start * WIDTH + rows * WIDTH + index, mask=ok, other=0.0)


@triton.jit
@no_type_check
def _store_column(pointer, start, rows, ok, index, x, WIDTH: tl.constexpr):
    tl.store(pointer + start * WIDTH + rows * WIDTH + index, x, mask=ok)


@triton.jit
@no_type_check
def _table(pointer, C: tl.constexpr, L: tl.constexpr, CB: tl.constexpr, LB: tl.constexpr):
    """One of the bank's [C, L] tables, in float32."""
    rows = tl.arange(0, CB)
    return _load(pointer, 0, rows, rows < C, L, L, LB).to(tl.float32)


@triton.jit
@no_type_check
def _to_concepts(
    logits, pointer, C: tl.constexpr, L: tl.constexpr, CB: tl.constexpr, LB: tl.constexpr, PRECISION: tl.constexpr
):
    return tl.dot(logits, tl.trans(_table(pointer, C, L, CB, LB)), input_precision=PRECISION)


@triton.jit
@no_type_check
def _to_logits(
    x, pointer, C: tl.constexpr, L: tl.constexpr, CB: tl.constexpr, LB: tl.constexpr, PRECISION: tl.constexpr
):
    return tl.dot(x, _table(pointer, C, L, CB, LB), input_precision=PRECISION)


@triton.jit
@no_type_check
def _matrix(pointer, index, C: tl.constexpr, CB: tl.constexpr):
    """A_l, [in, out]."""
    rows = tl.arange(0, CB)
    return _load(pointer, index * C, rows, rows < C, C, C, CB)


@triton.jit
@no_type_check
def _normalise(z, C: tl.constexpr, CB: tl.constexpr, EPS: tl.constexpr):
    """The layer norm's output, zero in the padding, and 1 / its standard deviation."""
    inside = (tl.arange(0, CB) < C)[None, :]
    centred = tl.where(inside, z - (tl.sum(z, 1) / C)[:, None], 0.0)
    inverse_std = 1.0 / tl.sqrt(tl.sum(centred * centred, 1) / C + EPS)
    return centred * inverse_std[:, None], inverse_std


@triton.jit
@no_type_check
def _through_norm(gradient, normed, inverse_std, C: tl.constexpr):
    along = tl.sum(gradient * normed, 1) / C
    mean = tl.sum(gradient, 1) / C
    return (gradient - mean[:, None] - normed * along[:, None]) * inverse_std[:, None]


@triton.jit
@no_type_check
def learn_kernel(
    k_ptr, v_ptr, stride, p_linear, p_ln, p_bias, p_shift,
    a_ptr, ln_ptr, bias_ptr, shift_ptr,
    n_ln, n_bias, n_shift, z_ptr, inner_ptr,
    tokens, lr_linear, lr_ln,
    C: tl.constexpr, L: tl.constexpr, CB: tl.constexpr, LB: tl.constexpr, BLOCK: tl.constexpr,
    PRECISION: tl.constexpr, EPS: tl.constexpr,
):  # fmt: skip
    """The learned logits (n_*) but for n_linear; z, and inner, from which predict_kernel makes n_linear."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    rows = tl.arange(0, BLOCK)
    ok = rows < tokens - start
    k = _load(k_ptr, start, rows, ok, stride, C, CB)
    z = _to_concepts(_load(p_bias, start, rows, ok, L, L, LB), bias_ptr, C, L, CB, LB, PRECISION)
    for index in range(L):
        p = _load_column(p_linear, start, rows, ok, index, L)
        z += p[:, None] * tl.dot(k, _matrix(a_ptr, index, C, CB), input_precision="ieee")
    _store(z_ptr, start, rows, ok, z, C, CB)
    normed, inverse_std = _normalise(z, C, CB, EPS)
    error = _to_concepts(_load(p_shift, start, rows, ok, L, L, LB), shift_ptr, C, L, CB, LB, PRECISION)
    error += _load(k_ptr, start, rows, ok, stride, C, CB).to(tl.float32)
    error -= _load(v_ptr, start, rows, ok, stride, C, CB).to(tl.float32)
    tl.debug_barrier()
    scale = _to_concepts(_load(p_ln, start, rows, ok, L, L, LB), ln_ptr, C, L, CB, LB, PRECISION)
    error += scale * normed
    inner = scale * error * inverse_std[:, None]
    _store(inner_ptr, start, rows, ok, inner, C, CB)
    tl.debug_barrier()
    step = _to_logits(inner, bias_ptr, C, L, CB, LB, PRECISION)
    _store(n_bias, start, rows, ok, _load(p_bias, start, rows, ok, L, L, LB) - lr_linear * step, L, LB)
    tl.debug_barrier()
    step = _to_logits(error * normed, ln_ptr, C, L, CB, LB, PRECISION)
    _store(n_ln, start, rows, ok, _load(p_ln, start, rows, ok, L, L, LB) - lr_ln * step, L, LB)
    tl.debug_barrier()
    step = _to_logits(error, shift_ptr, C, L, CB, LB, PRECISION)
    _store(n_shift, start, rows, ok, _load(p_shift, start, rows, ok, L, L, LB) - lr_ln * step, L, LB)


@triton.jit
@no_type_check
def predict_kernel(
    q_ptr, k_ptr, stride, p_linear, inner_ptr,
    a_ptr, ln_ptr, bias_ptr, shift_ptr,
    task_ptr, n_linear, n_ln, n_bias, n_shift, z_after_ptr,
    tokens, lr_linear,
    C: tl.constexpr, L: tl.constexpr, CB: tl.constexpr, LB: tl.constexpr, BLOCK: tl.constexpr,
    LEARNS: tl.constexpr, PRECISION: tl.constexpr, EPS: tl.constexpr,
):  # fmt: skip
    """The task vector, z after learning, and n_linear, which is only written where something is learned."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    rows = tl.arange(0, BLOCK)
    ok = rows < tokens - start
    q = _load(q_ptr, start, rows, ok, stride, C, CB)
    if LEARNS:
        k = _load(k_ptr, start, rows, ok, stride, C, CB)
        inner = _load(inner_ptr, start, rows, ok, C, C, CB)
    z = _to_concepts(_load(n_bias, start, rows, ok, L, L, LB), bias_ptr, C, L, CB, LB, PRECISION)
    for index in range(L):
        a = _matrix(a_ptr, index, C, CB)
        p = _load_column(p_linear, start, rows, ok, index, L)
        if LEARNS:
            p -= lr_linear * tl.sum(tl.dot(k, a, input_precision="ieee") * inner, 1)
            _store_column(n_linear, start, rows, ok, index, p, L)
        z += p[:, None] * tl.dot(q, a, input_precision="ieee")
    _store(z_after_ptr, start, rows, ok, z, C, CB)
    normed, _ = _normalise(z, C, CB, EPS)
    task = normed * _to_concepts(_load(n_ln, start, rows, ok, L, L, LB), ln_ptr, C, L, CB, LB, PRECISION)
    task += _to_concepts(_load(n_shift, start, rows, ok, L, L, LB), shift_ptr, C, L, CB, LB, PRECISION)
    task += _load(q_ptr, start, rows, ok, stride, C, CB).to(tl.float32)
    _store(task_ptr, start, rows, ok, task, C, CB)


@triton.jit
@no_type_check
def prediction_gradient_kernel(
    q_ptr, k_ptr, stride,
    n_linear, n_ln, z_after_ptr,
    a_ptr, ln_ptr, bias_ptr, shift_ptr,
    g_task, g_linear, g_ln, g_bias, g_shift,
    gq_ptr, t_linear, t_ln, t_bias, t_shift, g_inner_ptr,
    tokens,
    C: tl.constexpr, L: tl.constexpr, CB: tl.constexpr, LB: tl.constexpr, BLOCK: tl.constexpr,
    LEARNS: tl.constexpr, PRECISION: tl.constexpr, EPS: tl.constexpr,
):  # fmt: skip
    """The gradient of q and of the learned logits: what arrived (g_*) and the prediction's share (together, t_*).

    g_inner: the gradient of inner, still to be multiplied by -lr_linear; only where something was learned.
    """
    start = tl.program_id(0).to(tl.int64) * BLOCK
    rows = tl.arange(0, BLOCK)
    ok = rows < tokens - start
    arriving = _load(g_task, start, rows, ok, C, C, CB).to(tl.float32)
    normed, inverse_std = _normalise(_load(z_after_ptr, start, rows, ok, C, C, CB), C, CB, EPS)
    t = _load(g_ln, start, rows, ok, L, L, LB) + _to_logits(arriving * normed, ln_ptr, C, L, CB, LB, PRECISION)
    _store(t_ln, start, rows, ok, t, L, LB)
    t = _load(g_shift, start, rows, ok, L, L, LB) + _to_logits(arriving, shift_ptr, C, L, CB, LB, PRECISION)
    _store(t_shift, start, rows, ok, t, L, LB)
    scale = _to_concepts(_load(n_ln, start, rows, ok, L, L, LB), ln_ptr, C, L, CB, LB, PRECISION)
    gz = _through_norm(arriving * scale, normed, inverse_std, C)
    t = _load(g_bias, start, rows, ok, L, L, LB) + _to_logits(gz, bias_ptr, C, L, CB, LB, PRECISION)
    _store(t_bias, start, rows, ok, t, L, LB)
    gq = arriving
    if LEARNS:
        g_inner = _to_concepts(t, bias_ptr, C, L, CB, LB, PRECISION)
    q = _load(q_ptr, start, rows, ok, stride, C, CB)
    k = _load(k_ptr, start, rows, ok, stride, C, CB)
    for index in range(L):
        a = _matrix(a_ptr, index, C, CB)
        g = _load_column(g_linear, start, rows, ok, index, L)
        g += tl.sum(tl.dot(q, a, input_precision="ieee") * gz, 1)
        _store_column(t_linear, start, rows, ok, index, g, L)
        if LEARNS:
            g_inner += g[:, None] * tl.dot(k, a, input_precision="ieee")
        p = _load_column(n_linear, start, rows, ok, index, L)
        gq = tl.dot((p[:, None] * gz).to(a.dtype), tl.trans(a), gq, input_precision="ieee")
    _store(gq_ptr, start, rows, ok, gq, C, CB)
    if LEARNS:
        _store(g_inner_ptr, start, rows, ok, g_inner, C, CB)


@triton.jit
@no_type_check
def learning_gradient_kernel(
    k_ptr, v_ptr, stride, p_ln, p_shift, z_ptr,
    ln_ptr, bias_ptr, shift_ptr,
    t_ln, t_bias, t_shift, g_inner_ptr,
    g_error_ptr, gz_ptr, inner_ptr, o_ln, o_bias, o_shift,
    tokens, lr_linear, lr_ln,
    C: tl.constexpr, L: tl.constexpr, CB: tl.constexpr, LB: tl.constexpr, BLOCK: tl.constexpr,
    PRECISION: tl.constexpr, EPS: tl.constexpr,
):  # fmt: skip
    """The gradient of the logits before learning (o_*) but for o_linear, from that of the learned logits (t_*).

    And the gradients of error (-v's) and z, and inner, from which key_gradient_kernel makes the rest.
    """
    start = tl.program_id(0).to(tl.int64) * BLOCK
    rows = tl.arange(0, BLOCK)
    ok = rows < tokens - start
    scale = _to_concepts(_load(p_ln, start, rows, ok, L, L, LB), ln_ptr, C, L, CB, LB, PRECISION)
    tl.debug_barrier()
    error = _to_concepts(_load(p_shift, start, rows, ok, L, L, LB), shift_ptr, C, L, CB, LB, PRECISION)
    tl.debug_barrier()
    g_step = -lr_ln * _to_concepts(_load(t_ln, start, rows, ok, L, L, LB), ln_ptr, C, L, CB, LB, PRECISION)
    tl.debug_barrier()
    g_error = -lr_ln * _to_concepts(_load(t_shift, start, rows, ok, L, L, LB), shift_ptr, C, L, CB, LB, PRECISION)
    tl.debug_barrier()
    error += _load(k_ptr, start, rows, ok, stride, C, CB).to(tl.float32)
    error -= _load(v_ptr, start, rows, ok, stride, C, CB).to(tl.float32)
    normed, inverse_std = _normalise(_load(z_ptr, start, rows, ok, C, C, CB), C, CB, EPS)
    error += scale * normed
    g_by_std = -lr_linear * inverse_std[:, None] * _load(g_inner_ptr, start, rows, ok, C, C, CB)
    g_error += g_step * normed + g_by_std * scale
    g_scale = g_by_std * error + g_error * normed
    inner = scale * error * inverse_std[:, None]
    g_std = tl.sum(g_by_std * inner, 1) / C
    gz = _through_norm(g_step * error + g_error * scale, normed, inverse_std, C) - normed * g_std[:, None]
    _store(g_error_ptr, start, rows, ok, g_error, C, CB)
    _store(gz_ptr, start, rows, ok, gz, C, CB)
    _store(inner_ptr, start, rows, ok, inner, C, CB)
    tl.debug_barrier()
    o = _load(t_ln, start, rows, ok, L, L, LB) + _to_logits(g_scale, ln_ptr, C, L, CB, LB, PRECISION)
    _store(o_ln, start, rows, ok, o, L, LB)
    tl.debug_barrier()
    o = _load(t_shift, start, rows, ok, L, L, LB) + _to_logits(g_error, shift_ptr, C, L, CB, LB, PRECISION)
    _store(o_shift, start, rows, ok, o, L, LB)
    tl.debug_barrier()
    o = _load(t_bias, start, rows, ok, L, L, LB) + _to_logits(gz, bias_ptr, C, L, CB, LB, PRECISION)
    _store(o_bias, start, rows, ok, o, L, LB)


@triton.jit
@no_type_check
def key_gradient_kernel(
    k_ptr, stride, p_linear, a_ptr, t_linear, g_error_ptr, gz_ptr, inner_ptr, gk_ptr, gv_ptr, o_linear,
    tokens, lr_linear,
    C: tl.constexpr, L: tl.constexpr, CB: tl.constexpr, LB: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The gradients of k, v and p_linear (o_linear)."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    rows = tl.arange(0, BLOCK)
    ok = rows < tokens - start
    k = _load(k_ptr, start, rows, ok, stride, C, CB)
    gz = _load(gz_ptr, start, rows, ok, C, C, CB)
    inner = _load(inner_ptr, start, rows, ok, C, C, CB)
    gk = _load(g_error_ptr, start, rows, ok, C, C, CB)
    _store(gv_ptr, start, rows, ok, -gk, C, CB)
    for index in range(L):
        a = _matrix(a_ptr, index, C, CB)
        p = _load_column(p_linear, start, rows, ok, index, L)
        g = _load_column(t_linear, start, rows, ok, index, L)
        of_product = p[:, None] * gz - (lr_linear * g)[:, None] * inner
        gk = tl.dot(of_product.to(a.dtype), tl.trans(a), gk, input_precision="ieee")
        g += tl.sum(tl.dot(k, a, input_precision="ieee") * gz, 1)
        _store_column(o_linear, start, rows, ok, index, g, L)
    _store(gk_ptr, start, rows, ok, gk, C, CB)
