"""The program as a shell meets it: quick to answer, one line per error, exit codes, and examples that work."""

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from nirvana_mri import __version__
from nirvana_mri.cli.app import app
from nirvana_mri.cli.shell import command, fail, say
from nirvana_mri.errors import DataError, UsageError

ENTRY = [sys.executable, "-c", "from nirvana_mri.cli.app import main; main()"]
COMMANDS = ("train", "reconstruct", "evaluate", "explain-diff", "simulate", "inspect", "report", "stress", "demo")
HEAVY = {"torch", "matplotlib", "scipy", "h5py", "nibabel", "skimage", "numpy", "pandas", "safetensors"}


def test_help_loads_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *ENTRY[1:], "--help"], capture_output=True, text=True, check=True
    )
    loaded = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert loaded & HEAVY == set()
    assert "reconstruct" in done.stdout


def processor_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_takes_less_than_twice_what_the_shell_library_takes_to_load() -> None:
    """Half a second where typer loads in a quarter; as a ratio, so that a busy or slow machine does not decide."""
    floor = [sys.executable, "-c", "import typer, typer.rich_utils"]
    taken = [(processor_seconds([*ENTRY, "--help"]), processor_seconds(floor)) for _ in range(4)]
    ours, library = (min(column) for column in zip(*taken, strict=True))
    assert ours < 2 * library


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_has_an_example(name: str) -> None:
    done = CliRunner().invoke(app, [name, "--help"], prog_name="nirvana-mri")
    assert done.exit_code == 0
    assert f"Example: nirvana-mri {name}" in done.stdout


def parse(line: str) -> None:
    """Fails as the program would, where the line names an option or argument that is not there."""
    words = re.sub(r"\s#.*", "", line).split()
    chosen = typer.main.get_command(app).commands[words[1]]
    chosen.make_context(words[1], words[2:])


def test_examples_in_help_parse() -> None:
    examples = [
        line.strip().removeprefix("Example: ")
        for name in COMMANDS
        for line in typer.main.get_command(app).commands[name].help.splitlines()
        if line.strip().startswith("Example:")
    ]
    assert len(examples) == len(COMMANDS)
    for line in examples:
        parse(line)


def test_commands_in_the_readme_parse(project_root: Path) -> None:
    lines = re.findall(r"^nirvana-mri .*", (project_root / "README.md").read_text(), flags=re.M)
    assert len(lines) >= 5
    for line in lines:
        parse(line)


def test_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"nirvana-mri {__version__}\n"


@pytest.mark.parametrize("words", [["nonsense"], ["inspect"], ["inspect", "a.h5", "--nonsense"]])
def test_wrong_use_exits_with_2(words: list[str]) -> None:
    assert CliRunner().invoke(app, words).exit_code == 2


def program(error: BaseException) -> typer.Typer:
    def broken() -> None:
        raise error

    made = typer.Typer(pretty_exceptions_enable=False)
    made.command()(command(broken))
    return made


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DataError("a.h5: bad; do that"), 1, "error: a.h5: bad; do that\n"),
        (UsageError("no such thing"), 2, "error: no such thing\n"),
        (DataError("two\n  lines"), 1, "error: two lines\n"),
        (DataError("a\x1b[31m.h5"), 1, "error: a\N{REPLACEMENT CHARACTER}[31m.h5\n"),
        (DataError("[bold]name[/bold].h5"), 1, "error: [bold]name[/bold].h5\n"),
        (DataError("x" * 500), 1, f"error: {'x' * 500}\n"),
        (FileNotFoundError(2, "No such file or directory", "a.h5"), 1, "error: a.h5: No such file or directory\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
    ],
)
def test_an_error_is_one_line_and_a_code(error: BaseException, code: int, line: str) -> None:
    done = CliRunner().invoke(program(error), [])
    assert (done.exit_code, done.stderr, done.stdout) == (code, line, "")


def test_out_of_memory_says_what_to_do() -> None:
    done = CliRunner().invoke(program(MemoryError()), [])
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1


def test_a_bug_is_not_hidden() -> None:
    done = CliRunner().invoke(program(ZeroDivisionError("bug")), [])
    assert isinstance(done.exception, ZeroDivisionError)


def test_debug_shows_where_an_error_comes_from() -> None:
    done = subprocess.run(
        [*ENTRY, "inspect", "missing.h5", "--debug"],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ScanError" in done.stderr


def test_a_closed_pipe_is_quiet() -> None:
    """``nirvana-mri ... | head``: no traceback, and the code that a shell expects of a program so ended."""
    code = (
        "import typer\nfrom nirvana_mri.cli.shell import command, say\n"
        "app = typer.Typer()\n@app.command()\n@command\ndef talk() -> None:\n    say('x' * 1000000)\napp()"
    )
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_lines_for_programs_are_not_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    say("y" * 300)
    fail("z" * 300)
    out, err = capsys.readouterr()
    assert (out, err) == ("y" * 300 + "\n", "error: " + "z" * 300 + "\n")
