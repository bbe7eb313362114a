"""A name for a set of weights that changes with any bit of them."""

import hashlib

import torch

from nirvana_mri.backbone.model import NirvanaLM
from nirvana_mri.backbone.published import published_parameters


def sha256(model: NirvanaLM) -> str:
    """The hexadecimal SHA-256 of the model's parameters: published names, dtypes, shapes and bytes.

    It depends on neither the device, nor the order in which modules were made, nor our own parameter names.
    """
    digest = hashlib.sha256()
    for name, parameter in sorted(published_parameters(model).items()):
        tensor = parameter.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
