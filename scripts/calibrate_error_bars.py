"""Calibrate error bars on subjects whose truth is known: volumes, from which scans are simulated.

python scripts/calibrate_error_bars.py subjects/*.nii.gz --accelerate 4 --draws 220 -o bars.json

A subject is a scan simulated with coils, noise, slices and a sampling pattern of its own, reconstructed, and compared
with the fully sampled picture. Without --draws each file is one subject. With it so many are drawn independently,
the file too: such subjects are exchangeable, which is what the promise asks for. It says nothing of heads that no file
shows, so the coverage of each file under bars that never saw it is told beside.

A part of the subjects is held out; the mean coverage over those, with its interval, is what is reported.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.recon.batch import Recipe
from nirvana_mri.recon.checkpoint import load_model
from nirvana_mri.recon.errorbars import MUST_MATCH, Subject, calibrate, coverage, mean_interval, subject_of
from nirvana_mri.recon.simulate import simulate
from nirvana_mri.train.start import seen_by


@dataclass(frozen=True)
class Drawn:
    """A subject before it is simulated: what of ``path`` is scanned, and how."""

    path: Path
    seed: int
    noise: float
    slices: tuple[int, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("volumes", type=Path, nargs="+", help="NIfTI or npy files")
    parser.add_argument("-o", "--out", type=Path, required=True, help="the JSON that report --error-bars reads")
    parser.add_argument("--draws", type=int, help="so many subjects, drawn independently; without it one per file")
    parser.add_argument("--method", default="nirvana")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--accelerate", type=float, default=4.0)
    parser.add_argument("--center-fraction", type=float, default=0.08)
    parser.add_argument("--level", type=float, default=0.9)
    parser.add_argument("--held-out", type=float, default=0.3, help="share of the subjects that only judge")
    parser.add_argument("--noise", type=float, nargs=2, default=(0.005, 0.02), help="drawn for each subject between")
    parser.add_argument("--slices", type=int, default=3, help="of each subject, from its middle third")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = np.random.default_rng(options.seed)
    asked = drawn(options, draw)
    subjects, protocols = [], []
    for one in track(asked, description="subjects"):
        subject, protocol = judged(one, options)
        subjects.append(subject)
        protocols.append(protocol)
        told = f"residual {subject.residual:.2f}, median score {np.median(subject.scores):.2f}"
        print(f"{one.path.name}, noise {one.noise:.4f}, slices {list(one.slices)}: {told}", flush=True)
    report(subjects, [one.path.name for one in asked], protocols, options, draw)


def drawn(options: argparse.Namespace, draw: np.random.Generator) -> list[Drawn]:
    """The subjects to simulate: one per file, or so many drawn from all of them."""
    counts = {path: len(simulate(path).kspace) for path in options.volumes}
    if options.draws is None:
        return [
            Drawn(path, number, float(draw.uniform(*options.noise)), spread(counts[path], options.slices))
            for number, path in enumerate(options.volumes)
        ]
    found = []
    for number in range(options.draws):
        path = options.volumes[int(draw.integers(len(options.volumes)))]
        first, stop = middle(counts[path])
        slices = draw.choice(np.arange(first, stop), min(options.slices, stop - first), replace=False)
        found.append(Drawn(path, number, float(draw.uniform(*options.noise)), tuple(sorted(map(int, slices)))))
    return found


def middle(count: int) -> tuple[int, int]:
    """The middle third of so many slices: (first, stop)."""
    return count // 3, max(count // 3 + 1, 2 * count // 3)


def spread(count: int, slices: int) -> tuple[int, ...]:
    """Slices spread over the middle third."""
    first, stop = middle(count)
    return tuple(np.unique(np.linspace(first, stop - 1, slices).astype(int)).tolist())


def judged(one: Drawn, options: argparse.Namespace) -> tuple[Subject, dict[str, object]]:
    """The subject's scores and how it was reconstructed. Raises: DataError where there is no residual."""
    scan = simulate(one.path, seed=one.seed, noise=one.noise, slices=one.slices)
    recipe = Recipe(
        options.method,
        options.model,
        options.accelerate,
        center_fraction=options.center_fraction,
        seed=one.seed,
        trust=True,
    )
    volume = recipe.apply(scan)
    trust = volume.provenance["trust"]
    if trust["residual_over_noise"] is None:
        raise DataError(f"{scan.name}: {trust['residual']['sentence']}")
    places = [volume.slices.index(number) for number in trust["slices"]]
    assert scan.reference is not None
    truths = np.stack([scan.reference[number] for number in trust["slices"]])
    protocol = {key: volume.provenance.get(key) for key in MUST_MATCH}
    protocol["acceleration"] = volume.provenance["sampling"]["achieved_acceleration"]
    protocol["center_fraction"] = options.center_fraction
    protocol["data"] = "simulated from volumes"
    scores = subject_of(volume.magnitude[places], truths, volume.maps["error_scale"], trust["residual_over_noise"])
    return scores, protocol


def report(
    subjects: list[Subject],
    names: list[str],
    protocols: list[dict[str, object]],
    options: argparse.Namespace,
    draw: np.random.Generator,
) -> None:
    """Calibrate on some, judge on the others, write, and say how well the bars held."""
    order = draw.permutation(len(subjects))
    held = max(1, round(options.held_out * len(subjects)))
    learned, others = order[held:], order[:held]
    typical = float(np.median([float(str(protocol["acceleration"])) for protocol in protocols]))
    try:
        bars = calibrate([subjects[n] for n in learned], options.level, {**protocols[0], "acceleration": typical})
    except UsageError as problem:
        raise SystemExit(f"error: {problem}") from problem
    told = told_of(coverage(bars, [subjects[n] for n in others]))
    bars.protocol["held_out_coverage"] = told
    if options.method == "nirvana":
        bars.protocol["files"] = known_files(names, options.model)
    alone = unseen(subjects, names, options.level)
    if alone:
        bars.protocol["unseen_file_coverage"] = alone
    bars.save(options.out)
    interval = "95 % interval {:.3f} to {:.3f}".format(*told["interval"])
    print(f"wrote {options.out}: quantile {bars.quantile:.3f}, median residual {bars.residual_median:.2f}")
    print(f"held-out mean coverage {told['mean']:.3f} ({interval}, {told['subjects']} subjects)")
    if alone:
        print("| file | subjects | mean coverage by bars of the others | lowest |\n|---|---|---|---|")
    for name, share in alone.items():
        print(f"| {name} | {share['subjects']:.0f} | {share['mean']:.3f} | {share['lowest']:.3f} |")


def known_files(names: list[str], model: str) -> dict[str, int]:
    """How many different files there are, and how many of them the model was trained on, by name."""
    stems = {name.split(".")[0] for name in names}
    seen = {name.split(" (")[0] for name in seen_by(load_model(model))}
    return {"different": len(stems), "seen_in_training": len(stems & seen)}


def told_of(shares: NDArray[np.float64]) -> dict[str, Any]:
    """The mean coverage over subjects, its interval, and each subject's."""
    mean, low, high = mean_interval(shares)
    each = [round(float(share), 4) for share in shares]
    return {"mean": mean, "interval": [low, high], "subjects": len(shares), "each": each}


def unseen(subjects: list[Subject], names: list[str], level: float) -> dict[str, dict[str, float]]:
    """Each file's coverage under bars of the subjects of all other files; nothing where those are too few."""
    found = {}
    for name in sorted(set(names)):
        others = [one for one, its in zip(subjects, names, strict=True) if its != name]
        try:
            bars = calibrate(others, level)
        except UsageError:
            return {}
        shares = coverage(bars, [one for one, its in zip(subjects, names, strict=True) if its == name])
        found[name] = {"mean": float(shares.mean()), "lowest": float(shares.min()), "subjects": float(len(shares))}
    return found


if __name__ == "__main__":
    main()
