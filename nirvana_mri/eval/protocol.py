"""The rule by which a score was made. Scores under different rules are never compared."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from nirvana_mri import __version__
from nirvana_mri.errors import ProtocolError


@dataclass(frozen=True)
class Protocol:
    """Everything that moves a score besides the two pictures, in words that a table can print.

    Pictures alone decide too little: one choice here (a Gaussian window, another data range) moves SSIM by more
    than one method is better than another.
    """

    name: str
    target: str
    crop: str
    data_range: str
    window: str
    aggregation: str
    slices: str = "all"
    toolkit_version: str = __version__

    @property
    def hash(self) -> str:
        """Equal for scores that may be compared. The version of the toolkit, which only computes, is not part of it."""
        rule = {key: value for key, value in asdict(self).items() if key != "toolkit_version"}
        return hashlib.sha256(json.dumps(rule, sort_keys=True).encode()).hexdigest()[:12]

    def as_dict(self) -> dict[str, str]:
        """JSON-ready, with the hash."""
        return {**asdict(self), "hash": self.hash}


FASTMRI = Protocol(
    name="fastMRI",
    target="reconstruction_rss",
    crop="centre (W, W) of target and prediction, W the target's width, from (n - W) // 2",
    data_range="maximum of the cropped target over the slices compared",
    window="SSIM per slice: 7x7 uniform, K1 0.01, K2 0.03, sample covariance",
    aggregation="SSIM mean over slices, PSNR and NMSE of the whole volume, unweighted mean over volumes; no foreground "
    "mask, no intensity alignment",
)


def require_same(protocols: Iterable[tuple[str, Protocol]]) -> Protocol:
    """The one protocol of all (name, protocol) pairs. Raises ProtocolError, naming two that differ and in what."""
    pairs = list(protocols)
    if not pairs:
        raise ProtocolError("no scores to bring together; give at least one volume")
    first_name, first = pairs[0]
    for name, other in pairs[1:]:
        if other.hash != first.hash:
            mine, theirs = asdict(first), asdict(other)
            differs = "; ".join(f"{k}: {mine[k]!r} and {theirs[k]!r}" for k in mine if mine[k] != theirs[k])
            raise ProtocolError(f"{first_name} and {name} were scored differently ({differs}); evaluate them apart")
    return first
