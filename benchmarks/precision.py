"""bfloat16 beside float32: a prompt of 402 tokens at the 1.3B model's layer shapes, its time and its accuracy.

Four layers of 22, batch 1. The matrix products' share is their own time, each weight times the prompt in the same
dtype, over the whole prefill's. Errors are relative 2-norms against float32 on the same weights (rounded to bfloat16
first, so that the arithmetic alone is compared).
"""

import copy
import time

import torch
import torch.nn.functional as F
from generation import PROMPT, layer_shapes
from torch import nn

from nirvana_mri.backbone import NirvanaLM

REPEATS = 7


def prefill(model: NirvanaLM, ids: torch.Tensor) -> float:
    began = time.perf_counter()
    model(input_ids=ids, last_logits_only=True)
    return time.perf_counter() - began


def products(model: NirvanaLM, dtype: torch.dtype) -> float:
    """Seconds of all projections of all layers alone: best of three."""
    inputs: dict[int, torch.Tensor] = {}
    best = float("inf")
    for _ in range(3):
        spent = 0.0
        for module in model.layers.modules():
            if isinstance(module, nn.Linear):
                x = inputs.setdefault(module.in_features, torch.randn(1, PROMPT, module.in_features).to(dtype))
                began = time.perf_counter()
                F.linear(x, module.weight)
                spent += time.perf_counter() - began
        best = min(best, spent)
    return best


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())


@torch.no_grad()
def rows() -> list[dict]:
    half = NirvanaLM(layer_shapes()).freeze().bfloat16()
    full = copy.deepcopy(half).float()
    ids = torch.randint(0, 32000, (1, PROMPT), generator=torch.Generator().manual_seed(0))
    best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    for _ in range(REPEATS):
        for model, dtype in ((full, torch.float32), (half, torch.bfloat16)):
            best[dtype] = min(best[dtype], prefill(model, ids))
    exact, rounded = full(input_ids=ids), half(input_ids=ids)
    agree = float((exact.logits.argmax(-1) == rounded.logits.argmax(-1)).float().mean())
    return [
        {
            "op": "bfloat16 prefill",
            "shape": f"1.3B shapes, 4 layers, 1 x {PROMPT} tokens",
            "ours": "bfloat16",
            "peer": "float32",
            "seconds_ours": best[torch.bfloat16],
            "seconds_peer": best[torch.float32],
            "ratio": best[torch.float32] / best[torch.bfloat16],
            "gate": 1.5,
            "note": f"products' share {products(full, torch.float32) / best[torch.float32]:.0%} in float32, "
            f"{products(half, torch.bfloat16) / best[torch.bfloat16]:.0%} in bfloat16; error of the final hidden state "
            f"{distance(rounded.final_hidden, exact.final_hidden):.1e}, likeliest token the same at {agree:.1%}",
        }
    ]


if __name__ == "__main__":
    for row in rows():
        print(row)
