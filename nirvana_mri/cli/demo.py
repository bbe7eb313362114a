"""nirvana-mri demo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nirvana_mri.cli.options import ModelOption
from nirvana_mri.cli.shell import progress, say, stdout

if TYPE_CHECKING:
    from nirvana_mri.report.demo import Demo


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for what it makes.")] = Path("demo"),
    model: ModelOption = "nano",
) -> None:
    """Try everything once: make a scan of a real brain picture, reconstruct it at 4x in four ways, score, show.

    Needs no data and no network; takes less than a minute on a laptop.

    Example: nirvana-mri demo --out demo
    """
    from nirvana_mri.report.demo import run_demo

    with progress("simulating") as bar:

        def show(method: str, done: int, total: int) -> None:
            if done == 1:
                bar.label(method)
            bar(done, total)

        made = run_demo(out, model, show)
    _table(made)
    say(f"source: {made.source}")
    say(f"look at {out / 'comparison.png'} (target, reconstructions, 5x error maps) and {out / 'page.html'}")
    say(f"next:   nirvana-mri inspect {out / 'scan.h5'}")
    say(f"        nirvana-mri reconstruct {out / 'scan.h5'} -o recon.h5 --accelerate 6 --mask random")
    say(f"        nirvana-mri evaluate recon.h5 --target {out / 'scan.h5'}")
    say(made.volumes[0].provenance["notice"])


def _table(made: Demo) -> None:
    from rich.table import Table

    from nirvana_mri.io.writers.derivation import method_words

    table = Table("method", box=None, pad_edge=False, header_style="bold")
    for name in ("SSIM", "PSNR [dB]", "NMSE", "s / slice"):
        table.add_column(name, justify="right", no_wrap=True)
    best = max(score.ssim for score in made.scores)
    for volume, score, seconds in zip(made.volumes, made.scores, made.seconds, strict=True):
        row = (f"{score.ssim:.4f}", f"{score.psnr:.2f}", f"{score.nmse:.5f}", f"{seconds / len(volume.slices):.2f}")
        table.add_row(method_words(volume), *row, style="bold" if score.ssim == best else "")
    stdout().print(table)
