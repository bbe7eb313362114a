"""What medical text brings: two models of equal size and tokens, one of which read it, on held-out text of both kinds.

python scripts/prepare_text.py ../shared/data/text runs/text
python benchmarks/language_domain.py runs/text runs/domain --tokens 500000 --seeds 3 --workers 2
"""

import argparse
import json
import multiprocessing
from pathlib import Path

import torch
from language import base_config, interval
from machine import heading

from nirvana_mri.backbone import NirvanaLM
from nirvana_mri.backbone.tokenizer import BPETokenizer, load_tokenizer, save_tokenizer, train_tokenizer
from nirvana_mri.backbone.variants import parameter_count
from nirvana_mri.language.documents import read_pieces
from nirvana_mri.language.load import load_language_model
from nirvana_mri.language.perplexity import perplexity
from nirvana_mri.language.pretrain import PretrainConfig, pretrain

RESULT = Path(__file__).parent / "results" / "language_domain.md"
VOCABULARY, BATCH, LIMIT = 4096, 4096, 25_000
READ = {"books": ("books",), "books and medical text": ("books", "medical_share")}
HELD_OUT = ("medical_heldout", "books_heldout")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="what scripts/prepare_text.py made")
    parser.add_argument("runs", type=Path)
    parser.add_argument("--tokens", type=int, default=500_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    prepare(options.text, options.runs)
    jobs = [(options.text, options.runs, name, seed, options.tokens) for seed in range(options.seeds) for name in READ]
    with multiprocessing.get_context("spawn").Pool(options.workers, maxtasksperchild=1) as pool:
        found = pool.starmap(run, jobs, chunksize=1)
    RESULT.write_text(report(found, options.tokens, options.seeds), encoding="utf-8")
    print(f"wrote {RESULT}")


def prepare(text: Path, runs: Path) -> None:
    """A tokenizer learned from both; the books are cut to four times the medical text."""
    pieces = [piece.text for piece in read_pieces(text / "medical.jsonl")]
    lines = [json.dumps({"text": each}) for each in pieces]
    (runs / "medical_share.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    books, size = [], 0
    for piece in read_pieces(text / "books.jsonl"):
        if size > 4 * sum(map(len, pieces)):
            break
        books.append(piece.text)
        size += len(piece.text)
    (runs / "books.jsonl").write_text("\n".join(json.dumps({"text": each}) for each in books) + "\n", encoding="utf-8")
    save_tokenizer(train_tokenizer([*books, *pieces], VOCABULARY), runs / "tokenizer.json")


def run(text: Path, runs: Path, name: str, seed: int, tokens: int) -> tuple[str, dict[str, float]]:
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(runs / "tokenizer.json")
    assert isinstance(tokenizer, BPETokenizer)
    out = runs / f"{len(READ[name])}-{seed}"
    config = PretrainConfig(
        tuple(runs / f"{part}.jsonl" for part in READ[name]),
        out,
        max_steps=tokens // BATCH,
        length=256,
        batch_tokens=BATCH,
        optimizer="muon",
        warm_up=20,
        weight_decay=0.0,
        seed=seed,
        threads=1,
        resume=out.exists(),
    )
    trained = load_language_model(pretrain(config, NirvanaLM(base_config(tokenizer.vocab_size), seed), tokenizer))
    return name, {each: perplexity(trained, text / f"{each}.txt", limit=LIMIT).perplexity for each in HELD_OUT}


def report(found: list[tuple[str, dict[str, float]]], tokens: int, seeds: int) -> str:
    size = parameter_count(base_config(VOCABULARY))
    lines = [
        f"# What medical text brings, at {size / 1e6:.1f} M parameters and {tokens / 1e6:g} M tokens, {seeds} seeds",
        "",
        heading(f"python benchmarks/language_domain.py TEXT RUNS --tokens {tokens} --seeds {seeds}", 0),
        f"Perplexity per token (of a vocabulary of {VOCABULARY}) of text that neither model read, mean and 95 %",
        f"t-interval over seeds, at most {LIMIT:,} tokens a text. Both read equally many tokens; for one, a fifth",
        "of them were medical transcriptions.",
        "",
        "| model read | medical text | books |",
        "|---|---|---|",
    ]
    for name in READ:
        cells = [interval([scores[each] for who, scores in found if who == name], 1) for each in HELD_OUT]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
