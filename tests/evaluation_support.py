"""An invented evaluation, as ``nirvana-mri evaluate --json`` writes it, and pictures that go with it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from tiny import head

METHODS = ("nirvana", "sense", "zero-filled")
LEVELS = {"nirvana": 0.93, "sense": 0.90, "zero-filled": 0.79}
GROUPS = ("AXT2 4x, 3 T", "AXT2 8x, 3 T", "AXFLAIR 4x, 1.5 T", "AXFLAIR 8x, 1.5 T")
LABELS = ("nonspecific white matter lesion", "edema", "mass")
FORMS = {"ssim": 1.0, "psnr": 38.0, "nmse": 0.02, "ms_ssim": 1.03, "haarpsi": 0.94, "edge_sharpness": 0.9}


def invented(
    methods: tuple[str, ...] = METHODS, volumes: int = 12, intervals: bool = True, seed: int = 0
) -> dict[str, Any]:
    """Scores of ``volumes`` volumes by each method, in up to four groups; one target has no prediction."""
    draw = np.random.default_rng(seed)
    rows = [_row(name, place, draw) for place in range(volumes) for name in methods]
    by_method = [
        {"method": name, **_mean([row for row in rows if row["method"] == name], intervals)} for name in methods
    ]
    groups = [
        {
            "group": group,
            "method": name,
            **_mean([r for r in rows if (r["group"], r["method"]) == (group, name)], intervals),
        }
        for group in GROUPS[:volumes]
        for name in methods
    ]
    return {
        "protocol": {
            "name": "fastmri",
            "target": "reconstruction_rss",
            "crop": "centre (W, W) of target and prediction, W the target's width, from (n - W) // 2",
            "data_range": "maximum of the cropped target over the slices compared",
            "window": "SSIM per slice: 7x7 uniform, K1 0.01, K2 0.03, sample covariance",
            "aggregation": "SSIM mean over slices, PSNR and NMSE of the whole volume, unweighted mean over volumes",
            "slices": "all",
            "toolkit_version": "0.7.0",
            "hash": "3f2a9c41d07e",
        },
        "methods": list(methods),
        "volumes": rows,
        "mean": by_method[0]["mean"],
        "intervals": by_method[0]["intervals"],
        "by_method": by_method,
        "groups": groups,
        "paired": _paired(rows, methods, intervals),
        "regions": _regions(rows),
        "region_labels": [
            {"label": label, "method": name, "count": 1, "mean": {"ssim": 0.81 - 0.01 * len(label), "nmse": 0.0234567}}
            for label in LABELS
            for name in methods
        ],
        "missing": ["file_brain_AXT2_209_2090112.h5"],
        "extra": [],
        "sampling": {"pattern": "equispaced_fraction", "accelerate": 4, "center_fraction": 0.08, "seed": 0},
        "bootstrap": {"draws": 2000, "seed": 0, "level": 0.95, "resampled": "patients"},
        "notice": "not for clinical use. p values are not corrected for the number of comparisons",
        "toolkit_version": "0.7.0",
        "command": "nirvana-mri evaluate scans/ --method nirvana --method sense --method zero-filled "
        "--accelerate 4 --json scores.json --html page.html",
        "methods_paragraph": "Retrospectively undersampled k-space was reconstructed with nirvana-mri 0.7.0 and "
        "compared with the fully sampled root-sum-of-squares pictures by the fastMRI protocol. Intervals are from a "
        "bootstrap over patients.",
        "citations": [
            "Zbontar J, et al. fastMRI: An open dataset and benchmarks for accelerated MRI. arXiv:1811.08839 (2018).",
            "Wang Z, et al. Image quality assessment: from error visibility to structural similarity. IEEE TIP, 2004.",
        ],
    }  # fmt: skip


def pictures(row: Mapping[str, Any]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A head with fine noise, and per method a copy with more noise and one place that is wrong."""
    draw = np.random.default_rng(len(row["file"]))
    target = 1e-5 * (head(96, 80, seed=int(row["worst_slice"]["slice"]))[0] + 0.02 * draw.standard_normal((96, 80)))
    made = {}
    for place, name in enumerate(METHODS):
        made[name] = target + 1e-5 * 0.03 * (place + 1) * draw.standard_normal(target.shape)
        made[name][40:50, 30:38] += 0.4e-5
    return np.abs(target), {name: np.abs(each) for name, each in made.items()}


def _row(name: str, place: int, draw: np.random.Generator) -> dict[str, Any]:
    quality = LEVELS.get(name, 0.85) - 0.02 * (place % 4) + 0.012 * draw.standard_normal()
    scores = {key: float(scale * quality) for key, scale in FORMS.items()} | {"nmse": float((1 - quality) * 0.09)}
    group = GROUPS[place % len(GROUPS)]
    return {
        "file": f"file_brain_{group.split()[0]}_{200 + place}_{2000000 + 37 * place}.h5",
        "method": name,
        **scores,
        "acceleration": 4.0 + 0.04 * (place % 3),
        "group": group,
        "contrast": group.split()[0],
        "field_strength_t": 3.0,
        "patient": f"patient-{place // 2}",
        "worst_slice": {"slice": place % 5, "ssim": scores["ssim"] - 0.05},
    }


def _mean(rows: list[dict[str, Any]], intervals: bool) -> dict[str, Any]:
    mean = {key: float(np.mean([row[key] for row in rows])) for key in FORMS}
    spans = {key: [0.985 * value, 1.011 * value] if intervals else None for key, value in mean.items()}
    return {"count": len(rows), "patients": len({row["patient"] for row in rows}), "mean": mean, "intervals": spans}


def _paired(rows: list[dict[str, Any]], methods: tuple[str, ...], intervals: bool) -> list[dict[str, Any]]:
    found = []
    for other in methods[1:]:
        for key in ("ssim", "psnr", "nmse"):
            one, two = ([row[key] for row in rows if row["method"] == name] for name in (methods[0], other))
            gap = float(np.mean(np.subtract(one, two)))
            found.append(
                {
                    "methods": [methods[0], other],
                    "metric": key,
                    "difference": gap,
                    "interval": [gap - 0.3 * abs(gap), gap + 0.25 * abs(gap)] if intervals else None,
                    "p": 0.00048828125 if intervals else None,
                    "effect_size": 0.87 if intervals else None,
                    "pairs": len(one),
                }
            )
    return found


def _regions(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            **{key: row[key] for key in ("file", "method")},
            "slice": 3,
            "label": LABELS[place % 3],
            "box": [40 + place, 52, 12, 9],
            "box_compared": [40 + place, 52, 12, 9],
            "ssim": row["ssim"] - 0.08,
            "nmse": row["nmse"] * 2,
        }
        for place, row in enumerate(rows[:9])
    ]
