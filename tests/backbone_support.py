"""What the tests of the backbone share: the ground truth's files, the measure of error, a tiny model."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from nirvana_mri.backbone import BackboneConfig, NirvanaLM, load_published
from nirvana_mri.backbone.ops.registry import find

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
PREFIX = {torch.float64: "f64", torch.float32: "f32"}
DTYPES = [torch.float64, torch.float32]
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@dataclass(frozen=True)
class Truth:
    """One file of the ground truth: all tensors under their names, and the header."""

    info: dict[str, Any]
    tensors: dict[str, Tensor]

    @classmethod
    def read(cls, folder: Path, name: str) -> "Truth":
        with safe_open(folder / "nirvana" / f"{name}.safetensors", "pt") as file:
            return cls(json.loads(file.metadata()["info"]), {key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118

    def under(self, prefix: str, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """The tensors under a prefix, without it; floating-point ones in the dtype asked for."""
        return {
            key.removeprefix(prefix): value.to(dtype) if dtype and value.is_floating_point() else value
            for key, value in self.tensors.items()
            if key.startswith(prefix)
        }

    def model(self, dtype: torch.dtype, window_size: int | None) -> NirvanaLM:
        model = NirvanaLM(BackboneConfig.from_published(self.info["config"], window_size=window_size)).to(dtype)
        load_published(model, self.under("param."))
        return model.eval().requires_grad_(False)


def error(found: Tensor, expected: Tensor) -> float:
    """max |a - b| / max |b|; shape and dtype must be the same, and no NaN: Python's max would pass over it."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    found, expected = found.detach(), expected.detach()
    distance = (found - expected).abs().max()
    assert not distance.isnan()
    return float(distance / expected.abs().max()) if distance else 0.0


def tiny_config(**changes: Any) -> BackboneConfig:
    options: dict[str, Any] = dict(
        vocab_size=29,
        hidden_size=16,
        num_layers=4,
        num_heads=2,
        concept_dim=4,
        logit_dim=3,
        intermediate_size=24,
        initializer_range=0.3,
        tie_word_embeddings=True,
    )
    return BackboneConfig(**(options | changes))


def tiny_model(seed: int = 0, dtype: torch.dtype = torch.float64, **changes: Any) -> NirvanaLM:
    return NirvanaLM(tiny_config(**changes), seed=seed).to(dtype).eval().requires_grad_(False)


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def require(operation: str, implementation: str, dtype: torch.dtype) -> None:
    """Skip where an implementation does not take this dtype: the reason is the rule that it states."""
    if not find(operation)[implementation].serves(torch.empty(0, dtype=dtype)):
        pytest.skip(f"{operation}: {implementation} does not take {dtype}")


def with_gradients(outputs: tuple[Tensor, ...], inputs: list[Tensor]) -> list[Tensor]:
    """The outputs, and the gradients of one random functional of all of them."""
    functional = sum((noise(*out.shape, seed=7 + i) * out).sum() for i, out in enumerate(outputs))
    return [out.detach() for out in outputs] + list(torch.autograd.grad(functional, inputs))


def interpret_at_once() -> None:
    """Let Triton's interpreter put its functions into triton.language once, for good.

    Left alone it does so anew in every call of a helper function, which takes longer than the arithmetic.
    """
    from triton import language
    from triton.runtime import interpreter

    scope = interpreter._patch_lang(SimpleNamespace(__globals__={"language": language, "core": language.core}))
    interpreter._patch_lang = lambda fn: type(scope)()  # nothing to do, nothing to undo


if INTERPRETED and find_spec("triton"):
    interpret_at_once()


def in_the_interpreter(file: str, chosen: str, passed: int) -> None:
    """Run the chosen tests of a file with Triton's kernels in their interpreter; as many as said must pass.

    It must be asked for before Triton is imported, so it has a process of its own; without a GPU, so that both the
    arithmetic and the places in memory are the interpreter's.
    """
    if find_spec("triton") is None or INTERPRETED:
        pytest.skip("this is the interpreter's own process" if INTERPRETED else "triton is not installed")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0", "-k", chosen, file]
    environment = os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=900)
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-2000:]
    assert f"{passed} passed" in ended.stdout
