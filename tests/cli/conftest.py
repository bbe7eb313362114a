"""The command line in this process, a small scan and a small model to try it on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_model, tiny_scan
from typer.testing import CliRunner

from nirvana_mri.cli.app import app
from nirvana_mri.recon.checkpoint import save_checkpoint

Run = Callable[..., Any]


@pytest.fixture(scope="session")
def run() -> Run:
    """``run("inspect", path)``: exit_code, stdout, stderr; a bug's own exception is raised here."""

    def invoke(*words: Any) -> Any:
        done = CliRunner().invoke(app, [str(word) for word in words], prog_name="nirvana-mri")
        if done.exception is not None and not isinstance(done.exception, SystemExit) and "--debug" not in words:
            raise done.exception
        return done

    return invoke


@pytest.fixture(scope="session")
def scan_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three slices, four coils, 64x56, fully sampled, with targets."""
    path = tmp_path_factory.mktemp("scans") / "head.h5"
    tiny_scan(slices=3, out=path)
    return path


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    save_checkpoint(tiny_model(), path, covers={}, training={})
    return path
