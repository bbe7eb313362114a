"""Facts of a report, as the report command gives them. Tests import it as ``report_facts``."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pypdf
from pydicom.dataset import Dataset

SHA256 = "ab12" * 16
PROTOCOL = {
    "name": "fastMRI",
    "target": "reconstruction_rss",
    "crop": "centre (W, W) of target and prediction",
    "data_range": "maximum of the cropped target over the slices compared",
    "window": "SSIM per slice: 7x7 uniform, K1 0.01, K2 0.03, sample covariance",
    "aggregation": "SSIM mean over slices, PSNR and NMSE of the whole volume",
    "slices": "all",
    "toolkit_version": "0.1.0",
    "hash": "1a2b3c4d5e6f",
}
WATERMARK = "machine draft, unverified, not for clinical use"


def facts(*, findings: bool = True, **more: Any) -> dict[str, Any]:
    """A whole set of facts; ``more`` replaces some."""
    metadata = {"acquisition": "AXT2", "tr_ms": 4001.5, "te_ms": 97.25, "flip_angle_deg": 137, "field_strength_t": 2.89}
    made: dict[str, Any] = {
        "schema": "nirvana-mri report 1",
        "file": "scan.h5",
        "scan": _scan(metadata),
        "reconstruction": _reconstruction(metadata),
        "method": "nirvana",
        "model": "nano",
        "model_sha256": SHA256,
        "acceleration": 3.8461538,
        "snr": 41.72,
        "residual_over_noise": 1.0837,
        "residual": {
            "value": 1.0837,
            "withheld": True,
            "noise_from": "the corners of k-space",
            "badge": "consistent",
            "sentence": "The picture explains the lines that were held back to within their noise.",
        },
        "null_space_fraction": 0.1234,
        "error_bars": {"level": 0.9, "half_width": 0.0173, "subjects": 12, "coverage": {"mean": 0.897, "low": 0.85}},
        "scores": [_score("nirvana", 0.91234), _score("zero-filled", 0.70987), _score("sense", 0.85432)],
        "warnings": ["orientation unknown: the file does not say how the slices lie in the patient"],
        "commands": {"report": "nirvana-mri report scan.h5 -o report.pdf --accelerate 4"},
        "notice": "not for clinical use",
        "toolkit_version": "0.1.0",
        "text": {
            "exam": "Brain MRI, axial T2, 8 coils, 15 slices.",
            "technique": "Reconstructed from every fourth line by nirvana (model nano).",
            "limits": "Scores hold for this protocol only.",
        },
    }
    if findings:
        made["findings"] = [
            _finding("Nonspecific white matter lesion", "brain", [3, 4, 5], [101, 87, 22, 19], False, 0.731),
            _finding("Meniscus Tear", "posterior horn", [7], None, True, 0.888),
        ]
        made["watermark"] = WATERMARK
        made["text"] |= {"findings": "White matter: a lesion in slices 3-5.", "impression": "One lesion, if any."}
    return {**made, **more}


def _scan(metadata: dict[str, Any]) -> dict[str, Any]:
    return {
        "format": "fastMRI h5",
        "geometry_known": False,
        "name": "scan",
        "file_format": "fastMRI h5",
        "raw": True,
        "slices": 15,
        "coils": 8,
        "multicoil": True,
        "volume": 0,
        "volumes": 1,
        "matrix": [640, 322],
        "picture": [320, 320],
        "fully_sampled": True,
        "sampling": "full",
        "acceleration": 1.0,
        "measured_columns": 322,
        "calibration": [640, 322],
        "calibration_lines": 322,
        "inspected_slice": 7,
        "noise": 3.214e-07,
        "noise_from": "the corners of k-space",
        "snr": 43.21,
        "voxel_mm": [5.0, 0.6875, 0.6875],
        "field_of_view_mm": [75.0, 220.0, 220.0],
        "orientation_known": False,
        "has_target": True,
        "simulated": False,
        "findings": [{"name": "clipped", "severity": "warning", "message": "17 samples at the limit"}],
        "missing": ["orientation: left and right are not known", "noise scan: taken from the corners of k-space"],
        "slices_inspected": [0, 3, 7, 11, 14],
        "slices_screened": list(range(15)),
        "not_judged": {"JPEG": "the file holds samples, no pictures"},
        "metadata": metadata,
        "warnings": ["orientation unknown: the file does not say how the slices lie in the patient"],
        "toolkit_version": "0.1.0",
        "notice": "not for clinical use",
    }


def _reconstruction(metadata: dict[str, Any]) -> dict[str, Any]:
    sampling = {"mask": "equispaced_fraction", "acceleration": 4.0, "center_fraction": 0.08, "seed": 0}
    return {
        "method": "nirvana",
        "applied": "nirvana",
        "model": "nano",
        "model_sha256": SHA256,
        "backbone_sha256": "cd34" * 16,
        "sampling": {**sampling, "achieved_acceleration": 3.8461538, "origin": "retrospective"},
        "combine": "sense",
        "prewhitened": False,
        "simulated": False,
        "source": {"format": "fastMRI h5", "coils": 8, "matrix": [640, 322], "raw": True},
        "metadata": metadata,
        "toolkit_version": "0.1.0",
        "notice": "not for clinical use",
        "slices": list(range(15)),
    }


def _score(method: str, ssim: float) -> dict[str, Any]:
    values = {"ssim": ssim, "psnr": 20 + 15 * ssim, "nmse": 0.1 * (1 - ssim), "acceleration": 3.8461538}
    return {"method": method, **values, "protocol": dict(PROTOCOL)}


def _finding(
    label: str, structure: str, slices: list[int], box: list[int] | None, negated: bool, score: float
) -> dict[str, Any]:
    place = {"slices": slices, "box": box}
    return {"label": label, "structure": structure, **place, "negated": negated, "score": score}


def renumbered(value: Any, count: Iterator[int]) -> Any:
    """The same facts with another number in each place, so that each can be looked for: 101, 102… and 1.001, 1.002…"""
    if isinstance(value, dict):
        return {key: renumbered(part, count) for key, part in value.items()}
    if isinstance(value, list):
        return [renumbered(part, count) for part in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return 100 + next(count) if isinstance(value, int) else 1 + next(count) / 1000


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of everything that is no object or list."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if parts is None:
        yield path, value
    else:
        for key, part in parts:
            yield from leaves(part, f"{path}.{key}" if path else str(key))


def texts_of(path: Path) -> str:
    """All that a written report says, in one string; ranges such as 3–5 are written out."""
    said = {".pdf": _pdf, ".dcm": _dicom, ".json": _fhir}[path.suffix](path)
    return re.sub(r"(\d+)–(\d+)", lambda m: ", ".join(map(str, range(int(m[1]), int(m[2]) + 1))), said)


def items(dataset: Dataset) -> Iterator[Dataset]:
    """The content items of a structured report, depth first."""
    for item in dataset.get("ContentSequence", ()):
        yield item
        yield from items(item)


def _pdf(path: Path) -> str:
    return "\n".join(page.extract_text() for page in pypdf.PdfReader(path).pages)


def _dicom(path: Path) -> str:
    said = []
    for item in items(pydicom.dcmread(path)):
        said.append(str(item.get("TextValue", "")))
        for number in item.get("MeasuredValueSequence", ()):
            value = number.get("FloatingPointValue", number.NumericValue)
            said.append(f"{value:g} {number.MeasurementUnitsCodeSequence[0].CodeValue}")
    return "\n".join(said)


def _fhir(path: Path) -> str:
    """The structured part alone, without the narrative."""
    report = json.loads(path.read_text("utf-8"))
    del report["text"]
    return "\n".join(f"{value:g}" if isinstance(value, float) else str(value) for _, value in leaves(report))
