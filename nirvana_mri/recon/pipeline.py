"""Scan in, Volume out: one slice at a time."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nirvana_mri import __version__
from nirvana_mri.errors import ScanError, UsageError
from nirvana_mri.recon.baselines import cg_sense, l1_wavelet
from nirvana_mri.recon.checkpoint import LoadedModel, backbone_sha256, load_model
from nirvana_mri.recon.coverage import distance_warnings
from nirvana_mri.recon.model import NirvanaRecon
from nirvana_mri.recon.problem import SliceProblem, prepare_slice, zero_filled
from nirvana_mri.recon.sampling import Sampling, choose_sampling
from nirvana_mri.scan import Scan
from nirvana_mri.volume import NOT_FOR_CLINICAL_USE, Volume

Solver = Callable[[SliceProblem], Tensor]
METHODS = ("nirvana", "zero-filled", "sense", "wavelet")
COMBINE = ("rss", "sense")
Model = LoadedModel | NirvanaRecon | str | Path


def reconstruct(
    scan: Scan,
    model: Model | None = None,
    method: str = "nirvana",
    accelerate: float | None = None,
    mask: str | Path | NDArray[np.bool_] = "equispaced_fraction",
    center_fraction: float = 0.08,
    seed: int = 0,
    *,
    slices: Sequence[int] | None = None,
    combine: str = "rss",
    keep_phase: bool = False,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Volume:
    """Reconstruct a scan: float32 magnitudes ``[slice, ny, nx]`` (complex64 with ``keep_phase``), on the scan's
    intensity scale.

    A fully sampled scan is thinned first where ``accelerate`` (with a mask kind, ``center_fraction`` and ``seed``) or a
    mask file or array is given; without either there is nothing to restore, and the picture is the plain coil
    combination whatever the method. An undersampled scan is reconstructed from what it holds. ``combine="rss"`` gives
    combined images the noise floor of a root sum of squares, which fastMRI's targets have; ``"sense"`` leaves it out,
    and is what ``keep_phase`` implies. ``model`` is a name, a path or a loaded model; None is the shipped ``nano``.
    ``progress(done, total)`` is called after each slice.

    Raises UsageError for options that do not exist, ScanError for data that cannot be used, CheckpointError for a
    broken model.
    """
    _check(method, combine, device)
    numbers = _slice_numbers(scan, slices)
    sampling = choose_sampling(scan, accelerate, mask, center_fraction, seed)
    loaded = _model(model, device) if method == "nirvana" else None
    solver = _solver(method, loaded)
    pictures = []
    for done, number in enumerate(numbers, 1):
        pictures.append(_slice(scan, number, sampling, solver, combine, keep_phase, device))
        if progress is not None:
            progress(done, len(numbers))
    return Volume(
        voxels=np.stack(pictures),
        affine=_affine(scan, numbers),
        mask=sampling.mask,
        provenance=_provenance(scan, method, loaded, sampling, "sense" if keep_phase else combine),
        name=scan.name,
        slices=tuple(numbers),
        orientation_known=scan.geometry.orientation_known,
        warnings=_warnings(scan, sampling, loaded),
    )


@torch.inference_mode()
def _slice(
    scan: Scan, number: int, sampling: Sampling, solver: Solver | None, combine: str, keep_phase: bool, device: str
) -> NDArray[Any]:
    kspace = scan.kspace[number]
    plain = solver is None or sampling.complete
    try:
        if plain and combine == "rss" and not keep_phase:
            return zero_filled(kspace, sampling.mask, scan.crop, device).cpu().numpy()
        problem = prepare_slice(kspace, sampling.mask, scan.crop, device)
    except ScanError as found:
        raise ScanError(f"slice {number}: {found}") from found
    image = problem.operator.adjoint(problem.data) if solver is None or plain else solver(problem)
    finished = problem.finish_complex(image) if keep_phase else problem.finish(image, combine)
    return np.ascontiguousarray(finished.cpu().numpy())


def _solver(method: str, loaded: LoadedModel | None) -> Solver | None:
    """The method as a function from a problem to a complex image; None is the plain combination."""
    if loaded is not None:
        network = loaded.model
        return lambda problem: network([problem])[0]
    return {"zero-filled": None, "sense": cg_sense, "wavelet": l1_wavelet}[method]


def _check(method: str, combine: str, device: str) -> None:
    if method not in METHODS:
        raise UsageError(f"method is {method!r}; expected one of {', '.join(METHODS)}")
    if combine not in COMBINE:
        raise UsageError(f"combine is {combine!r}; expected one of {', '.join(COMBINE)}")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as problem:
        raise UsageError(f"device is {device!r}, which this machine's torch cannot use; try cpu") from problem


def _slice_numbers(scan: Scan, slices: Sequence[int] | None) -> list[int]:
    count = scan.shape[0]
    numbers = list(range(count)) if slices is None else [int(number) for number in slices]
    if not numbers or min(numbers) < 0 or max(numbers) >= count:
        raise UsageError(f"slices are {numbers[:1]}…{numbers[-1:]}; expected at least one of 0 to {count - 1}")
    return numbers


def _model(model: Model | None, device: str) -> LoadedModel:
    if isinstance(model, LoadedModel):
        return model
    if isinstance(model, NirvanaRecon):
        return LoadedModel(model.eval(), "in memory", _weights_sha256(model), backbone_sha256(model), {}, {})
    return load_model("nano" if model is None else model, device)


def _weights_sha256(model: NirvanaRecon) -> str:
    """A name for weights that no file holds yet."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _affine(scan: Scan, numbers: list[int]) -> NDArray[np.float64]:
    affine = np.eye(4) if scan.geometry.affine is None else np.array(scan.geometry.affine, dtype=np.float64)
    moved = affine.copy()
    moved[:3, 3] += affine[:3, 2] * numbers[0]
    if len(numbers) > 1:
        moved[:3, 2] *= numbers[1] - numbers[0]
    return moved


def _provenance(
    scan: Scan, method: str, loaded: LoadedModel | None, sampling: Sampling, combine: str
) -> dict[str, Any]:
    return {
        "method": method,
        "applied": "plain coil combination: fully sampled, nothing to restore" if sampling.complete else method,
        "model": loaded.name if loaded else None,
        "model_sha256": loaded.sha256 if loaded else None,
        "backbone_sha256": loaded.backbone_sha256 if loaded else None,
        "sampling": sampling.description,
        "combine": combine,
        "simulated": scan.simulated,
        "source": {"format": scan.file_format, "coils": scan.shape[1], "matrix": list(scan.shape[2:])},
        "toolkit_version": __version__,
        "notice": NOT_FOR_CLINICAL_USE,
    }


def _warnings(scan: Scan, sampling: Sampling, loaded: LoadedModel | None) -> tuple[str, ...]:
    notes = list(scan.warnings)
    if sampling.complete:
        notes.append("the scan is fully sampled: nothing to restore; give accelerate to try a method on it")
    elif loaded is not None:
        notes += distance_warnings(loaded.covers, scan, sampling.acceleration)
    if sampling.description["origin"] == "retrospective" and not scan.fully_sampled:
        notes.append("the scan came undersampled; the mask left fewer samples than it asks for")
    return tuple(notes)
