"""What a report says, in order, whatever the format: every fact once, each with the path of the field that holds it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nirvana_mri.errors import DataError
from nirvana_mri.report.formats.rows import Row, row_of, rows_of, text_of
from nirvana_mri.report.formats.text import word
from nirvana_mri.volume import NOT_FOR_CLINICAL_USE

SCHEMA = "nirvana-mri report"
WATERMARK = "machine draft, unverified, not for clinical use"
TITLES = {
    "exam": "Exam",
    "technique": "Technique",
    "measures": "Measured on this scan",
    "scores": "Scores",
    "findings": "Draft findings",
    "impression": "Impression",
    "limits": "Limits",
    "warnings": "Warnings",
    "scan": "The scan in full",
    "reconstruction": "The reconstruction in full",
    "origin": "Where this report comes from",
}
HEADLINES = ("acceleration", "snr", "residual_over_noise", "null_space_fraction")
VERDICT = (("badge", "residual on measured lines"), ("sentence", "which means"))
NO_SCORES = "There is no target to score against."
NO_FINDINGS = "The draft states no finding; that is no evidence of absence."
# Said of the whole report, so not again for the scan and the reconstruction where they say the same.
REPEATED = ("notice", "toolkit_version", "method", "model", "model_sha256", "metadata")
SAID = (  # by the other sections
    *(*HEADLINES, "method", "model", "model_sha256", "residual", "error_bars", "scores", "findings", "text"),
    *("warnings", "scan", "reconstruction", "notice", "watermark"),
)
ALIASES = {"scan.format": "scan.file_format", "scan.geometry_known": "scan.orientation_known"}


@dataclass(frozen=True)
class Group:
    """Rows that belong together, under a title of their own."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Statement:
    """A draft finding: what, where, and whether it is said to be absent. ``field`` is its path in the facts."""

    label: str
    structure: str
    absent: bool
    rows: tuple[Row, ...]
    field: str

    @property
    def words(self) -> str:
        """The finding as a sentence has it; what is absent is called so."""
        return f"{self.label}: {'absent' if self.absent else 'present'} (as drafted by a machine)"


@dataclass(frozen=True)
class Section:
    """A part of the report. ``caution`` has to be seen before anything else in it is read."""

    name: str
    paragraphs: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    groups: tuple[Group, ...] = ()
    statements: tuple[Statement, ...] = ()
    caution: str = ""

    @property
    def title(self) -> str:
        return TITLES[self.name]


def sections(facts: Mapping[str, Any]) -> tuple[Section, ...]:
    """The report's sections; those with nothing to say are left out.

    Raises: DataError for facts of another schema, or values that a report cannot hold (NaN, Inf).
    """
    if not str(facts.get("schema", "")).startswith(SCHEMA):
        raise DataError(f"report: schema is {word(facts.get('schema'))[:60]!r}, expected {SCHEMA!r} and a number")
    words: Mapping[str, Any] = facts.get("text") or {}
    made = (
        Section("exam", text_of(words.get("exam"), "text.exam")),
        _technique(facts, words),
        _measures(facts),
        _scores(facts.get("scores") or ()),
        _findings(facts, words),
        Section("impression", text_of(words.get("impression"), "text.impression"), caution=_caution(facts)),
        Section("limits", text_of(words.get("limits"), "text.limits")),
        Section("warnings", text_of(facts.get("warnings"), "warnings")),
        Section("scan", rows=tuple(_unrepeated(facts, "scan"))),
        Section("reconstruction", rows=tuple(_unrepeated(facts, "reconstruction"))),
        _origin(facts),
    )
    return tuple(one for one in made if one.paragraphs or one.rows or one.groups or one.statements)


def notice_of(facts: Mapping[str, Any]) -> str:
    """The words that every page and document bears."""
    notice = word(facts.get("notice"), "")
    return notice if NOT_FOR_CLINICAL_USE in notice.lower() else NOT_FOR_CLINICAL_USE


def title_of(facts: Mapping[str, Any]) -> str:
    """The report's title."""
    return "Draft report of an MRI reconstruction" if is_draft(facts) else "Technical report of an MRI reconstruction"


def is_draft(facts: Mapping[str, Any]) -> bool:
    """True where a machine wrote findings."""
    return facts.get("findings") is not None


def _caution(facts: Mapping[str, Any]) -> str:
    if not is_draft(facts):
        return ""
    words = word(facts.get("watermark"), "")
    return words if "machine draft" in words.lower() else WATERMARK


def _technique(facts: Mapping[str, Any], words: Mapping[str, Any]) -> Section:
    rows = [row_of(facts[name], name) for name in ("method", "model", "model_sha256") if facts.get(name) is not None]
    return Section("technique", text_of(words.get("technique"), "text.technique"), tuple(rows))


def _measures(facts: Mapping[str, Any]) -> Section:
    residual = dict(facts.get("residual") or {})
    verdict = [row_of(residual.pop(name), f"residual.{name}", label) for name, label in VERDICT if residual.get(name)]
    if residual.get("value") == facts.get("residual_over_noise"):
        residual.pop("value", None)
    rows = [*verdict, *(row_of(facts.get(name), name) for name in HEADLINES)]
    rows += rows_of(residual, "residual", "residual")
    bars = facts.get("error_bars")
    rows += rows_of(bars, "error_bars", "error bars") if bars else [row_of(None, "error_bars", "error bars")]
    return Section("measures", rows=tuple(rows))


def _scores(scores: Sequence[Mapping[str, Any]]) -> Section:
    """A group for each score, then one for each protocol that occurs among them."""
    groups: list[Group] = []
    protocols: dict[str, Group] = {}
    for number, score in enumerate(scores):
        protocol = score.get("protocol") or {}
        rule = f"protocol {word(protocol.get('name'))} {word(protocol.get('hash'), '')}".strip()
        values = {key: value for key, value in score.items() if key not in ("protocol", "method")}
        method = word(score.get("method"), "unknown method")
        groups.append(Group(f"{method}, {rule}", tuple(rows_of(values, f"scores.{number}"))))
        key = repr(sorted(protocol.items()))
        protocols.setdefault(key, Group(rule, tuple(rows_of(protocol, f"scores.{number}.protocol"))))
    return Section("scores", () if groups else (NO_SCORES,), groups=(*groups, *protocols.values()))


def _findings(facts: Mapping[str, Any], words: Mapping[str, Any]) -> Section:
    found = facts.get("findings") or ()
    paragraphs = text_of(words.get("findings"), "text.findings")
    if is_draft(facts) and not found:
        paragraphs = (*paragraphs, NO_FINDINGS)
    statements = tuple(_statement(one, f"findings.{number}") for number, one in enumerate(found))
    return Section("findings", paragraphs, statements=statements, caution=_caution(facts))


def _statement(found: Mapping[str, Any], field: str) -> Statement:
    said = ("label", "structure", "negated")
    rows = []
    for row in rows_of({key: value for key, value in found.items() if key not in said}, field):
        is_box = row.field == f"{field}.box"
        rows.append(Row("box (x, y, width, height)", row.text, row.field) if is_box else row)
    label = word(found.get("label"), "unnamed")
    return Statement(label, word(found.get("structure"), ""), bool(found.get("negated")), tuple(rows), field)


def _unrepeated(facts: Mapping[str, Any], name: str) -> Iterator[Row]:
    """The rows of one part, without what stands in the same words elsewhere."""
    part = dict(facts.get(name) or {})
    elsewhere = {**facts, "metadata": (facts.get("scan") or {}).get("metadata") if name != "scan" else None}
    part["warnings"] = [note for note in part.get("warnings") or () if note not in (facts.get("warnings") or ())]
    for key in REPEATED:
        if key in part and part[key] == elsewhere.get(key):
            del part[key]
    for alias, field in ALIASES.items():
        key, other = alias.rpartition(".")[2], field.rpartition(".")[2]
        if alias.startswith(f"{name}.") and key in part and part[key] == part.get(other):
            del part[key]
    yield from rows_of(part, name)


def _origin(facts: Mapping[str, Any]) -> Section:
    """File, commands and versions, and whatever a newer writer of facts has added."""
    return Section("origin", rows=tuple(row for key in facts if key not in SAID for row in rows_of(facts[key], key)))
