"""What the comparison of architectures shows, in sentences made from its figures.

A difference counts where its interval leaves out 0.
"""

import math
from typing import Any

from scipy import stats

Runs = list[dict[str, Any]]
CHANCE = 0.1  # of a digit


def mean_and_half(values: list[float]) -> tuple[float, float]:
    """Mean and half the width of its 95 % t-interval; nan for a single value."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, math.nan
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
    return mean, float(stats.t.ppf(0.975, len(values) - 1)) * spread / math.sqrt(len(values))


def sentences(found: Runs, inside: str, bins: list[str], far: str) -> list[str]:
    """What the Trigger, the window, the memory and the positions bring here, and what they cost in time."""
    parts = {
        "no-trigger": "The Trigger's learning at test time",
        "delta": "Attention beside the memory, with the Trigger that mixes them",
        "window": "Nirvana against a window of attention alone",
        "transformer": "Nirvana against full attention",
    }
    lines = [f"- {words}: {_part(found, other, inside, far)}" for other, words in parts.items() if _pairs(found, other)]
    if _pairs(found, "nirvana-rope"):
        lines.append(f"- {_positions(found, bins, far)}")
    return [*lines, f"- {_recall(found)}"]


def _pairs(found: Runs, other: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    by = {(each["name"], each["seed"]): each for each in found}
    return [(by["nirvana", s], by[other, s]) for n, s in by if n == other and ("nirvana", s) in by]


def _part(found: Runs, other: str, inside: str, far: str) -> str:
    pairs = _pairs(found, other)
    near = _verdict([a["loss"][inside] - b["loss"][inside] for a, b in pairs])
    late = _verdict([a["far"][far] - b["far"][far] for a, b in pairs])
    unbroken = [(a, b) for a, b in pairs if not (a["resumed"] or b["resumed"])]
    times = [f"{_ratio([a['microseconds_per_token'] / b['microseconds_per_token'] for a, b in pairs])} of reading"]
    if unbroken:
        times.insert(0, f"{_ratio([a['seconds'] / b['seconds'] for a, b in unbroken])} the time of training")
    return f"{near} within the training length, {late} far past it; {' and '.join(times)}."


def _verdict(differences: list[float]) -> str:
    mean, half = mean_and_half(differences)
    size = f"{mean:+.3f} ± {half:.3f} nats"
    if not abs(mean) > half:
        return f"no difference shown ({size})"
    return f"{'lower' if mean < 0 else 'higher'} loss ({size})"


def _ratio(ratios: list[float]) -> str:
    mean, half = mean_and_half(ratios)
    return f"{mean:.2f} ± {half:.2f} times"


def _positions(found: Runs, bins: list[str], far: str) -> str:
    """What rotary positions do beyond the length that was trained on, beside Nirvana without positions."""
    pairs = _pairs(found, "nirvana-rope")
    places = [(f"at positions {each}", lambda run, each=each: run["loss"][each]) for each in bins]
    places.append((f"from token {int(far):,} of one text", lambda run: run["far"][far]))
    told = ", ".join(f"{_verdict([rope - own for own, rope in _both(pairs, of)])} {words}" for words, of in places)
    return f"Rotary positions in Nirvana's attention, against Nirvana without: {told}."


def _both(pairs: list[tuple[dict[str, Any], dict[str, Any]]], of: Any) -> list[tuple[float, float]]:
    return [(of(own), of(rope)) for own, rope in pairs]


def _recall(found: Runs) -> str:
    above, count = [], 0
    for name in dict.fromkeys(each["name"] for each in found):
        runs = [each for each in found if each["name"] == name]
        for length in runs[0]["recall"]:
            count += 1
            mean, half = mean_and_half([each["recall"][length] for each in runs])
            if mean - half > CHANCE:
                above.append(f"{name} at {length} ({mean:.0%})")
    if not above:
        return "Recall: no model is shown above chance at any length; at this scale the task tells none of them apart."
    return (
        f"Recall above chance: {', '.join(above)}; all others are not shown above it. Of the {count} "
        "intervals, one in forty would lie above chance if all guessed."
    )
