"""What the parts of the model bring: the same training with one thing changed, scored on the same held-out slices."""

import json
import math
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nirvana_mri import __version__
from nirvana_mri.atomic import atomic_path
from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.language.memory import MemoryRecord, memory_record
from nirvana_mri.language.memory_page import memory_page
from nirvana_mri.recon.checkpoint import load_model
from nirvana_mri.recon.model import NirvanaReconConfig
from nirvana_mri.train.config import TrainConfig
from nirvana_mri.train.data import Example, make_example
from nirvana_mri.train.index import Index, read_index
from nirvana_mri.train.loop import train
from nirvana_mri.train.manifest import Manifest, read_manifest, split
from nirvana_mri.train.objective import ImageObjective
from nirvana_mri.train.outputs import BEST, INDEX, LAST
from nirvana_mri.train.subjects import Subject, subjects_of

REFERENCE = "full"
TEST_EXAMPLES = 48
SPLIT = "split.json"
DRAWS = 2000  # of the bootstrap
PROTOCOL = "SSIM (7x7, sample covariance) and PSNR against the RSS of the noisy coils, data range its maximum, by slice"


@dataclass(frozen=True)
class Arm:
    """One thing changed: fields of the training, and in one line what it is. ``stages`` follow one another, each for
    its share of the steps; none means no training at all.
    """

    summary: str
    changes: Mapping[str, Any]
    stages: tuple[tuple[str, float], ...] = (("joint", 1.0),)


ARMS: dict[str, Arm] = {
    REFERENCE: Arm("codecs trained round the pretrained backbone, Trigger on", {}),
    "random": Arm("the backbone's weights drawn, not learned", {"backbone": "random"}),
    "none": Arm("no backbone: tokens pass straight on", {"backbone": "none"}),
    "transformer": Arm("no backbone, and an encoder as much deeper as the backbone computes", {"backbone": "none"}),
    "codecs-only": Arm("Trigger off: nothing learns at test time", {"trigger": False}),
    "trigger-only": Arm("codecs as drawn, frozen; the fast weights alone adapt", {}, ()),
    "no-consistency": Arm("no data consistency in the decoder", {"consistency": False}),
    "two-passes": Arm("the patches are read twice", {"passes": 2}),
    "decoder": Arm("encoder as drawn, frozen; the decoder alone learns", {}, (("decoder", 1.0),)),
    "two-stages": Arm(
        "the paper's: encoder on words, then decoder on pictures", {}, (("encoder", 0.5), ("decoder", 0.5))
    ),
}
Progress = Callable[[str, int, int], None]


def ablate(
    base: TrainConfig, names: Sequence[str], seeds: int, progress: Progress | None = None, together: int = 1
) -> dict[str, Any]:
    """Train and score each arm with each seed; the table as JSON-ready values, also in ``base.out``.

    Every arm sees the same slices in the same order for the same number of steps, and is scored on slices of the
    held-out subjects that do not depend on it. Runs that are finished are not repeated, unfinished ones go on;
    ``together`` of them run side by side, each in a process with its share of the cores. Leaves ablation.json,
    ablation.md, memory.html (what the memory does with a held-out scan) and a folder a run.

    Raises: UsageError for an unknown arm, DataError where nobody can be held out.
    """
    if together < 1:
        raise UsageError(f"together is {together}; expected at least 1 run at a time")
    unknown = [name for name in names if name not in ARMS]
    if unknown:
        raise UsageError(f"arm is {unknown[0]!r}; expected among {', '.join(ARMS)}")
    names = [REFERENCE, *(name for name in ARMS if name in names and name != REFERENCE)]
    index = read_index(base.data, base.index or base.out / INDEX, base.skip_bad)
    manifest = _manifest(base, index)
    manifest.write(base.out / SPLIT)
    tests = scored_examples(base, subjects_of(index, manifest.validation))
    runs = [(name, seed) for seed in range(seeds) for name in names]
    if together > 1:
        rows = _side_by_side(base, manifest, runs, together, progress)
    else:
        rows = [_run(base, name, seed, tests, progress) for name, seed in runs]
    found = _table(base, names, rows, seeds, manifest)
    found["memory"] = _memory(base, tests[0])
    with atomic_path(base.out / "ablation.json") as temporary:
        temporary.write_text(json.dumps(found, indent=1, allow_nan=False), encoding="utf-8")
    with atomic_path(base.out / "ablation.md") as temporary:
        temporary.write_text(as_markdown(found), encoding="utf-8")
    return found


def _manifest(base: TrainConfig, index: Index) -> Manifest:
    if base.manifest is not None:
        manifest = read_manifest(base.manifest, index.entries)
    else:
        manifest = split(index.entries, base.held_out, base.validation_fraction, base.seed)
    if not manifest.validation:
        raise DataError(f"{base.data}: nobody can be held out, so nothing can be compared; give at least two subjects")
    return manifest


def scored_examples(base: TrainConfig, subjects: list[Subject]) -> list[Example]:
    """The same whole slices for every arm and seed: the held-out subjects in turn, other draws than validation's."""
    return [
        make_example(subjects[n % len(subjects)], np.random.default_rng([base.seed, 3, n]), base, whole=True)
        for n in range(TEST_EXAMPLES)
    ]


def _run(base: TrainConfig, name: str, seed: int, tests: list[Example], progress: Progress | None) -> dict[str, Any]:
    """Train one arm with one seed, unless that is done, and score it."""
    out = base.out / f"{name}-{seed}"
    done = out / "scores.json"
    if done.is_file():
        found: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
        if found["steps"] == base.max_steps:
            return found
    began = time.monotonic()
    model_file = _train(base, name, seed, out, progress)
    seconds = time.monotonic() - began
    model = load_model(model_file).model
    objective = ImageObjective(model, torch.no_grad, base.l1_weight)
    began = time.monotonic()
    with torch.no_grad():
        scores = [objective.judge(example, None, "") for example in tests]
    found = {
        "arm": name,
        "seed": seed,
        "steps": base.max_steps,
        "ssim": [similarity for similarity, _ in scores],
        "psnr": [decibels for _, decibels in scores],
        "subjects": [example.known.name for example in tests],
        "parameters": sum(p.numel() for p in model.parameters()),
        "training_seconds": round(seconds, 1),
        "seconds_per_slice": round((time.monotonic() - began) / len(tests), 4),
    }
    with atomic_path(done) as temporary:
        temporary.write_text(json.dumps(found), encoding="utf-8")
    return found


def _side_by_side(
    base: TrainConfig, manifest: Manifest, runs: list[tuple[str, int]], together: int, progress: Progress | None
) -> list[dict[str, Any]]:
    """What the runs leave, in their order. The first failure ends it, after the runs that have begun."""
    shared = replace(base, threads=max(1, (os.cpu_count() or 1) // together))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(together, mp_context=context, initializer=end_with_parent) as pool:
        waiting = [pool.submit(_alone, shared, manifest, name, seed) for name, seed in runs]
        try:
            for done, future in enumerate(as_completed(waiting), start=1):
                future.result()
                if progress is not None:
                    progress("arms", done, len(runs))
        finally:
            pool.shutdown(cancel_futures=True)
    return [future.result() for future in waiting]


def end_with_parent() -> None:
    """In a process of a pool: end when who started it ends, however that came about."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _alone(base: TrainConfig, manifest: Manifest, name: str, seed: int) -> dict[str, Any]:
    """One run, in a process of its own."""
    torch.set_num_threads(base.threads)
    index = read_index(base.data, base.index or base.out / INDEX, base.skip_bad)
    return _run(base, name, seed, scored_examples(base, subjects_of(index, manifest.validation)), None)


def _train(base: TrainConfig, name: str, seed: int, out: Path, progress: Progress | None) -> Path:
    """The finished model's file; stages follow one another, each from the weights of the one before."""
    arm = ARMS[name]
    changes = dict(arm.changes)
    if name == "transformer":
        changes["encoder_depth"] = equal_depth(NirvanaReconConfig.nano())
    config = replace(base, seed=seed, held_out=(), manifest=base.out / SPLIT, **changes)
    start: str | None = None
    model_file = out / BEST
    for number, (stage, share) in enumerate(arm.stages or (("joint", 0.0),)):
        folder = out / f"{number}-{stage}"
        steps = max(1, round(share * base.max_steps))
        run = replace(
            config,
            out=folder,
            stage=stage,
            max_steps=steps,
            learning_rate=config.rate if share else 1e-30,  # as drawn: the file is all that is wanted
            start_from=start,
            resume=(folder / "state.safetensors").exists(),
            logs=("none",),
        )
        show = None if progress is None else lambda step, total, _, name=name: progress(f"{name} {seed}", step, total)
        train(run, show)
        model_file = folder / LAST
        start = str(model_file)
    return model_file


def equal_depth(config: NirvanaReconConfig) -> int:
    """Layers of an encoder that computes about as much for a patch as encoder and backbone do: products count."""
    lm, width = config.lm, config.encoder.width
    projections = 5 * lm.hidden_size**2 + 3 * lm.hidden_size * lm.intermediate_size  # q, k, v, gate, out; gated MLP
    return config.encoder.depth + math.ceil(lm.num_layers * projections / (12 * width**2))


def _table(
    base: TrainConfig, names: Sequence[str], rows: list[dict[str, Any]], seeds: int, manifest: Manifest
) -> dict[str, Any]:
    """Means, and paired differences to the reference with intervals over subjects and seeds."""
    by = {(row["arm"], row["seed"]): row for row in rows}
    arms = []
    for name in names:
        mine = [by[name, seed] for seed in range(seeds)]
        arm: dict[str, Any] = {"arm": name, "summary": ARMS[name].summary}
        for score in ("ssim", "psnr"):
            values = np.array([row[score] for row in mine])
            against = np.array([by[REFERENCE, seed][score] for seed in range(seeds)])
            arm[score] = float(values.mean())
            arm[f"{score}_difference"] = float((values - against).mean())
            arm[f"{score}_interval"] = interval(values - against, mine[0]["subjects"])
        for name_ in ("parameters", "training_seconds", "seconds_per_slice"):
            arm[name_] = float(np.mean([row[name_] for row in mine]))
        arms.append(arm)
    return {
        "arms": arms,
        "steps": base.max_steps,
        "largest": base.largest,
        "seeds": seeds,
        "slices": TEST_EXAMPLES,
        "subjects": len(manifest.validation),
        "manifest_sha256": manifest.sha256,
        "protocol": PROTOCOL,
        "toolkit_version": __version__,
        "notice": "not for clinical use",
        "sentence": _sentence(arms, seeds),
    }


def interval(differences: np.ndarray, subjects: Sequence[str]) -> list[float]:
    """95 % bootstrap interval of the mean of ``[seed slice]``, drawing seeds, and subjects with all their slices."""
    draw = np.random.default_rng(0)
    names = sorted(set(subjects))
    columns = [np.flatnonzero(np.array(subjects) == name) for name in names]
    means = []
    for _ in range(DRAWS):
        chosen = np.concatenate([columns[n] for n in draw.integers(len(names), size=len(names))])
        rows = draw.integers(len(differences), size=len(differences))
        means.append(differences[np.ix_(rows, chosen)].mean())
    return [float(value) for value in np.quantile(means, [0.025, 0.975])]


def _sentence(arms: Sequence[dict[str, Any]], seeds: int) -> str:
    """What the language backbone contributes, as far as the table shows it."""
    by = {arm["arm"]: arm for arm in arms}
    said = []
    for name, what in (("random", "the same backbone with drawn weights"), ("none", "no backbone")):
        if name not in by:
            continue
        low, high = (-value for value in reversed(by[name]["psnr_interval"]))
        gain = -by[name]["psnr_difference"]
        verdict = "better than" if low > 0 else "worse than" if high < 0 else "not told apart from"
        said.append(f"{verdict} {what} ({gain:+.2f} dB PSNR, 95 % interval {low:+.2f} to {high:+.2f})")
    if not said:
        return ""
    once = " Each arm was trained once: what another seed would change is in no interval." if seeds == 1 else ""
    return f"The model with the pretrained backbone is {' and '.join(said)}.{once}"


def _memory(base: TrainConfig, example: Example) -> dict[str, Any]:
    """CL-OGD on a held-out scan: norms and gradients over the layers and the first 100 tokens, and a page of them."""
    model = load_model(base.out / f"{REFERENCE}-0" / "0-joint" / LAST).model
    assert model.backbone is not None
    with torch.no_grad():
        record: MemoryRecord = memory_record(model.backbone, inputs_embeds=model.tokens([example.problem]))
    about = [("input", "the patches of a held-out slice"), ("model", f"{REFERENCE}, seed 0; not for clinical use")]
    with atomic_path(base.out / "memory.html") as temporary:
        temporary.write_text(memory_page(record, about, title="What the memory does with a scan"), encoding="utf-8")
    return record.as_dict()


def as_markdown(found: Mapping[str, Any]) -> str:
    """The table for people; its title says the scale."""
    lines = [
        f"# Ablations: {found['steps']:,} steps an arm, pictures of at most {found['largest']} pixels a side, "
        f"{found['seeds']} {'seed' if found['seeds'] == 1 else 'seeds'}",
        "",
        f"{found['slices']} slices of {found['subjects']} held-out subjects; {found['protocol']}. Differences to "
        f"`{REFERENCE}` are paired, with 95 % bootstrap intervals over subjects and seeds. Split "
        f"{found['manifest_sha256'][:12]}; not for clinical use.",
        "",
        "| arm | SSIM | difference | PSNR [dB] | difference | training [s] | a slice [s] | what it is |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arm in found["arms"]:
        ssim, psnr = (_difference(arm, score, digits) for score, digits in (("ssim", 4), ("psnr", 2)))
        lines.append(
            f"| {arm['arm']} | {arm['ssim']:.4f} | {ssim} | {arm['psnr']:.2f} | {psnr} | {arm['training_seconds']:.0f} "
            f"| {arm['seconds_per_slice']:.3f} | {arm['summary']} |"
        )
    return "\n".join([*lines, "", found["sentence"], ""])


def _difference(arm: Mapping[str, Any], score: str, digits: int) -> str:
    if arm["arm"] == REFERENCE:
        return "—"
    low, high = arm[f"{score}_interval"]
    return f"{arm[f'{score}_difference']:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"
