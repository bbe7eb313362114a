"""New tokens after a prompt: our cache beside the authors' loop, which reads the whole sequence again for every token.

Both run the same model and the same kernels, batch 1, 402 tokens of prompt and 256 new ones, greedy, and must agree on
every token that the loop computes. At the 1.3B model's layer shapes (four layers: two of the prelude, two task-aware,
and the whole head) the loop runs at five lengths, between which its time is taken as linear; for nano it runs
throughout.
"""

import dataclasses
import time

import torch
from torch import Tensor

from nirvana_mri.backbone import BackboneConfig, NirvanaLM

PROMPT, NEW = 402, 256
SAMPLED = (0, 64, 128, 192, 255)  # steps of the authors' loop that are timed at the large shapes


def layer_shapes() -> BackboneConfig:
    """The 1.3B model's sizes with four layers of 22: a machine with little memory can hold it in float32."""
    return dataclasses.replace(BackboneConfig.base(), num_layers=4)


def ours(model: NirvanaLM, prompt: Tensor) -> tuple[float, Tensor]:
    began = time.perf_counter()
    tokens = model.generate(input_ids=prompt, max_new_tokens=NEW)
    return time.perf_counter() - began, tokens


@torch.no_grad()
def the_authors_step(model: NirvanaLM, sequence: Tensor) -> tuple[float, Tensor]:
    began = time.perf_counter()
    token = model(input_ids=sequence).logits[:, -1].argmax(-1)
    return time.perf_counter() - began, token


def the_authors_loop(model: NirvanaLM, prompt: Tensor, tokens: Tensor, steps: tuple[int, ...]) -> float:
    """Seconds of the whole loop, from the steps that were run; each must draw the token that the cache drew."""
    seconds = []
    for step in steps:
        taken, token = the_authors_step(model, torch.cat([prompt, tokens[:, :step]], dim=1))
        if not torch.equal(token, tokens[:, step]):
            raise RuntimeError(f"step {step}: the loop draws {token.tolist()}, the cache {tokens[:, step].tolist()}")
        seconds.append(taken)
    return float(torch.trapezoid(torch.tensor(seconds), torch.tensor(steps, dtype=torch.float32))) * NEW / steps[-1]


def rows() -> list[dict]:
    found = []
    cases = (
        ("1.3B shapes, 4 layers", layer_shapes(), SAMPLED, 15.0),
        ("nano", BackboneConfig.nano(), tuple(range(NEW)), 8.0),
    )
    for name, config, steps, gate in cases:
        model = NirvanaLM(config).freeze()
        prompt = torch.randint(0, config.vocab_size, (1, PROMPT), generator=torch.Generator().manual_seed(0))
        model.generate(input_ids=prompt[:, :64], max_new_tokens=4)
        mine, tokens = ours(model, prompt)
        peers = the_authors_loop(model, prompt, tokens, steps)
        found.append(
            {
                "op": "generation",
                "shape": f"{name}, {PROMPT} + {NEW} tokens",
                "ours": "cache",
                "peer": "recompute all for each token" + ("" if len(steps) == NEW else f" ({len(steps)} steps timed)"),
                "seconds_ours": mine,
                "seconds_peer": peers,
                "ratio": peers / mine,
                "gate": gate,
            }
        )
        del model
    return found


if __name__ == "__main__":
    for row in rows():
        print(row)
