"""Small language models of equal size, trained alike on equal tokens: what the Trigger and the window bring.

python scripts/prepare_text.py ../shared/data/text runs/text
python benchmarks/language.py runs/text runs/language --tokens 2000000 --seeds 3 --workers 2

Each model and seed leaves a file of its own; a second call goes on where the first one stopped, and writes
benchmarks/results/language.md from what is there.
"""

import argparse
import json
import math
import multiprocessing
import random
import time
from pathlib import Path
from typing import Any

import torch
from language_recall import PAIRS, recall_accuracy, recall_document
from language_words import mean_and_half, sentences
from machine import heading

from nirvana_mri.backbone import BackboneConfig, NirvanaLM, load_backbone
from nirvana_mri.backbone.tokenizer import BPETokenizer, load_tokenizer, save_tokenizer, train_tokenizer
from nirvana_mri.backbone.variants import VARIANTS, parameter_count, variant
from nirvana_mri.language.documents import read_pieces, read_text
from nirvana_mri.language.load import LanguageModel
from nirvana_mri.language.loss import token_losses
from nirvana_mri.language.perplexity import perplexity
from nirvana_mri.language.pretrain import PretrainConfig, pretrain

LENGTH, BATCH, VOCABULARY = 256, 4096, 4096
BINS = ((0, 256), (256, 512), (512, 1024))  # positions: within the training length, up to 2x, up to 4x
FAR, LONG = (0, 1024, 4096, 8192, 18432), 20_000  # beginnings of bins of 1024 tokens; how far one text is read
RECALL = (256, 512, 1024, 2048)
ROWS, TRIALS = 40, 20
RECALL_SHARE = 0.25
WINDOW = 128  # of the sliding-window model alone; the others see LONG_WINDOW, more than they are trained on
LONG_WINDOW = 2048
ABOUT = f"""\
Loss in nats per token of held-out books ({ROWS} rows of {BINS[-1][1]} tokens) by position in the row; training rows
have {LENGTH} tokens. Recall: share of digits given back, {PAIRS} words with two-digit numbers and book text up to
the stated prompt length ({TRIALS} prompts of {PAIRS} questions; chance 10 %). Mean and 95 % t-interval over seeds.
Training: {1 - RECALL_SHARE:.0%} books, {RECALL_SHARE:.0%} recall documents, Muon, {BATCH} tokens a step, the same
rows in the same order for all. `window` sees {WINDOW} tokens, `transformer` all, the others {LONG_WINDOW}. Times are
CPU seconds of one thread."""
RESULT = Path(__file__).parent / "results" / "language.md"


def base_config(vocab_size: int) -> BackboneConfig:
    return BackboneConfig(
        vocab_size=vocab_size,
        hidden_size=128,
        num_layers=6,
        num_heads=2,
        concept_dim=16,
        logit_dim=8,
        intermediate_size=344,
        window_size=LONG_WINDOW,
        tie_word_embeddings=True,
        pad_token_id=2,
        initializer_range=0.02,
    )


def configuration(name: str, vocab_size: int) -> BackboneConfig:
    found = variant(base_config(vocab_size), name)
    if name == "window":
        return BackboneConfig(**{**found.__dict__, "window_size": WINDOW})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="what scripts/prepare_text.py made")
    parser.add_argument("runs", type=Path)
    parser.add_argument("--tokens", type=int, default=2_000_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--note", default="", help="what else the machine did meanwhile, for the result's head")
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    prepare(options.text, options.runs)
    jobs = [
        (options.text, options.runs, name, seed, options.tokens)
        for seed in range(options.seeds)
        for name in VARIANTS
        if not (options.runs / f"{name}-{seed}.json").exists()
    ]
    with multiprocessing.get_context("spawn").Pool(options.workers, maxtasksperchild=1) as pool:
        for done in pool.imap_unordered(run, jobs, chunksize=1):
            print(done, flush=True)
    RESULT.write_text(report(options.runs, options.tokens, options.note), encoding="utf-8")
    print(f"wrote {RESULT}")


def prepare(text: Path, runs: Path) -> None:
    """A tokenizer of its own, and the recall documents, once."""
    if not (runs / "tokenizer.json").exists():
        pieces = (piece.text for name in ("books.jsonl", "medical.jsonl") for piece in read_pieces(text / name))
        save_tokenizer(train_tokenizer(pieces, VOCABULARY), runs / "tokenizer.json")
    if not (runs / "recall.jsonl").exists():
        draw = random.Random(0)
        lines = [json.dumps({"text": recall_document(draw)}) for _ in range(40_000)]
        (runs / "recall.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        # As a share of what is read, not of the files: the books are cut to fit.
        size = int(sum(map(len, lines)) * (1 - RECALL_SHARE) / RECALL_SHARE)
        kept, total = [], 0
        for piece in read_pieces(text / "books.jsonl"):
            kept.append(json.dumps({"text": piece.text}))
            total += len(kept[-1])
            if total > size:
                break
        (runs / "books.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")


def run(job: tuple[Path, Path, str, int, int]) -> str:
    text, runs, name, seed, tokens = job
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(runs / "tokenizer.json")
    assert isinstance(tokenizer, BPETokenizer)
    model = NirvanaLM(configuration(name, tokenizer.vocab_size), seed)
    out = runs / f"{name}-{seed}"
    config = PretrainConfig(
        (runs / "books.jsonl", runs / "recall.jsonl"),
        out,
        max_steps=tokens // BATCH,
        length=LENGTH,
        batch_tokens=BATCH,
        optimizer="muon",
        warm_up=20,
        weight_decay=0.0,
        seed=seed,
        threads=1,
        resume=(out / "state.safetensors").exists(),
    )
    began = time.process_time()
    pretrain(config, model, tokenizer)
    seconds = time.process_time() - began
    found = score(load_backbone(out / "last.safetensors"), tokenizer, text / "books_heldout.txt", seed)
    found |= {"name": name, "seed": seed, "tokens": tokens, "seconds": seconds, "resumed": config.resume}
    (runs / f"{name}-{seed}.json").write_text(json.dumps(found, indent=2), encoding="utf-8")
    return f"{name} seed {seed}: loss {found['loss']}, recall {found['recall']}, {seconds:.0f} s"


def score(model: NirvanaLM, tokenizer: BPETokenizer, held_out: Path, seed: int) -> dict[str, Any]:
    ids = tokenizer.encode(read_text(held_out)[:2_000_000])
    longest = BINS[-1][1]
    stride = (len(ids) - longest - 1) // ROWS
    losses = torch.zeros(longest)
    began = time.process_time()
    for row in range(ROWS):
        piece = torch.tensor([tokenizer.end_id, *ids[row * stride : row * stride + longest]])
        hidden = model(input_ids=piece[None, :-1], compute_logits=False).final_hidden[0]
        losses += token_losses(hidden, model.embedding.weight, piece[1:]) / ROWS
    seconds = (time.process_time() - began) / (ROWS * longest)
    long = perplexity(LanguageModel(model, tokenizer, "", ""), read_text(held_out), limit=LONG)
    recall = {length: recall_accuracy(model, tokenizer, ids, length, TRIALS, seed) for length in RECALL}
    bins = {f"{a}-{b}": float(losses[a:b].mean()) for a, b in BINS}
    far = {str(part.start): part.nats / part.tokens for part in long.bins}
    held = {str(part.start): part.cache_bytes for part in long.bins}
    return {"loss": bins, "far": far, "cache_bytes": held, "recall": recall, "microseconds_per_token": 1e6 * seconds}


def report(runs: Path, tokens: int, note: str = "") -> str:
    found = [json.loads(path.read_text()) for path in sorted(runs.glob("*-[0-9].json"))]
    found = [each for each in found if each["tokens"] == tokens]
    vocabulary = load_tokenizer(runs / "tokenizer.json").vocab_size
    size = parameter_count(base_config(vocabulary))
    seeds = sorted({each["seed"] for each in found})
    lines = [
        f"# Architectures compared at {size / 1e6:.1f} M parameters and {tokens / 1e6:g} M tokens, {len(seeds)} seeds",
        "",
        heading(f"python benchmarks/language.py TEXT RUNS --tokens {tokens} --seeds {len(seeds)}", 0).rstrip(),
        *([f"- meanwhile: {note}"] if note else []),
        "",
        ABOUT,
        "",
        "| model | parameters | "
        + " | ".join(f"loss {a}-{b}" for a, b in BINS)
        + " | "
        + " | ".join(f"recall {length}" for length in RECALL)
        + " | training [s] | reading [µs/token] |",
        "|---|---|" + "---|" * (len(BINS) + len(RECALL) + 2),
    ]
    for name in VARIANTS:
        rows = [each for each in found if each["name"] == name]
        if not rows:
            continue
        cells = [interval([r["loss"][f"{a}-{b}"] for r in rows], 3) for a, b in BINS]
        cells += [interval([100 * r["recall"][str(length)] for r in rows], 0) + " %" for length in RECALL]
        cells += [interval([r["seconds"] for r in rows if not r["resumed"]], 0)]
        cells += [interval([r["microseconds_per_token"] for r in rows], 0)]
        count = f"{parameter_count(configuration(name, vocabulary)):,}"
        lines.append(f"| {name} | {count} | " + " | ".join(cells) + " |")
    lines += [
        "",
        *paired_table(found),
        "",
        *far_table(found),
        "",
        "In words (nirvana minus the other, paired by seed, 95 % t-intervals):",
        "",
        *sentences(found, f"{BINS[0][0]}-{BINS[0][1]}", [f"{a}-{b}" for a, b in BINS], str(FAR[-1])),
        "",
        *(f"- **{name}**: {VARIANTS[name].summary}" for name in VARIANTS),
        "",
    ]
    return "\n".join(lines)


def paired_table(found: list[dict[str, Any]]) -> list[str]:
    """Nirvana minus each other model, seed by seed: what its parts bring and what they cost."""
    inside, past = (f"{a}-{b}" for a, b in (BINS[0], BINS[-1]))
    lines = [
        "Nirvana minus the other, paired by seed (the same rows in the same order), with the 95 % t-interval: one that",
        "contains 0 shows no difference. The last columns are ratios of time, Nirvana's over the other's.",
        "",
        f"| nirvana minus | loss {inside} | loss {past} | loss from {FAR[-1]:,} | "
        f"recall {RECALL[0]} | recall {RECALL[1]} | training time | reading time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    by = {(each["name"], each["seed"]): each for each in found}
    for name in [other for other in VARIANTS if other != "nirvana"]:
        pairs = [(by["nirvana", s], by[name, s]) for n, s in by if n == name and ("nirvana", s) in by]
        if not pairs:
            continue
        cells = [interval([a["loss"][part] - b["loss"][part] for a, b in pairs], 3) for part in (inside, past)]
        cells += [interval([a["far"][str(FAR[-1])] - b["far"][str(FAR[-1])] for a, b in pairs], 3)]
        cells += [
            interval([100 * (a["recall"][str(n)] - b["recall"][str(n)]) for a, b in pairs], 0) + " %"
            for n in RECALL[:2]
        ]
        unbroken = [(a, b) for a, b in pairs if not (a["resumed"] or b["resumed"])]
        cells += [interval([a["seconds"] / b["seconds"] for a, b in unbroken], 2)]
        cells += [interval([a["microseconds_per_token"] / b["microseconds_per_token"] for a, b in pairs], 2)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def far_table(found: list[dict[str, Any]]) -> list[str]:
    """One long text read once through the cache: loss far past the training length, and what the cache holds."""
    lines = [
        f"The first {LONG:,} tokens of the held-out books, read once through the cache: loss of 1024 tokens from",
        "the stated position, and the cache at the end. The text differs from bin to bin: compare models, not bins.",
        "",
        "| model | " + " | ".join(f"loss from {start:,}" for start in FAR) + " | cache at the end [MiB] |",
        "|---|" + "---|" * (len(FAR) + 1),
    ]
    for name in VARIANTS:
        rows = [each for each in found if each["name"] == name]
        if rows:
            cells = [interval([r["far"][str(start)] for r in rows], 3) for start in FAR]
            held = max(max(r["cache_bytes"].values()) for r in rows) / 2**20
            lines.append(f"| {name} | " + " | ".join(cells) + f" | {held:.1f} |")
    return lines


def interval(values: list[float], digits: int) -> str:
    """Mean and half the width of its 95 % t-interval."""
    if not values:
        return "—"
    mean, half = mean_and_half(values)
    return f"{mean:.{digits}f}" if math.isnan(half) else f"{mean:.{digits}f} ± {half:.{digits}f}"


if __name__ == "__main__":
    main()
