"""The backbone's speed in one table: operation, shape, ours, peer, ratio, gate; the ceilings above it.

Each peer runs in the same process as ours, in turn with it. Exit code 1 where a ratio is under its gate. The parity
tests (`make test`) come first: a fast wrong kernel is no kernel.
"""

import argparse
import importlib
import sys
from pathlib import Path

import torch
from machine import copy_ceiling, gemm_ceiling, heading, times

SECTIONS = ("gated_delta", "trigger", "generation", "frozen", "precision")
RESULT = Path(__file__).parent / "results" / "backbone.md"


def half_gemm_ceiling(size: int = 1024) -> float:
    """bfloat16 matrix product, GFLOP/s: best of ten."""
    a, b = torch.randn(size, size).bfloat16(), torch.randn(size, size).bfloat16()
    return 2 * size**3 / times(lambda: a @ b, 10)[0] / 1e9


def cost(row: dict, side: str) -> str:
    if f"seconds_{side}" in row:
        seconds = row[f"seconds_{side}"]
        return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
    return f"{row[f'bytes_{side}'] / 2**20:.0f} MiB"


def line(row: dict) -> str:
    gate = "" if row.get("gate") is None else f"{row['gate']:.2f}"
    return (
        f"| {row['op']} | {row['shape']} | {row['ours']} | {cost(row, 'ours')} | {row['peer']} | {cost(row, 'peer')} | "
        f"{row['ratio']:.2f} | {gate} |\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep the table in benchmarks/results/backbone.md")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="run this section (repeatable)")
    options = parser.parse_args()
    text = (
        "# The backbone's speed\n\n"
        + heading("python benchmarks/backbone.py --write", 0)
        + f"- ceilings: GEMM {gemm_ceiling():.0f} GFLOP/s in float32, {half_gemm_ceiling():.0f} in bfloat16, "
        f"memory copy {copy_ceiling():.0f} GB/s\n\n"
        "Ratio: the peer's cost over ours; gate: the least that it must be.\n\n"
        "| operation | shape | ours | cost | peer | cost | ratio | gate |\n|---|---|---|---|---|---|---|---|\n"
    )
    print(text, end="", flush=True)
    missed, notes = [], []
    for section in options.only or SECTIONS:
        for row in importlib.import_module(section).rows():
            print(line(row), end="", flush=True)
            text += line(row)
            if row.get("note"):
                notes.append(f"- {row['op']}, {row['shape']}: {row['note']}.\n")
            if row.get("gate") is not None and row["ratio"] < row["gate"]:
                missed.append(f"{row['op']} {row['shape']} ({row['ours']}): {row['ratio']:.2f} < {row['gate']:.2f}")
    tail = "\n" + "".join(notes) + (f"\nUnder the gate: {'; '.join(missed)}.\n" if missed else "")
    print(tail)
    if options.write:
        RESULT.write_text(text + tail)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
