"""An evaluation on the terminal: short tables, and the rule below them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nirvana_mri.cli.shell import stdout

if TYPE_CHECKING:
    from nirvana_mri.eval.study import Study

MOST, WORST = 20, 5  # volumes that a terminal shows all; how many of more
COLUMNS = (("ssim", "SSIM", ".4f"), ("psnr", "PSNR [dB]", ".2f"), ("nmse", "NMSE", ".5f"))
P_SHOWN = 0.001


def show(study: Study) -> None:
    """Volumes of one method, or methods side by side; groups and comparisons where there are several."""
    if len(study.methods) == 1:
        _volumes(study)
    else:
        _summaries("method", [(entry["method"], entry) for entry in study.by_method()])
    groups = study.groups()
    if len({entry["group"] for entry in groups}) > 1:
        several = len(study.methods) > 1
        named = [(f"{e['group']}  {e['method']}" if several else e["group"], e) for e in groups]
        stdout().print()
        _summaries("group", named)
    for found in study.paired():
        if found["metric"] == "ssim" and found["difference"] is not None:
            stdout().print(_difference(found), markup=False)
    if study.annotated:
        stdout().print()
        _regions(study)
    protocol = study.protocol
    stdout().print(f"protocol {protocol.name} {protocol.hash}, target {protocol.target}", style="dim", markup=False)


def _table(first: str, *others: str) -> Any:
    from rich.table import Table

    table = Table(first, box=None, pad_edge=False, header_style="bold")
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _volumes(study: Study) -> None:
    table = _table("file", *(name for _, name, _ in COLUMNS), "acceleration")
    rows = list(study.rows)
    hidden = len(rows) - MOST
    if hidden > 0:
        rows = sorted(rows, key=lambda row: row.score.ssim)[:WORST]
    for row in rows:
        score = row.score
        times = "–" if score.acceleration is None else f"{score.acceleration:.2f}x"
        table.add_row(score.file, *(f"{getattr(score, key):{form}}" for key, _, form in COLUMNS), times)
    if hidden > 0:
        table.add_row(f"… the {WORST} worst of {len(study.rows)}", *[""] * 4, style="dim")
    if len(study.rows) > 1:
        entry = study.by_method()[0]
        table.add_section()
        table.add_row("mean", *(_number(entry["mean"][key], form) for key, _, form in COLUMNS), "", style="bold")
        if entry["intervals"]["ssim"]:
            table.add_row(
                "95 %", *(_interval(entry["intervals"][key], form) for key, _, form in COLUMNS), "", style="dim"
            )
    stdout().print(table)


def _summaries(first: str, entries: list[tuple[str, dict[str, Any]]]) -> None:
    table = _table(first, "n", "SSIM", "95 %", "PSNR [dB]", "NMSE")
    for name, entry in entries:
        shown = {key: _number(entry["mean"][key], form) for key, _, form in COLUMNS}
        interval = _interval(entry["intervals"]["ssim"], ".4f")
        table.add_row(name, str(entry["count"]), shown["ssim"], interval, shown["psnr"], shown["nmse"])
    stdout().print(table)


def _regions(study: Study) -> None:
    labels = study.region_labels()
    table = _table("boxes", "n", "SSIM", "NMSE")
    for entry in sorted(labels, key=lambda entry: -entry["count"])[:MOST]:
        name = f"{entry['label']}  {entry['method']}" if len(study.methods) > 1 else entry["label"]
        table.add_row(name, str(entry["count"]), *(_number(entry["mean"][key], ".4f") for key in ("ssim", "nmse")))
    stdout().print(table)


def _difference(found: dict[str, Any]) -> str:
    first, second = found["methods"]
    text = f"SSIM, {first} minus {second}: {found['difference']:+.4f}"
    if found["interval"] is not None:
        text += f" (95 % {found['interval'][0]:+.4f} to {found['interval'][1]:+.4f})"
    if found["p"] is not None:
        p = f"p < {P_SHOWN:g}" if found["p"] < P_SHOWN else f"p {found['p']:.3f}"
        text += f", Wilcoxon {p}, effect {found['effect_size']:+.2f}"
    return f"{text}; {found['pairs']} patient{'s' * (found['pairs'] != 1)}"


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else f"{value:{form}}"


def _interval(pair: list[float] | None, form: str) -> str:
    return "–" if pair is None else f"{pair[0]:{form}}–{pair[1]:{form}}"
