"""What the parts of the model bring: `nirvana-mri ablate` at a scale that a CPU can bear, with hardware and date.

python benchmarks/ablation.py DATA OUT [--max-steps 900] [--together 2] [--arm NAME ...] [--write]

Where the held-out subjects are other than the default's, name them. Finished runs in OUT are not repeated.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from machine import heading, keep

from nirvana_mri.train import TrainConfig
from nirvana_mri.train.ablation import ARMS, ablate, as_markdown

RESULT = Path(__file__).parent / "results" / "ablation.md"
HELD_OUT = ("niivue_register_T2w", "niimath_T1", "MR_Gd", "torchio_t2")
SHOWN = ("gradient_linear", "gradient_ln", "update_norm", "fast_norm")


def memory_table(record: Mapping[str, Any]) -> str:
    """Mean and largest norm over the first tokens of what the Trigger learns from and changes, by layer."""
    lines = [f"| layer | {' | '.join(SHOWN)} |", f"|---|{'---|' * len(SHOWN)}"]
    for layer in record["per_layer"]:
        cells = (f"{layer[name]['mean']:.3g} ({layer[name]['max']:.3g})" for name in SHOWN)
        lines.append(f"| {layer['layer']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--max-steps", type=int, default=900, help="slices that each arm sees")
    parser.add_argument("--size", type=int, default=128, help="longest side of the pictures")
    parser.add_argument("--together", type=int, default=2, help="runs side by side, each with its share of the cores")
    parser.add_argument("--arm", nargs="*", default=list(ARMS))
    parser.add_argument("--held-out", nargs="*", default=list(HELD_OUT))
    parser.add_argument("--write", action="store_true", help="keep the table in benchmarks/results/ablation.md")
    options = parser.parse_args()
    config = TrainConfig(
        options.data, options.out, max_steps=options.max_steps, largest=options.size,
        held_out=tuple(options.held_out), logs=("none",),
    )  # fmt: skip
    command = f"python benchmarks/ablation.py DATA OUT --max-steps {options.max_steps} --together {options.together}"
    command += f" --size {options.size}" if options.size != parser.get_default("size") else ""
    for name, asked, usual in (("arm", options.arm, [*ARMS]), ("held-out", options.held_out, [*HELD_OUT])):
        command += f" --{name} {' '.join(asked)}" if asked != usual else ""
    facts = heading(f"{command} --write", config.seed)
    found = ablate(
        config, options.arm, 1, lambda name, done, total: print(name, done, total, flush=True), options.together
    )
    title, *table = as_markdown(found).splitlines()
    text = "\n".join(
        (
            f"{title}\n",
            f"{facts}- {options.together} runs side by side; subjects held out: {', '.join(options.held_out)}\n",
            *table,
            "\nThe Trigger on a held-out slice (arm full), at most 100 tokens: mean norm over them, and the largest.\n",
            memory_table(found["memory"]),
            "\nTimes were taken with runs side by side and other work beside them: they do not compare arms.",
            "",
        )
    )
    print(text)
    if options.write:
        keep(RESULT, text)


if __name__ == "__main__":
    main()
