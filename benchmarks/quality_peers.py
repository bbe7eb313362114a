"""fastmri's networks trained on the slices and masks that ours sees, in the same order, for a stated time."""

import copy
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastmri.models import Unet, VarNet
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from nirvana_mri.atomic import atomic_path
from nirvana_mri.language.optimizer import schedule
from nirvana_mri.physics.coils import rss
from nirvana_mri.physics.fourier import ifft2c
from nirvana_mri.physics.sampling import apply_within
from nirvana_mri.train.config import RATES, TrainConfig
from nirvana_mri.train.data import Examples, draw_kind, draw_mask
from nirvana_mri.train.loss import image_loss, ssim
from nirvana_mri.train.optimizer import codec_optimizers
from nirvana_mri.train.subjects import Subject

WARM_UP, AVERAGE = 0.02, 0.998  # the schedule and the averaging are ours
OPTIMIZER = "muon"  # as ours, at the same rate; for the smallest E2E-VarNet as good as Adam at fastMRI's 1e-3
POINTS = 10  # of a learning curve
SIZES: dict[str, dict[str, int]] = {
    "varnet": {"num_cascades": 12, "chans": 18, "pools": 4, "sens_chans": 8, "sens_pools": 4},
    "varnet-small": {"num_cascades": 6, "chans": 12, "pools": 3, "sens_chans": 6, "sens_pools": 3},
    "varnet-tiny": {"num_cascades": 4, "chans": 8, "pools": 3, "sens_chans": 4, "sens_pools": 3},
    "unet": {"in_chans": 1, "out_chans": 1, "chans": 32, "num_pool_layers": 4},
}
Measured = tuple[Tensor, Tensor, Tensor]  # k-space [coil ny nx], zero where not sampled; mask [nx]; target [ny nx]


def network(name: str) -> nn.Module:
    """fastmri's own module of that name and size, freshly drawn."""
    return Unet(**SIZES[name]) if name == "unet" else VarNet(**SIZES[name])


def method(name: str) -> str:
    """What our command line calls it."""
    return "fastmri-unet" if name == "unet" else "fastmri-varnet"


def picture(model: nn.Module, kspace: Tensor, mask: Tensor) -> Tensor:
    """The magnitude picture ``[ny nx]`` that a peer makes, on the scale of the k-space."""
    if isinstance(model, VarNet):
        scale = float(kspace.abs().max())
        made: Tensor = model(torch.view_as_real(kspace / scale)[None], mask.reshape(1, 1, 1, -1, 1))[0]
        return made * scale
    seen = rss(ifft2c(kspace))
    mean, deviation = seen.mean(), seen.std() + 1e-11
    restored: Tensor = model(((seen - mean) / deviation).clamp(-6, 6)[None, None])[0, 0]
    return restored * deviation + mean


class Slices(Dataset[Measured]):
    """What our own training draws for the same seed and number, as coils measured it."""

    def __init__(self, subjects: list[Subject], config: TrainConfig, stream: int, count: int) -> None:
        self.subjects, self.config, self.stream, self.count = subjects, config, stream, count
        self.weights = Examples(subjects, config).weights

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Measured:
        draw = np.random.default_rng([self.config.seed, self.stream, number])
        subject = self.subjects[int(draw.choice(np.arange(len(self.subjects)), p=self.weights))]
        kind = draw_kind(self.config.masks, draw)
        full = subject.measure(draw, self.config.largest)
        kspace = np.array(full.kspace())
        mask = apply_within(draw_mask(self.config.masks, kind, kspace.shape[-2:], draw), full.acquired)
        target = rss(ifft2c(torch.from_numpy(kspace)))
        return torch.from_numpy(np.where(mask, kspace, np.complex64(0))), torch.from_numpy(mask), target


def train_peer(
    name: str,
    training: list[Subject],
    validation: list[Subject],
    config: TrainConfig,
    minutes: float,
    out: Path,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Train for so many minutes of steps (judging is not counted), with our loss, schedule, clipping and averaging.

    Leaves OUT/NAME.pt, the averaged weights, and OUT/NAME.json, the learning curve; returns the latter, at once where
    both are there for the same time.
    """
    record = out / f"{name}.json"
    if record.is_file() and (found := json.loads(record.read_text()))["minutes"] == minutes:
        return dict(found)
    torch.manual_seed(config.seed)
    model = network(name).train()
    average = copy.deepcopy(model).eval().requires_grad_(False)
    optimizers = codec_optimizers(list(model.parameters()), OPTIMIZER)
    rate = RATES[OPTIMIZER]
    fixed = Slices(validation, config, 1, 8)
    judged = [fixed[number] for number in range(len(fixed))]
    loader = DataLoader(Slices(training, config, 0, 10**9), batch_size=None, num_workers=1, prefetch_factor=4)
    spent, steps, curve = 0.0, 0, []
    stream = iter(loader)
    while spent < 60 * minutes:
        began = time.perf_counter()
        kspace, mask, target = next(stream)
        share = schedule(round(1e4 * spent / (60 * minutes)), 10_000, round(1e4 * WARM_UP))
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = rate * share * group["share"]
        model.zero_grad(set_to_none=True)
        loss = image_loss(picture(model, kspace, mask), target, float(target.max()), config.l1_weight)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        for optimizer in optimizers:
            optimizer.step()
        memory = min(AVERAGE, (steps + 1) / (steps + 10))
        with torch.no_grad():
            for kept, new in zip(average.parameters(), model.parameters(), strict=True):
                kept.lerp_(new, 1 - memory)
        steps += 1
        if not math.isfinite(value := float(loss.detach())):
            raise RuntimeError(f"{name}: the loss of step {steps} is {value}")
        spent += time.perf_counter() - began
        if spent >= (len(curve) + 1) * 60 * minutes / POINTS:
            curve.append({"seconds": round(spent, 1), "steps": steps, "ssim": _similarity(average, judged)})
            tell(f"{name}: {spent / 60:.1f} min, {steps} steps, validation SSIM {curve[-1]['ssim']:.4f}")
    found = {"name": name, "minutes": minutes, "seconds": round(spent, 1), "steps": steps, "curve": curve}
    found["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    with atomic_path(out / f"{name}.pt") as temporary:
        torch.save(average.state_dict(), temporary)
    with atomic_path(record) as temporary:
        temporary.write_text(json.dumps(found))
    return found


@torch.no_grad()
def _similarity(model: nn.Module, judged: list[Measured]) -> float:
    found = [float(ssim(picture(model, kspace, mask), target, float(target.max()))) for kspace, mask, target in judged]
    return sum(found) / len(found)
