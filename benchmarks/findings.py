"""Draft findings of simulated lesions: stage encoder for some minutes, then scores on held-out subjects.

python benchmarks/findings.py DATA OUT [--held-out NAME ...] [--minutes 60] [--examples 200] [--from MODEL] [--lr RATE]
    [--write]

DATA is a folder of pictures (.nii.gz, .npy). Lesions of known place are put into slices of them, in training and in the
test; four in ten slices have none. Every held-out slice counts as a scan of its own, by its subject. Beside the model
stand its answer to another slice, chance (answers drawn with the training's frequencies), majority (always the
commonest answer) and, of an encoder with a map of labels, what is said of the true map. A run in OUT is not repeated:
it is scored again.
"""

import argparse
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import heading, keep
from torch import Tensor

from nirvana_mri.eval.findings import Case, score_findings
from nirvana_mri.eval.findings_baselines import Answer, chance, majority
from nirvana_mri.eval.findings_text import text_scores
from nirvana_mri.findings.constrained import Said, write
from nirvana_mri.findings.draft import read_slice, taught
from nirvana_mri.findings.finding import collect
from nirvana_mri.findings.grammar import Grammar
from nirvana_mri.findings.statement import words_of
from nirvana_mri.recon.checkpoint import load_model
from nirvana_mri.recon.model import NirvanaRecon
from nirvana_mri.train import TrainConfig
from nirvana_mri.train.data import Example, make_example
from nirvana_mri.train.exchange import Answers, lesion_statements
from nirvana_mri.train.index import read_index
from nirvana_mri.train.loop import train
from nirvana_mri.train.manifest import read_manifest
from nirvana_mri.train.objective import cells_with
from nirvana_mri.train.outputs import BEST, INDEX, MANIFEST
from nirvana_mri.train.subjects import Subject, subjects_of

RESULT = Path(__file__).parent / "results" / "findings.md"
PROBE = 10  # steps that tell how many fit into the time
FREQUENCIES = 400  # training slices from which the baselines learn
TOLD, OTHER = "told the truth", "model, of another scan"  # rows
SHIFT = 7  # slices on: the one whose answer is taken for another's; odd, so that the subject changes with two
Sayings = list[Answer]
Spoken = list[tuple[Said, ...]]


def train_for(config: TrainConfig, minutes: float) -> int:
    """Train for as many steps as fit into the time, and the number of them; 0 where the run is there already."""
    if (config.out / BEST).is_file():
        return 0
    stamps: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        probe = replace(config, out=Path(folder) / "probe", max_steps=PROBE, validate_every=10**9)
        train(probe, lambda *_: stamps.append(time.perf_counter()))
    half = stamps[PROBE // 2 - 1 : PROBE - 1]  # the last step judges as well
    steps = max(PROBE, round(60 * minutes * (len(half) - 1) / (half[-1] - half[0])))
    print(f"{steps} steps in {minutes:g} min", flush=True)
    run = replace(config, max_steps=steps, warm_up=max(1, steps // 50), validate_every=max(1, steps // 10))
    train(run, lambda step, total, row: print(step, total, row, flush=True) if "answer_loss" in row else None)
    return steps


def held_out_examples(subjects: list[Subject], config: TrainConfig, count: int) -> list[Example]:
    """Whole slices of the subjects in turn, drawn by name, not as training or its validation draws."""
    found = []
    for number in range(count):
        subject = subjects[number % len(subjects)]
        draw = np.random.default_rng([config.seed, 5, zlib.crc32(subject.name.encode()), number])
        found.append(make_example(subject, draw, config, whole=True, answers=Answers()))
    return found


def frequencies(subjects: list[Subject], config: TrainConfig, answer: Callable[[Example], Answer]) -> Sayings:
    """What training slices show."""
    found = []
    for number in range(FREQUENCIES):
        draw = np.random.default_rng([config.seed, 6, number])
        subject = subjects[number % len(subjects)]
        found.append(answer(make_example(subject, draw, config, whole=True, answers=Answers())))
    return found


def judged(examples: list[Example], said: list[tuple[Said, ...]], truths: Sayings, spoken: Any) -> dict[str, Any]:
    """All scores of one way to answer."""
    cases = [
        Case(
            example.known.name,
            collect([(0, answer)], spoken, example.known.matrix),
            collect([(0, _sure(truth))], spoken, example.known.matrix),
        )
        for example, answer, truth in zip(examples, said, truths, strict=True)
    ]
    texts = [words_of(each.statement for each in answer) for answer in said]
    return score_findings(cases) | {"text": text_scores(texts, [words_of(truth) for truth in truths])}


def _sure(answer: Answer) -> tuple[Said, ...]:
    return tuple(Said(each, 1.0) for each in answer)


def average_precision(scores: Tensor, truth: Tensor) -> float:
    """Area under precision over recall, by steps."""
    right = truth.flatten()[scores.flatten().argsort(descending=True)]
    precision = right.cumsum(0) / torch.arange(1, len(right) + 1)
    return float((precision * right).sum() / right.sum())


@torch.no_grad()
def apart(model: NirvanaRecon, examples: list[Example], truths: Sayings, grammar: Grammar) -> tuple[Spoken, str]:
    """What the language model says when told where the lesions are, and how well the encoder's own map shows them."""
    assert model.backbone is not None
    maps, cells, said = [], [], []
    for example, truth in zip(examples, truths, strict=True):
        maps.append(model.label_map(model.patches([example.problem]), [example.problem])[0])
        cells.append(cells_with(truth, grammar.vocabulary))
        said.append(write(model.backbone, model.encoder.speaker(cells[-1][None]), grammar, after=True))
    shown, right = torch.stack(maps), torch.stack(cells)
    return said, (
        f"The map of labels alone: average precision {average_precision(shown, right):.2f} over cells, of which "
        f"{float(right.mean()):.2%} hold a lesion (chance).\n"
    )


def table(rows: dict[str, dict[str, Any]]) -> str:
    head = "| | located: precision | recall | F1 | named F1 | denied F1 | IoU | false positives | BLEU | ROUGE-L |\n"
    head += "|---|---|---|---|---|---|---:|---|---:|---:|\n"
    return head + "".join(f"| {name} | {' | '.join(_cells(row))} |\n" for name, row in rows.items())


def _cells(row: dict[str, Any]) -> list[str]:
    wrong, text = row["false_positives"], row["text"]
    shares = [row["located"]["precision"], row["located"]["recall"], row["located"]["f1"], row["named"]["f1"]]
    return [
        *(_share(each["value"], each["interval"]) for each in (*shares, row["denied"]["f1"])),
        "none" if row["iou"] is None else f"{row['iou']:.2f}",
        f"{_share(wrong['share'], wrong['interval'])} of {wrong['scans']}",
        f"{text['bleu']:.1f}",
        f"{text['rouge_l']:.2f}",
    ]


def _share(value: float | None, ends: list[float] | None) -> str:
    if value is None:
        return "none"
    return f"{value:.2f}" if ends is None else f"{value:.2f} ({ends[0]:.2f} to {ends[1]:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--held-out", nargs="*", default=["niivue_register_T2w", "niimath_T1"])
    parser.add_argument("--minutes", type=float, default=60.0, help="of training")
    parser.add_argument("--examples", type=int, default=200, help="held-out slices")
    parser.add_argument("--largest", type=int, default=256, help="pixels a side")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--workers", type=int, default=1, help="processes that make examples")
    parser.add_argument("--from", dest="start", help="begin with this model")
    parser.add_argument("--lr", type=float, help="highest learning rate")
    parser.add_argument("--write", action="store_true", help="keep the figures in benchmarks/results/findings.md")
    options = parser.parse_args()
    config = TrainConfig(
        options.data, options.out, stage="encoder", held_out=tuple(options.held_out), batch=options.batch,
        largest=options.largest, logs=("none",), start_from=options.start, learning_rate=options.lr,
        workers=options.workers,
    )  # fmt: skip
    train_for(config, options.minutes)
    loaded = load_model(options.out / BEST)
    spoken = taught(loaded)
    assert loaded.model.tokenizer is not None
    grammar = Grammar(spoken, loaded.model.tokenizer)
    index = read_index(options.data, options.out / INDEX)
    manifest = read_manifest(options.out / MANIFEST, index.entries)
    examples = held_out_examples(subjects_of(index, manifest.validation), config, options.examples)

    def shown(example: Example) -> Answer:
        return spoken.answer(lesion_statements(example.known))

    training = frequencies(subjects_of(index, manifest.training), config, shown)
    truths = [shown(example) for example in examples]
    began = time.perf_counter()
    said = [read_slice(loaded.model, example.problem, grammar) for example in examples]
    seconds = (time.perf_counter() - began) / len(examples)
    drawn = [_sure(answer) for answer in chance(training, len(examples))]
    commonest = [_sure(majority(training, spoken))] * len(examples)
    answers = {"model": said, OTHER: said[SHIFT:] + said[:SHIFT], "chance": drawn, "majority": commonest}
    eye = ""
    if loaded.model.knows_labels:
        answers[TOLD], eye = apart(loaded.model, examples, truths, grammar)
    rows = {name: judged(examples, each, truths, spoken) for name, each in answers.items()}
    usual = majority(training, spoken)
    alike = sum(tuple(each.statement for each in answer) == usual for answer in said)
    command = f"python benchmarks/findings.py DATA OUT --minutes {options.minutes:g} --examples {options.examples}"
    command += f" --largest {options.largest} --batch {options.batch} --workers {options.workers}"
    command += f" --lr {config.rate:g}" + ("" if options.start is None else f" --from {options.start}")
    told = loaded.training
    text = (
        "# Draft findings of simulated lesions\n\n"
        + heading(f"{command} --write", config.seed)
        + f"- model: sha256 {loaded.sha256[:12]}, {told['steps']} steps; held-out loss "
        f"{told['metrics']['answer_loss']:.3f} ({told['metrics']['protocol']})\n"
        + f"- held out: {', '.join(manifest.validation)}; {seconds:.2f} s a slice to write\n\n"
        + table(rows)
        + (f"\n`{TOLD}`: the same language model, told of the true map instead of the encoder's. {eye}" if eye else "")
        + f"\nIn {alike} of {len(said)} slices the model gave the commonest answer of its training.\n"
        + f"\nIn brackets 95 %. Rule: {rows['model']['rule']}. False positives: slices without a lesion in which one "
        f"was found (Wilson). BLEU: {rows['model']['text']['bleu_signature']}; {rows['model']['text']['note']}. "
        f"{rows['model']['patients']} held-out subjects: intervals over so few say little. Simulated lesions are "
        "ellipses in pictures, no disease: nothing here is about patients.\n"
    )
    print(text)
    if options.write:
        keep(RESULT, text)


if __name__ == "__main__":
    main()
