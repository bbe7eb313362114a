"""nirvana-mri backbone pretrain and tokenizer: a language model from text."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nirvana_mri.cli.shell import progress, say
from nirvana_mri.errors import UsageError

if TYPE_CHECKING:
    from nirvana_mri.backbone import NirvanaLM
    from nirvana_mri.backbone.tokenizer import Tokenizer


class Preset(StrEnum):
    nano = "nano"
    base = "base"


class Variant(StrEnum):
    """The names in backbone.variants, which a test compares with these."""

    nirvana = "nirvana"
    no_trigger = "no-trigger"
    delta = "delta"
    window = "window"
    transformer = "transformer"
    nirvana_rope = "nirvana-rope"


class OptimizerName(StrEnum):
    adamw = "adamw"
    muon = "muon"


class Precision(StrEnum):
    fp32 = "fp32"
    bf16 = "bf16"


class Parallel(StrEnum):
    ddp = "ddp"
    fsdp = "fsdp"


DataOption = Annotated[
    list[Path],
    typer.Option(
        "--data",
        metavar="PATH",
        help='Text: .txt, .jsonl with "text", .parquet with a column text, or a folder. Repeat at will; a path given '
        "twice is read twice as often.",
    ),
]
SourceOption = Annotated[
    str | None, typer.Option("--from", metavar="NAME|FILE", help="Begin with a backbone's weights: nano, or a file.")
]
TokenizerOption = Annotated[
    Path | None,
    typer.Option("--tokenizer", metavar="FILE", help="tokenizer.json or tokenizer.model; without it, nano's own."),
]
HeldOutOption = Annotated[
    Path | None, typer.Option("--held-out", metavar="FILE", help="Text whose loss goes into metrics.csv as well.")
]


def pretrain(
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where model, metrics and state go.")],
    preset: Annotated[Preset, typer.Option("--preset", help="Size of the model.")] = Preset.nano,
    variant: Annotated[
        Variant, typer.Option("--variant", help="The architecture; others than nirvana have as many parameters.")
    ] = Variant.nirvana,
    max_steps: Annotated[
        int, typer.Option("--max-steps", metavar="N", help="Steps in all, also with --resume.")
    ] = 2000,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    source: SourceOption = None,
    tokenizer: TokenizerOption = None,
    held_out: HeldOutOption = None,
    length: Annotated[int, typer.Option("--length", metavar="TOKENS", help="Tokens in a row.")] = 512,
    short_length: Annotated[
        int, typer.Option("--short-length", metavar="TOKENS", help="Cut rows to this at first: faster.")
    ] = 0,
    long_share: Annotated[
        float, typer.Option("--long-share", help="Share of the steps with whole rows, at the end.")
    ] = 1.0,
    batch_tokens: Annotated[int, typer.Option("--batch-tokens", help="Tokens in a step, over all processes.")] = 4096,
    micro_tokens: Annotated[
        int, typer.Option("--micro-tokens", help="Tokens at once in a process (0: its share of the step).")
    ] = 0,
    optimizer: Annotated[OptimizerName, typer.Option("--optimizer", help="muon for the layers' matrices.")] = (
        OptimizerName.adamw
    ),
    learning_rate: Annotated[
        float, typer.Option("--lr", help="Highest rate (0: 0.001 for adamw, 0.02 for muon).")
    ] = 0.0,
    warm_up: Annotated[int, typer.Option("--warm-up", metavar="N", help="Steps until the rate is reached.")] = 50,
    init_range: Annotated[
        float, typer.Option("--init-range", help="Spread of the first weights (0: the preset's).")
    ] = 0.0,
    weight_decay: Annotated[float, typer.Option("--weight-decay", help="Of matrices.")] = 0.01,
    seed: Annotated[int, typer.Option("--seed", help="Of the first weights and the order of rows.")] = 0,
    precision: Annotated[Precision, typer.Option("--precision", help="bf16: products in bfloat16.")] = Precision.fp32,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Run layers again in the backward pass: less memory, more time.")
    ] = False,
    parallel: Annotated[
        Parallel, typer.Option("--parallel", help="With torchrun: ddp copies the model, fsdp cuts it up.")
    ] = Parallel.ddp,
    checkpoint_every: Annotated[
        int, typer.Option("--checkpoint-every", metavar="N", help="Steps between saves.")
    ] = 100,
    threads: Annotated[int, typer.Option("--threads", help="CPU threads of each process (0: as torch says).")] = 0,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = "cpu",
) -> None:
    """Train a language backbone on text. It knows nothing of MRI; train keeps it frozen later.

    Leaves last.safetensors (weights with their tokenizer), metrics.csv and state.safetensors, from which --resume goes on.

    Example: nirvana-mri backbone pretrain --data books/ --data reports.jsonl --out runs/language --max-steps 2000

    Several processes: torchrun --nproc-per-node 2 -m nirvana_mri backbone pretrain ... --threads 1
    """  # noqa: E501 (rich keeps line ends inside a paragraph)
    from nirvana_mri.language.pretrain import PretrainConfig
    from nirvana_mri.language.pretrain import pretrain as run

    config = PretrainConfig(
        data=tuple(data),
        out=out,
        max_steps=max_steps,
        length=length,
        short_length=short_length,
        long_share=long_share,
        batch_tokens=batch_tokens,
        micro_tokens=micro_tokens,
        optimizer=optimizer.value,
        learning_rate=learning_rate,
        warm_up=warm_up,
        weight_decay=weight_decay,
        seed=seed,
        precision=precision.value,
        recompute=recompute,
        parallel=parallel.value,
        checkpoint_every=checkpoint_every,
        threads=threads,
        device=device,
        resume=resume,
        held_out=held_out,
        notes={"preset": preset.value, "variant": variant.value, "from": source or "drawn weights"},
    )
    model, words = _model(preset, variant, init_range, seed, source, tokenizer)
    with progress("pretraining") as bar:

        def show(step: int, total: int, row: dict[str, float]) -> None:
            bar(step, total)
            if "held_out_loss" in row:
                say(f"step {step}: loss {row['loss']:.4f}, held out {row['held_out_loss']:.4f} nats per token")

        written = run(config, model, words, show)
    if config.leads:
        say(f"wrote {written}: use it with nirvana-mri backbone eval --model {written}")


def _model(
    preset: Preset, variant: Variant, init_range: float, seed: int, source: str | None, tokenizer: Path | None
) -> tuple[NirvanaLM, Tokenizer]:
    """The model to train, and its tokenizer."""
    import dataclasses

    from nirvana_mri.backbone import BackboneConfig, NirvanaLM
    from nirvana_mri.backbone.file import stored_tokenizer
    from nirvana_mri.backbone.tokenizer import load_tokenizer
    from nirvana_mri.backbone.variants import variant as changed
    from nirvana_mri.language.load import load_language_model, model_path

    if source is not None:
        if variant is not Variant.nirvana:
            raise UsageError(f"--variant {variant.value} draws new weights; leave it or --from out")
        if init_range:
            raise UsageError(f"--init-range {init_range:g} is for new weights; leave it or --from out")
        loaded = load_language_model(source, tokenizer)
        return loaded.model, loaded.tokenizer
    if preset is Preset.base and tokenizer is None:
        raise UsageError("preset base reads with the published tokenizer; name it with --tokenizer FILE")
    words = stored_tokenizer(model_path("nano")) if tokenizer is None else load_tokenizer(tokenizer)
    assert words is not None
    config = {Preset.nano: BackboneConfig.nano, Preset.base: BackboneConfig.base}[preset]()
    spread = init_range or config.initializer_range
    config = dataclasses.replace(config, vocab_size=words.vocab_size, initializer_range=spread)
    return NirvanaLM(changed(config, variant.value), seed), words


def tokenizer(
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="A .json file.")] = Path("tokenizer.json"),
    vocab_size: Annotated[int, typer.Option("--vocab-size", metavar="N", help="Tokens, with three marks.")] = 8192,
) -> None:
    """Learn a tokenizer from text: byte-level BPE, in which any text comes back byte for byte.

    Example: nirvana-mri backbone tokenizer --data books/ -o tokenizer.json
    """
    from nirvana_mri.atomic import check_target
    from nirvana_mri.backbone.tokenizer import save_tokenizer, train_tokenizer
    from nirvana_mri.language.documents import read_pieces, text_files

    check_target(out)
    files = [file for path in data for file in text_files(path)]
    with progress("files") as bar:

        def texts():  # type: ignore[no-untyped-def]
            for number, file in enumerate(files):
                bar(number, len(files))
                yield from (piece.text for piece in read_pieces(file))

        made = train_tokenizer(texts(), vocab_size)
    save_tokenizer(made, out)
    say(f"wrote {out}: {made.vocab_size:,} tokens, sha256 {made.sha256}")
