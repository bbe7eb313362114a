"""The paragraph that a paper needs about its scores, naming only what was used, with citations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nirvana_mri import __version__
from nirvana_mri.eval.protocol import FASTMRI, FOREGROUND, PER_SLICE

if TYPE_CHECKING:
    from nirvana_mri.eval.study import Study

CITATIONS = {
    "fastMRI": "Zbontar J, et al. fastMRI: An open dataset and benchmarks for accelerated MRI. arXiv:1811.08839, 2018.",
    "SSIM": "Wang Z, Bovik AC, Sheikh HR, Simoncelli EP. Image quality assessment: from error visibility to structural "
    "similarity. IEEE Trans Image Process 13(4):600-612, 2004.",
    "MS-SSIM": "Wang Z, Simoncelli EP, Bovik AC. Multiscale structural similarity for image quality assessment. "
    "Asilomar Conference on Signals, Systems and Computers, 1398-1402, 2003.",
    "HaarPSI": "Reisenhofer R, Bosse S, Kutyniok G, Wiegand T. A Haar wavelet-based perceptual similarity index for "
    "image quality assessment. Signal Processing: Image Communication 61:33-43, 2018.",
    "ESPIRiT": "Uecker M, et al. ESPIRiT: an eigenvalue approach to autocalibrating parallel MRI: where SENSE meets "
    "GRAPPA. Magn Reson Med 71(3):990-1001, 2014.",
    "SENSE": "Pruessmann KP, Weiger M, Scheidegger MB, Boesiger P. SENSE: sensitivity encoding for fast MRI. Magn "
    "Reson Med 42(5):952-962, 1999.",
    "wavelet": "Lustig M, Donoho D, Pauly JM. Sparse MRI: the application of compressed sensing for rapid MR imaging. "
    "Magn Reson Med 58(6):1182-1195, 2007.",
    "Nirvana": "Nirvana. arXiv:2510.26083.",
    "E2E-VarNet": "Sriram A, et al. End-to-end variational networks for accelerated MRI reconstruction. "
    "arXiv:2004.06688, 2020.",
    "fastMRI+": "Zhao R, et al. fastMRI+, clinical pathology annotations for knee and brain fully sampled magnetic "
    "resonance imaging data. Sci Data 9:152, 2022.",
    "Otsu": "Otsu N. A threshold selection method from gray-level histograms. IEEE Trans Syst Man Cybern 9(1):62-66, "
    "1979.",
    "Wilcoxon": "Wilcoxon F. Individual comparisons by ranking methods. Biometrics Bulletin 1(6):80-83, 1945.",
    "effect size": "Kerby DS. The simple difference formula: an approach to teaching nonparametric correlation. "
    "Comprehensive Psychology 3:11.IT.3.1, 2014.",
}
METHODS = {  # provenance's name: how it is put, what it cites
    "nirvana": ("the frozen-backbone network of nirvana-mri", ("Nirvana", "ESPIRiT")),
    "sense": ("CG-SENSE", ("SENSE", "ESPIRiT")),
    "wavelet": ("L1-wavelet compressed sensing", ("wavelet", "ESPIRiT")),
    "zero-filled": ("zero filling", ()),
    "fastmri-unet": ("fastMRI's U-Net", ("fastMRI",)),
    "fastmri-varnet": ("the end-to-end variational network", ("E2E-VarNet",)),
}
RULE = {
    FASTMRI.name: "SSIM {SSIM} was averaged over slices, with the maximum of each target volume as data range; PSNR "
    "and NMSE were computed per volume, as in fastMRI {fastMRI}",
    FOREGROUND.name: "scores follow fastMRI {fastMRI} (SSIM {SSIM} with the maximum of each target volume as data "
    "range, PSNR and NMSE per volume), restricted to a foreground mask of the target (Otsu's threshold {Otsu}, closing "
    "and hole filling)",
    PER_SLICE.name: "SSIM {SSIM}, PSNR and NMSE were computed per slice, with the maximum of each target slice as data "
    "range, and averaged over slices",
}


@dataclass(frozen=True)
class MethodsText:
    """Plain text with numbers in brackets, and the list that they lead to."""

    paragraph: str
    citations: tuple[str, ...]


class _Cited:
    """Numbers the citations in the order of their first mention."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def __getitem__(self, key: str) -> str:
        if key not in self.keys:
            self.keys.append(key)
        return f"[{self.keys.index(key) + 1}]"


def methods_text(study: Study) -> MethodsText:
    """How the study's scores were made, ready to paste."""
    cited = _Cited()
    sentences = [_methods(study, cited), _scores(study, cited), _statistics(study, cited)]
    if study.annotated:
        sentences.append(f"Scores within annotated boxes use fastMRI+ {cited['fastMRI+']}.")
    citations = tuple(f"[{n}] {CITATIONS[key]}" for n, key in enumerate(cited.keys, 1))
    return MethodsText(" ".join(sentence for sentence in sentences if sentence), citations)


def _methods(study: Study, cited: _Cited) -> str:
    told = []
    for method in study.methods:
        words, keys = METHODS.get(method.split(" (")[0], (method, ()))
        numbers = "".join(cited[key] for key in keys)
        hashes = {row.model_sha256[:12] for row in study.of(method) if row.model_sha256}
        model = f" (weights sha256 {hashes.pop()})" if len(hashes) == 1 else ""
        told.append(f"{words}{f' {numbers}' if numbers else ''}{model}")
    files, patients = len({row.score.file for row in study.rows}), len({row.patient for row in study.rows})
    volumes, people = f"{files} volume{'s' * (files != 1)}", f"{patients} patient{'s' * (patients != 1)}"
    rates = [row.score.acceleration for row in study.rows]
    known = [rate for rate in rates if rate is not None]
    spread = f"{min(known):.2f}" + (f" to {max(known):.2f}" if max(known) - min(known) >= 0.01 else "") if known else ""
    sampled = f", accelerated {spread} times (achieved)" if known and len(known) == len(rates) else ""
    return f"{volumes} of {people}{sampled} were reconstructed with {_listed(told)}."


def _scores(study: Study, cited: _Cited) -> str:
    protocol = study.protocol
    rule = RULE[protocol.name].format_map({key: cited[key] for key in ("SSIM", "fastMRI", "Otsu") if f"{{{key}}}" in RULE[protocol.name]})  # fmt: skip # noqa: E501
    further = [f"multi-scale SSIM {cited['MS-SSIM']}"] if study.mean["ms_ssim"] is not None else []
    further += [f"HaarPSI {cited['HaarPSI']}"]
    further += ["edge sharpness (Scharr gradient on the target's edges, relative to the target)"]
    stamp = f"protocol {protocol.name} {protocol.hash}, nirvana-mri {__version__}"
    return f"{rule[0].upper()}{rule[1:]}; {_listed(further)} were computed beside ({stamp}; target {protocol.target})."


def _statistics(study: Study, cited: _Cited) -> str:
    patients = len({row.patient for row in study.rows})
    if patients < 3:
        people = f"{patients} patient{'s' * (patients != 1)}"
        return f"Means are unweighted over volumes; with {people}, no intervals are given."
    text = (
        "Means are unweighted over volumes, with 95 % percentile bootstrap intervals over patients "
        f"({study.draws} draws, seed {study.seed})."
    )
    if len(study.methods) > 1:
        text += (
            f" Methods were compared by Wilcoxon signed-rank tests {cited['Wilcoxon']} on patient means (two-sided, "
            "not corrected for multiple comparisons), with the matched-pairs rank-biserial correlation "
            f"{cited['effect size']} as effect size."
        )
    return text


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
