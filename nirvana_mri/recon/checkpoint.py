"""One file holds a model: weights, configuration, the backbone's fingerprint, the split and the mask recipe.

A large backbone lies in a file of its own beside it (see frozen.py).
"""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from nirvana_mri import __version__
from nirvana_mri.atomic import atomic_path
from nirvana_mri.backbone import NirvanaLM, sha256
from nirvana_mri.backbone.tokenizer import BPETokenizer
from nirvana_mri.errors import CheckpointError, UsageError
from nirvana_mri.recon.frozen import BESIDE, FrozenPart, packed, read_beside
from nirvana_mri.recon.model import NirvanaRecon, NirvanaReconConfig

FORMAT = "nirvana-mri-model/1"
SHIPPED = ("nano",)
SLACK = 2  # times the file's weights that making its model may ask for: shared ones count twice


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model ready to reconstruct, with what its file says of it.

    ``sha256`` names the file's bytes; ``covers`` says what it was trained for, ``training`` how (data, split, masks).
    """

    model: NirvanaRecon
    name: str
    sha256: str
    backbone_sha256: str
    covers: Mapping[str, Any]
    training: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"LoadedModel({self.name}, sha256 {self.sha256[:12]}, not for clinical use)"


def save_checkpoint(
    model: NirvanaRecon,
    path: Path,
    *,
    covers: Mapping[str, Any],
    training: Mapping[str, Any],
    codec_dtype: torch.dtype = torch.float32,
    codecs: Mapping[str, Tensor] | None = None,
    frozen: FrozenPart | None = None,
) -> None:
    """Write the whole model, atomically. The backbone goes as bfloat16 where that loses nothing, else as it is.

    ``codecs`` replaces the codecs' own weights (an average of them, say), by the names of ``model.state_dict()``.
    ``frozen`` is what the file shall hold of the backbone, where that was made ready before.
    """
    frozen = frozen_part(model) if frozen is None else frozen
    own = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("backbone.")}
    state = {**own, **(codecs or {})}
    tensors = {name: tensor.detach().cpu().to(codec_dtype).contiguous() for name, tensor in state.items()}
    metadata = {
        "format": FORMAT,
        "toolkit_version": __version__,
        "config": json.dumps(model.config.as_dict()),
        "backbone_sha256": frozen.sha256,
        "covers": json.dumps(covers),
        "training": json.dumps(training),
        "notice": "not for clinical use",
    }
    if model.backbone is not None and not frozen.tensors:
        metadata["backbone_file"] = BESIDE
    if model.tokenizer is not None:
        metadata["tokenizer"] = model.tokenizer.serialised
    with atomic_path(path) as temporary:
        save_file({**tensors, **frozen.tensors}, temporary, metadata)


def frozen_part(model: NirvanaRecon, beside: bool = False) -> FrozenPart:
    """What files hold of the model's backbone, made ready once for many of them; nothing but its fingerprint where it
    lies beside them.
    """
    return FrozenPart({} if beside else packed(model), backbone_sha256(model))


def backbone_sha256(model: NirvanaRecon) -> str:
    """The fingerprint of the language model's weights in float32, in whatever dtype they are; ``none`` without one.

    Where they are cut up over processes, every one has to ask.
    """
    return "none" if model.backbone is None else sha256(model.backbone, torch.float32)


def load_model(name: str | Path = "nano", device: str | torch.device = "cpu") -> LoadedModel:
    """The shipped model of that name, or the model in a checkpoint file.

    Raises UsageError for a name that is neither, CheckpointError for a file that is no checkpoint of ours, is damaged,
    or holds a backbone whose fingerprint is not the one it was trained with.
    """
    path = _locate(name)
    stamp = path.stat()
    return _load(path, stamp.st_mtime_ns, stamp.st_size, str(device))


@lru_cache(maxsize=2)
def _load(path: Path, modified: int, size: int, device: str) -> LoadedModel:
    metadata, tensors = _read(path)
    try:
        config = NirvanaReconConfig.from_dict(json.loads(metadata["config"]))
        covers, training = json.loads(metadata["covers"]), json.loads(metadata["training"])
        # The file holds the backbone's weights, whatever the shipped one is by now.
        words = BPETokenizer(metadata["tokenizer"], str(path)) if "tokenizer" in metadata else None
        if "backbone_file" in metadata:
            beside = read_beside(path)
            tensors |= {f"backbone.{name}": tensor for name, tensor in beside.state_dict().items()}
            backbone: NirvanaLM | None = beside
        else:
            backbone = None
        with _no_larger_than(SLACK * sum(tensor.numel() for tensor in tensors.values())):
            if backbone is None and config.backbone != "none":
                backbone = NirvanaLM(config.lm)
            model = NirvanaRecon(config, backbone, words)
        model.load_state_dict({key: tensor.float() for key, tensor in tensors.items()}, strict=True)
    except (KeyError, TypeError, ValueError, ArithmeticError, RuntimeError) as problem:
        reason = " ".join(str(problem).split())[:200]
        raise CheckpointError(
            f"{path}: not a complete model of this version ({reason}); was it made by `train`?"
        ) from problem
    model.requires_grad_(False).eval().to(device)
    found = backbone_sha256(model)
    if found != metadata.get("backbone_sha256"):
        raise CheckpointError(
            f"{path}: its backbone is {found[:12]}, not the one it was trained with; "
            + (f"is {BESIDE} beside it another model's?" if "backbone_file" in metadata else "the file is damaged")
        )
    return LoadedModel(model, path.stem, _file_sha256(path), found, covers, training)


@contextmanager
def _no_larger_than(weights: int) -> Iterator[None]:
    """ValueError once the modules that this thread makes have more weights: before memory is spent on them, as torch
    lays a weight out before it fills it.
    """
    left, thread = weights, threading.get_ident()

    def count(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> None:
        nonlocal left
        left -= parameter.numel() if parameter is not None and threading.get_ident() == thread else 0
        if left < 0:
            raise ValueError("its configuration asks for more weights than it holds")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _locate(name: str | Path) -> Path:
    if str(name) in SHIPPED:
        path = Path(str(resources.files("nirvana_mri") / "weights" / f"{name}.safetensors"))
        if not path.is_file():
            raise CheckpointError(
                f"the shipped model {name!r} is missing from this installation; reinstall nirvana-mri"
            )
        return path
    path = Path(name)
    if not path.is_file():
        raise UsageError(f"model {str(name)!r} is neither a file nor a shipped model ({', '.join(SHIPPED)})")
    return path


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            if metadata.get("format") != FORMAT:
                raise CheckpointError(
                    f"{path}: format is {metadata.get('format')!r}; expected {FORMAT!r}, as `train` writes it"
                )
            return metadata, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except (safetensors.SafetensorError, OSError) as problem:
        raise CheckpointError(f"{path}: not a readable safetensors file ({problem}); is it complete?") from problem


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
