"""Make the training and held-out text of the shipped language backbone from folders of text.

python scripts/prepare_text.py ../shared/data/text runs/text

Books are split by book and transcriptions by document, chosen by a hash of their title or number, so that no text is
on both sides. Training text is cut into pieces at the ends of paragraphs and shuffled. A share of the book pieces is
written the way pre-tokenised corpora are (spaces before punctuation, "@-@" for hyphens, "<unk>" for rare words), so
that the model has met that format; no sentence of any such corpus is used.
"""

import argparse
import csv
import hashlib
import json
import lzma
import random
import re
from collections import Counter
from pathlib import Path

HELD_OUT = 16  # one title in so many
PIECE = 24_000  # characters
COMMON = 30_000  # words that pre-tokenised text keeps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="holds classic_books*.txt.xz and mtsamples*.csv")
    parser.add_argument("target", type=Path)
    parser.add_argument("--pretokenised-share", type=float, default=0.12)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.target.mkdir(parents=True, exist_ok=True)
    books = read_books(next(options.source.glob("classic_books*.txt.xz")))
    notes = read_transcriptions(next(options.source.glob("mtsamples*.csv")))
    draw = random.Random(options.seed)
    kept = [book for book in books if not is_held_out(book.split("\n", 1)[0])]
    pieces = [piece for book in kept for piece in cut(book)]
    common = {word for word, _ in Counter(re.findall(r"\w+", "\n".join(kept))).most_common(COMMON)}
    pieces = [pretokenised(p, common) if draw.random() < options.pretokenised_share else p for p in pieces]
    draw.shuffle(pieces)
    write(options.target / "books.jsonl", pieces)
    write_text(options.target / "books_heldout.txt", [b for b in books if is_held_out(b.split("\n", 1)[0])])
    write(options.target / "medical.jsonl", [note for number, note in enumerate(notes) if not is_held_out(str(number))])
    write_text(options.target / "medical_heldout.txt", [n for k, n in enumerate(notes) if is_held_out(str(k))])
    for path in sorted(options.target.iterdir()):
        print(f"{path}: {path.stat().st_size:,} bytes")
    print("held out:", *(book.split("\n", 1)[0] for book in books if is_held_out(book.split("\n", 1)[0])), sep="\n  ")


def read_books(path: Path) -> list[str]:
    with lzma.open(path, "rt", encoding="utf-8") as file:
        text = file.read()
    return [book for book in re.split(r"(?m)^(?=# Title: )", text) if book.strip()]


def read_transcriptions(path: Path) -> list[str]:
    """The text column; a missing line break after each heading's comma is put back."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [re.sub(r"(?<=[.:]) ?,(?=[A-Z0-9 ])", "\n", row["text"]).strip() for row in rows if row["text"].strip()]


def is_held_out(name: str) -> bool:
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % HELD_OUT == 0


def cut(book: str) -> list[str]:
    """Pieces of about PIECE characters, whole paragraphs each."""
    pieces, held, size = [], [], 0
    for paragraph in re.split(r"(?<=\n)\n+", book):
        held.append(paragraph)
        size += len(paragraph)
        if size > PIECE:
            pieces.append("\n".join(held))
            held, size = [], 0
    return [*pieces, "\n".join(held)] if size else pieces


def pretokenised(text: str, common: set[str]) -> str:
    """The text in the format of pre-tokenised corpora: Moses-like tokens, headings between = signs."""
    lines = []
    for line in re.sub(r"[_*]", "", text).split("\n"):
        if not line.strip():
            continue
        line = re.sub(r"^#+\s*(?:Title: |Author: |Year: )?(.*)$", r"= \1 =", line.strip())
        line = re.sub(r"(?<=\w)-(?=\w)", " @-@ ", line)
        line = re.sub(r"(?<=\d),(?=\d)", " @,@ ", line)
        line = re.sub(r"(?<=\d)\.(?=\d)", " @.@ ", line)
        line = re.sub(r"(?<=\w)(?='(?:s|re|ve|ll|d|m|t)\b)", " ", line)
        line = re.sub(r"--+", " — ", line)
        line = re.sub(r"(?<![@\d])([.,;:!?\"()\[\]—])(?!@)", r" \1 ", line)
        line = re.sub(r"\b(Mr|Mrs|Dr|St|Mme|M|[A-Z]) \.", r"\1.", line)
        words = [w if not w.isalnum() or w in common else "<unk>" for w in line.split()]
        lines.append(" " + " ".join(words) + " ")
    return " \n" + "\n".join(lines) + "\n"


def write(path: Path, documents: list[str]) -> None:
    path.write_text("".join(json.dumps({"text": document}) + "\n" for document in documents), encoding="utf-8")


def write_text(path: Path, documents: list[str]) -> None:
    path.write_text("\n\n".join(documents), encoding="utf-8")


if __name__ == "__main__":
    main()
