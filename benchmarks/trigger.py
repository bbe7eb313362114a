"""Time of the Trigger's test-time learning and of the mixture after it, beside the authors' order, in one process.

python benchmarks/trigger.py

The shapes of the 1.3B model: 64 concepts, 32 logits, 2048 channels; float32; q, k and v are views of one projection, as
in the model. The peer is naive.py, which keeps the authors' order of operations. Calls of both take turns, so that a
busy moment meets both; the ratio is of the fastest calls, and that of the medians stands beside it. Gates: 1.6 at 402
tokens and 3.0 at 4096, forward. Exit code 1 where one fails.
"""

import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from machine import copy_ceiling, gemm_ceiling, heading
from torch import Tensor

from nirvana_mri.backbone.ops import TriggerBank, TriggerLogits, trigger_update
from nirvana_mri.backbone.ops.mixture import mix_branches

CONCEPTS, LOGITS, CHANNELS = 64, 32, 2048
RATE = 0.01
ROUNDS = {1: 300, 402: 100, 4096: 30}
GATES: dict[int, float | None] = {1: None, 402: 1.6, 4096: 3.0}
PEER = "naive (the authors' order)"


def inputs(tokens: int, needs_grad: bool) -> tuple[Tensor, TriggerLogits, TriggerBank]:
    """A projection, the logits at their start, and a frozen bank."""
    draw = torch.Generator().manual_seed(0)
    projection = torch.randn(1, tokens, 3 * CONCEPTS, generator=draw, requires_grad=needs_grad)
    logits = TriggerLogits(*(torch.ones(1, tokens, LOGITS, requires_grad=needs_grad) for _ in range(4)))
    tables = (torch.randn(CONCEPTS, LOGITS, generator=draw) / LOGITS for _ in range(3))
    return projection, logits, TriggerBank(0.02 * torch.randn(CONCEPTS, CONCEPTS, LOGITS, generator=draw), *tables)


def update(tokens: int, form: str, backward: bool) -> Callable[[], tuple[Tensor, ...]]:
    projection, logits, bank = inputs(tokens, backward)

    def call() -> tuple[Tensor, ...]:
        q, k, v = projection.chunk(3, dim=-1)
        task_vector, learned = trigger_update(q, k, v, logits, bank, RATE, RATE, implementation=form)
        if not backward:
            return task_vector, *learned
        total = sum(x.sum() for x in (task_vector, *learned))
        return torch.autograd.grad(total, [projection, *logits])

    return call


def mixture(form: str, tokens: int = 402) -> Callable[[], tuple[Tensor, ...]]:
    draw = torch.Generator().manual_seed(0)
    branches = [torch.randn(1, tokens, CHANNELS, generator=draw) for _ in range(3)]
    gates = [torch.randn(1, tokens, 1, generator=draw) for _ in range(2)]
    return lambda: mix_branches(*branches, *gates, implementation=form)


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def row(op: str, shape: str, form: str, calls: list[Callable[[], object]], rounds: int, gate: float | None) -> dict:
    """calls: ours and the peer's; the first round does not count, but its numbers must agree."""
    for found, expected in zip(*(call() for call in calls), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    ours, peer = zip(*([seconds(call) for call in calls] for _ in range(rounds)), strict=True)
    return {
        "op": op,
        "shape": shape,
        "ours": form,
        "peer": PEER,
        "seconds_ours": min(ours),
        "seconds_peer": min(peer),
        "ratio": min(peer) / min(ours),
        "ratio_median": statistics.median(peer) / statistics.median(ours),
        "gate": gate,
    }


def update_row(tokens: int, backward: bool) -> dict:
    calls = [update(tokens, form, backward) for form in ("tiled", "naive")]
    mode: AbstractContextManager[object] = torch.enable_grad() if backward else torch.inference_mode()
    with mode:
        op = "trigger_update" + (", forward and backward" if backward else "")
        gate = None if backward else GATES[tokens]
        return row(op, f"1x{tokens}x{CONCEPTS}, {LOGITS} logits", "tiled", calls, ROUNDS[tokens], gate)


def rows() -> list[dict]:
    """The Trigger forward at each length, forward and backward at the longer ones; the mixture."""
    found = [update_row(tokens, backward=False) for tokens in ROUNDS]
    found += [update_row(tokens, backward=True) for tokens in (402, 4096)]
    with torch.inference_mode():
        calls = [mixture(form) for form in ("fused", "naive")]
        found.append(row("mix_branches", f"1x402x{CHANNELS}", "fused", calls, 100, None))
    return found


def main() -> int:
    print(heading("python benchmarks/trigger.py", 0))
    print(f"ceilings: float32 GEMM {gemm_ceiling():.0f} GFLOP/s, copy {copy_ceiling():.0f} GB/s\n")
    print("| op | shape | ours | ms | naive, ms | ratio | of the medians | gate |\n|---|---|---|---|---|---|---|---|")
    measured = rows()
    for found in measured:
        print(
            f"| {found['op']} | {found['shape']} | {found['ours']} | {1e3 * found['seconds_ours']:.2f} "
            f"| {1e3 * found['seconds_peer']:.2f} | {found['ratio']:.2f} | {found['ratio_median']:.2f} "
            f"| {found['gate'] or ''} |"
        )
    return int(any(found["gate"] and found["ratio"] < found["gate"] for found in measured))


if __name__ == "__main__":
    sys.exit(main())
