"""Memory of a training step: predicted without a byte of data, checked against the system's figure at small shapes.

The prediction runs the real step, forward and backward, on tensors that have shapes but no values (torch's FakeTensor),
and follows every storage from its birth to its release: weights, gradients, moments, average, what autograd keeps, and
what lives for a moment. The measurement is the resident memory's peak of a real step, optimiser included, above a
process that has taken one much smaller step; in a process of its own whose allocator hands freed memory back at once
(glibc). Data loading is in neither.

    python benchmarks/memory.py --write
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from machine import heading, keep
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nirvana_mri.backbone import BackboneConfig, NirvanaLM
from nirvana_mri.codecs.image_decoder import Measurement
from nirvana_mri.codecs.kspace_encoder import patch_states
from nirvana_mri.physics.sense import SenseOperator
from nirvana_mri.recon.model import NirvanaRecon, NirvanaReconConfig
from nirvana_mri.train.loss import image_loss

WITHIN = 0.1  # of the measured peak
RESULTS = Path(__file__).parent / "results" / "memory.md"
NOTE = """The second table is a model, not a measurement: no GPU was at hand. It follows the CPU's operations. A GPU's
own kernels for delta rule and attention keep less; cuDNN's workspaces, the allocator's fragmentation and CUDA itself
come on top. "Held" is what autograd keeps, gradients included, beyond the rows above it; the peak lies between two of
these moments. Pictures are whole slices seen by 12 virtual coils, in hybrid space; fsdp on 2 cuts the backbone's layers
over two processes, each with its own batch of that size.
"""
PARTS = ("encoder", "backbone", "decoder and loss", "backward")


@dataclasses.dataclass(frozen=True)
class Case:
    """A model and a step of one process. ``layers`` 0: all of the preset's; FSDP cuts them over ``processes``."""

    preset: str
    batch: int
    side: int
    layers: int = 0
    coils: int = 12
    bf16: bool = False
    recompute: bool = False
    processes: int = 1

    def config(self) -> NirvanaReconConfig:
        lm = getattr(BackboneConfig, self.preset)()
        lm = dataclasses.replace(lm, num_layers=self.layers or lm.num_layers)
        return getattr(NirvanaReconConfig, self.preset)(lm, backbone="random")

    def __str__(self) -> str:
        layers = f" of {self.layers} layers" if self.layers else ""
        how = ("bf16" if self.bf16 else "fp32") + (", recomputed" if self.recompute else "")
        how += f", fsdp on {self.processes}" if self.processes > 1 else ""
        return f"{self.preset}{layers}, {self.batch} x {self.side}², {how}"


CHECKED = (
    Case("nano", 1, 256),
    Case("nano", 1, 128, bf16=True),
    Case("nano", 2, 320),
    Case("base", 1, 160, layers=4),
    Case("base", 1, 64, layers=4, bf16=True),
    Case("base", 1, 192, layers=4, recompute=True),
)
ASKED = (
    Case("base", 4, 320, bf16=True, recompute=True),
    Case("base", 4, 320, bf16=True),
    Case("base", 4, 320, bf16=True, recompute=True, processes=2),
    Case("base", 4, 320, recompute=True),
)


class Watch(TorchDispatchMode):
    """Counts the bytes of every storage that an operation makes, until nobody holds it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, weakref.finalize] = {}

    def add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._known:
            size = storage.nbytes()
            self.now += size
            self.peak = max(self.peak, self.now)
            self._known[key] = weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self.now -= size
        del self._known[key]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.add(leaf)
        return out


class Step:
    """A model, all that its training holds, and a batch."""

    def __init__(self, case: Case) -> None:
        self.case = case
        config = case.config()
        torch.set_default_dtype(torch.bfloat16 if case.bf16 else torch.float32)
        backbone = NirvanaLM(config.lm).freeze(case.recompute)
        torch.set_default_dtype(torch.float32)
        self.model = NirvanaRecon(config, backbone)
        self.parameters = [p for part in (self.model.encoder, self.model.decoder) for p in part.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-4)
        self.average = [p.detach().clone() for p in self.parameters]
        n, side = case.batch, case.side
        self.start = torch.randn(n, side, side, dtype=torch.complex64)
        self.log_kspace = torch.rand(n, side, side)
        self.targets = torch.rand(n, side, side)
        mask = torch.ones(side, dtype=torch.bool)
        self.measurements = [
            Measurement(
                SenseOperator(torch.randn(case.coils, side, side, dtype=torch.complex64) / case.coils, mask),
                torch.randn(side, side, dtype=torch.complex64),
                torch.ones(side, side),
                0.03,
            )
            for _ in range(n)
        ]

    def batch(self) -> list[Tensor]:
        """What the step is given."""
        given = [self.start, self.log_kspace, self.targets]
        for one in self.measurements:
            given += [one.operator.maps, one.operator.mask, one.adjoint, one.certainty]
        return given

    def backward(self, after: Callable[[str], None] = lambda part: None) -> None:
        """The loss and its gradients; ``after`` is told when a part is done."""
        model = self.model
        assert model.backbone is not None
        low = self.case.bf16
        with torch.autocast("cpu", torch.bfloat16) if low else nullcontext():
            tokens, grid = model.encoder(self.start, self.log_kspace)
            after("encoder")
            # As in the model's forward pass, without its look at the values.
            hidden = model.backbone.norm(model.backbone._through_layers(tokens, None, None, False)[0])
            after("backbone")
            images = model.decoder(self.start, patch_states(hidden, grid), self.measurements)
        losses = [image_loss(x.abs(), target, 1.0, 1.0) for x, target in zip(images, self.targets, strict=True)]
        loss = torch.stack(losses).sum()
        after("decoder and loss")
        del tokens, hidden, images, losses
        loss.backward()
        after("backward")

    def move(self) -> None:
        """What follows the gradients in a step of training."""
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        with torch.no_grad():
            for mean, parameter in zip(self.average, self.parameters, strict=True):
                mean.lerp_(parameter, 0.002)
        self.optimizer.zero_grad(set_to_none=True)


def size(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def predicted(case: Case) -> dict[str, int]:
    """Bytes: of what lies there all the time, after each part of the step, and at the peak."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        step = Step(case)
        assert step.model.backbone is not None
        layers = size(step.model.backbone.layers.parameters())
        found = {
            "codecs": size(step.parameters),
            "backbone weights": size(step.model.backbone.parameters()) - layers + layers // case.processes,
            "moments": 2 * size(step.parameters),
            "average": size(step.average),
            "batch": size(step.batch()),
        }
        if case.processes > 1:  # two layers are whole at a time: the one that runs, and the next one on its way
            found["gathered"] = 2 * layers // len(step.model.backbone.layers)
        always = sum(found.values())
        watch = Watch()
        with watch:
            for tensor in (*step.model.parameters(), *step.batch()):
                watch.add(tensor)
            watch.now = watch.peak = 0
            step.backward(lambda part: found.update({part: watch.now}))
        found["peak"] = always + watch.peak
    return found


def measured(case: Case) -> int:
    """Bytes at the peak of a step above a process with no model, in a process of its own."""
    handing_back = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--case", json.dumps(dataclasses.asdict(case))]
    return int(subprocess.run(command, env=handing_back, capture_output=True, text=True, check=True).stdout)


def one_step(case: Case) -> int:
    """The same in this process."""
    Step(Case("nano", 1, 64, bf16=case.bf16)).backward()  # the libraries' own code comes into memory
    idle = _resident("VmRSS")
    step = Step(case)
    for _ in range(2):  # the first makes the moments
        step.backward()
        step.move()
    return _resident("VmHWM") - idle


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


def report(checked: dict[Case, tuple[int, int]], asked: dict[Case, dict[str, int]]) -> str:
    """The results as Markdown."""
    lines = ["# Memory of a training step", "", heading("python benchmarks/memory.py --write", 0)]
    lines += ["| checked on this CPU | predicted [MiB] | measured [MiB] | predicted / measured |", "|---|---|---|---|"]
    for case, (foreseen, found) in checked.items():
        lines.append(f"| {case} | {foreseen / 2**20:.0f} | {found / 2**20:.0f} | {foreseen / found:.2f} |")
    lines += ["", f"Gate: within {WITHIN:.0%} of what was measured.", ""]
    lines += ["| predicted, never run [GiB] | " + " | ".join(map(str, asked)) + " |"]
    lines += ["|---|" + "---|" * len(asked)]
    names = list(dict.fromkeys(name for row in asked.values() for name in row))
    for name in names:
        label = f"held after {name}" if name in PARTS else name
        cells = (f"{row[name] / 2**30:.2f}" if name in row else "" for row in asked.values())
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", NOTE])


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--write", action="store_true", help="write benchmarks/results/memory.md")
    options.add_argument("--case", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    torch.manual_seed(0)
    if chosen.case:
        print(one_step(Case(**json.loads(chosen.case))))
        return 0
    checked = {}
    for case in CHECKED:
        checked[case] = predicted(case)["peak"], measured(case)
        print(f"{case}: {checked[case][0] / checked[case][1]:.2f} of what was measured", flush=True)
    told = report(checked, {case: predicted(case) for case in ASKED})
    print(told)
    if chosen.write:
        keep(RESULTS, told)
    return int(any(abs(foreseen / found - 1) > WITHIN for foreseen, found in checked.values()))


if __name__ == "__main__":
    sys.exit(main())
