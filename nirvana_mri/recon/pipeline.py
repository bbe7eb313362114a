"""Scan in, Volume out: one slice at a time."""

import hashlib
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nirvana_mri.errors import UsageError
from nirvana_mri.recon.adapt import MOST_SLICES
from nirvana_mri.recon.adapt import adapt as adapt_codecs
from nirvana_mri.recon.baselines import cg_sense, l1_wavelet
from nirvana_mri.recon.checkpoint import LoadedModel, backbone_sha256, load_model
from nirvana_mri.recon.dial import Dial, check_strength
from nirvana_mri.recon.errorbars import CalibratedBars, as_bars
from nirvana_mri.recon.model import NirvanaRecon
from nirvana_mri.recon.peers import PEERS, load_peer
from nirvana_mri.recon.problem import SliceProblem, Whitening, prepare_slice, whitening_of
from nirvana_mri.recon.provenance import affine_of, provenance_of, warnings_of
from nirvana_mri.recon.sampling import Sampling, choose_sampling
from nirvana_mri.recon.split import spread_evenly
from nirvana_mri.recon.stream import nothing
from nirvana_mri.recon.trust import trusted
from nirvana_mri.recon.withheld import Solver
from nirvana_mri.recon.work import Work, named
from nirvana_mri.scan import Scan
from nirvana_mri.volume import Volume

Progress = Callable[[int, int], None]
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
    prewhiten: bool = True,
    adapt: int = 0,
    strength: float = 1.0,
    trust: bool = False,
    error_bars: CalibratedBars | str | Path | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
    adapting: Progress | None = None,
) -> Volume:
    """Reconstruct a scan: float32 magnitudes ``[slice, ny, nx]`` (complex64 with ``keep_phase``), on the scan's
    intensity scale.

    A fully sampled scan is thinned first where ``accelerate`` (with a mask kind, ``center_fraction`` and ``seed``) or a
    mask file or array is given; without either there is nothing to restore, and the picture is the plain coil
    combination whatever the method. An undersampled scan is reconstructed from what it holds. ``combine="rss"`` gives
    combined images the brightness and noise floor of a root sum of squares, which fastMRI's targets have; ``"sense"``
    leaves both out, and is what ``keep_phase`` implies. Where the scan holds a noise measurement, coils are
    prewhitened for everything but the plain root sum of squares, which shows them as they are; ``prewhiten=False``
    leaves the measurement out. ``model`` is a name, a path or a loaded model; None is the shipped ``nano``. The methods
    ``fastmri-unet`` and ``fastmri-varnet`` are other people's networks: ``model`` is the file of their weights, they
    read the coils as measured, and give root-sum-of-squares magnitudes alone. With ``adapt`` the model's codecs first
    take so many steps at most on this scan's own samples (see :mod:`nirvana_mri.recon.adapt`); what came of it is in
    the provenance. ``strength`` turns the model's answer towards CG-SENSE's, which it is at 0 (see :class:`Dial`).
    ``trust`` also measures, in three slices at most, the residual on withheld lines and what was invented: both are in
    the provenance, their pictures in ``Volume.maps``, to which ``error_bars`` (calibrated ones, their file, or
    "shipped") add more.
    ``progress(done, total)`` is called after each slice, ``adapting(done, total)`` after each step.

    Raises UsageError for options that do not exist, ScanError for data that cannot be used, CheckpointError for a
    broken model.
    """
    head, pictures = reconstruct_slices(
        scan,
        model,
        method,
        accelerate,
        mask,
        center_fraction,
        seed,
        slices=slices,
        combine=combine,
        keep_phase=keep_phase,
        prewhiten=prewhiten,
        adapt=adapt,
        strength=strength,
        trust=trust,
        error_bars=error_bars,
        device=device,
        adapting=adapting,
    )
    voxels = np.empty(head.voxels.shape, head.voxels.dtype)
    with closing(pictures):
        for number, picture in enumerate(pictures):
            voxels[number] = picture
            if progress is not None:
                progress(number + 1, len(voxels))
    return replace(head, voxels=voxels)


def reconstruct_slices(
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
    prewhiten: bool = True,
    adapt: int = 0,
    strength: float = 1.0,
    trust: bool = False,
    error_bars: CalibratedBars | str | Path | None = None,
    device: str = "cpu",
    adapting: Progress | None = None,
) -> tuple[Volume, Generator[NDArray[Any]]]:
    """(head, pictures): all that :func:`reconstruct` says of the volume, and its slices one at a time, made when asked
    for.

    The head's voxels have the volume's shape and type, are zero, and take no memory; nor do the pictures that came
    before. The next slice of a file is read while one is reconstructed. Arguments and errors as for
    :func:`reconstruct`; what is wrong with a slice is raised when its turn comes, all else at once.
    """
    _check(method, combine, keep_phase, device)
    _check_adapt(adapt, method)
    _check_strength(strength, method)
    bars = as_bars(error_bars)
    numbers = slice_numbers(scan, slices)
    sampling = choose_sampling(scan, accelerate, mask, center_fraction, seed)
    loaded = as_loaded(model, device) if method == "nirvana" else None
    peer = load_peer(method, weights_file(model), device) if method in PEERS else None
    solver = None if sampling.complete or peer else _solver(method, loaded, strength)
    combine = "sense" if keep_phase else combine
    plain = solver is None and combine == "rss"
    white = whitening_of(scan, device) if prewhiten and not plain else None
    adaptation = None
    if adapt and loaded is not None:
        learned_from = _learned_from(scan, numbers, sampling, white, device)
        network, adaptation = adapt_codecs(loaded.model, learned_from, adapt, seed, adapting)
        loaded = replace(loaded, model=network)
        solver = _solver(method, loaded, strength)
    size = min(scan.crop[0], scan.shape[2]), min(scan.crop[1], scan.shape[3])
    head = Volume(
        voxels=nothing((len(numbers), *size), np.complex64 if keep_phase else np.float32),
        affine=affine_of(scan, numbers),
        mask=sampling.mask,
        provenance=provenance_of(scan, method, loaded or peer, sampling, combine, white is not None)
        | ({"strength": strength} if loaded is not None else {})
        | ({} if adaptation is None else {"adaptation": asdict(adaptation)}),
        name=scan.name,
        slices=tuple(numbers),
        orientation_known=scan.geometry.orientation_known,
        warnings=warnings_of(scan, sampling, loaded),
    )
    peer = None if sampling.complete else peer
    work = Work(scan, sampling.mask, solver, peer, combine, keep_phase, white, device)
    if trust or bars is not None:
        head = trusted(head, work, bars, seed)
    return head, work.pictures(numbers, head.voxels[0])


def _learned_from(
    scan: Scan, numbers: Sequence[int], sampling: Sampling, white: Whitening | None, device: str
) -> list[SliceProblem]:
    """A few slices to adapt to, spread over those that are wanted. Raises: UsageError where nothing was left out, or
    there is nothing in them.
    """
    if sampling.complete:
        raise UsageError(
            "adapt is for undersampled scans, and this one is complete; add accelerate, or leave adapt out"
        )
    problems = []
    for number in (numbers[place] for place in spread_evenly(len(numbers), MOST_SLICES)):
        kspace = scan.kspace[number]
        if scan.raw or kspace.any():  # a picture may have slices with nothing in them
            with named(number):
                problems.append(prepare_slice(kspace, sampling.mask, scan.crop, device, white))
    if not problems:
        raise UsageError("adapt finds nothing in the slices that it would learn from; choose others, or leave it out")
    return problems


def _solver(method: str, loaded: LoadedModel | None, strength: float = 1.0) -> Solver | None:
    """The method as a function from a problem to a complex image; None is the plain combination."""
    if loaded is not None:
        network = loaded.model
        if strength == 0:
            return cg_sense
        if strength < 1:
            return lambda problem: Dial.between(network([problem])[0], cg_sense(problem), problem).at(strength)
        return lambda problem: network([problem])[0]
    return {"zero-filled": None, "sense": cg_sense, "wavelet": l1_wavelet}[method]


def _check(method: str, combine: str, keep_phase: bool, device: str) -> None:
    if method not in (*METHODS, *PEERS):
        raise UsageError(f"method is {method!r}; expected one of {', '.join((*METHODS, *PEERS))}")
    if combine not in COMBINE:
        raise UsageError(f"combine is {combine!r}; expected one of {', '.join(COMBINE)}")
    if method in PEERS and (keep_phase or combine != "rss"):
        raise UsageError(f"method {method} gives magnitudes of root sums of squares alone; leave combine and phase out")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as problem:
        raise UsageError(f"device is {device!r}, which this machine's torch cannot use; try cpu") from problem


def _check_adapt(adapt: int, method: str) -> None:
    if adapt < 0:
        raise UsageError(f"adapt is {adapt}; expected a number of steps, or 0 for none")
    if adapt and method != "nirvana":
        raise UsageError(f"adapt is for method nirvana; {method} has nothing that adapts")


def _check_strength(strength: float, method: str) -> None:
    check_strength(strength)
    if strength != 1 and method != "nirvana":
        raise UsageError(f"strength is for method nirvana; {method} has no prior to turn down: leave it out")


def slice_numbers(scan: Scan, slices: Sequence[int] | None) -> list[int]:
    """The slices that are meant (None: all). Raises: UsageError for one that the scan has not."""
    count = scan.shape[0]
    numbers = list(range(count)) if slices is None else [int(number) for number in slices]
    if not numbers or min(numbers) < 0 or max(numbers) >= count:
        raise UsageError(f"slices are {numbers[:1]}…{numbers[-1:]}; expected at least one of 0 to {count - 1}")
    return numbers


def as_loaded(model: Model | None, device: str) -> LoadedModel:
    """A model by name, by path, or as it is; None is the shipped ``nano``."""
    if isinstance(model, LoadedModel):
        return model
    if isinstance(model, NirvanaRecon):
        return LoadedModel(model.eval(), "in memory", _weights_sha256(model), backbone_sha256(model), {}, {})
    return load_model("nano" if model is None else model, device)


def weights_file(model: Model | None) -> Path | None:
    """The file of a peer's weights, if one is named."""
    return Path(model) if isinstance(model, str | Path) and str(model) != "nano" else None


def _weights_sha256(model: NirvanaRecon) -> str:
    """A name for weights that no file holds yet."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
