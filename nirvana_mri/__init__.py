"""nirvana-mri: accelerated-MRI reconstruction around a frozen Nirvana language backbone. Not for clinical use.

Names are imported on first use: ``import nirvana_mri`` loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Geometry": "scan",
    "Scan": "scan",
    "Volume": "volume",
    "NirvanaError": "errors",
    "ScanError": "errors",
    "UsageError": "errors",
    "open_scan": "recon.open",
    "save": "io.save",
    "load_model": "recon.checkpoint",
    "reconstruct": "recon.pipeline",
    "reconstruct_slices": "recon.pipeline",
    "strength_dial": "recon.strength",
    "draft_findings": "findings.draft",
    "simulate": "recon.simulate",
    "evaluate": "eval.evaluate",
    "inspect": "report.inspect",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from nirvana_mri.errors import NirvanaError, ScanError, UsageError
    from nirvana_mri.eval.evaluate import evaluate
    from nirvana_mri.findings.draft import draft_findings
    from nirvana_mri.io.save import save
    from nirvana_mri.recon.checkpoint import load_model
    from nirvana_mri.recon.open import open_scan
    from nirvana_mri.recon.pipeline import reconstruct, reconstruct_slices
    from nirvana_mri.recon.simulate import simulate
    from nirvana_mri.recon.strength import strength_dial
    from nirvana_mri.report.inspect import inspect
    from nirvana_mri.scan import Geometry, Scan
    from nirvana_mri.volume import Volume
