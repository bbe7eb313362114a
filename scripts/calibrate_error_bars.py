"""Calibrate error bars on subjects whose truth is known: volumes, from which scans are simulated.

python scripts/calibrate_error_bars.py subjects/*.nii.gz --method sense --accelerate 4 -o bars.json

Each file is a subject: its scan is simulated with coils of its own, reconstructed, and compared with the fully sampled
picture. A part of the subjects is held out; the mean coverage over those, with its interval, is what is reported.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.recon.batch import Recipe
from nirvana_mri.recon.errorbars import MUST_MATCH, Subject, calibrate, coverage, mean_interval, subject_of
from nirvana_mri.recon.simulate import simulate
from nirvana_mri.scan import Scan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("volumes", type=Path, nargs="+", help="one file per subject: NIfTI or npy")
    parser.add_argument("-o", "--out", type=Path, required=True, help="the JSON that report --error-bars reads")
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
    subjects, protocols = [], []
    for number, path in enumerate(options.volumes):
        subject, protocol = judged(simulated(path, number, options, draw), options)
        subjects.append(subject)
        protocols.append(protocol)
        print(f"{path.name}: residual {subject.residual:.2f}, median score {np.median(subject.scores):.2f}")
    report(subjects, protocols, options, draw)


def simulated(path: Path, number: int, options: argparse.Namespace, draw: np.random.Generator) -> Scan:
    """A scan of a few slices of the subject, with a noise level and coils of its own."""
    whole = simulate(path, seed=number)
    count = len(whole.kspace)
    chosen = np.unique(np.linspace(count // 3, max(count // 3, 2 * count // 3 - 1), options.slices).astype(int))
    return simulate(path, seed=number, noise=float(draw.uniform(*options.noise)), slices=chosen.tolist())


def judged(scan: Scan, options: argparse.Namespace) -> tuple[Subject, dict[str, object]]:
    """The subject's scores and how it was reconstructed. Raises: DataError where there is no residual."""
    recipe = Recipe(
        options.method, options.model, options.accelerate, center_fraction=options.center_fraction, trust=True
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
    subjects: list[Subject], protocols: list[dict[str, object]], options: argparse.Namespace, draw: np.random.Generator
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
    shares = coverage(bars, [subjects[n] for n in others])
    mean, low, high = mean_interval(shares)
    told = {
        "mean": mean,
        "interval": [low, high],
        "subjects": len(shares),
        "each": [round(float(s), 4) for s in shares],
    }
    bars.protocol["held_out_coverage"] = told
    bars.save(options.out)
    print(f"wrote {options.out}: quantile {bars.quantile:.3f}, median residual {bars.residual_median:.2f}")
    print(f"held-out mean coverage {mean:.3f} (95 % interval {low:.3f} to {high:.3f}, {len(shares)} subjects)")
    print(json.dumps(told))


if __name__ == "__main__":
    main()
