"""The technical report as facts: everything that was measured about a scan and its reconstruction, JSON-ready."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nirvana_mri import __version__
from nirvana_mri.io.writers.derivation import record
from nirvana_mri.report.inspect import Inspection
from nirvana_mri.report.scored import Scored
from nirvana_mri.volume import NOT_FOR_CLINICAL_USE, Volume

SCHEMA = "nirvana-mri report 1"
NOT_ASKED = "not measured: this reconstruction was made without asking for trust (reconstruct --trust)"


def make_facts(
    found: Inspection | None, scored: Scored, *, file: str = "", commands: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What ``nirvana-mri report --json`` writes, and what pages and documents of other formats show.

    ``found`` is the scan looked at, None where only a reconstruction is at hand; ``scored.volumes[0]`` is the
    reconstruction reported. ``file`` is a name without folders, ``commands`` says how each output is made again.
    ``residual_over_noise``, ``null_space_fraction``, ``snr`` and ``acceleration`` are None where they are not known;
    ``residual["sentence"]`` says why there is no residual.
    """
    main = scored.volumes[0]
    made = record(main, file or main.name)
    trust = _trust(main)
    sampling = made.get("sampling")
    warnings = (*(found.warnings if found else ()), *main.warnings, *scored.notes)
    return {
        "schema": SCHEMA,
        "file": file or main.name,
        "scan": found.as_dict() if found else None,
        "reconstruction": made,
        "method": made.get("method"),
        "model": made.get("model"),
        "model_sha256": made.get("model_sha256"),
        "acceleration": sampling.get("achieved_acceleration") if isinstance(sampling, Mapping) else None,
        "snr": found.snr if found else None,
        "residual_over_noise": trust["residual_over_noise"],
        "residual": trust["residual"],
        "null_space_fraction": trust["null_space_fraction"],
        "trust_slices": trust["slices"],
        "error_bars": trust["error_bars"],
        "methods": [_method(volume) for volume in scored.volumes],
        "scores": _scores(scored),
        "warnings": list(dict.fromkeys(warnings)),
        "commands": dict(commands or {}),
        "notice": NOT_FOR_CLINICAL_USE,
        "toolkit_version": __version__,
    }


def _trust(volume: Volume) -> dict[str, Any]:
    """What the volume says of itself, with every key."""
    empty: dict[str, Any] = {"residual_over_noise": None, "null_space_fraction": None, "slices": [], "error_bars": None}
    stored = volume.provenance.get("trust")
    told = empty | (dict(stored) if isinstance(stored, Mapping) else {})
    residual = told.get("residual")
    told["residual"] = dict(residual) if isinstance(residual, Mapping) else {"value": None, "badge": None}
    told["residual"].setdefault("sentence", NOT_ASKED)
    return told


def _method(volume: Volume) -> dict[str, Any]:
    trust = _trust(volume)
    return {
        "method": volume.provenance.get("method"),
        "model": volume.provenance.get("model"),
        "residual_over_noise": trust["residual_over_noise"],
        "badge": trust["residual"].get("badge"),
        "null_space_fraction": trust["null_space_fraction"],
    }


def _scores(scored: Scored) -> list[dict[str, Any]]:
    return [
        {
            "method": volume.provenance.get("method"),
            "model": volume.provenance.get("model"),
            **score.as_dict(),
            "protocol": score.protocol.as_dict(),
        }
        for volume, score in zip(scored.volumes, scored.scores, strict=True)
        if score is not None
    ]
