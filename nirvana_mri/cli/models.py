"""nirvana-mri models: which there are, and what a model file says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nirvana_mri.cli.shell import command, show_facts, write_json

if TYPE_CHECKING:
    from nirvana_mri.recon.checkpoint import LoadedModel

app = typer.Typer(no_args_is_help=True)

JsonFlag = Annotated[bool, typer.Option("--json", help="As JSON on standard output.")]


@app.callback()
def describe() -> None:
    """Reconstruction models: the shipped ones, and any file that train left.

    Example: nirvana-mri models info nano
    """


def info(
    model: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A shipped model's name, or a file.")],
    json: JsonFlag = False,
) -> None:
    """Show what a model is: fingerprints, sizes, the split and masks of its training, its held-out scores.

    Example: nirvana-mri models info runs/mine/best.safetensors --json
    """
    from nirvana_mri.recon.checkpoint import load_model

    facts = model_facts(load_model(model))
    if json:
        write_json(facts, Path("-"))
    else:
        show_facts(_rows(facts))


def list_(json: JsonFlag = False) -> None:
    """Name the models that came with the installation.

    Example: nirvana-mri models list
    """
    from nirvana_mri.recon.checkpoint import SHIPPED, load_model

    facts = {name: model_facts(load_model(name)) for name in SHIPPED}
    if json:
        write_json(facts, Path("-"))
    else:
        show_facts(
            [(name, f"sha256 {each['sha256'][:12]}, {_covers(each)}; {each['notice']}") for name, each in facts.items()]
        )


def model_facts(loaded: LoadedModel) -> dict[str, Any]:
    """What a model file says, JSON-ready; ``metrics`` and what else it does not say are empty."""
    from nirvana_mri.volume import NOT_FOR_CLINICAL_USE

    training = dict(loaded.training)
    recipe = dict(training.get("recipe") or {})
    return {
        "name": loaded.name,
        "sha256": loaded.sha256,
        "backbone_sha256": loaded.backbone_sha256,
        "parameters": {
            name: sum(parameter.numel() for parameter in part.parameters())
            for name, part in loaded.model.named_children()
        },
        "config": loaded.model.config.as_dict(),
        "covers": dict(loaded.covers),
        "data": training.get("data_kind") or [],
        "split": training.get("split") or {},
        "mask_recipe": recipe.pop("masks", {}),
        "recipe": recipe,
        "steps": training.get("steps"),
        "begun_from": training.get("begun_from"),
        "metrics": training.get("metrics") or {},
        "notice": NOT_FOR_CLINICAL_USE,
    }


def _rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    split, metrics = facts["split"], facts["metrics"]
    backbone = f"{facts['config']['backbone']}, sha256 {facts['backbone_sha256'][:12]}"
    rows = [
        ("model", f"{facts['name']}, sha256 {facts['sha256'][:12]}; {facts['notice']}"),
        ("parameters", ", ".join(f"{name} {count:,}" for name, count in facts["parameters"].items())),
        ("backbone", backbone if facts["backbone_sha256"] != "none" else "none"),
        ("covers", _covers(facts)),
        ("trained on", ", ".join(facts["data"]) or "not stated"),
        *((f"  {side}", ", ".join(names) or "nobody") for side, names in split.items()),
        ("masks", ", ".join(facts["mask_recipe"].get("kinds", ())) or "not stated"),
        ("steps", "not stated" if facts["steps"] is None else f"{facts['steps']:,}"),
    ]
    if facts["begun_from"]:
        before = facts["begun_from"]
        rows.append(("begun from", f"sha256 {before['sha256'][:12]}, after {before['steps']:,} steps"))
    if metrics:
        scores = ", ".join(f"{name} {metrics[name]:.4f}" for name in metrics.keys() - {"step", "protocol"})
        rows.append(("held out", f"{scores} at step {metrics['step']:,} ({metrics['protocol']})"))
    return rows


def _covers(facts: dict[str, Any]) -> str:
    covers = facts["covers"]
    parts = [", ".join(covers.get("anatomy", ()))]
    for name, unit in (("accelerations", "x"), ("coils", " coils"), ("matrix", " pixels a side")):
        if name in covers:
            low, high = covers[name]
            parts.append(f"{low} to {high}{unit}")
    return ", ".join(part for part in parts if part) or "not stated"


app.command("info")(command(info))
app.command("list")(command(list_))
