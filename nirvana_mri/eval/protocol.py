"""The rule by which a score was made. Scores under different rules are never compared."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from nirvana_mri import __version__
from nirvana_mri.errors import ProtocolError, UsageError

BESIDE = ("acceleration", "toolkit_version")  # stored with a score, but no part of the rule
WHOLE_PICTURE = "none: every pixel of the crop counts"
FURTHER = (
    "over the whole crop, SSIM's data range: MS-SSIM (Wang 2003: 11x11 Gaussian sigma 1.5, five scales, 161 pixels a "
    "side or more) and HaarPSI (Reisenhofer 2018: C 30, alpha 4.2, subsampled), mean over slices; edge sharpness: sum "
    "of the prediction's Scharr gradient magnitude over the target's, at the 5 % of the volume's pixels where the "
    "target's is largest (1: as sharp as the target; no unit)"
)


@dataclass(frozen=True)
class Protocol:
    """Everything that moves a score besides the two pictures, in words that a table can print.

    Pictures alone decide too little: one choice here (a Gaussian window, another data range) moves SSIM by more
    than one method is better than another. ``mask`` is the recipe by which pixels are chosen. ``acceleration`` is what
    the scored scans achieved, where they share it: like the toolkit's version it stands beside the rule.
    """

    name: str
    target: str
    crop: str
    data_range: str
    window: str
    aggregation: str
    mask: str = WHOLE_PICTURE
    further: str = FURTHER
    slices: str = "all"
    acceleration: float | None = None
    toolkit_version: str = __version__

    @property
    def rule(self) -> dict[str, Any]:
        """The fields that must agree before two scores are compared."""
        return {key: value for key, value in asdict(self).items() if key not in BESIDE}

    @property
    def hash(self) -> str:
        """Equal for scores that may be compared: of the rule alone.

        The version of the toolkit, which only computes, is not part of it; nor is the acceleration, which says what
        was scored and not how (tables by acceleration stand under one rule).
        """
        return hashlib.sha256(json.dumps(self.rule, sort_keys=True).encode()).hexdigest()[:12]

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, with the hash."""
        return {**asdict(self), "hash": self.hash}


FASTMRI = Protocol(
    name="fastmri",
    target="reconstruction_rss",
    crop="centre (W, W) of target and prediction, W the target's width, from (n - W) // 2",
    data_range="maximum of the cropped target over the slices compared",
    window="SSIM per slice: 7x7 uniform, K1 0.01, K2 0.03, sample covariance",
    aggregation="SSIM mean over slices, PSNR and NMSE of the whole volume, unweighted mean over volumes; no intensity "
    "alignment",
)
FOREGROUND = replace(
    FASTMRI,
    name="fastmri-foreground",
    aggregation="SSIM's map averaged over the foreground of each slice (windows that lie whole in the picture), then "
    "over slices with foreground; PSNR and NMSE of the volume's foreground; unweighted mean over volumes; no intensity "
    "alignment",
    mask="foreground of the cropped target: above Otsu's threshold (256 bins) of all slices compared, then per slice "
    "closed by a disc of radius 3 pixels and holes filled",
)
PER_SLICE = replace(
    FASTMRI,
    name="per-slice",
    data_range="maximum of each cropped target slice",
    aggregation="SSIM, PSNR and NMSE of each slice, mean over slices, unweighted mean over volumes; no intensity "
    "alignment",
)
PROTOCOLS = {protocol.name: protocol for protocol in (FASTMRI, FOREGROUND, PER_SLICE)}


def protocol_named(name: str) -> Protocol:
    """The protocol of this name. Raises: UsageError, with those that there are."""
    if name not in PROTOCOLS:
        raise UsageError(f"protocol is {name!r}; expected one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def require_same(protocols: Iterable[tuple[str, Protocol]]) -> Protocol:
    """The one protocol of all (name, protocol) pairs. Raises ProtocolError, naming two that differ and in what.

    Its acceleration is that of all, or None where they differ.
    """
    pairs = list(protocols)
    if not pairs:
        raise ProtocolError("no scores to bring together; give at least one volume")
    first_name, first = pairs[0]
    for name, other in pairs[1:]:
        if differs := differing(first.rule, other.rule):
            words = "; ".join(f"{key}: {mine!r} and {theirs!r}" for key, mine, theirs in differs)
            raise ProtocolError(f"{first_name} and {name} were scored differently ({words}); evaluate them apart")
    shared = {None if p.acceleration is None else round(p.acceleration, 2) for _, p in pairs}
    return replace(first, acceleration=shared.pop() if len(shared) == 1 else None)


def differing(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(field, value, value) wherever two rules differ, in the order of the fields."""
    keys = dict.fromkeys((*mine, *theirs))
    return [(key, mine.get(key), theirs.get(key)) for key in keys if mine.get(key) != theirs.get(key)]
