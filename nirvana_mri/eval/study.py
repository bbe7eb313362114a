"""Scores of many volumes by one or several methods, and what they say together."""

import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nirvana_mri import __version__
from nirvana_mri.errors import ProtocolError
from nirvana_mri.eval import statistics
from nirvana_mri.eval.context import group_of, times
from nirvana_mri.eval.evaluate import Score
from nirvana_mri.eval.methods_text import methods_text
from nirvana_mri.eval.protocol import Protocol, require_same
from nirvana_mri.eval.rules import METRICS
from nirvana_mri.volume import NOT_FOR_CLINICAL_USE

VARIES = "varies"


@dataclass(frozen=True)
class Row:
    """One volume's score by one method, and what it is of. ``patient`` is a label without meaning elsewhere."""

    score: Score
    method: str
    patient: str
    contrast: str | None = None
    field_strength_t: float | None = None
    sampling: Mapping[str, Any] | None = None  # None for predictions made elsewhere
    model: str | None = None
    model_sha256: str | None = None
    simulated: bool = False

    @property
    def group(self) -> str:
        return group_of(self.contrast, self.score.acceleration, self.field_strength_t)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        row = self.score.as_dict()
        return {"file": row.pop("file"), "method": self.method} | row | {
            "group": self.group,
            "contrast": self.contrast,
            "field_strength_t": self.field_strength_t,
            "patient": self.patient,
        }  # fmt: skip


@dataclass(frozen=True)
class Study:
    """Scores under one protocol. ``missing`` targets were not scored, ``extra`` predictions have no target."""

    protocol: Protocol
    rows: tuple[Row, ...]
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    draws: int = statistics.DRAWS
    seed: int = 0
    annotated: bool = False
    untold: int = 0  # files that do not say whose they are

    @property
    def volumes(self) -> tuple[Score, ...]:
        """The scores alone."""
        return tuple(row.score for row in self.rows)

    @property
    def methods(self) -> tuple[str, ...]:
        """In the order that they were asked for."""
        return tuple(dict.fromkeys(row.method for row in self.rows))

    def of(self, method: str) -> list[Row]:
        """The rows of one method."""
        return [row for row in self.rows if row.method == method]

    @property
    def mean(self) -> dict[str, float | None]:
        """Of each metric over the first method's volumes, each counting once."""
        return means(self.of(self.methods[0]))

    def summary(self, rows: Sequence[Row]) -> dict[str, Any]:
        """{count, mean, intervals} of these rows."""
        patients = [row.patient for row in rows]
        settings = {"draws": self.draws, "seed": self.seed}
        intervals = {key: statistics.bootstrap(values(rows, key), patients, **settings) for key in METRICS}
        return {"count": len(rows), "mean": means(rows), "intervals": {k: v and list(v) for k, v in intervals.items()}}

    def by_method(self) -> list[dict[str, Any]]:
        """One summary for each method."""
        return [{"method": method, "patients": len({row.patient for row in self.of(method)}), **self.summary(rows)}
                | {key: _shared(getattr(row, key) for row in rows) for key in ("model", "model_sha256")}
                for method in self.methods if (rows := self.of(method))]  # fmt: skip

    def groups(self) -> list[dict[str, Any]]:
        """One summary for each group and method, groups by name."""
        pairs = itertools.product(sorted({row.group for row in self.rows}), self.methods)
        found = ((group, method, [row for row in self.of(method) if row.group == group]) for group, method in pairs)
        return [{"group": group, "method": method, **self.summary(rows)} for group, method, rows in found if rows]

    def paired(self) -> list[dict[str, Any]]:
        """The first method against each other one, metric by metric, on the volumes that both scored."""
        first, *others = self.methods
        return [row for other in others for row in paired_rows(self, self.of(first), self.of(other), (first, other))]

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be known before the numbers are believed."""
        few = len({row.patient for row in self.rows})
        notes = []
        if few < statistics.FEWEST:
            notes.append(f"{few} patient{'s' * (few > 1)}: no intervals, which need {statistics.FEWEST}")
        if self.untold:
            notes.append(f"{self.untold} files do not say their patient, and each counts as one")
        rates = sorted({shown for row in self.rows if (shown := times(row.score.acceleration))})
        if len(rates) > 1:
            notes.append(f"accelerations differ ({', '.join(rates)}): read the groups, not the mean over all")
        if simulated := len({row.score.file for row in self.rows if row.simulated}):
            notes.append(f"{simulated} scans are simulated: scores on them say less than those on measured k-space")
        if len(self.methods) > 1:
            notes.append("p values are not corrected for the number of comparisons")
        return tuple(notes)

    def as_dict(self, command: str | None = None) -> dict[str, Any]:
        """What ``nirvana-mri evaluate --json`` writes."""
        by_method = self.by_method()
        text = methods_text(self)
        return {
            "protocol": self.protocol.as_dict(),
            "methods": list(self.methods),
            "volumes": [row.as_dict() for row in self.rows],
            "mean": by_method[0]["mean"],
            "intervals": by_method[0]["intervals"],
            "by_method": by_method,
            "groups": self.groups(),
            "paired": self.paired(),
            **({"regions": self._regions(), "region_labels": self.region_labels()} if self.annotated else {}),
            "missing": list(self.missing),
            "extra": list(self.extra),
            "sampling": common_sampling(self.rows),
            "bootstrap": {"draws": self.draws, "seed": self.seed, "level": statistics.LEVEL, "resampled": "patients"},
            "notice": ". ".join((NOT_FOR_CLINICAL_USE, *self.notes)),
            "toolkit_version": __version__,
            "command": command,
            "methods_paragraph": text.paragraph,
            "citations": list(text.citations),
        }

    def _regions(self) -> list[dict[str, Any]]:
        return [{"file": row.score.file, "method": row.method, **region.as_dict()}
                for row in self.rows for region in row.score.regions]  # fmt: skip

    def region_labels(self) -> list[dict[str, Any]]:
        """Means over the boxes of each label and method."""
        found: dict[tuple[str, str], list[Any]] = {}
        for row in self.rows:
            for region in row.score.regions:
                found.setdefault((region.label, row.method), []).append(region)
        return [
            {"label": label, "method": method, "count": len(boxes)}
            | {"mean": {key: statistics.mean([getattr(box, key) for box in boxes]) for key in ("ssim", "nmse")}}
            for (label, method), boxes in sorted(found.items(), key=lambda item: item[0][0])
        ]


def make_study(rows: Sequence[Row], **more: Any) -> Study:
    """The rows as a study. Raises: ProtocolError where two were scored by different rules, or one scan was sampled
    differently for two methods.
    """
    protocol = require_same((row.score.file, row.score.protocol) for row in rows)
    seen: dict[str, Row] = {}
    for row in rows:
        first = seen.setdefault(row.score.file, row)
        if first.sampling is None or row.sampling is None or first.sampling == row.sampling:
            continue
        key = next(k for k in (*first.sampling, *row.sampling) if first.sampling.get(k) != row.sampling.get(k))
        raise ProtocolError(
            f"{row.score.file} was sampled differently for {first.method} and {row.method} (sampling, {key}: "
            f"{first.sampling.get(key)!r} and {row.sampling.get(key)!r}); evaluate them apart"
        )
    return Study(protocol, tuple(rows), **more)


def paired_rows(
    settings: Study, first: Sequence[Row], second: Sequence[Row], names: tuple[str, str]
) -> list[dict[str, Any]]:
    """Differences of two methods on the volumes that both scored, metric by metric."""
    others = {row.score.file: row for row in second}
    pairs = [(row, others[row.score.file]) for row in first if row.score.file in others]
    mine, theirs = [a for a, _ in pairs], [b for _, b in pairs]
    patients = [row.patient for row in mine]
    found = []
    for key in METRICS if pairs else ():
        told = statistics.paired(
            values(mine, key), values(theirs, key), patients, draws=settings.draws, seed=settings.seed
        )
        found.append({"methods": list(names), "metric": key, **asdict(told)} | {"interval": told.interval and list(told.interval)})  # fmt: skip # noqa: E501
    return found


def values(rows: Iterable[Row], key: str) -> list[float | None]:
    """One metric of all rows."""
    return [getattr(row.score, key) for row in rows]


def means(rows: Sequence[Row]) -> dict[str, float | None]:
    """The unweighted mean of each metric; None where a volume lacks it or is infinite."""
    return {key: statistics.mean(values(rows, key)) for key in METRICS}


def mask_hash(mask: NDArray[np.bool_]) -> str | None:
    """A name for a sampling mask: equal for equal masks."""
    if not mask.size:
        return None
    return hashlib.sha256(repr(mask.shape).encode() + np.packbits(mask).tobytes()).hexdigest()[:12]


def common_sampling(rows: Sequence[Row]) -> dict[str, Any] | None:
    """What all samplings share; "varies" for the rest. None where no volume says how it was sampled."""
    told = [row.sampling for row in rows if row.sampling is not None]
    if not told:
        return None
    keys = dict.fromkeys(key for each in told for key in each)
    return {key: _shared(each.get(key) for each in told) for key in keys}


def _shared(found: Iterable[Any]) -> Any:
    first, *others = found
    return first if all(other == first for other in others) else VARIES
