"""Why two scores differ: the rule first, then the samples, the scans, the model; what is left is the method's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nirvana_mri.errors import ProtocolError
from nirvana_mri.eval import statistics
from nirvana_mri.eval.protocol import BESIDE, differing
from nirvana_mri.eval.rules import METRICS
from nirvana_mri.eval.scores_file import Scored, number

SHOWN = 3  # names in a sentence
NO_RULE = (*BESIDE, "hash")


def explain(first: Scored, second: Scored) -> list[str]:
    """Sentences, the reason that counts most first."""
    sentences = [_numbers(first, second)]
    try:
        require_comparable(first, second)
    except ProtocolError as refused:
        return [*sentences, f"not comparable: {refused}"]
    reasons = [*_sampling(first, second), *_files(first, second)]
    causes = len(reasons)
    reasons += [*_model(first, second), *_version(first, second)]
    if not causes:
        reasons.append(_conclusion(first, second))
    shared = [name for name in first.rows if name in second.rows]
    return [*sentences, *reasons, *(_paired(first, second, shared) if shared else ())]


def require_comparable(first: Scored, second: Scored) -> None:
    """Nothing, where both were scored by one rule. Raises: ProtocolError, which names each field that differs.

    The fields decide, not the hashes that the files state of themselves.
    """
    rules = [{k: v for k, v in scored.protocol.items() if k not in NO_RULE} for scored in (first, second)]
    if differs := differing(*rules):
        words = "; ".join(f"{key}: {_short(mine)} and {_short(theirs)}" for key, mine, theirs in differs)
        raise ProtocolError(f"the protocols differ ({words}); score both by one of them")
    mine, theirs = (scored.protocol.get("hash") for scored in (first, second))
    if mine != theirs:
        raise ProtocolError(
            f"the protocols read alike, and their hashes differ (hash: {_short(mine)} and {_short(theirs)}): one of "
            "the files was changed; score both again"
        )


def _numbers(first: Scored, second: Scored) -> str:
    told = [f"{scored.name} ({scored.method}): SSIM {_mean(scored, 'ssim'):.4f} over {len(scored.rows)} volume"
            f"{'s' * (len(scored.rows) != 1)}" for scored in (first, second)]  # fmt: skip
    others = [
        f"{scored.name} also holds {_named(scored.methods[1:])}" for scored in (first, second) if scored.methods[1:]
    ]
    return "; ".join((*told, *others))


def _mean(scored: Scored, key: str) -> float:
    found = statistics.mean([number(row, key) for row in scored.rows.values()])
    return float("nan") if found is None else found


def _sampling(first: Scored, second: Scored) -> Iterator[str]:
    if first.sampling is None or second.sampling is None:
        untold = [scored.name for scored in (first, second) if scored.sampling is None]
        yield f"sampling unknown: {_named(untold)} does not say how the scans were sampled"
    elif differs := differing(first.sampling, second.sampling):
        words = "; ".join(f"{key}: {_short(mine)} and {_short(theirs)}" for key, mine, theirs in differs)
        yield f"the sampling differs ({words}): the numbers are of different tasks"
    moved = [
        (name, row.get("acceleration"), second.rows[name].get("acceleration"))
        for name, row in first.rows.items()
        if name in second.rows and row.get("acceleration") != second.rows[name].get("acceleration")
    ]
    if moved and first.sampling is not None and second.sampling is not None:
        name, mine, theirs = moved[0]
        yield f"{len(moved)} volumes were accelerated differently ({name}: {_short(mine)} and {_short(theirs)} times)"


def _files(first: Scored, second: Scored) -> Iterator[str]:
    for one, other in ((first, second), (second, first)):
        alone = [name for name in one.rows if name not in other.rows]
        if alone:
            left_out = " (which lists it as missing)" if set(alone) <= set(other.missing) else ""
            yield f"{len(alone)} volumes are in {one.name} alone: {_named(alone)}{left_out}"
    shared = [name for name in first.rows if name in second.rows]
    moved = [name for name in shared if first.rows[name].get("slices") != second.rows[name].get("slices")]
    if moved:
        yield f"{len(moved)} volumes were scored on other slices: {_named(moved)}"
    people = [len({str(row.get("patient")) for row in scored.rows.values()}) for scored in (first, second)]
    if people[0] != people[1]:
        yield f"the scores are of {people[0]} and {people[1]} patients"


def _model(first: Scored, second: Scored) -> Iterator[str]:
    if first.method != second.method:
        yield f"the methods differ: {first.method} and {second.method}"
    if first.model[1] != second.model[1]:
        yield f"the models differ: {_weights(first)} and {_weights(second)}"


def _weights(scored: Scored) -> str:
    name, sha256 = scored.model
    return f"{name or 'a model'} (sha256 {sha256[:12]})" if sha256 else "no model"


def _version(first: Scored, second: Scored) -> Iterator[str]:
    if first.toolkit_version != second.toolkit_version:
        mine, theirs = _short(first.toolkit_version), _short(second.toolkit_version)
        yield f"other versions of the toolkit: {mine} and {theirs}; score both with one to be sure"


def _conclusion(first: Scored, second: Scored) -> str:
    same = "same protocol, same files, same sampling"
    if first.method == second.method and first.model[1] == second.model[1]:
        return f"{same}, same method: what differs is the making of the predictions (device, options, chance)"
    return f"{same}: the difference is the method's"


def _paired(first: Scored, second: Scored, shared: Sequence[str]) -> list[str]:
    """One sentence for each metric that differs on the volumes that both hold."""
    patients = [str(first.rows[name].get("patient", name)) for name in shared]
    told = []
    for key in METRICS:
        mine, theirs = ([number(scored.rows[name], key) for name in shared] for scored in (first, second))
        found = statistics.paired(mine, theirs, patients)
        if found.difference is None:
            continue
        interval = "" if found.interval is None else f" (95 % {found.interval[0]:+.4g} to {found.interval[1]:+.4g})"
        test = "" if found.p is None else f", Wilcoxon p {found.p:.3g}, rank-biserial {found.effect_size:+.2f}"
        told.append(f"{key}: {found.difference:+.4g}{interval}{test}")
    volumes = f"{_count(len(shared), 'volume')} of {_count(len(set(patients)), 'patient')}"
    return [f"on the {volumes} in both, {first.name} minus {second.name}:", *(f"  {line}" for line in told)]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _named(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _short(value: Any) -> str:
    """A value of a foreign file, as a sentence may repeat it."""
    text = "nothing" if value is None else str(value) if isinstance(value, str | int | float) else _kind(value)
    return text if len(text) <= 160 else f"{text[:157]}..."


def _kind(value: Any) -> str:
    return f"a list of {len(value)}" if isinstance(value, list | Mapping) else type(value).__name__
