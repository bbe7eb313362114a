"""Gradients through a frozen backbone to its inputs: time and memory beside plain autograd.

At the 1.3B model's layer shapes, six layers of 22, batch 1. "with" is plain autograd that also computes every weight's
gradient, "without" plain autograd on a frozen model, "recompute" ours: `freeze(recompute=True)`. Memory is the peak
above the resident model during one forward and backward, each way in a process of its own whose allocator hands freed
memory back at once, so that what is needed is measured and not what is kept for later.
"""

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from nirvana_mri.backbone import BackboneConfig, NirvanaLM

LAYERS, TOKENS = 6, 1024
WAYS = ("with", "without", "recompute")


def model() -> NirvanaLM:
    return NirvanaLM(dataclasses.replace(BackboneConfig.base(), num_layers=LAYERS, vocab_size=64))


def prepared(made: NirvanaLM, way: str) -> NirvanaLM:
    made.freeze(recompute=way == "recompute")
    return made.requires_grad_(way == "with")


def step(made: NirvanaLM) -> torch.Tensor:
    """One forward and backward; the gradient of the input."""
    x = torch.randn(1, TOKENS, 2048, generator=torch.Generator().manual_seed(1)).requires_grad_()
    made(inputs_embeds=x, compute_logits=False).final_hidden.square().mean().backward()
    for parameter in made.parameters():
        parameter.grad = None
    assert x.grad is not None
    return x.grad


def seconds(repeats: int = 3) -> dict[str, float]:
    """Best of some runs of each way, in turn."""
    made, best, gradients = model(), dict.fromkeys(WAYS, float("inf")), {}
    for _ in range(repeats):
        for way in WAYS:
            prepared(made, way)
            began = time.perf_counter()
            gradients[way] = step(made)
            best[way] = min(best[way], time.perf_counter() - began)
    worst = max(float((gradients[way] - gradients["with"]).abs().max()) for way in WAYS)
    if worst > 1e-5 * float(gradients["with"].abs().max()):
        raise RuntimeError(f"the gradients differ by {worst}")
    return best


def _memory(name: str) -> int:
    """Bytes of this process's own, from the system's table."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


def peak_growth(way: str) -> int:
    """Bytes above the resident model at the peak of one step, in a process of its own."""
    handing_back = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # glibc
    command = [sys.executable, __file__, way]
    out = subprocess.run(command, env=handing_back, capture_output=True, text=True, check=True)
    return int(out.stdout)


def rows() -> list[dict]:
    shape = f"1.3B shapes, {LAYERS} layers, 1 x {TOKENS} tokens"
    taken = seconds()
    memory = {way: peak_growth(way) for way in WAYS}
    found = []
    for peer, most in (("with", 1.2), ("without", 1.6)):
        found.append(
            {
                "op": "frozen backward, time",
                "shape": shape,
                "ours": "recompute",
                "peer": f"autograd {peer} weight gradients",
                "seconds_ours": taken["recompute"],
                "seconds_peer": taken[peer],
                "ratio": taken[peer] / taken["recompute"],
                "gate": 1 / most,
            }
        )
    for peer, least in (("with", 2.0), ("without", 2.0)):
        found.append(
            {
                "op": "frozen backward, memory",
                "shape": shape,
                "ours": "recompute",
                "peer": f"autograd {peer} weight gradients",
                "bytes_ours": memory["recompute"],
                "bytes_peer": memory[peer],
                "ratio": memory[peer] / memory["recompute"],
                "gate": least,
            }
        )
    return found


if __name__ == "__main__":
    if len(sys.argv) > 1:
        ready = prepared(model(), sys.argv[1])
        with torch.no_grad():
            ready(inputs_embeds=torch.zeros(1, 8, 2048), compute_logits=False)
        idle = _memory("VmRSS")
        step(ready)
        print(_memory("VmHWM") - idle)
    else:
        for row in rows():
            print(row)
