"""Scan in, draft findings out: what a model that was taught so says of each slice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nirvana_mri.errors import DataError, ScanError, UsageError
from nirvana_mri.findings.constrained import Said, write
from nirvana_mri.findings.finding import Findings, collect
from nirvana_mri.findings.grammar import Grammar
from nirvana_mri.findings.text import Exam, limits_of, sections
from nirvana_mri.findings.vocabulary import SIMULATED, Vocabulary, vocabulary
from nirvana_mri.recon.checkpoint import LoadedModel, load_model
from nirvana_mri.recon.coverage import anatomy_of, distance_warnings
from nirvana_mri.recon.model import NirvanaRecon
from nirvana_mri.recon.problem import SliceProblem, prepare_slice, whitening_of
from nirvana_mri.recon.sampling import choose_sampling
from nirvana_mri.recon.stream import slices_of
from nirvana_mri.scan import Scan

TEACH = "nirvana-mri train --stage encoder --data DIR --out RUN (with --annotations knee.csv for fastMRI+)"


def draft_findings(
    scan: Scan,
    model: LoadedModel | str | Path,
    accelerate: float | None = None,
    mask: str | Path | NDArray[np.bool_] = "equispaced_fraction",
    center_fraction: float = 0.08,
    seed: int = 0,
    *,
    slices: Sequence[int] | None = None,
    prewhiten: bool = True,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Findings:
    """What the model says of a scan, confined to the vocabulary that it was taught: a machine draft, unverified.

    The encoder's tokens of each slice go, with the vocabulary's question, through the frozen language model, which
    then writes the likeliest answer that the vocabulary allows. Sampling options are those of :func:`reconstruct`.
    The same scan, model and options give the same findings. ``progress(done, total)`` is called after each slice.

    Raises: UsageError for a model that was never taught findings, and for options that do not exist; DataError for a
    scan of an anatomy that the model was not taught; ScanError for data that cannot be used.
    """
    loaded = model if isinstance(model, LoadedModel) else load_model(model, device)
    spoken = taught(loaded)
    _require_anatomy(scan, loaded, spoken)
    sampling = choose_sampling(scan, accelerate, mask, center_fraction, seed)
    numbers = _numbers(scan, slices)
    said, matrix = _read(scan, loaded, spoken, sampling.mask, numbers, prewhiten, device, progress)
    read = tuple(number for number, _ in said)
    findings = collect(said, spoken, matrix)
    warnings = _warnings(scan, loaded, spoken, sampling.acceleration, sorted(set(numbers) - set(read)))
    limits = limits_of(spoken, dict(loaded.training.get("metrics") or {}), warnings)
    exam = Exam(
        contrast=str(scan.metadata["acquisition"]) if scan.metadata.get("acquisition") else None,
        slices=read,
        coils=scan.shape[1],
        matrix=matrix,
        acceleration=sampling.acceleration,
        sampling=str(sampling.description["origin"]),
        simulated=scan.simulated,
        mapped=loaded.model.knows_labels,
    )
    text = sections(exam, findings, spoken, loaded.name, loaded.sha256, limits)
    return Findings(findings, spoken, loaded.name, loaded.sha256, read, matrix, text, limits, warnings)


def _read(
    scan: Scan,
    loaded: LoadedModel,
    spoken: Vocabulary,
    mask: NDArray[np.bool_],
    numbers: Sequence[int],
    prewhiten: bool,
    device: str,
    progress: Callable[[int, int], None] | None,
) -> tuple[list[tuple[int, tuple[Said, ...]]], tuple[int, int]]:
    """What is said of each slice that holds anything, and (ny, nx) of the finished pictures."""
    assert loaded.model.tokenizer is not None
    grammar = Grammar(spoken, loaded.model.tokenizer)
    white = whitening_of(scan, device) if prewhiten else None
    said, matrix = [], (0, 0)
    with closing(slices_of(scan, numbers)) as coming:
        for done, (number, kspace) in enumerate(zip(numbers, coming, strict=True), start=1):
            if scan.raw or kspace.any():  # a picture may have slices with nothing in them
                try:
                    problem = prepare_slice(kspace, mask, scan.crop, device, white)
                except ScanError as found:
                    raise ScanError(f"slice {number}: {found}") from found
                matrix = problem.crop
                said.append((number, read_slice(loaded.model, problem, grammar)))
            if progress is not None:
                progress(done, len(numbers))
    if not said:
        raise ScanError(f"the slices {numbers[0]} to {numbers[-1]} hold nothing to read; choose others")
    return said, matrix


@torch.no_grad()
def read_slice(model: NirvanaRecon, problem: SliceProblem, grammar: Grammar) -> tuple[Said, ...]:
    """What the model says of one slice."""
    assert model.backbone is not None
    if model.knows_labels:
        return write(model.backbone, model.told([problem]), grammar, after=True)
    return write(model.backbone, model.tokens([problem]), grammar)


def taught(loaded: LoadedModel) -> Vocabulary:
    """The vocabulary that the model's encoder was trained to have said.

    Raises: UsageError where its file tells of none, or of one that has changed since.
    """
    told = loaded.training.get("findings")
    if not isinstance(told, Mapping) or loaded.model.tokenizer is None or loaded.model.backbone is None:
        raise UsageError(f"model {loaded.name} was never taught to say findings; train one that is: {TEACH}")
    spoken = vocabulary(str(told.get("vocabulary")))
    if told.get("sha256") != spoken.sha256:
        raise UsageError(
            f"model {loaded.name} was taught another vocabulary {spoken.name!r} ({str(told.get('sha256'))[:12]}) than "
            f"this version has ({spoken.sha256[:12]}); train it anew: {TEACH}"
        )
    return spoken


def _require_anatomy(scan: Scan, loaded: LoadedModel, spoken: Vocabulary) -> None:
    """DataError where the scan is known to show what the model was not taught."""
    shown = anatomy_of(scan)
    allowed = [spoken.anatomy] if spoken.anatomy else list(loaded.covers.get("anatomy") or ())
    if shown is not None and allowed and shown not in allowed:
        raise DataError(
            f"the scan seems to be of the {shown}; model {loaded.name} was taught findings of the "
            f"{' and '.join(allowed)} only; choose a model that was taught the {shown}"
        )


def _warnings(
    scan: Scan, loaded: LoadedModel, spoken: Vocabulary, acceleration: float, empty: Sequence[int]
) -> tuple[str, ...]:
    notes = list(distance_warnings(loaded.covers, scan, acceleration))
    if spoken.anatomy and anatomy_of(scan) is None:
        notes.append(f"the scan does not say what it shows; the model's findings are of the {spoken.anatomy}")
    if spoken.name == SIMULATED:
        notes.append("the model was taught lesions that were put into pictures by a program; none of them is a disease")
    if empty:
        notes.append(f"{len(empty)} slices hold nothing and were not read, the first of them {empty[0]}")
    return tuple(notes)


def _numbers(scan: Scan, slices: Sequence[int] | None) -> list[int]:
    count = scan.shape[0]
    numbers = list(range(count)) if slices is None else [int(number) for number in slices]
    if not numbers or min(numbers) < 0 or max(numbers) >= count:
        raise UsageError(f"slices are {numbers[:1]}…{numbers[-1:]}; expected at least one of 0 to {count - 1}")
    return numbers
