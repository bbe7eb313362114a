"""The Nirvana language model in plain PyTorch. It knows nothing of MRI and can be lifted out."""

from nirvana_mri.backbone.config import BackboneConfig
from nirvana_mri.backbone.fingerprint import sha256
from nirvana_mri.backbone.model import LayerRecord, NirvanaLM, NirvanaOutput
from nirvana_mri.backbone.published import load_published, published_parameters

__all__ = [
    "BackboneConfig",
    "LayerRecord",
    "NirvanaLM",
    "NirvanaOutput",
    "load_published",
    "published_parameters",
    "sha256",
]
