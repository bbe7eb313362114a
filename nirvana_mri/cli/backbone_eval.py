"""nirvana-mri backbone eval: how well a language model predicts, remembers and recalls."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nirvana_mri.cli.options import DeviceOption, JsonOption
from nirvana_mri.cli.shell import Bar, progress, stdout, write_json
from nirvana_mri.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from nirvana_mri.language.load import LanguageModel
    from nirvana_mri.language.protocol import TextProtocol


class Task(StrEnum):
    perplexity = "perplexity"
    lastword = "lastword"
    niah = "niah"
    lm_eval = "lm-eval"


NEEDLE = "Needle in a haystack"
BELONGS = {  # options, and the tasks that read them
    "data": (Task.perplexity, Task.lastword, Task.niah),
    "context": (Task.perplexity,),
    "stride": (Task.perplexity,),
    "limit-tokens": (Task.perplexity,),
    "length": (Task.niah,),
    "depth": (Task.niah,),
    "digits": (Task.niah,),
    "trials": (Task.lastword, Task.niah, Task.lm_eval),
    "tasks": (Task.lm_eval,),
}


def eval_(
    task: Annotated[Task, typer.Option("--task", help="What to measure.")] = Task.perplexity,
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="NAME|FILE", help="nano, or a backbone file.")
    ] = "nano",
    tokenizer: Annotated[
        Path | None, typer.Option("--tokenizer", metavar="FILE", help="For a model whose file holds none.")
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", metavar="FILE", help="Text: .txt, .jsonl, .parquet or a folder; each file is a domain."),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option("--context", metavar="TOKENS", help="perplexity: windows of so many tokens, without a cache."),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option("--stride", metavar="TOKENS", help="perplexity: from window to window; else half of one."),
    ] = None,
    limit_tokens: Annotated[
        int | None, typer.Option("--limit-tokens", metavar="N", help="perplexity: at most so many of each domain.")
    ] = None,
    length: Annotated[
        list[int] | None,
        typer.Option(
            "--length", metavar="TOKENS", help="Of the whole prompt; 512 unless told.", rich_help_panel=NEEDLE
        ),
    ] = None,
    depth: Annotated[
        list[float] | None,
        typer.Option(
            "--depth", metavar="SHARE", help="0 front, 1 end; 0, 0.25 ... 1 unless told.", rich_help_panel=NEEDLE
        ),
    ] = None,
    digits: Annotated[
        int | None, typer.Option("--digits", metavar="N", help="Of the number; 7 unless told.", rich_help_panel=NEEDLE)
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option("--trials", metavar="N", help="niah: per length and depth (20); lastword: passages (200)."),
    ] = None,
    tasks: Annotated[
        str | None, typer.Option("--tasks", metavar="NAMES", help="lm-eval: its tasks, with commas between.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of whatever is drawn at random.")] = 0,
    device: DeviceOption = "cpu",
    json: JsonOption = None,
) -> None:
    """Score a language model: perplexity, last words, needles in a haystack, or lm-evaluation-harness's tasks.

    Every token of a text is scored once, in one pass at constant memory; several files are scored as domains.

    Example: nirvana-mri backbone eval --task niah --length 2048 --length 8192 --json needles.json
    """
    given: dict[str, Any] = dict(data=data, context=context, stride=stride, length=length, depth=depth, digits=digits)
    given |= {"limit-tokens": limit_tokens, "trials": trials, "tasks": tasks}
    _require_belonging(task, given)
    from nirvana_mri.language.documents import text_files
    from nirvana_mri.language.load import load_language_model

    files = _domains([file for path in data or [] for file in text_files(path)])
    if json is not None and json != Path("-"):
        from nirvana_mri.atomic import check_target

        check_target(json)
    language = load_language_model(model, tokenizer, device)
    run: dict[Task, Callable[..., tuple[dict[str, Any], Table, TextProtocol]]] = {
        Task.perplexity: _perplexity,
        Task.lastword: _last_word,
        Task.niah: _needle,
        Task.lm_eval: _harness,
    }
    with progress("scoring") as bar:
        values, table, protocol = run[task](language, files, given, seed, bar)
    if json is not None:
        write_json(values, json, (*files.values(), Path(model)))
    if json != Path("-"):
        _show(table, protocol)


def _require_belonging(task: Task, given: dict[str, Any]) -> None:
    for name, value in given.items():
        if value is not None and task not in BELONGS[name]:
            raise UsageError(f"--{name} belongs to --task {' or '.join(BELONGS[name])}; leave it out for {task}")
    if task in (Task.perplexity, Task.lastword) and not given["data"]:
        raise UsageError(f"--task {task} needs a text; add --data FILE")
    if task is Task.niah and len(given["data"] or []) > 1:
        raise UsageError(f"--task niah takes one --data, not {len(given['data'])}; a haystack is of one text")
    if task is Task.lm_eval and not given["tasks"]:
        raise UsageError("--task lm-eval needs its tasks; add --tasks lambada_openai, say")


def _domains(files: list[Path]) -> dict[str, Path]:
    """Files by their stems, or by folder and name where stems are equal. Raises: UsageError for a file given twice."""
    stems = [file.stem for file in files]
    named = {
        stem if stems.count(stem) == 1 else f"{file.absolute().parent.name}/{file.name}": file
        for stem, file in zip(stems, files, strict=True)
    }
    if len(named) < len(files):
        raise UsageError(f"of {len(files)} files some have one name ({', '.join(sorted(set(stems)))}); give each once")
    return named


def _perplexity(
    language: LanguageModel, files: dict[str, Path], given: dict[str, Any], seed: int, bar: Bar
) -> tuple[dict[str, Any], Table, TextProtocol]:
    from nirvana_mri.language.perplexity import PerplexityScore, combined, perplexity

    options = dict(context=given["context"], stride=given["stride"], limit=given["limit-tokens"])
    scores: dict[str, PerplexityScore] = {}
    for name, file in files.items():
        bar.label(name)
        scores[name] = perplexity(language, file, **options, progress=bar)
    total = combined(scores)
    values = total.as_dict()
    if len(scores) > 1:
        values["domains"] = {name: score.numbers() for name, score in scores.items()}
    table = _table("text", "tokens", "bytes", "loss [nats/token]", "perplexity", "bits/byte", "ms/token")
    for name, score in [*scores.items(), *([("all", total)] if len(scores) > 1 else [])]:
        table.add_row(
            name,
            f"{score.tokens:,}",
            f"{score.bytes:,}",
            f"{score.loss:.4f}",
            f"{score.perplexity:.2f}",
            f"{score.bits_per_byte:.4f}",
            f"{1000 * score.seconds / score.tokens:.2f}",
        )
    return values, table, total.protocol


def _last_word(
    language: LanguageModel, files: dict[str, Path], given: dict[str, Any], seed: int, bar: Bar
) -> tuple[dict[str, Any], Table, TextProtocol]:
    from nirvana_mri.language.last_word import LastWordScore, last_word, together

    scores: dict[str, LastWordScore] = {}
    for name, file in files.items():
        bar.label(name)
        trials = 200 if given["trials"] is None else given["trials"]
        scores[name] = last_word(language, file, trials=trials, seed=seed, progress=bar)
    total = together(scores)
    values = total.as_dict()
    if len(scores) > 1:
        values["domains"] = {name: score.numbers() for name, score in scores.items()}
    table = _table("text", "passages", "last words right", "95 %", "perplexity of the word")
    for name, score in [*scores.items(), *([("all", total)] if len(scores) > 1 else [])]:
        low, high = score.interval
        table.add_row(
            name,
            str(score.passages),
            f"{score.accuracy:.1%}",
            f"{low:.1%} to {high:.1%}",
            f"{score.target_perplexity:.4g}",
        )
    return values, table, total.protocol


def _needle(
    language: LanguageModel, files: dict[str, Path], given: dict[str, Any], seed: int, bar: Bar
) -> tuple[dict[str, Any], Table, TextProtocol]:
    from nirvana_mri.language.needle_score import CHANCE, DEPTHS, needle_in_haystack
    from nirvana_mri.language.protocol import wilson

    if len(files) > 1:
        raise UsageError(f"--data names {len(files)} files; a haystack is of one")
    score = needle_in_haystack(
        language,
        lengths=given["length"] or (512,),
        depths=given["depth"] or DEPTHS,
        trials=20 if given["trials"] is None else given["trials"],
        digits=7 if given["digits"] is None else given["digits"],
        seed=seed,
        data=next(iter(files.values()), None),
        progress=bar,
    )
    table = _table("tokens", "depth", "written", "95 %", f"chosen of {round(1 / CHANCE)}", "95 %", "cache [MiB]")
    for cell in score.cells:
        ends = [
            f"{low:.0%} to {high:.0%}" for low, high in (wilson(n, cell.trials) for n in (cell.written, cell.chosen))
        ]
        table.add_row(
            f"{cell.length:,}",
            f"{cell.depth:g}",
            f"{cell.written}/{cell.trials}",
            ends[0],
            f"{cell.chosen}/{cell.trials}",
            ends[1],
            f"{cell.cache_bytes / 2**20:.1f}",
        )
    return score.as_dict(), table, score.protocol


def _harness(
    language: LanguageModel, files: dict[str, Path], given: dict[str, Any], seed: int, bar: Bar
) -> tuple[dict[str, Any], Table, TextProtocol]:
    from nirvana_mri.backbone.hf.harness import evaluate_tasks
    from nirvana_mri.language.protocol import TextProtocol

    names = [name.strip() for name in given["tasks"].split(",") if name.strip()]
    found = evaluate_tasks(language.model, language.tokenizer, names, limit=given["trials"], seed=seed)
    protocol = TextProtocol.of(language, "lm-eval", tasks=names, examples=given["trials"], seed=seed)
    table = _table("task", "measure", "value")
    for name, numbers in found.items():
        for measure, value in numbers.items():
            if isinstance(value, float):
                table.add_row(name, measure, f"{value:.4f}")
    return {"task": "lm-eval", "results": _plain(found), "protocol": protocol.as_dict()}, table, protocol


def _plain(value: Any) -> Any:
    """The same with nothing but what JSON can hold."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    return value if isinstance(value, str | int | bool | None) or _finite(value) else str(value)


def _finite(value: Any) -> bool:
    return isinstance(value, float) and abs(value) < float("inf")


def _table(first: str, *columns: str) -> Table:
    from rich.table import Table

    table = Table(first, box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _show(table: Table, protocol: TextProtocol) -> None:
    """The numbers, and below them whose they are and by which rule."""
    stdout().print(table)
    rule = "; ".join(f"{key.replace('_', ' ')}: {value}" for key, value in protocol.rule.items() if value is not None)
    scale = (
        f"{protocol.model}, {protocol.parameters:,} parameters ({protocol.dtype}), sha256 {protocol.model_sha256[:12]}"
    )
    stdout().print(f"{scale}; protocol {protocol.task} {protocol.hash}: {rule}", style="dim", markup=False)
