"""How a model's files hold its language model, which never changes: inside each, or once in a file beside them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nirvana_mri.backbone import NirvanaLM, load_backbone, save_backbone
from nirvana_mri.errors import CheckpointError
from nirvana_mri.recon.model import NirvanaRecon

BESIDE = "backbone.safetensors"  # in the model file's own folder
LARGE = 100_000_000  # weights from which on a run does not write them again with every model file


@dataclass(frozen=True, eq=False)
class FrozenPart:
    """What a model file holds of the language model: tensors by name (none: they lie beside it), fingerprint."""

    tensors: Mapping[str, Tensor]
    sha256: str


def is_large(model: NirvanaRecon) -> bool:
    """Whether the language model is too large to be written again and again."""
    return model.backbone is not None and sum(weight.numel() for weight in model.backbone.parameters()) >= LARGE


def packed(model: NirvanaRecon) -> dict[str, Tensor]:
    """The language model's weights by name: as bfloat16 where that loses nothing, else as they are."""
    found = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("backbone.")}
    return {name: _packed(tensor.detach().cpu()) for name, tensor in found.items()}


def write_beside(model: NirvanaRecon, folder: Path) -> None:
    """Leave the language model's file in a folder for model files."""
    assert model.backbone is not None
    save_backbone(model.backbone, folder / BESIDE, {"frozen in": "nirvana-mri train"}, model.tokenizer)


def read_beside(path: Path) -> NirvanaLM:
    """The language model that a model file without one needs, in float32. Raises: CheckpointError where it is missing
    or damaged.
    """
    file = path.parent / BESIDE
    if not file.is_file():
        raise CheckpointError(
            f"{path}: its language model is not in the file but in {BESIDE} beside it, which is missing; copy both"
        )
    return load_backbone(file, dtype=torch.float32)


def stored_low(backbone: NirvanaLM, dtype: torch.dtype) -> bool:
    """Store the weights in a shorter dtype if that loses nothing of them; whether it was done."""
    if not all(torch.equal(weight.to(dtype).to(weight.dtype), weight) for weight in backbone.parameters()):
        return False
    backbone.to(dtype)
    return True


def _packed(tensor: Tensor) -> Tensor:
    short = tensor.bfloat16()
    return short.contiguous() if torch.equal(short.to(tensor.dtype), tensor) else tensor.contiguous()
