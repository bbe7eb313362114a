"""What training waits for: slices from fastMRI-style files, and whole examples.

python benchmarks/loader.py [--data DIR] [--write]
python benchmarks/loader.py --steps 1000

Four files of four slices, 15 coils, 640x368, complex64 (a picture of 320x320), written into a temporary folder and warm
in the system's cache, or those in --data. Each way of reading takes every slice once, in turns with the others, in one
process of one thread; then 0, 1 and 2 workers of torch's DataLoader do it. Gates: the scan at least 2.5 times, the
cache at least 5 times as many slices a second as fastmri's SliceDataset. Exit code 1 where one fails.

--steps trains a tiny model for so many steps and shows its memory; exit code 1 where it grows by more than 16 MiB after
the first fifth.
"""

import argparse
import cProfile
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from fastmri.data import SliceDataset
from machine import copy_ceiling, heading, keep
from torch.utils.data import DataLoader, Dataset, Subset

from nirvana_mri.io.fastmri import write_fastmri
from nirvana_mri.physics.coils import rss
from nirvana_mri.physics.fourier import ifft2c
from nirvana_mri.recon.problem import centre_crop
from nirvana_mri.recon.simulate import simulate
from nirvana_mri.train.cache import HybridCache
from nirvana_mri.train.config import MaskRecipe, TrainConfig
from nirvana_mri.train.data import Examples
from nirvana_mri.train.index import read_index
from nirvana_mri.train.subjects import Subject, subjects_of

FILES, SLICES, COILS, NY, NX, CROP = 4, 4, 15, 640, 368, 320
GATES = {"scan": 2.5, "cache": 5.0}
STRIP = 128  # rows, as an example has
COLUMNS = MaskRecipe(("equispaced_fraction", "random"), (0.7, 0.3))
RESULT = Path(__file__).parent / "results" / "loader.md"


def write_files(folder: Path) -> None:
    y, x = np.meshgrid(np.linspace(-2, 2, NY), np.linspace(-1, 1, NX), indexing="ij")
    head = (((x / 0.7) ** 2 + (y / 0.8) ** 2 < 1) * (1 + 0.4 * np.cos(9 * x) * np.cos(7 * y))).astype(np.float32)
    for seed in range(FILES):
        kspace = simulate(np.stack([head] * SLICES), coils=COILS, seed=seed).kspace
        samples = np.stack([kspace[number] * np.float32(1e-5) for number in range(SLICES)])
        pictures = [centre_crop(rss(ifft2c(torch.from_numpy(each))), (CROP, CROP)).numpy() for each in samples]
        path = folder / f"file{seed}.h5"
        write_fastmri(path, samples, reference=np.stack(pictures), voxel_mm=(3, 0.5, 0.5), crop=(CROP, CROP))


@dataclass(frozen=True)
class Way(Dataset[int]):
    """A way to read slice ``number`` of all: what is read stays here, and its bytes are counted."""

    read: Callable[[int, int], int]
    slices: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.slices)

    def __getitem__(self, number: int) -> int:
        return self.read(*self.slices[number])


def ways(data: Path, subjects: list[Subject], kept: list[Subject]) -> dict[str, Way]:
    slices = tuple((n, s) for n, subject in enumerate(subjects) for s in range(subject.entry.shape[0]))
    peer = SliceDataset(data, "multicoil")
    number_of = {(Path(name).stem, s): n for n, (name, s, _) in enumerate(peer.raw_samples)}
    buffers = {subject.entry.shape[1:]: np.empty(subject.entry.shape[1:], np.complex64) for subject in subjects}

    def plain(n: int, s: int) -> int:
        buffer = buffers[subjects[n].entry.shape[1:]]
        with h5py.File(subjects[n].path) as file:
            file["kspace"].read_direct(buffer, np.s_[s])
        return buffer.nbytes

    def fastmri(n: int, s: int) -> int:
        kspace, _, target, *_ = peer[number_of[subjects[n].path.stem, s]]
        return kspace.nbytes + target.nbytes

    def scan(n: int, s: int) -> int:
        return subjects[n].slice(s).kspace().nbytes  # checked: every sample was looked at

    def strip(n: int, s: int) -> int:
        hybrid = kept[n].slice(s).hybrid()
        top = (hybrid.target.shape[0] - STRIP) // 2
        parts = (hybrid.data[:, top : top + STRIP], hybrid.centre, hybrid.energy, hybrid.peaks, hybrid.target)
        return sum(np.array(part).nbytes for part in parts)

    def whole(n: int, s: int) -> int:
        hybrid = kept[n].slice(s).hybrid()
        parts = (hybrid.data, hybrid.centre, hybrid.energy, hybrid.peaks, hybrid.target)
        return sum(np.array(part).nbytes for part in parts)

    readers = {"plain": plain, "fastmri": fastmri, "scan": scan, "cache": strip, "cache, all rows": whole}
    return {name: Way(read, slices) for name, read in readers.items()}


def rates(sets: dict[str, Dataset], workers: int, rounds: int) -> dict[str, list[float]]:  # type: ignore[type-arg]
    """Items a second of each, in turns, with the workers' start left out."""
    loaders = {
        name: DataLoader(
            items,
            batch_size=None,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=lambda _: torch.set_num_threads(1),
        )
        for name, items in sets.items()
    }
    found: dict[str, list[float]] = {name: [] for name in sets}
    for round in range(rounds + 1):
        for name, loader in loaders.items():
            started = time.perf_counter()
            count = sum(1 for _ in loader)
            if round:  # the first warms up
                found[name].append(count / (time.perf_counter() - started))
    return found


def share_of_time(examples: Dataset, count: int) -> dict[str, float]:  # type: ignore[type-arg]
    """Milliseconds an example spends in its parts."""
    profile = cProfile.Profile()
    profile.enable()
    for number in range(count):
        examples[number]
    profile.disable()
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    times = {(Path(file).stem, name): value[3] for (file, _, name), value in stats.items()}
    parts = {
        "the whole example": ("data", "make_example"),
        "its slice in hybrid space": ("subjects", "hybrid"),
        "of that: the scan mapped and checked": ("slices", "lent"),
        "of that: the readout's transform and crop": ("problem", "to_hybrid"),
        "of that: the energy of each sample": ("noise", "sample_energy"),
        "the strip copied": ("hybrid", "_copied"),
        "coil maps": ("espirit", "estimate_maps"),
        "coil compression": ("coils", "compress"),
        "noise level": ("noise", "noise_from"),
    }
    return {name: 1e3 * times.get(function, 0.0) / count for name, function in parts.items()}


def slice_table(found: dict[int, dict[str, list[float]]], sizes: dict[str, int]) -> str:
    told = {
        "plain": "h5py `read_direct` into one buffer (ceiling): k-space",
        "fastmri": "fastmri `SliceDataset[i]`: k-space, target, attributes",
        "scan": "nirvana-mri, the scan: k-space mapped, each sample checked",
        "cache": f"nirvana-mri, the cache: {STRIP} rows of hybrid space, centre, energies, target",
        "cache, all rows": "nirvana-mri, the cache: all rows",
    }
    lines = ["| slices a second (ratio to fastmri) | MB a slice | this process | 1 worker | 2 workers |"]
    lines.append("|---|---|---|---|---|")
    for name, words in told.items():
        cells = []
        for rounds in found.values():
            cells.append(f"{statistics.median(rounds[name]):.0f} ({ratio(rounds, name):.1f})")
        lines.append(f"| {words} | {sizes[name] / 1e6:.1f} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def ratio(rounds: dict[str, list[float]], name: str) -> float:
    return statistics.median(a / b for a, b in zip(rounds[name], rounds["fastmri"], strict=True))


def measure(data: Path, cache: HybridCache, rounds: int, note: str) -> tuple[str, bool]:
    index = read_index(data)
    names = [entry.name for entry in index.entries if entry.is_scan]
    subjects, kept = subjects_of(index, names), subjects_of(index, names, cache)
    all_ways = ways(data, subjects, kept)
    sizes = {name: way[0] for name, way in all_ways.items()}
    found = {workers: rates(dict(all_ways), workers, rounds) for workers in (0, 1, 2)}
    config = TrainConfig(data, data / "out", rows=STRIP, masks=COLUMNS)
    count = len(next(iter(all_ways.values())))
    sets = {
        "the scan": Subset(Examples(subjects, config), range(count)),
        "the cache": Subset(Examples(kept, config), range(count)),
    }
    made = {workers: rates(dict(sets), workers, max(rounds // 3, 2)) for workers in (0, 1, 2)}
    parts = {name: share_of_time(examples, count) for name, examples in sets.items()}
    on_disk = cache.size()[1] / sum(subject.path.stat().st_size for subject in subjects)
    gates = {name: ratio(found[0], name) for name in GATES}
    shape = "x".join(str(n) for n in subjects[0].entry.shape)
    gated = ", ".join(f"{name} {gates[name]:.1f} (at least {GATES[name]})" for name in GATES)
    text = (
        f"# Slices and examples for training: {len(subjects)} files of {shape}\n\n"
        + heading("python benchmarks/loader.py --write", 0)
        + f"- ceilings: memory copy {copy_ceiling():.0f} GB/s; files warm in the system's cache\n{note}\n"
        + slice_table(found, sizes)
        + f"\nGates, this process: {gated}. Medians of {rounds} rounds of all {count} slices; a ratio is the median\n"
        "of the rounds' ratios. With workers every way hands back a number alone: what is compared is reading, not\n"
        f"the way between processes. The cache has {on_disk:.0%} of the bytes of the scans.\n\n"
        "What comes back differs: SliceDataset and the ceiling copy a slice, the scan maps it and reads every sample\n"
        "once to check it, the cache copies what a training example needs of a slice; of that the head is checked,\n"
        "the samples are not.\n\n"
        "| whole examples a second, masks by column | this process | 1 worker | 2 workers |\n|---|---|---|---|\n"
        + "".join(example_row(name, [made[workers][name] for workers in made]) for name in sets)
        + "\n| milliseconds of an example, under a profiler | from the scan | from the cache |\n|---|---|---|\n"
        + "".join(
            f"| {part} | {took:.0f} | {parts['the cache'][part]:.0f} |\n" for part, took in parts["the scan"].items()
        )
    )
    return text, all(gates[name] >= GATES[name] for name in GATES)


def example_row(name: str, rounds: list[list[float]]) -> str:
    return f"| from {name} | " + " | ".join(f"{statistics.median(each):.2f}" for each in rounds) + " |\n"


def memory() -> float:
    """Resident memory of this process [MiB]."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


def growth(steps: int) -> bool:
    """Train a tiny model, show the memory at every tenth of the way."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from tiny import tiny_model, tiny_scan

    from nirvana_mri.recon.checkpoint import save_checkpoint
    from nirvana_mri.train.loop import train

    seen: list[float] = []

    def show(step: int, total: int, row: dict[str, float]) -> None:
        if step % max(total // 10, 1) == 0:
            seen.append(memory())
            print(f"step {step}: {seen[-1]:.1f} MiB, {row['slices_per_second']:.1f} slices/s")

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        for seed, stem in enumerate("abc"):
            tiny_scan(64, 56, slices=2, coils=2, out=folder / "data" / f"{stem}.h5", seed=seed)
        start = folder / "start.safetensors"
        save_checkpoint(tiny_model(), start, covers={}, training={})
        options = dict(max_steps=steps, workers=0, start_from=str(start), rows=16, validate_every=steps, logs=("none",))
        train(TrainConfig(folder / "data", folder / "run", **options), show)  # type: ignore[arg-type]
    print(f"growth after the first fifth: {seen[-2] - seen[1]:.1f} MiB")  # the last tenth holds a validation
    return seen[-2] - seen[1] < 16


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="fully sampled multi-coil files of one size, with targets")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--note", help="what else was going on, for the results")
    parser.add_argument("--write", action="store_true", help="keep the figures in benchmarks/results/loader.md")
    parser.add_argument("--steps", type=int, help="train so many steps and show the memory, nothing else")
    words = parser.parse_args()
    torch.set_num_threads(1)
    if words.steps:
        return 0 if growth(words.steps) else 1
    with tempfile.TemporaryDirectory() as name:
        data = words.data or Path(name) / "data"
        if words.data is None:
            data.mkdir()
            write_files(data)
        note = f"- {words.note}\n" if words.note else ""
        text, passed = measure(data, HybridCache(Path(name) / "cache"), words.rounds, note)
    print(text)
    if words.write:
        keep(RESULT, text)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
