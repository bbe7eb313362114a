"""Ours beside fastmri's U-Net and E2E-VarNet and the classical methods: one split, one stream of slices, one time budget.

python benchmarks/quality.py SHARED OUT [--minutes 20] [--only nirvana,varnet] [--together 2] [--write]

SHARED is the folder that holds data/kspace and data/volumes (the tests' shared data). Every learned method is trained
from nothing on the same simulated slices and masks for the same time on this machine (with --together, several side by
side, each with its share of the cores); all are scored by fastMRI's rule on subjects that none has seen, and on one real
scan. `nirvana-none` is ours without a language model. What is finished in OUT is not done again. Gates, at 4x on the held-out
subjects: 1 − SSIM at most 0.6 times that of the best E2E-VarNet, a higher PSNR, a fifth of its time for a slice; exit
code 1 where one is missed.
"""  # noqa: E501

import argparse
import csv
import json
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy import Setting
from machine import heading, keep
from quality_peers import POINTS, SIZES, method, train_peer
from quality_words import (
    CEILING,
    CLASSICAL,
    OURS,
    SETTINGS,
    Row,
    beside_classical,
    detail_table,
    main_table,
    of_the_backbone,
    verdict,
)

import nirvana_mri as nm
from nirvana_mri.atomic import atomic_path
from nirvana_mri.physics.coils import rss
from nirvana_mri.physics.fourier import ifft2c
from nirvana_mri.recon.problem import SliceProblem
from nirvana_mri.recon.simulate import RssSlices, SimulatedSlices
from nirvana_mri.scan import Scan
from nirvana_mri.train.config import MaskRecipe, TrainConfig
from nirvana_mri.train.index import read_index
from nirvana_mri.train.loop import train
from nirvana_mri.train.manifest import Manifest
from nirvana_mri.train.subjects import subjects_of

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from bart import Bart
from support import write_brain8

RESULT = Path(__file__).parent / "results" / "quality.md"
TEST = ("niivue_register_T2w", "niimath_T1", "torchio_t2", "MR_Gd")
VALIDATION = ("M2208_T2w",)
MASKS = MaskRecipe(("equispaced_fraction", "random"), (0.7, 0.3), (4, 4, 8))
COILS, SLICES, NOISE = (4, 8), 3, 0.01
PROBE = 24  # steps from which ours tells how many fit into the time


def prepare(shared: Path, out: Path, seed: int, name: str = "nirvana") -> tuple[TrainConfig, Manifest]:
    """The training that ours runs, and the split for all."""
    volumes = shared / "data" / "volumes"
    index = read_index(volumes, out / "index.json")
    sides: dict[str, dict[str, str]] = {"training": {}, "validation": {}, "test": {}}
    for entry in index.entries:
        side = "test" if entry.name in TEST else "validation" if entry.name in VALIDATION else "training"
        sides[side][entry.name] = entry.fingerprint
    manifest = Manifest(**sides)
    manifest.write(out / "split.json")
    config = TrainConfig(
        volumes, out / name, backbone=OURS[name], index=out / "index.json", manifest=out / "split.json", masks=MASKS,
        seed=seed, logs=("none",), threads=torch.get_num_threads(),
    )  # fmt: skip
    return config, manifest


@dataclass(frozen=True)
class Training:
    """What each learned method's training needs, in a process of its own."""

    shared: Path
    out: Path
    minutes: float
    seed: int
    threads: int

    def __call__(self, name: str) -> dict[str, Any]:
        torch.set_num_threads(self.threads)
        if name in OURS:
            return train_ours(name, prepare(self.shared, self.out, self.seed, name)[0], self.minutes)
        config, manifest = prepare(self.shared, self.out, self.seed)
        index = read_index(config.data, config.index)
        training, validation = (subjects_of(index, side) for side in (manifest.training, manifest.validation))
        return train_peer(name, training, validation, config, self.minutes, self.out, tell)


def tell(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def train_ours(name: str, config: TrainConfig, minutes: float) -> dict[str, Any]:
    """Train ours for as many steps as fit into the time, as a few steps tell."""
    record = config.out.with_suffix(".json")
    if record.is_file() and (found := json.loads(record.read_text()))["minutes"] == minutes:
        return dict(found)
    steps = _steps_in(config, minutes)
    tell(f"{name}: {steps} steps in {minutes:g} min")
    resume = (config.out / "state.safetensors").is_file()
    every = max(1, steps // POINTS)
    run = replace(config, max_steps=steps, validate_every=every, warm_up=max(1, steps // 50), resume=resume)
    began = time.perf_counter()
    train(run, lambda step, total, row: tell(f"{name}: {step} of {total}, {row}") if "ssim" in row else None)
    with (config.out / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["ssim"]]
    share = 60 * minutes / steps
    curve = [
        {"seconds": int(row["step"]) * share, "steps": int(row["step"]), "ssim": float(row["ssim"])} for row in rows
    ]
    model = nm.load_model(config.out / "last.safetensors").model
    codecs = sum(p.numel() for part in (model.encoder, model.decoder) for p in part.parameters())
    found = {
        "name": name,
        "minutes": minutes,
        "seconds": round(time.perf_counter() - began, 1),  # of the last call, with judging
        "steps": steps,
        "curve": curve,
        "parameters": codecs,
        "frozen": sum(p.numel() for p in model.backbone.parameters()) if model.backbone is not None else 0,
        "resumed": resume,
    }
    with atomic_path(record) as temporary:
        temporary.write_text(json.dumps(found))
    return found


def _steps_in(config: TrainConfig, minutes: float) -> int:
    """How many steps take so many minutes: told by the later half of a short run, kept beside it for a second call."""
    record = config.out.with_suffix(".steps")
    if not record.is_file():
        stamps: list[float] = []
        with tempfile.TemporaryDirectory() as folder:
            run = replace(config, out=Path(folder) / "probe", max_steps=PROBE, validate_every=10**9, manifest=None,
                          held_out=(*TEST, *VALIDATION))  # fmt: skip
            train(run, lambda *_: stamps.append(time.perf_counter()))
        half = stamps[PROBE // 2 - 1 : PROBE - 1]  # the last step judges as well
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps((half[-1] - half[0]) / (len(half) - 1)))
    return max(POINTS, round(60 * minutes / float(json.loads(record.read_text()))))


def scans(shared: Path, folder: Path) -> Iterable[tuple[str, int, Scan]]:
    """(patient, coils, scan): held-out subjects seen by simulated coils, and a real one."""
    for name in TEST:
        path = shared / "data" / "volumes" / f"{name}.nii.gz"
        count = nm.simulate(path, coils=1, noise=NOISE, seed=0).shape[0]
        chosen = range(round(0.4 * count), round(0.6 * count) + 1, max(1, round(0.1 * count)))[:SLICES]
        for coils in COILS:
            yield name, coils, nm.simulate(path, coils=coils, noise=NOISE, seed=0, slices=chosen)
    yield "brain8", 8, nm.open_scan(write_brain8(shared / "data", folder / "brain8.h5"))


def weights_of(name: str, out: Path) -> Path:
    """Where training leaves them."""
    return out / name / "last.safetensors" if name in OURS else out / f"{name}.pt"


def reconstructed(scan: Scan, name: str, out: Path, setting: Setting) -> nm.Volume:
    """One method's volume of a scan."""
    sampled = (setting.accelerate, setting.mask, setting.center_fraction, setting.seed)
    if name == CEILING:
        return _noise_free(scan, setting)
    if name == "bart":
        return _bart(scan, setting)
    if name in OURS:
        return nm.reconstruct(scan, weights_of(name, out), "nirvana", *sampled)
    if name in SIZES:
        return nm.reconstruct(scan, weights_of(name, out), method(name), *sampled)
    return nm.reconstruct(scan, None, name, *sampled)


def _noise_free(scan: Scan, setting: Setting) -> nm.Volume:
    """The picture that was simulated from, with the expected noise floor of the target's root sum of squares."""
    kspace = scan.kspace
    assert isinstance(kspace, SimulatedSlices)
    floor = kspace.settings.coils * (kspace.settings.noise * kspace.peak) ** 2
    clean = RssSlices(replace(kspace, settings=replace(kspace.settings, noise=0)))
    head = nm.reconstruct(scan, None, "zero-filled", setting.accelerate, setting.mask, setting.center_fraction)
    return replace(head, voxels=np.stack([np.sqrt(clean[n] ** 2 + floor) for n in range(len(clean))]))


def _bart(scan: Scan, setting: Setting) -> nm.Volume:
    """BART's own maps and L1-wavelet pics, combined as all are.

    Its weight is the best on the real slice (baselines.md); maps are cropped where its eigenvalue is below 0.8, or not
    at all, whichever comes nearer to each target: with few calibration lines the crop leaves little.
    """
    from nirvana_mri.recon.problem import prepare_slice
    from nirvana_mri.recon.sampling import choose_sampling

    sampled = (setting.accelerate, setting.mask, setting.center_fraction, setting.seed)
    volume = nm.reconstruct(scan, None, "zero-filled", *sampled)
    mask = choose_sampling(scan, *sampled).mask
    pictures = []
    for number in range(scan.shape[0]):
        kspace = scan.kspace[number]
        problem: SliceProblem = prepare_slice(kspace, mask, scan.crop)
        target = rss(ifft2c(torch.from_numpy(kspace)))
        tried = []
        for crop in (0.8, 0.0):
            with tempfile.TemporaryDirectory() as folder:
                bart = Bart(Path(folder), np.where(mask, kspace, np.complex64(0)), crop=crop)
                tried.append(problem.finish(torch.from_numpy(bart.pics("-R W:7:0:0.003 -i 100")) / problem.scale))
        pictures.append(min(tried, key=lambda made: float((made - target).norm())).numpy())
    return replace(volume, voxels=np.stack(pictures))


def score_all(names: list[str], shared: Path, out: Path) -> list[Row]:
    """Every method on every scan and sampling; kept in OUT, method by method."""
    rows: list[Row] = []
    for name in names:
        record = out / f"scores-{name}.json"
        weights = weights_of(name, out)
        stale = weights.is_file() and record.is_file() and weights.stat().st_mtime > record.stat().st_mtime
        if not record.is_file() or stale:
            found = []
            with tempfile.TemporaryDirectory() as folder:
                for patient, coils, scan in scans(shared, Path(folder)):
                    if name == CEILING and not isinstance(scan.kspace, SimulatedSlices):
                        continue
                    for label, setting in SETTINGS.items():
                        score = nm.evaluate(reconstructed(scan, name, out, setting), scan)
                        found.append([name, patient, coils, label, score.ssim, score.psnr, score.nmse])
                    tell(f"{name}: {patient}, {coils} coils scored")
            with atomic_path(record) as temporary:
                temporary.write_text(json.dumps(found))
        rows += [Row(*values) for values in json.loads(record.read_text())]
    return rows


def cost(name: str, shared: Path, out: Path) -> tuple[float, float]:
    """(seconds for a slice, peak MB above an idle process), in a process of its own: the real slice at 4x."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return tuple(pool.apply(_cost, (name, shared, out, torch.get_num_threads())))


def _cost(name: str, shared: Path, out: Path, threads: int) -> tuple[float, float]:
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        scan = nm.open_scan(write_brain8(shared / "data", Path(folder) / "brain8.h5"))
        idle = _memory("VmRSS")
        seconds = []
        for _ in range(4):
            began = time.perf_counter()
            reconstructed(scan, name, out, SETTINGS["4x"])
            seconds.append(time.perf_counter() - began)
    return sorted(seconds[1:])[1], _memory("VmHWM") - idle


def _memory(name: str) -> float:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name)) / 1024


def _apart(job: Training, name: str) -> dict[str, Any]:
    """One training in a new process, which may start loaders of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(job, name).result()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=20.0, help="of training, for each method")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join([*OURS, *SIZES]), help="learned methods, by comma")
    parser.add_argument("--write", action="store_true", help="keep the figures in benchmarks/results/quality.md")
    parser.add_argument("--together", type=int, default=1, help="trainings side by side, each with its share of cores")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    config, manifest = prepare(options.shared, options.out, options.seed)
    learned = options.only.split(",")
    threads = max(1, torch.get_num_threads() // options.together)
    job = Training(options.shared, options.out, options.minutes, options.seed, threads)
    with ThreadPoolExecutor(options.together) as pool:
        trained = dict(zip(learned, pool.map(partial(_apart, job), learned), strict=True))
    names = [*CLASSICAL, *(["bart"] if shutil.which("bart") else []), *trained]
    rows = score_all([*names, CEILING], options.shared, options.out)
    costs = {name: cost(name, options.shared, options.out) for name in names}
    ratios, passed = verdict(rows, trained, costs)
    command = (
        f"python benchmarks/quality.py SHARED OUT --minutes {options.minutes:g} --together {options.together} --write"
    )
    text = (
        f"# Quality: every learned method trained for {options.minutes:g} minutes on this machine\n\n"
        + heading(command, options.seed)
        + f"- trained {options.together} side by side, with {threads} thread{'s'[: threads > 1]} each\n"
        + f"- training: {len(manifest.training)} subjects, simulated coils, pictures of up to {config.largest} pixels "
        f"a side; split {manifest.sha256[:12]}; masks {', '.join(MASKS.kinds)} at {sorted(set(MASKS.accelerations))}; "
        "loss, optimizer, schedule and averaging alike for all\n"
        "- protocol: fastMRI's rule, target RSS of all coils; BART's maps are cropped or not, whichever is nearer to "
        "the target; its row is absent where it is not installed\n\n"
        + (ratios + beside_classical(rows) + of_the_backbone(rows) + "\n" if ratios else "")
        + f"## Held-out subjects ({len(TEST)}, {SLICES} slices each, {' and '.join(map(str, COILS))} simulated coils, "
        f"noise {NOISE})\n\nMean over subjects, 95 % bootstrap interval over subjects.\n\n"
        + main_table(rows, [*names, CEILING])
        + "## Scan by scan (SSIM / PSNR [dB]); brain8 is measured, one slice\n\n"
        + detail_table(rows, [*names, CEILING])
        + "\n## What it cost (the measured slice at 4x; a process of its own)\n\n"
        "| | trained parameters | steps | validation SSIM at each tenth | a slice [s] | peak memory [MB] |\n"
        "|---|---:|---:|---|---:|---:|\n"
    )
    for name in names:
        made = trained.get(name)
        curve = " ".join(f"{point['ssim']:.3f}" for point in made["curve"]) if made else ""
        count, steps = (f"{made['parameters']:,}", str(made["steps"])) if made else ("", "")
        text += f"| {name} | {count} | {steps} | {curve} | {costs[name][0]:.2f} | {costs[name][1]:.0f} |\n"
    text += "\nValidation slices of ours and of the peers are not the same: compare a curve with itself. The rate ends "
    text += "at 0, which flattens every curve: flat means that this schedule is spent.\n"
    print(text)
    if options.write:
        keep(RESULT, text)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
