"""nirvana-mri train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nirvana_mri.cli.options import DeviceOption
from nirvana_mri.cli.shell import progress, say
from nirvana_mri.errors import UsageError
from nirvana_mri.train.config import LOGS, PARALLEL, PRECISIONS, PRESETS, RATES, STAGES, TrainConfig

DataOption = Annotated[
    Path,
    typer.Option(
        "--data", metavar="DIR", help="Fully sampled scans (.h5), or pictures (.nii, .nii.gz, .npy) to simulate from."
    ),
]
OutOption = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where model, metrics and state go.")]
StartOption = Annotated[
    str | None, typer.Option("--from", metavar="NAME|FILE", help="Begin with this model's weights.")
]
BackboneOption = Annotated[
    str | None,
    typer.Option("--backbone", help="pretrained, random, or none. [default: as --from has it, else pretrained]"),
]
HeldOutOption = Annotated[
    list[str] | None, typer.Option("--held-out", metavar="NAME", help="A subject kept for validation; repeat at will.")
]
ManifestOption = Annotated[
    Path | None,
    typer.Option("--manifest", metavar="FILE", help="Who is in training, validation, test: JSON, as a run leaves it."),
]
IndexOption = Annotated[
    Path | None,
    typer.Option(
        "--index", metavar="FILE", help="Remember there what the data hold (else in --out); runs may share it."
    ),
]
CacheOption = Annotated[
    Path | None,
    typer.Option("--cache", metavar="DIR", help="Keep scans there in hybrid space (patient data): strips read faster."),
]
BackboneFileOption = Annotated[
    Path | None,
    typer.Option("--backbone-file", metavar="FILE", help="Another language model, as backbone import leaves it."),
]
RecomputeOption = Annotated[
    bool | None,
    typer.Option(
        "--recompute/--keep-activations", help="Less memory, more time in the backbone; without it: where it is large."
    ),
]
PairsOption = Annotated[
    Path | None,
    typer.Option("--text", metavar="FILE", help='Stage encoder: .jsonl of {"file", "slice", "prompt", "response"}.'),
]
AnnotationsOption = Annotated[
    Path | None, typer.Option("--annotations", metavar="FILE", help="Stage encoder: fastMRI+ labels and boxes, .csv.")
]
LogOption = Annotated[
    list[str] | None,
    typer.Option("--log", metavar="NAME", help=f"{', '.join(LOGS)}; repeat at will. Without it: tensorboard, if here."),
]
EmphasisOption = Annotated[
    list[str] | None, typer.Option("--emphasis", metavar="NAME", help="A subject drawn twice as often; repeat at will.")
]
AnatomyOption = Annotated[
    list[str] | None,
    typer.Option("--anatomy", metavar="NAME", help="What the scans show (brain, knee): others will get a warning."),
]

ClusterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--cluster", metavar="KEY=VALUE", help="Of the job: partition, account, nodes, cpus, memory_gb, hours; repeat."
    ),
]


def train(
    data: DataOption,
    out: OutOption = Path("runs/nano"),
    preset: Annotated[
        str, typer.Option("--preset", help=f"Size of the model: {', '.join(PRESETS)}.")
    ] = TrainConfig.preset,
    stage: Annotated[str, typer.Option("--stage", help=f"What learns: {', '.join(STAGES)}.")] = TrainConfig.stage,
    backbone: BackboneOption = None,
    backbone_file: BackboneFileOption = None,
    max_steps: Annotated[
        int, typer.Option("--max-steps", metavar="N", help="Steps in all, also with --resume.")
    ] = TrainConfig.max_steps,
    batch: Annotated[int, typer.Option("--batch", metavar="N", help="Slices in a step.")] = TrainConfig.batch,
    micro: Annotated[
        int, typer.Option("--micro", metavar="N", help="Slices at once, gradients summed (0: all of the step).")
    ] = TrainConfig.micro,
    optimizer: Annotated[str, typer.Option("--optimizer", help=f"{', '.join(RATES)}.")] = TrainConfig.optimizer,
    learning_rate: Annotated[
        float | None, typer.Option("--lr", help="Highest learning rate; without it one that suits the optimizer.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of weights, split, masks, noise.")] = TrainConfig.seed,
    validation_fraction: Annotated[
        float, typer.Option("--validation-fraction", help="Share of the subjects held out, drawn by seed.")
    ] = TrainConfig.validation_fraction,
    held_out: HeldOutOption = None,
    manifest: ManifestOption = None,
    index: IndexOption = None,
    cache: CacheOption = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out files that cannot be used; name them.")
    ] = False,
    emphasis: EmphasisOption = None,
    anatomy: AnatomyOption = None,
    start_from: StartOption = None,
    text: PairsOption = None,
    annotations: AnnotationsOption = None,
    patience: Annotated[
        int, typer.Option("--patience", metavar="N", help="End after N validations without a better SSIM (0: never).")
    ] = TrainConfig.patience,
    log: LogOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    workers: Annotated[int, typer.Option("--workers", help="Processes that make examples.")] = TrainConfig.workers,
    precision: Annotated[
        str, typer.Option("--precision", help=f"{', '.join(PRECISIONS)}: of products of real matrices.")
    ] = TrainConfig.precision,
    device: DeviceOption = "cpu",
    devices: Annotated[
        int, typer.Option("--devices", metavar="N", help="Processes here that share each batch (extra: train).")
    ] = TrainConfig.devices,
    parallel: Annotated[
        str, typer.Option("--parallel", help=f"{', '.join(PARALLEL)}: with fsdp they cut up the frozen backbone.")
    ] = TrainConfig.parallel,
    recompute: RecomputeOption = None,
    submit: Annotated[
        str | None, typer.Option("--submit", metavar="slurm|local", help="Run as a job instead (extra: cluster).")
    ] = None,
    cluster: ClusterOption = None,
) -> None:
    """Train the k-space encoder and the image decoder on your scans. The language model between them stays frozen.

    Leaves best.safetensors and last.safetensors (for reconstruct --model), metrics.csv, and what --resume needs. Subjects are split, not slices.

    Example: nirvana-mri train --data scans/ --out runs/mine --from nano --max-steps 2000
    """  # noqa: E501 (rich keeps line ends inside a paragraph)
    config = TrainConfig(
        data=data,
        out=out,
        preset=preset,
        stage=stage,
        backbone=backbone,
        backbone_file=backbone_file,
        max_steps=max_steps,
        batch=batch,
        micro=micro,
        optimizer=optimizer,
        learning_rate=learning_rate,
        seed=seed,
        validation_fraction=validation_fraction,
        held_out=tuple(held_out or ()),
        manifest=manifest,
        index=index,
        cache=cache,
        skip_bad=skip_bad,
        emphasis=tuple(emphasis or ()),
        anatomy=tuple(anatomy or ()),
        start_from=start_from,
        pairs=text,
        annotations=annotations,
        patience=patience,
        logs=tuple(log or ()),
        resume=resume,
        workers=workers,
        precision=precision,
        device=device,
        devices=devices,
        parallel=parallel,
        recompute=recompute,
    )
    if submit is not None or cluster:
        _submit(config, submit, cluster or [])
        return
    from nirvana_mri.train.loop import train as run

    began = False
    with progress("looking at files") as bar:

        def show(step: int, total: int, row: dict[str, Any]) -> None:
            nonlocal began
            if not began:
                bar.label("training")
            began = True
            pace = f"{row['slices_per_second']:.1f} slices/s, {row['waiting']:.0%} of it waiting for data"
            bar(step, total, f"training, {pace}")
            if "answer_loss" in row:
                words = f"held out {row['answer_loss']:.4f} nats per token"
                say(f"step {step}: loss {row['loss']:.4f}, {words} ({pace})")
            if "ssim" in row:
                words = f"held out SSIM {row['ssim']:.4f}, PSNR {row['psnr']:.2f} dB"
                say(f"step {step}: loss {row['loss']:.4f}, {words} ({pace})")

        model = run(config, show, bar)
    if config.leads and cache is not None:
        from nirvana_mri.train.cache import HybridCache

        files, size = HybridCache(cache).size()
        say(f"{cache} keeps {files} scans in {size / 1e9:.2f} GB; they are patient data: delete it when done")
    if config.leads:
        use = f"reconstruct --model {model}"
        if stage == "encoder":
            use = f"report SCAN -o page.html --findings --findings-model {model}, or go on from it with --stage decoder"
        say(f"wrote {model}: use it with nirvana-mri {use}; not for clinical use")


def _submit(config: TrainConfig, where: str | None, words: list[str]) -> None:
    from nirvana_mri.train.cluster import ClusterConfig, submit

    if where is None:
        raise UsageError(f"--cluster {words[0]} says what a job asks for; say --submit slurm too")
    job, log = submit(config, where, ClusterConfig.from_words(words))
    say(f"submitted job {job}: its log goes to {log}, the model to {config.out}")
