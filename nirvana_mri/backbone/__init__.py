"""The Nirvana language model in plain PyTorch. It knows nothing of MRI and can be lifted out."""

from nirvana_mri.backbone.cache import Cache
from nirvana_mri.backbone.config import BackboneConfig
from nirvana_mri.backbone.file import BackboneFile, inspect_backbone, load_backbone, save_backbone
from nirvana_mri.backbone.fingerprint import sha256
from nirvana_mri.backbone.hub import from_hub
from nirvana_mri.backbone.importing import import_published
from nirvana_mri.backbone.model import LayerRecord, NirvanaLM, NirvanaOutput
from nirvana_mri.backbone.published import load_published, published_parameters

__all__ = [
    "BackboneConfig",
    "BackboneFile",
    "Cache",
    "LayerRecord",
    "NirvanaLM",
    "NirvanaOutput",
    "from_hub",
    "import_published",
    "inspect_backbone",
    "load_backbone",
    "load_published",
    "published_parameters",
    "save_backbone",
    "sha256",
]
