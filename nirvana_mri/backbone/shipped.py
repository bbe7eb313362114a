"""The backbones that come with the package."""

from importlib import resources
from pathlib import Path

from nirvana_mri.errors import CheckpointError, UsageError

SHIPPED = {"nano": "nano-backbone.safetensors"}


def shipped_backbone(name: str = "nano") -> Path:
    """The file of a shipped backbone.

    Raises: UsageError for a name that is none, CheckpointError where the installation lacks the file.
    """
    if name not in SHIPPED:
        raise UsageError(f"{name!r} is no shipped backbone; there is {', '.join(SHIPPED)}")
    path = Path(str(resources.files("nirvana_mri") / "weights" / SHIPPED[name]))
    if not path.is_file():
        raise CheckpointError(f"the shipped backbone {name!r} is missing from this installation; reinstall nirvana-mri")
    return path
