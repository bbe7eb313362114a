"""What every test may rely on: checked array shapes, seeded hypothesis, and the shared data where it is present."""

import os
from collections.abc import Iterator
from pathlib import Path

# Before anything imports torch: the workers of pytest-xdist share the cores, and one thread repeats its bits.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis
import jaxtyping
import pytest

# Array shapes in the annotations are checked in every call, by the test run only.
jaxtyping.install_import_hook("nirvana_mri", "support.check_types")

ROOT = Path(__file__).resolve().parents[1]

hypothesis.settings.register_profile("default", deadline=None, max_examples=25)
hypothesis.settings.register_profile("ci", deadline=None, max_examples=15, derandomize=True)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=500)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))


def _shared(folder: str) -> Path:
    found = Path(os.environ.get("NIRVANA_SHARED", ROOT.parent / "shared")) / folder
    if not found.is_dir():
        pytest.skip(f"no shared/{folder} beside the project (or set NIRVANA_SHARED)")
    return found


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Memory that nobody wrote holds NaN (torch.empty fills itself so in deterministic mode)."""
    import torch

    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def project_root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real k-space and volumes; the test is skipped where they are absent."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_fixtures() -> Path:
    """The backbone's numerical ground truth; the test is skipped where it is absent."""
    return _shared("fixtures")
