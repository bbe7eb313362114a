"""nirvana-mri backbone: the language model's kernels and files."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nirvana_mri.cli import backbone_eval, backbone_generate, backbone_inspect, backbone_pretrain
from nirvana_mri.cli.options import JsonOption
from nirvana_mri.cli.shell import command, progress, say, show_facts, stdout, warn, write_json
from nirvana_mri.errors import UsageError

if TYPE_CHECKING:
    from nirvana_mri.backbone.file import BackboneFile
    from nirvana_mri.backbone.kernels import KernelChoice
    from nirvana_mri.backbone.tokenizer import BPETokenizer

app = typer.Typer(no_args_is_help=True)


class DType(StrEnum):
    keep = "keep"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


@app.callback()
def describe() -> None:
    """The language model itself: kernels, published weights in, pretraining on text, scores, what its memory does.

    Example: nirvana-mri backbone import --from-hub YuhuaJiang/Nirvana -o nirvana.safetensors
    """


def kernels(json: JsonOption = None) -> None:
    """Show which implementation of each operation runs on this machine, and why the others do not.

    The environment overrides the choice: NIRVANA_KERNELS=gated_delta_rule=naive,trigger_update=naive

    Example: nirvana-mri backbone kernels --json -
    """
    from nirvana_mri.backbone.kernels import kernel_choices

    choices = kernel_choices()
    if json is not None:
        write_json({"operations": [choice.as_dict() for choice in choices]}, json)
    if json != Path("-"):
        _show_kernels(choices)


def import_(
    path: Annotated[
        Path | None, typer.Argument(metavar="PATH", help="Folder with config.json and safetensors, or such a file.")
    ] = None,
    from_hub: Annotated[
        str | None, typer.Option("--from-hub", metavar="OWNER/NAME", help="Fetch them from the Hugging Face Hub.")
    ] = None,
    revision: Annotated[
        str | None, typer.Option("--revision", metavar="NAME", help="The Hub's branch, tag or commit.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="A .safetensors file; else named for the source.")
    ] = None,
    dtype: Annotated[
        DType, typer.Option("--dtype", help="Convert the weights; keep: as most of them are.")
    ] = DType.keep,
    window: Annotated[
        int | None,
        typer.Option("--window", metavar="TOKENS", help="Attention sees so many tokens; without it, all before."),
    ] = None,
) -> None:
    """Turn the authors' published weights into one backbone file, checked tensor by tensor.

    Reads config.json with model.safetensors or its shards. The window in config.json is not used, as in the release.

    Example: nirvana-mri backbone import Nirvana-1.3B/ -o nirvana.safetensors
    """
    if (path is None) == (from_hub is None):
        raise UsageError(f"got {'neither' if path is None else 'both'} PATH and --from-hub; give exactly one")
    if revision is not None and from_hub is None:
        raise UsageError("--revision belongs to --from-hub; leave it out for a PATH")
    if out is not None and out.suffix != ".safetensors":
        raise UsageError(f"--out {out} must end in .safetensors")
    import torch

    from nirvana_mri.backbone.hub import from_hub as fetch
    from nirvana_mri.backbone.importing import import_published

    origin: dict[str, Any] | None = None
    if from_hub is not None:
        path = fetch(from_hub, revision)
        origin = {"hub": from_hub, "commit": path.name}
    assert path is not None
    name = from_hub or str(path.absolute() if path.suffix != ".safetensors" else path.absolute().with_suffix(""))
    with progress("tensors") as update:
        made = import_published(
            path,
            out or Path(f"{Path(name).name}.safetensors"),
            window,
            None if dtype is DType.keep else getattr(torch, dtype.value),
            update,
            origin,
        )
    warn(made.warnings)
    say(f"wrote {made.path}: {made.parameters:,} parameters, {_word(made)}, {_attention(made)}")
    say(f"sha256 {made.sha256}")


def info(
    file: Annotated[Path, typer.Argument(metavar="NAME|FILE", help="nano, or a backbone file.")],
    json: JsonOption = None,
) -> None:
    """Show what a backbone file is, after checking every byte of it.

    Example: nirvana-mri backbone info nirvana.safetensors
    """
    from nirvana_mri.backbone.file import inspect_backbone, stored_tokenizer
    from nirvana_mri.backbone.shipped import SHIPPED, shipped_backbone

    if str(file) in SHIPPED and not file.exists():
        file = shipped_backbone(str(file))
    with progress("tensors") as update:
        found = inspect_backbone(file, update)
    if json is not None:
        write_json(found.as_dict(), json, (file,))
    if json != Path("-"):
        show_facts([*_facts(found), ("tokenizer", _tokenizer(stored_tokenizer(file)))])


for name, function in (
    ("kernels", kernels),
    ("import", import_),
    ("info", info),
    ("tokenizer", backbone_pretrain.tokenizer),
    ("pretrain", backbone_pretrain.pretrain),
    ("eval", backbone_eval.eval_),
    ("generate", backbone_generate.generate),
    ("inspect", backbone_inspect.inspect),
):
    app.command(name)(command(function))


def _facts(found: BackboneFile) -> list[tuple[str, str]]:
    config = found.config
    head = "tied to the embedding" if config.tie_word_embeddings else "its own"
    return [
        ("file", str(found.path)),
        ("parameters", f"{found.parameters:,} ({_word(found)})"),
        ("sha256", f"{found.sha256} (verified)"),
        ("source", ", ".join(f"{key} {value}" for key, value in found.source.items()) or "not stated"),
        ("layers", f"{config.num_layers} of width {config.hidden_size}, {config.num_heads} heads"),
        ("MLP", f"width {config.intermediate_size}"),
        ("Trigger", f"concept {config.concept_dim}, logits {config.logit_dim}, rate {config.trigger_rate:g}"),
        ("attention", _attention(found)),
        ("vocabulary", f"{config.vocab_size:,} tokens; head {head}"),
        ("written by", f"nirvana-mri {found.toolkit_version}"),
    ]


def _tokenizer(found: BPETokenizer | None) -> str:
    return "none in the file" if found is None else f"{found.vocab_size:,} tokens, sha256 {found.sha256[:12]}"


def _word(found: BackboneFile) -> str:
    return str(found.dtype).removeprefix("torch.")


def _attention(found: BackboneFile) -> str:
    window = found.config.window_size
    return "full causal attention" if window is None else f"attention over {window} tokens"


def _show_kernels(choices: list[KernelChoice]) -> None:
    """A table of all implementations, what runs now in bold; below it the rules and what the environment overrides."""
    from rich.table import Table
    from rich.text import Text

    from nirvana_mri.backbone.ops.registry import VARIABLE

    table = Table("operation", "implementation", "can run here", "what it is", box=None, pad_edge=False)
    for choice in choices:
        for row, kernel in enumerate(choice.implementations):
            able = "yes" if kernel.missing is None else f"no: {kernel.missing}"
            name = f"{kernel.name} (runs)" if kernel.name == choice.runs else kernel.name
            first = choice.operation if row == 0 else ""
            table.add_row(first, Text(name), Text(able), Text(kernel.summary), style="bold" * (name != kernel.name))
    stdout().print(table)
    for choice in choices:
        say(f"{choice.operation}: {choice.default_on_cpu} on this CPU by default; the rule: {choice.rule}")
    asked = ", ".join(f"{choice.operation} = {choice.asked}" for choice in choices if choice.asked)
    say(f"{VARIABLE}: {asked or 'not set, so these rules hold'}")
