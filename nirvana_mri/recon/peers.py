"""Other people's networks as methods, from their weights' files: fastMRI's U-Net and E2E-VarNet."""

import hashlib
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from nirvana_mri.errors import CheckpointError, ScanError, UsageError
from nirvana_mri.physics.coils import rss
from nirvana_mri.physics.fourier import ifft2c
from nirvana_mri.recon.fastmri_networks import FastMRIUnet, FastMRIVarNet
from nirvana_mri.recon.problem import centre_crop

PEERS = ("fastmri-unet", "fastmri-varnet")
LARGEST = 8 << 30  # bytes
TINY, MOST = 1e-11, 6.0  # fastMRI's normalisation of a U-Net's input: added to the deviation, and where it is cut off


@dataclass(frozen=True, eq=False)
class Peer:
    """A network and the name of its weights."""

    method: str
    network: nn.Module
    sha256: str

    @property
    def name(self) -> str:
        return f"weights of {self.method}"

    def restored(
        self, kspace: np.ndarray, mask: np.ndarray, crop: tuple[int, int], device: str = "cpu"
    ) -> Float[Tensor, "my mx"]:
        """The magnitude picture of k-space complex64 ``[coil ny nx]`` where ``mask`` is True; nothing else is read."""
        measured = torch.from_numpy(np.where(mask, kspace, 0).astype(np.complex64)).to(device)
        return self.picture(measured, torch.from_numpy(mask).to(device), crop)

    def picture(
        self, kspace: Complex[Tensor, "coil ny nx"], mask: Tensor, crop: tuple[int, int]
    ) -> Float[Tensor, "my mx"]:
        """The magnitude picture of measured k-space, zero where ``mask`` is False, on the scan's intensity scale."""
        if isinstance(self.network, FastMRIVarNet):
            if mask.ndim != 1:
                raise ScanError(f"{self.method} reads whole columns, and this sampling has none; choose a column mask")
            scale = float(kspace.abs().max()) or 1.0  # its norms take care of scale; float32 must not run out
            return centre_crop(self.network(kspace / scale, mask) * scale, crop)
        picture = centre_crop(rss(ifft2c(kspace)), crop)
        mean, deviation = picture.mean(), picture.std() + TINY * float(picture.abs().max())
        seen = ((picture - mean) / deviation).clamp(-MOST, MOST)
        restored: Tensor = self.network(seen[None, None])[0, 0]
        return restored * deviation + mean


def load_peer(method: str, weights: Path | None, device: str = "cpu") -> Peer:
    """A peer from a file of weights, as fastMRI publishes them or as its training leaves them (.pt, .ckpt).

    The network's size is told by the shapes. Only tensors are unpickled. Raises: UsageError without such a file,
    CheckpointError for one that holds no weights of this network.
    """
    if weights is None:
        raise UsageError(f"method {method} needs its weights; name their file with --weights")
    if not weights.is_file():
        raise UsageError(f"{weights}: no such file; expected the weights of {method}")
    stamp = weights.stat()
    if stamp.st_size > LARGEST:
        raise CheckpointError(f"{weights}: larger than {LARGEST >> 30} GiB; is it a file of weights?")
    return _load(method, weights, stamp.st_mtime_ns, stamp.st_size, device)


@lru_cache(maxsize=2)
def _load(method: str, weights: Path, modified: int, size: int, device: str) -> Peer:
    try:
        found = torch.load(weights, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as problem:
        reason = " ".join(str(problem).split())[:120]
        raise CheckpointError(f"{weights}: not a file of weights that can be read safely ({reason})") from problem
    state = _state(found, weights)
    try:
        with torch.device("meta"):  # shapes alone decide the size: nothing is allocated for what a file merely claims
            network = _varnet(state) if method == "fastmri-varnet" else _unet(state)
        if network is None:
            raise CheckpointError(f"{weights}: holds no weights of {method}; its names begin with {_some(state)}")
        network.load_state_dict(state, strict=True, assign=True)
    except (RuntimeError, OverflowError, TypeError, ValueError) as problem:
        reason = " ".join(str(problem).split())[:160]
        raise CheckpointError(f"{weights}: does not fit {method} ({reason})") from problem
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Peer(method, network.requires_grad_(False).eval().to(device), digest)


def _state(found: Any, path: Path) -> dict[str, Tensor]:
    """The tensors by name, without what a training put before them."""
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise CheckpointError(f"{path}: holds no tensors by name; expected a state_dict")
    names = {str(name): value for name, value in found.items() if not str(name).startswith("loss.")}
    return {re.sub(r"^(varnet|unet|module)\.(?=cascades|sens_net|down|up|conv)", "", n): v for n, v in names.items()}


def _unet(state: Mapping[str, Tensor]) -> FastMRIUnet | None:
    first = state.get("down_sample_layers.0.layers.0.weight")
    last = state.get(f"up_conv.{_count(state, 'up_conv') - 1}.1.weight")
    if first is None or last is None or first.ndim != 4 or first.shape[1] != 1 or last.shape[:1] != (1,):
        return None
    return FastMRIUnet(1, 1, first.shape[0], _count(state, "down_sample_layers"))


def _varnet(state: Mapping[str, Tensor]) -> FastMRIVarNet | None:
    one, maps = "cascades.0.model.unet.down_sample_layers", "sens_net.norm_unet.unet.down_sample_layers"
    first, second = (state.get(f"{where}.0.layers.0.weight") for where in (one, maps))
    if first is None or second is None or first.ndim != 4 or second.ndim != 4:
        return None
    pools, sens_pools = _count(state, one), _count(state, maps)
    return FastMRIVarNet(_count(state, "cascades"), first.shape[0], pools, second.shape[0], sens_pools)


def _count(state: Mapping[str, Tensor], where: str) -> int:
    """How many members a list of modules has, at most 64."""
    numbers = {name[len(where) + 1 :].split(".")[0] for name in state if name.startswith(f"{where}.")}
    return min(64, len(numbers))


def _some(state: Mapping[str, Tensor]) -> str:
    return ", ".join(sorted(state)[:3])[:120]
