"""One self-contained page about what the memory did with a text or any other input: no script, nothing fetched."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np

from nirvana_mri import __version__
from nirvana_mri.backbone.tokenizer import Tokenizer
from nirvana_mri.language.memory import MemoryRecord
from nirvana_mri.language.memory_figures import heat_map, loss_curve, over_layers, over_tokens

SHOWN = 300  # tokens of the text
SHADES = ("#ffffff", "#edf4fb", "#dae9f7", "#c8ddf2", "#b5d2ee", "#a3c7ea", "#90bce6", "#7eb1e2")
PART = "·"  # stands for a token that is no whole character
COLUMNS = (
    ("t, mean", "gate_attention", "mean"),
    ("t, largest", "gate_attention", "max"),
    ("t2, mean", "gate_delta", "mean"),
    ("ratio, mean", "hybrid_ratio", "mean"),
    ("fast weights, mean", "fast_norm", "mean"),
    ("largest", "fast_norm", "max"),
    ("update, mean", "update_norm", "mean"),
    ("largest", "update_norm", "max"),
    ("gradient, mean", "gradient_norm", "mean"),
    ("largest", "gradient_norm", "max"),
    ("hidden vector, mean", "residual_norm", "mean"),
)


def memory_page(
    record: MemoryRecord,
    about: Sequence[tuple[str, str]],
    pieces: Sequence[str] = (),
    title: str = "What the memory does",
) -> str:
    """HTML about a record. about: rows of what and value; pieces: the text of every token, none for other inputs.

    All that comes from outside is escaped.
    """
    template = Template(files("nirvana_mri.language").joinpath("memory_page_template.html").read_text("utf-8"))
    covered = min(record.first, record.tokens)
    return template.substitute(
        title=escape(title),
        lead=escape(f"{_count(record.tokens, 'token')}, {_count(len(record.layers), 'layer')} with a Trigger"),
        shades="\n".join(f".g{i} {{ background: {colour}; }}" for i, colour in enumerate(SHADES)),
        about=_facts(about),
        text=_text(record, pieces) if pieces else "",
        gates=_gates(record),
        start=number(record.start_norm),
        first="all tokens" if covered == record.tokens else f"the first {covered} tokens",
        learning=_learning(record),
        stability="\n".join(f"<li>{escape(line)}</li>" for line in stability_words(record)),
        numbers=_numbers(record),
        details=_details(record.as_dict()),
        version=escape(__version__),
    )


def token_texts(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """The text that every token adds; empty for one that ends inside a character, which the next token then holds."""
    texts, settled = [], ""
    for end in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[:end])
        whole = end == len(ids) or not text.endswith("\N{REPLACEMENT CHARACTER}")
        texts.append(text[len(settled) :] if whole else "")
        settled = text if whole else settled
    return texts


def number(value: float | None) -> str:
    """Four digits; what is not finite, or not there, is a dash."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.4g}"


def stability_words(record: MemoryRecord) -> list[str]:
    """The facts of record.stability() as sentences."""
    facts = record.stability()
    finite = "All recorded numbers are finite." if facts["all_finite"] else "Some recorded numbers are not finite."
    where = f"layer {facts['largest_update_layer']}, token {facts['largest_update_token']}"
    lines = [
        finite,
        f"Largest update over the norm of what it changed: {number(facts['largest_update_over_weight'])} ({where}).",
        f"Largest gradient norm: {number(facts['largest_gradient'])}; the rate is {record.rate:g}.",
        f"Mean norm of the fast weights after the last layer over the norm at the start: "
        f"{number(facts['fast_norm_last_layer_over_start'])}.",
        f"Mean in the last layer over mean in the first: updates {number(facts['update_last_layer_over_first'])}, "
        f"gradients {number(facts['gradient_last_layer_over_first'])}.",
        f"Mean update in the later half of the tokens over that in the earlier half: "
        f"{number(facts['update_later_tokens_over_earlier'])}.",
    ]
    if record.clip is None:
        return [*lines, "No limit was set: updates are as the model makes them."]
    return [*lines, f"Updates longer than {record.clip:g} were shortened to it: {facts['clipped_share']:.1%} of them."]


def _gates(record: MemoryRecord) -> str:
    layers = record.layers
    return _pair(
        _figure(
            heat_map(record.gate_attention, layers, "attention gate t (dimensionless)"),
            "Attention gate t of every layer and token",
            "Attention gate t: what a layer multiplies its attention branch by. Colours run from the least to the "
            "largest value here, so look at the scale before comparing pages.",
        ),
        _figure(
            heat_map(record.hybrid_ratio, layers, "t / (t + t2) (dimensionless)"),
            "Hybrid ratio of every layer and token",
            "Hybrid ratio t / (t + t2): above one half the attention gate is the wider one. It compares the gates, not "
            "the sizes of what passes them.",
        ),
    )


def _learning(record: MemoryRecord) -> str:
    first, layers = slice(None, record.first), record.layers
    fast, update, gradient = (x[:, first] for x in (record.fast_norm, record.update_norm, record.gradient_norm))
    kinds = {
        "matrix and bias": record.gradient_linear[:, first],
        "scale and shift": record.gradient_ln[:, first],
    }
    limit = "" if record.clip is None else f" The dashed line is the limit, {record.clip:g}."
    rows = [
        (
            over_tokens(fast, layers, "norm of the fast weights\n(dimensionless)", log=False),
            over_layers({"": fast}, layers, "norm of the fast weights\n(dimensionless)", log=False),
            "Norm of the fast weights",
            "Norm of a token's fast weights after each layer.",
            OVER_LAYERS,
        ),
        (
            over_tokens(update, layers, "update norm (dimensionless)", log=True, limit=record.clip),
            over_layers({"": update}, layers, "update norm (dimensionless)", log=True),
            "Update size",
            f"How far a layer moved a token's fast weights.{limit}",
            OVER_LAYERS,
        ),
        (
            over_tokens(gradient, layers, "gradient norm (dimensionless)", log=True),
            over_layers(kinds, layers, "gradient norm (dimensionless)", log=True),
            "Gradient norm",
            f"Norm of the gradient behind the update; the update is {record.rate:g} times as long, unless limited.",
            "By what it moves: matrix and bias, or scale and shift after the norm. Mean over the tokens, and largest.",
        ),
    ]
    return "".join(
        _pair(_figure(left, f"{what} over tokens", words), _figure(right, f"{what} over layers", beside))
        for left, right, what, words, beside in rows
    )


OVER_LAYERS = "The same over the layers: mean over the tokens, and the largest."


def _text(record: MemoryRecord, pieces: Sequence[str]) -> str:
    t, t2 = record.gate_attention.mean(0), record.gate_delta.mean(0)
    shown = min(SHOWN, record.tokens)
    finite = t[:shown][np.isfinite(t[:shown])]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (math.nan, math.nan)
    spans = []
    for at, piece in enumerate(pieces[:shown]):
        share = (float(t[at]) - low) / (high - low) if high > low else 0.0
        shade = min(len(SHADES) - 1, int(share * len(SHADES))) if math.isfinite(share) else 0
        words = f"token {at} {json.dumps(_visible(piece), ensure_ascii=False)}: t {number(t[at])}, t2 {number(t2[at])}"
        if at and record.loss is not None:
            words += f", loss {number(record.loss[at - 1])} nats"
        spans.append(f'<span class="g{shade}" title="{escape(words)}">{escape(_visible(piece) or PART)}</span>')
    scale = "".join(f'<span class="g{i}"></span>' for i in range(len(SHADES)))
    more = "" if shown == record.tokens else f" The first {shown} of {record.tokens} tokens."
    page = (
        f"<h2>The text</h2><p>Each token is shaded by its attention gate t, the mean over the layers.{more} Rest the "
        f"pointer on a token for its numbers; {PART} is a part of a character.</p>"
        f'<p class="scale">t {number(low)} {scale} {number(high)}</p>'
        f'<div class="text">{"".join(spans)}</div>'
    )
    if record.loss is None or not record.loss.size:
        return page
    return page + _pair(
        _figure(
            loss_curve(record.loss),
            "Loss of every token",
            f"How unexpected each token was after those before it; mean {number(float(record.loss.mean()))} nats.",
        )
    )


def _visible(piece: str) -> str:
    """The piece without control characters, but for line ends and tabs."""
    return "".join(x if x.isprintable() or x in "\n\t" else "\N{REPLACEMENT CHARACTER}" for x in piece)


def _numbers(record: MemoryRecord) -> str:
    head = "".join(f"<th>{name}</th>" for name, _, _ in COLUMNS)
    rows = "".join(
        f"<tr><th>{layer['layer']}</th>"
        + "".join(f"<td>{number(layer[key][kind])}</td>" for _, key, kind in COLUMNS)
        + "</tr>"
        for layer in record.summary()
    )
    table = f"<thead><tr><th>layer</th>{head}</tr></thead><tbody>{rows}</tbody>"
    return f'<div class="wide"><table class="numbers">{table}</table></div>'


def _facts(about: Sequence[tuple[str, str]]) -> str:
    rows = "".join(f"<tr><th>{escape(what)}</th><td>{escape(value)}</td></tr>" for what, value in about)
    return f'<table class="facts"><tbody>{rows}</tbody></table>'


def _pair(*figures: str) -> str:
    return f'<div class="pair">{"".join(figures)}</div>'


def _figure(png: bytes, what: str, caption: str) -> str:
    image = base64.b64encode(png).decode()
    return (
        f'<figure><img alt="{escape(what)}" src="data:image/png;base64,{image}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _details(values: dict[str, Any]) -> str:
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
    return f"<details><summary>these numbers in full</summary><pre>{escape(text)}</pre></details>"


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
