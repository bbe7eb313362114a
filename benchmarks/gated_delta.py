"""Time of the gated delta rule beside transformers' chunked form, in one process.

python benchmarks/gated_delta.py

Both get the same raw q, k, v, g and beta in float32 and normalise inside; calls of ours and of the peer take turns, so
that a busy moment meets both. The ratio is of the medians; the ratio of the fastest calls stands beside it. Gates:
chunk 1.5 at 402 tokens and 2.5 at 4096, cpp 3 at 402, with as many threads as torch has. Exit code 1 where one fails.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch
from machine import copy_ceiling, gemm_ceiling, heading
from torch import Tensor
from transformers.models.qwen3_next.modeling_qwen3_next import torch_chunk_gated_delta_rule

from nirvana_mri.backbone.ops import gated_delta_rule, implementations

HEADS, HEAD_DIM = 16, 128
ROUNDS = {402: 30, 4096: 7}
GATES = {("chunk", 402): 1.5, ("chunk", 4096): 2.5, ("cpp", 402): 3.0, ("cpp", 4096): None}
PEER = "transformers torch_chunk_gated_delta_rule"


def inputs(tokens: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    rows = [torch.randn(1, tokens, HEADS, HEAD_DIM, generator=draw) for _ in range(3)]
    per_head = [torch.rand(1, tokens, HEADS, generator=draw) for _ in range(2)]
    return [*rows, -0.1 * per_head[0], per_head[1]]


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def interleaved(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call in each round, after one round that is not counted."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            took = seconds(call)
            if number:
                found[name].append(took)
    return found


def measure(tokens: int) -> list[dict[str, object]]:
    given = inputs(tokens)
    forms = [form for form in ("chunk", "cpp") if form in implementations("gated_delta_rule")]
    calls: dict[str, Callable[[], object]] = {
        form: lambda form=form: gated_delta_rule(*given, implementation=form) for form in forms
    }
    calls[PEER] = lambda: torch_chunk_gated_delta_rule(*given, output_final_state=True, use_qk_l2norm_in_kernel=True)
    expected = calls[PEER]()[0]
    for form in forms:  # the same numbers, or there is nothing to compare
        torch.testing.assert_close(calls[form]()[0], expected, rtol=1e-4, atol=1e-5)
    found = interleaved(calls, ROUNDS[tokens])
    middle = {name: statistics.median(times) for name, times in found.items()}
    return [
        {
            "op": f"gated_delta_rule {form}",
            "shape": f"1x{tokens}x{HEADS}x{HEAD_DIM}",
            "ours": form,
            "peer": PEER,
            "seconds_ours": middle[form],
            "seconds_peer": middle[PEER],
            "ratio": middle[PEER] / middle[form],
            "ratio_best": min(found[PEER]) / min(found[form]),
            "gate": GATES[form, tokens],
        }
        for form in forms
    ]


def rows() -> list[dict[str, object]]:
    """One row for each implementation and length."""
    with torch.inference_mode():
        return [row for tokens in ROUNDS for row in measure(tokens)]


def main() -> int:
    print(heading("python benchmarks/gated_delta.py", 0))
    print(f"ceilings: float32 GEMM {gemm_ceiling():.0f} GFLOP/s, copy {copy_ceiling():.0f} GB/s\n")
    print(f"| op | shape | ours, ms | {PEER}, ms | ratio | of the fastest | gate |\n|---|---|---|---|---|---|---|")
    measured = rows()
    for row in measured:
        print(
            f"| {row['op']} | {row['shape']} | {1e3 * row['seconds_ours']:.1f} | {1e3 * row['seconds_peer']:.1f} "
            f"| {row['ratio']:.2f} | {row['ratio_best']:.2f} | {row['gate'] or ''} |"
        )
    return int(any(row["gate"] and row["ratio"] < row["gate"] for row in measured))


if __name__ == "__main__":
    sys.exit(main())
