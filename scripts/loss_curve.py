"""Draw what pretraining left in metrics.csv: loss over tokens.

python scripts/loss_curve.py runs/language/metrics.csv nirvana_mri/weights/nano-backbone-loss.png --long-from 1360
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

MEAN = 25  # steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metrics", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--long-from", type=int, help="the step from which rows were whole")
    options = parser.parse_args()
    with options.metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    tokens = np.array([int(row["tokens"]) for row in rows]) / 1e6
    loss = np.array([float(row["loss"]) for row in rows])
    figure = Figure(figsize=(6.4, 3.2), dpi=100)
    axes = figure.add_subplot()
    axes.plot(tokens, loss, color="#c9d6e3", lw=0.7, label="training, each step")
    middle = tokens[MEAN // 2 : len(tokens) - MEAN // 2]
    mean = np.convolve(loss, np.ones(MEAN) / MEAN, "valid")
    axes.plot(middle, mean, color="#2f688e", label=f"training, mean of {MEAN} steps")
    held = [(int(row["tokens"]) / 1e6, float(row["held_out_loss"])) for row in rows if row["held_out_loss"]]
    if held:
        axes.plot(*zip(*held, strict=True), "o-", ms=3, color="#c44e19", label="first held-out text")
    if options.long_from:
        place = tokens[options.long_from - 1]
        axes.axvline(place, color="grey", lw=0.8, ls=":")
        axes.text(place, loss.min(), "longer rows from here ", fontsize=7, color="grey", ha="right", va="bottom")
    axes.set_xlabel("tokens seen [million]")
    axes.set_ylabel("loss [nats per token]")
    axes.legend(frameon=False, fontsize=8, loc="upper center")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    FigureCanvasAgg(figure)
    figure.savefig(options.target, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    main()
