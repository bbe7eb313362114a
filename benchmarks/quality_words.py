"""What the quality benchmark has to say: its scores as tables, and sentences made from its figures."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from accuracy import Setting

CONTRAST = {"niivue_register_T2w": "T2", "niimath_T1": "T1", "torchio_t2": "FLAIR", "MR_Gd": "T1 + Gd", "brain8": "T1"}
SETTINGS = {
    "4x": Setting("equispaced_fraction", 4, 0.08),
    "8x": Setting("equispaced_fraction", 8, 0.04),
    "6x, never trained on": Setting("equispaced_fraction", 6, 0.053),
    "magic 4x, never trained on": Setting("magic", 4, 0.08),
}
CLASSICAL = ("zero-filled", "sense", "wavelet")
CEILING = "noise-free truth"  # what went into the simulation: the target holds noise that no method can know
OURS = {"nirvana": "pretrained", "nirvana-none": "none"}  # by the backbone in the middle
GATES = (0.6, 0.2)  # of the peer's 1 - SSIM, of its seconds for a slice
FLAT = 0.02  # of 1 - SSIM: what the last three tenths of a flat learning curve gain at most
DRAWS = 2000


@dataclass(frozen=True)
class Row:
    """The scores of one method on one volume."""

    method: str
    patient: str
    coils: int
    setting: str
    ssim: float
    psnr: float
    nmse: float


def interval(values: dict[str, list[float]]) -> tuple[float, float, float]:
    """Mean over patients, and its 95 % bootstrap interval, drawing patients with all their volumes."""
    means = np.array([np.mean(each) for each in values.values()])
    drawn = np.random.default_rng(0).choice(means, (DRAWS, len(means))).mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(means.mean()), float(low), float(high)


def summary(rows: list[Row], name: str, setting: str, what: str, real: bool = False) -> tuple[float, float, float]:
    chosen: dict[str, list[float]] = {}
    for row in rows:
        if row.method == name and row.setting == setting and (row.patient == "brain8") is real:
            chosen.setdefault(row.patient, []).append(getattr(row, what))
    return interval(chosen)


def beside_classical(rows: list[Row]) -> str:
    """Ours less the best classical method, on held-out subjects and on the real slice."""
    if "nirvana" not in {row.method for row in rows}:
        return ""
    text = ""
    for real, what in ((False, "held-out subjects"), (True, "the measured slice")):
        cells = []
        for label in SETTINGS:
            best = max(CLASSICAL, key=lambda name: summary(rows, name, label, "ssim", real)[0])
            ssim, psnr = (
                summary(rows, "nirvana", label, score, real)[0] - summary(rows, best, label, score, real)[0]
                for score in ("ssim", "psnr")
            )
            cells.append(f"{label}: {ssim:+.4f}, {psnr:+.2f} dB ({best})")
        text += f"- SSIM and PSNR of ours less those of the best classical method, {what}: {'; '.join(cells)}\n"
    return text


def of_the_backbone(rows: list[Row]) -> str:
    """What the language model brings, by subject: both read the same slices in the same order, for the same time."""
    if not {*OURS} <= {row.method for row in rows}:
        return ""
    text = ""
    for label in SETTINGS:
        gains: dict[str, list[float]] = {}
        scores = {(r.method, r.patient, r.coils): r.ssim for r in rows if r.setting == label and r.patient != "brain8"}
        for name, patient, coils in scores:
            if name == "nirvana":
                without = scores["nirvana-none", patient, coils]
                gains.setdefault(patient, []).append(scores[name, patient, coils] - without)
        mean, low, high = interval(gains)
        text += f"{'; ' if text else ''}{label}: {mean:+.4f} ({low:+.4f} to {high:+.4f})"
    return f"- SSIM with the language model less without one, the same time for both: {text}\n"


def main_table(rows: list[Row], names: list[str]) -> str:
    text = ""
    for label in SETTINGS:
        text += f"### {label}\n\n| | SSIM | PSNR [dB] | NMSE |\n|---|---|---|---|\n"
        for name in names:
            cells = [
                f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
                for what, digits in (("ssim", 4), ("psnr", 2), ("nmse", 5))
                for mean, low, high in [summary(rows, name, label, what)]
            ]
            text += f"| {name} | " + " | ".join(cells) + " |\n"
        text += "\n"
    return text


def detail_table(rows: list[Row], names: list[str]) -> str:
    """SSIM / PSNR a scan at 4x and 8x."""
    text = f"| scan | coils | sampling | {' | '.join(names)} |\n|---|---|---|{'---|' * len(names)}\n"
    for patient, coils, label in sorted({(r.patient, r.coils, r.setting) for r in rows}):
        cells = []
        for name in names:
            same = [r for r in rows if (r.method, r.patient, r.coils, r.setting) == (name, patient, coils, label)]
            cells.append(f"{same[0].ssim:.4f} / {same[0].psnr:.2f}" if same else "")
        text += f"| {patient} ({CONTRAST[patient]}) | {coils} | {label} | {' | '.join(cells)} |\n"
    return text


def is_flat(curve: list[dict[str, float]]) -> bool:
    """Whether the last three tenths of a learning curve gained next to nothing."""
    before, after = curve[-4]["ssim"], curve[-1]["ssim"]
    return (after - before) / (1 - before) < FLAT


def verdict(
    rows: list[Row], trained: dict[str, dict[str, Any]], costs: dict[str, tuple[float, float]]
) -> tuple[str, bool]:
    """The ratio to E2E-VarNet, where it may be quoted, for its full size and for the best small one."""
    nets = [name for name in trained if name.startswith("varnet")]
    if "nirvana" not in trained or not nets:
        return "", False
    small = [name for name in nets if name != "varnet"]
    best = max(small, key=lambda name: trained[name]["curve"][-1]["ssim"], default=None)
    own, text, passed = summary(rows, "nirvana", "4x", "ssim")[0], "", True
    best_possible = summary(rows, CEILING, "4x", "ssim")[0]
    for name in dict.fromkeys([*(n for n in ("varnet",) if n in nets), *([best] if best else [])]):
        peer, wavelet = summary(rows, name, "4x", "ssim")[0], summary(rows, "wavelet", "4x", "ssim")[0]
        gain = summary(rows, "nirvana", "4x", "psnr")[0] - summary(rows, name, "4x", "psnr")[0]
        ratio, pace = (1 - own) / (1 - peer), costs["nirvana"][0] / costs[name][0]
        text += f"- `{name}`: "
        if is_flat(trained[name]["curve"]) or peer > wavelet:
            text += f"1 − SSIM of ours is {ratio:.2f} times its (gate {GATES[0]}"
            text += f"; the noise-free truth would be {(1 - best_possible) / (1 - peer):.2f}); "
        else:
            text += "its learning curve has not flattened and it does not beat L1-wavelet: no ratio is quoted; "
        text += f"PSNR {gain:+.2f} dB; time for a slice {pace:.2f} times its (gate {GATES[1]}).\n"
        passed &= ratio <= GATES[0] and gain > 0 and pace <= GATES[1]
    return text, passed
