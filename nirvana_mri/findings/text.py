"""Draft findings in sentences: exam, technique, findings by structure, impression, limits; the watermark on each."""

from collections.abc import Sequence
from dataclasses import dataclass

from nirvana_mri.findings.constrained import SCORE
from nirvana_mri.findings.finding import WATERMARK, Finding
from nirvana_mri.findings.statement import GRID
from nirvana_mri.findings.vocabulary import Vocabulary
from nirvana_mri.ranges import number_ranges


@dataclass(frozen=True)
class Exam:
    """What is measured of the scan, and how it was read: no name, no identity. ``mapped``: by a map of labels."""

    contrast: str | None
    slices: tuple[int, ...]
    coils: int
    matrix: tuple[int, int]
    acceleration: float
    sampling: str
    simulated: bool
    mapped: bool = False


def sections(
    exam: Exam, found: Sequence[Finding], vocabulary: Vocabulary, model: str, model_sha256: str, limits: Sequence[str]
) -> dict[str, str]:
    """Each section as one text that begins with the watermark."""
    texts = {
        "exam": _exam(exam, vocabulary),
        "technique": _technique(exam, vocabulary, model, model_sha256),
        "findings": _by_structure(found, vocabulary),
        "impression": _impression(found),
        "limits": " ".join(limits),
    }
    return {name: f"[{WATERMARK}] {text}" for name, text in texts.items()}


def limits_of(vocabulary: Vocabulary, training: dict[str, object], warnings: Sequence[str]) -> tuple[str, ...]:
    """What such a draft cannot do, in sentences."""
    loss = training.get("answer_loss")
    return (
        f"It can only say the {len(vocabulary.labels)} labels of the vocabulary {vocabulary.name!r} "
        f"({vocabulary.origin}); what else there is goes unmentioned, and nothing said or left out proves absence.",
        f"Boxes lie on a grid of {GRID} by {GRID} cells; each slice is read alone.",
        f"A score is the {SCORE}.",
        "No reader has checked any of it. How often such a model is right is for its own scores to say "
        "(benchmarks/findings.py); small models find little."
        + ("" if loss is None else f" Its file tells of {loss:.3g} nats per token of held-out answers, nothing more."),
        *(f"Mind: {note}." for note in warnings),
    )


def _exam(exam: Exam, vocabulary: Vocabulary) -> str:
    what = f"MRI, read as {vocabulary.anatomy}" if vocabulary.anatomy else "MRI"
    contrast = f", contrast {exam.contrast}" if exam.contrast else ""
    kind = "; k-space simulated from pictures" if exam.simulated else ""
    return f"{what}{contrast}; {_slices(exam.slices)} read{kind}."


def _technique(exam: Exam, vocabulary: Vocabulary, model: str, model_sha256: str) -> str:
    coils = "1 coil" if exam.coils == 1 else f"{exam.coils} coils"
    tokens = "the tokens by which the encoder tells of its map of the labels" if exam.mapped else "the k-space tokens"
    return (
        f"K-space of {coils}, pictures of {exam.matrix[0]} by {exam.matrix[1]} pixels, {exam.sampling}, accelerated "
        f"{exam.acceleration:.2f} times. Written by the frozen language model of {model} (sha256 {model_sha256[:12]}) "
        f"from {tokens}, confined to the vocabulary {vocabulary.name!r}."
    )


def _by_structure(found: Sequence[Finding], vocabulary: Vocabulary) -> str:
    structures = dict.fromkeys(label.structure for label in vocabulary.labels)
    parts = []
    for structure in structures:
        here = [_sentence(each) for each in found if each.structure == structure]
        if here:
            parts.append(f"{_capital(structure)}: {' '.join(here)}")
    return "\n".join(parts) or "Nothing was said."


def _sentence(found: Finding) -> str:
    score = f"score {found.score:.2f}, uncalibrated"
    if found.negated:
        return f"No {found.label} in {_slices(found.slices)} ({score})."
    x, y, width, height = found.box
    where = f"{width} x {height} pixels at column {x}, row {y}"
    return f"{_capital(found.label)} in slice {found.slices[0]}, {where} ({score})."


def _impression(found: Sequence[Finding]) -> str:
    present: dict[str, list[int]] = {}
    for each in found:
        if not each.negated:
            present.setdefault(each.label, []).extend(each.slices)
    if not present:
        return "Nothing of the vocabulary is stated as present. That does not mean that nothing is there."
    named = "; ".join(f"{label} ({_slices(sorted(set(numbers)))})" for label, numbers in present.items())
    return f"Stated as present, to be verified by a reader: {named}."


def _slices(numbers: Sequence[int]) -> str:
    """0, 1, 2, 5 as "slices 0–2, 5"."""
    return f"slice{'s' if len(numbers) > 1 else ''} {number_ranges(numbers)}"


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
