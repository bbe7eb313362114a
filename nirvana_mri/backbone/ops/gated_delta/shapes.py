"""What must hold before the address of a tensor is given away."""

import torch
from torch import Tensor

from nirvana_mri.errors import UsageError


def check_shapes(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, state: Tensor | None) -> None:
    """Nothing, where all shapes belong together and all tensors lie on one device. Raises: UsageError."""
    if q.ndim != 4 or v.ndim != 4:
        raise UsageError(f"q and v must be [batch token head dim], not {list(q.shape)} and {list(v.shape)}")
    batch, tokens, heads, key = q.shape
    expected = {
        "k": (k, [batch, tokens, heads, key]),
        "v": (v, [batch, tokens, heads, v.shape[3]]),
        "g": (g, [batch, tokens, heads]),
        "beta": (beta, [batch, tokens, heads]),
    }
    if state is not None:
        expected["initial_state"] = (state, [batch, heads, key, v.shape[3]])
    for name, (tensor, shape) in expected.items():
        if list(tensor.shape) != shape:
            raise UsageError(f"{name} is {list(tensor.shape)}; beside q {list(q.shape)} it must be {shape}")
        if tensor.device != q.device:
            raise UsageError(f"{name} lies on {tensor.device}, q on {q.device}; move them to one device")


def check_dtype(dtype: torch.dtype, *tensors: Tensor | None) -> None:
    """Nothing, where all tensors have this dtype. Raises: UsageError."""
    for tensor in tensors:
        if tensor is not None and tensor.dtype != dtype:
            raise UsageError(f"a tensor of {tensor.dtype} among {dtype}; convert them to one dtype")
