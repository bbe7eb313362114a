"""What the optional implementations need, said in one line each without importing them."""

import os
from importlib.util import find_spec

import torch
from torch import Tensor

INSTALL = "is not installed: pip install 'nirvana-mri[gpu]'"
NARROW = (torch.bfloat16, torch.float16, torch.float32)


def interpreted() -> bool:
    """True where Triton's kernels run in its interpreter, on a CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def fla_missing() -> str | None:
    """Why fla-core cannot run here, or None."""
    if find_spec("fla") is None:
        return f"fla-core {INSTALL}"
    return None if torch.cuda.is_available() else "no CUDA device"


def triton_missing() -> str | None:
    """Why our Triton kernel cannot run here, or None."""
    if find_spec("triton") is None:
        return f"triton {INSTALL}"
    if torch.cuda.is_available() or interpreted():
        return None
    return "no CUDA device; set TRITON_INTERPRET=1 before the start to try it slowly on a CPU"


def fla_serves(tensor: Tensor) -> bool:
    """CUDA, and not float64."""
    return tensor.is_cuda and tensor.dtype in NARROW


def triton_serves(tensor: Tensor) -> bool:
    """CUDA, and not float64; in the interpreter float32 on a CPU (it is silently wrong in bfloat16)."""
    if interpreted() and not tensor.is_cuda:
        return tensor.dtype == torch.float32
    return tensor.is_cuda and tensor.dtype in NARROW
