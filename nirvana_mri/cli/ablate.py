"""nirvana-mri ablate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nirvana_mri.cli.shell import progress, say
from nirvana_mri.train.config import TrainConfig


def ablate(
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Scans or pictures, as for train.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where table and runs go.")],
    arm: Annotated[
        list[str] | None, typer.Option("--arm", metavar="NAME", help="What to change; repeat at will. Without it: all.")
    ] = None,
    max_steps: Annotated[int, typer.Option("--max-steps", metavar="N", help="Slices that each arm sees.")] = 1000,
    seeds: Annotated[int, typer.Option("--seeds", metavar="N", help="Runs of each arm.")] = 1,
    size: Annotated[int, typer.Option("--size", metavar="PIXELS", help="Longest side of simulated pictures.")] = 128,
    held_out: Annotated[
        list[str] | None, typer.Option("--held-out", metavar="NAME", help="Subjects to score on; repeat at will.")
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option("--manifest", metavar="FILE", help="A split that was written down.")
    ] = None,
    together: Annotated[
        int, typer.Option("--together", metavar="N", help="Runs side by side, each with its share of the cores.")
    ] = 1,
    workers: Annotated[int, typer.Option("--workers", help="Processes that make examples.")] = TrainConfig.workers,
) -> None:
    """Train the model again with one part changed at a time, and say what each brings.

    Leaves ablation.md, ablation.json and memory.html. A second call goes on where the first one stopped.

    Example: nirvana-mri ablate --data pictures/ --out runs/ablation --arm none --arm random --max-steps 500
    """
    from nirvana_mri.train.ablation import ARMS
    from nirvana_mri.train.ablation import ablate as run

    config = TrainConfig(
        data=data,
        out=out,
        max_steps=max_steps,
        largest=size,
        held_out=tuple(held_out or ()),
        manifest=manifest,
        workers=workers,
    )
    shown = ""
    with progress("ablation") as bar:

        def show(name: str, step: int, total: int) -> None:
            nonlocal shown
            if name != shown:
                bar.label(name)
            shown = name
            bar(step, total)

        found = run(config, tuple(arm or ARMS), seeds, show, together)
    say((out / "ablation.md").read_text(encoding="utf-8").rstrip())
    say(f"wrote {out / 'ablation.json'} ({len(found['arms'])} arms) and {out / 'memory.html'}")
