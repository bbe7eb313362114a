"""Time and memory of reconstructing full-size slices, beside fastmri's E2E-VarNet in the same process.

python benchmarks/reconstruct.py [--write]

One slice: 15 coils, 640x368, 4x equispaced_fraction; ours is all of `nirvana_mri.reconstruct` for one slice, from
reading the h5 file to the finished picture; the peer is the forward of a 12-cascade, 18-channel VarNet on the k-space
already in memory. Gates: ours under a fifth of the peer's time; memory growth over 16 slices of 16 coils under 600 MB.
Exit code 1 where one fails.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from fastmri.models import VarNet
from machine import copy_ceiling, gemm_ceiling, heading, times

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


def phantom(ny: int = 640, nx: int = 368) -> torch.Tensor:
    """Ellipses in the middle half of the readout, as an oversampled acquisition has them."""
    y, x = torch.meshgrid(torch.linspace(-2, 2, ny), torch.linspace(-1.15, 1.15, nx), indexing="ij")
    draw = np.random.default_rng(0)
    picture = ((x / 0.8) ** 2 + (y / 0.9) ** 2 < 1).float()
    for _ in range(30):
        cy, cx, ry, rx = *draw.uniform(-0.6, 0.6, 2), *draw.uniform(0.02, 0.25, 2)
        picture[((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1] *= float(draw.uniform(0.4, 1.3))
    return picture.to(torch.complex64)


def write_scan(path: Path, slices: int, coils: int) -> None:
    settings = Simulation(coils=coils, noise=0.01, seed=0)
    kspace = np.stack([simulate_slice(phantom(), settings, number, slices).numpy() for number in range(slices)])
    write_fastmri(path, kspace, reference=np.zeros((slices, 320, 320), np.float32))


def ours(path: Path) -> list[float]:
    model = nm.load_model("nano")
    return times(lambda: nm.reconstruct(nm.open_scan(path), model, accelerate=4), 7)


def peers(path: Path) -> list[float]:
    mask = torch.from_numpy(make_mask("equispaced_fraction", (640, 368), 4, 0.08, 0)).reshape(1, 1, 1, 368, 1)
    kspace = torch.view_as_real(torch.from_numpy(nm.open_scan(path).kspace[0]))[None]
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


def row(name: str, seconds: list[float]) -> str:
    return f"| {name} | {seconds[len(seconds) // 2]:.2f} | {seconds[0]:.2f} | {seconds[-1]:.2f} |\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep the figures in benchmarks/results/reconstruct.md")
    write = parser.parse_args().write
    with tempfile.TemporaryDirectory() as folder:
        one, volume = Path(folder) / "one.h5", Path(folder) / "volume.h5"
        write_scan(one, 1, 15)
        own, peer = ours(one), peers(one)
        write_scan(volume, 16, 16)
        growth = memory(volume)
    ratio = peer[len(peer) // 2] / own[len(own) // 2]
    text = (
        "# Reconstructing a full-size slice: 15 coils, 640x368, 4x\n\n"
        + heading("python benchmarks/reconstruct.py --write", 0)
        + f"- ceilings: float32 GEMM {gemm_ceiling():.0f} GFLOP/s, memory copy {copy_ceiling():.0f} GB/s\n\n"
        "| | median [s] | fastest [s] | slowest [s] |\n|---|---|---|---|\n"
        + row("nirvana-mri `nano`, h5 file to picture", own)
        + row("fastmri E2E-VarNet (12 cascades, 18 channels), forward only", peer)
        + "\n"
        + f"Ratio of medians {ratio:.1f} (gate: at least {RATIO:.0f}).\n\n"
        "Peak memory while reconstructing 16 slices of 16 coils, 640x368, above an idle process with the "
        f"model loaded: {growth:.0f} MB (gate: {MEGABYTES:.0f}).\n"
    )
    print(text)
    if write:
        RESULT.write_text(text)
    return 0 if ratio >= RATIO and growth < MEGABYTES else 1


if __name__ == "__main__":
    sys.exit(main())
