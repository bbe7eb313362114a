"""Time and memory of reconstructing slices, beside fastmri's E2E-VarNet in the same process.

python benchmarks/reconstruct.py [--write]

One slice: 15 coils, 640x368, 4x equispaced_fraction; ours is all of `nirvana_mri.reconstruct` for one slice, from
reading the h5 file to the finished picture; the peer is the forward of a 12-cascade, 18-channel VarNet on the k-space
already in memory. A small slice (8 coils, 230x180) is timed beside it, without a gate: what a scan costs besides its
coils' samples weighs more there. A table says where our time goes. Gates, at full size: ours under a fifth of the
peer's time; memory growth over 16 slices of 16 coils under 600 MB. Exit code 1 where one fails.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from fastmri.models import VarNet
from machine import copy_ceiling, gemm_ceiling, heading, keep, times
from torch.utils.hooks import RemovableHandle

import nirvana_mri as nm
from nirvana_mri.io.fastmri import write_fastmri
from nirvana_mri.physics.masks import make_mask
from nirvana_mri.physics.simulate import Simulation, simulate_slice

RATIO, MEGABYTES = 5.0, 600.0
RESULT = Path(__file__).parent / "results" / "reconstruct.md"
MEMORY = """
import sys, torch
import nirvana_mri as nm

def memory(name):  # of this process's own; getrusage would count its parent's peak before exec
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name)) / 1024

model = nm.load_model("nano")
model.model.states(torch.zeros(1, 320, 320, dtype=torch.complex64), torch.zeros(1, 320, 320))
idle = memory("VmRSS")
nm.reconstruct(nm.open_scan(sys.argv[1]), model, accelerate=4)
print(memory("VmHWM") - idle)
"""


@dataclass(frozen=True)
class Size:
    """Of one slice, and of the picture that is cut from it."""

    coils: int
    ny: int
    nx: int
    crop: int

    def __str__(self) -> str:
        return f"{self.coils} coils, {self.ny}x{self.nx}"


FULL, SMALL = Size(15, 640, 368, 320), Size(8, 230, 180, 180)


def phantom(size: Size) -> torch.Tensor:
    """Ellipses in the middle half of the readout, as an oversampled acquisition has them."""
    y, x = torch.meshgrid(torch.linspace(-2, 2, size.ny), torch.linspace(-1.15, 1.15, size.nx), indexing="ij")
    draw = np.random.default_rng(0)
    picture = ((x / 0.8) ** 2 + (y / 0.9) ** 2 < 1).float()
    for _ in range(30):
        cy, cx, ry, rx = *draw.uniform(-0.6, 0.6, 2), *draw.uniform(0.02, 0.25, 2)
        picture[((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1] *= float(draw.uniform(0.4, 1.3))
    return picture.to(torch.complex64)


def write_scan(path: Path, slices: int, size: Size) -> Path:
    settings = Simulation(coils=size.coils, noise=0.01, seed=0)
    kspace = np.stack([simulate_slice(phantom(size), settings, number, slices).numpy() for number in range(slices)])
    write_fastmri(path, kspace, reference=np.zeros((slices, size.crop, size.crop), np.float32))
    return path


def ours(path: Path) -> list[float]:
    model = nm.load_model("nano")
    return times(lambda: nm.reconstruct(nm.open_scan(path), model, accelerate=4), 7)


def parts(path: Path) -> dict[str, float]:
    """Seconds of a slice, by what they are spent on: the fastest of seven for each."""
    model = nm.load_model("nano")
    network = model.model
    spent: dict[str, float] = {}

    def clock(name: str, module: torch.nn.Module) -> list[RemovableHandle]:
        began: list[float] = []

        def stop(*_: object) -> None:
            spent[name] = spent.get(name, 0.0) + time.perf_counter() - began.pop()

        return [
            module.register_forward_pre_hook(lambda *_: began.append(time.perf_counter())),
            module.register_forward_hook(stop),
        ]

    assert network.backbone is not None
    decoder = network.decoder
    handles = clock("encoder", network.encoder) + clock("language model", network.backbone) + clock("decoder", decoder)
    handles += [handle for unet in decoder.cascades for handle in clock("U-Nets", unet)]
    rounds = []
    for _ in range(8):
        spent.clear()
        began = time.perf_counter()
        nm.reconstruct(nm.open_scan(path), model, accelerate=4)
        total = time.perf_counter() - began
        rest = total - spent["encoder"] - spent["language model"] - spent["decoder"]
        consistency = spent["decoder"] - spent["U-Nets"]
        named = {name: spent[name] for name in ("encoder", "language model", "U-Nets")}
        rounds.append({"file, coil maps, first image": rest, **named, "data consistency": consistency})
    for handle in handles:
        handle.remove()
    return {name: min(each[name] for each in rounds[1:]) for name in rounds[0]}


def peers(path: Path) -> list[float]:
    scan = nm.open_scan(path)
    ny, nx = scan.shape[2:]
    mask = torch.from_numpy(make_mask("equispaced_fraction", (ny, nx), 4, 0.08, 0)).reshape(1, 1, 1, nx, 1)
    kspace = torch.view_as_real(torch.from_numpy(scan.kspace[0]))[None]
    masked = torch.where(mask, kspace, torch.zeros(()))
    torch.manual_seed(0)
    network = VarNet(num_cascades=12, chans=18).eval()

    def forward() -> torch.Tensor:
        with torch.inference_mode():
            return network(masked, mask)

    return times(forward, 3)


def memory(path: Path) -> float:
    """Peak resident memory of reconstructing, above an idle process with the model loaded [MB]."""
    out = subprocess.run([sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, check=True)
    return float(out.stdout)


def row(name: str, size: Size, seconds: list[float]) -> str:
    return f"| {name} | {size} | {median(seconds):.2f} | {seconds[0]:.2f} | {seconds[-1]:.2f} |\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep the figures in benchmarks/results/reconstruct.md")
    write = parser.parse_args().write
    with tempfile.TemporaryDirectory() as folder:
        files = {size: write_scan(Path(folder) / f"{size.coils}.h5", 1, size) for size in (FULL, SMALL)}
        own = {size: ours(path) for size, path in files.items()}
        peer = {size: peers(path) for size, path in files.items()}
        spent = {size: parts(path) for size, path in files.items()}
        growth = memory(write_scan(Path(folder) / "volume.h5", 16, replace(FULL, coils=16)))
    ratios = {size: median(peer[size]) / median(own[size]) for size in files}
    text = (
        "# Reconstructing a slice, 4x\n\n"
        + heading("python benchmarks/reconstruct.py --write", 0)
        + f"- ceilings: float32 GEMM {gemm_ceiling():.0f} GFLOP/s, memory copy {copy_ceiling():.0f} GB/s\n\n"
        "| | slice | median [s] | fastest [s] | slowest [s] |\n|---|---|---|---|---|\n"
    )
    for size in files:
        text += row("nirvana-mri `nano`, h5 file to picture", size, own[size])
        text += row("fastmri E2E-VarNet (12 cascades, 18 channels), forward only", size, peer[size])
    text += (
        f"\nRatio of medians at {FULL} {ratios[FULL]:.1f} (gate: at least {RATIO:.0f}), at {SMALL} {ratios[SMALL]:.1f} "
        "(no gate).\n\nWhere our time goes (fastest of seven):\n\n"
        f"| slice | {' | '.join(spent[FULL])} |\n|---|{'---|' * len(spent[FULL])}\n"
    )
    for size, seconds in spent.items():
        total = sum(seconds.values())
        text += f"| {size} | {' | '.join(f'{each:.3f} s ({each / total:.0%})' for each in seconds.values())} |\n"
    text += (
        "\nPeak memory while reconstructing 16 slices of 16 coils, 640x368, above an idle process with the "
        f"model loaded: {growth:.0f} MB (gate: {MEGABYTES:.0f}).\n"
    )
    print(text)
    if write:
        keep(RESULT, text)
    return 0 if ratios[FULL] >= RATIO and growth < MEGABYTES else 1


if __name__ == "__main__":
    sys.exit(main())
