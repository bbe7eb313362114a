"""What every command shares: the error line and exit code, the consoles, the progress bar. Loads nothing heavy."""

from __future__ import annotations

import functools
import inspect
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import typer

from nirvana_mri.errors import NirvanaError, UsageError

PATIENCE = 2.0  # seconds before a progress bar appears
INTERRUPTED, PIPE_CLOSED = 130, 141  # 128 + SIGINT, 128 + SIGPIPE: what a shell expects

DEBUG = inspect.Parameter(
    "debug",
    inspect.Parameter.KEYWORD_ONLY,
    default=typer.Option(False, "--debug", help="Show the traceback of an error.", rich_help_panel="Help"),
    annotation=bool,
)
CONTEXT = inspect.Parameter("parsed", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
_running: ContextVar[Any] = ContextVar("the command that runs, as typer parsed it")


def command(function: Callable[..., None]) -> Callable[..., None]:
    """``function`` with an option ``--debug``, whose errors become one line on stderr and an exit code.

    A usage error exits with 2, other errors with 1, an interrupt with 130; a closed pipe (``| head``) is quiet.
    """

    @functools.wraps(function)
    def run(*args: Any, debug: bool, parsed: Any, **options: Any) -> None:
        _running.set(parsed)
        try:
            function(*args, **options)
            sys.stdout.flush()
        except KeyboardInterrupt:
            fail("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains again when it flushes at exit
            raise typer.Exit(PIPE_CLOSED) from None
        except (NirvanaError, OSError, MemoryError) as error:
            if debug:
                raise
            fail(describe(error))
            raise typer.Exit(getattr(error, "exit_code", 1)) from None

    signature = inspect.signature(function, eval_str=True)
    described: Any = run
    described.__signature__ = signature.replace(parameters=[*signature.parameters.values(), DEBUG, CONTEXT])
    run.__annotations__ = {name: p.annotation for name, p in described.__signature__.parameters.items()}
    return run


def describe(error: BaseException) -> str:
    """The error in one line."""
    if isinstance(error, MemoryError):
        return "not enough memory; give it less at once (fewer slices, coils or tokens), or use a larger machine"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def fail(message: str) -> None:
    """Say on stderr, in one line, what went wrong."""
    from rich.text import Text

    one_line = " ".join(message.split())
    visible = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in one_line)
    stderr().print(Text.assemble(("error: ", "bold red"), visible), soft_wrap=True)


def warn(messages: tuple[str, ...], about: str = "") -> None:
    """Say warnings on stderr, each in one line."""
    from rich.text import Text

    for message in messages:
        line = f"{about}: {message}" if about else message
        stderr().print(Text.assemble(("warning: ", "yellow"), " ".join(line.split())), soft_wrap=True)


def say(message: str) -> None:
    """One line of result on stdout: plain text, never wrapped, so that programs can read it."""
    typer.echo(message)


def show_facts(facts: list[tuple[str, str]]) -> None:
    """Rows of (what, value) as a table on stdout."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in facts:
        table.add_row(Text(label), Text(value))
    stdout().print(table)


def given() -> dict[str, tuple[Any, Any]]:
    """(option, value) of all that was given to the running command and is not at its default, by parameter name."""
    context = _running.get()
    pairs = {option.name: (option, context.params.get(option.name)) for option in context.command.params}
    return {name: (option, v) for name, (option, v) in pairs.items() if v not in (None, option.default, [], ())}


def command_line() -> str:
    """The command as it was given, without options at their default: what makes the same result again. Of files the
    names alone, for folders may tell whose scan it is.
    """
    words = ["nirvana-mri", _running.get().info_name]
    for option, value in given().values():
        for one in value if isinstance(value, list | tuple) else [value]:
            name = [] if option.param_type_name == "argument" else [_flag(option, one)]
            words += name if isinstance(one, bool) else [*name, _shown(one)]
    return shlex.join(words)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    text = str(getattr(value, "value", value))
    return Path(text).name or text if isinstance(value, Path) or os.sep in text else text


def _flag(option: Any, value: Any) -> str:
    """The option's name, or that which switches it off."""
    return str((option.secondary_opts or option.opts)[0] if value is False else option.opts[0])


def write_json(values: dict[str, Any], target: Path, inputs: tuple[Path, ...] = ()) -> None:
    """Write JSON to a file, whole or not at all, or to stdout for ``-``. Raises: UsageError where that is an input."""
    text = json.dumps(values, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    if target == Path("-"):
        typer.echo(text, nl=False)
        return
    from nirvana_mri.atomic import atomic_path, same_file

    for given in inputs:
        if same_file(given, target):
            raise UsageError(f"{target} is an input; name another file for the JSON")
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def stdout() -> Any:
    from rich.console import Console

    return Console(highlight=False)


def stderr() -> Any:
    from rich.console import Console

    return Console(stderr=True, highlight=False)


class Bar:
    """A callback for (done, total): a bar on stderr where that is a terminal and the work takes over 2 s."""

    def __init__(self, label: str) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bars = Progress(*columns, console=stderr(), transient=True)
        self._task = self._bars.add_task(label, total=None)
        self._began = time.monotonic()

    def __call__(self, done: int, total: int, label: str | None = None) -> None:
        if sys.stderr.isatty() and time.monotonic() - self._began > PATIENCE:
            self._bars.start()
        self._bars.update(self._task, completed=done, total=total, description=label)

    def label(self, text: str) -> None:
        """Begin anew under another name."""
        self._bars.reset(self._task, description=text, total=None)

    def stop(self) -> None:
        if self._bars.live.is_started:  # a bar that was never shown would print an empty line
            self._bars.stop()


@contextmanager
def progress(label: str) -> Iterator[Bar]:
    """A bar that goes away with the block."""
    bar = Bar(label)
    try:
        yield bar
    finally:
        bar.stop()
