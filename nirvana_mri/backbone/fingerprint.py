"""A name for a set of weights that changes with any bit of them."""

import hashlib

import torch
from torch import Tensor

from nirvana_mri.backbone.layout import raw_bytes
from nirvana_mri.backbone.model import NirvanaLM
from nirvana_mri.backbone.published import published_parameters
from nirvana_mri.backbone.shards import whole


class Fingerprint:
    """The SHA-256 of published names, dtypes, shapes and bytes, of tensors added one by one in the order of names."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, name: str, tensor: Tensor) -> None:
        self._digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        self._digest.update(raw_bytes(tensor.detach().cpu().contiguous()))

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def sha256(model: NirvanaLM, dtype: torch.dtype | None = None) -> str:
    """The hexadecimal SHA-256 of the model's parameters: published names, dtypes, shapes and bytes.

    It depends on neither the device, nor the order in which modules were made, nor our own parameter names. With
    ``dtype`` it is that of the same weights converted. Where they are cut up, every process has to ask.
    """
    fingerprint = Fingerprint()
    for name, parameter in sorted(published_parameters(model).items()):
        fingerprint.add(name, whole(parameter).to(dtype or parameter.dtype))
    return fingerprint.hexdigest()
