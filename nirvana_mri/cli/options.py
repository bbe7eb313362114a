"""Options that several commands share, and what their text means. Loads nothing heavy."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from nirvana_mri.errors import UsageError


class Method(StrEnum):
    nirvana = "nirvana"
    zero_filled = "zero-filled"
    sense = "sense"
    wavelet = "wavelet"
    fastmri_unet = "fastmri-unet"
    fastmri_varnet = "fastmri-varnet"


class Combine(StrEnum):
    rss = "rss"
    sense = "sense"


class Format(StrEnum):
    h5 = "h5"
    nifti = "nifti"
    dicom = "dicom"
    png = "png"


class Orientation(StrEnum):
    axial = "axial"
    sagittal = "sagittal"
    coronal = "coronal"


INPUT, SAMPLING, MODEL, OUTPUT = "Input", "Sampling", "Method", "Output"

VolumeOption = Annotated[
    int | None,
    typer.Option(
        "--volume", metavar="N", help="One volume of several (repetition, echo, time), from 0.", rich_help_panel=INPUT
    ),
]
EncodingOption = Annotated[
    int | None,
    typer.Option("--encoding", metavar="N", help="One encoding of an ISMRMRD file's, from 0.", rich_help_panel=INPUT),
]
CalibrationOption = Annotated[
    bool,
    typer.Option(
        "--calibration", help="An ISMRMRD file's separate calibration scan, not its picture.", rich_help_panel=INPUT
    ),
]
AxesOption = Annotated[
    str | None,
    typer.Option(
        "--axes",
        metavar="NAMES",
        help='The axes of a plain array in its order, "coil ny nx" say: slice, partition, coil, ny (readout), nx '
        "(phase encoding), volume.",
        rich_help_panel=INPUT,
    ),
]
DatasetOption = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="NAME",
        help="One array of an npz or MATLAB file: its name, or #2 for the second.",
        rich_help_panel=INPUT,
    ),
]
ImagesOption = Annotated[
    bool, typer.Option("--images", help="The array holds complex coil images.", rich_help_panel=INPUT)
]
FormatOption = Annotated[
    Format | None,
    typer.Option(
        "--format", help="What to write; without it, what the suffix says, h5 in a folder.", rich_help_panel=OUTPUT
    ),
]
ReferenceOption = Annotated[
    Path | None,
    typer.Option(
        "--reference-dicom",
        metavar="PATH",
        help="DICOM: the source series, in whose slices the picture must lie and whose protocol it takes over.",
        rich_help_panel=OUTPUT,
    ),
]
OrientationOption = Annotated[
    Orientation | None,
    typer.Option(
        "--assume-orientation",
        help="How the slices lie, for a scan that does not say; DICOM must know. Every output says that it is assumed.",
        rich_help_panel=OUTPUT,
    ),
]
FloatOption = Annotated[
    bool,
    typer.Option("--float", help="DICOM: unscaled 32-bit floats (ParametricMap).", rich_help_panel=OUTPUT),
]
IdentifiersOption = Annotated[
    bool,
    typer.Option(
        "--keep-identifiers", help="DICOM: names, ids, dates and study of the reference too.", rich_help_panel=OUTPUT
    ),
]
PrewhitenOption = Annotated[
    bool,
    typer.Option(
        "--prewhiten/--no-prewhiten",
        help="Mix coils by a noise measurement, where the scan holds one.",
        rich_help_panel=MODEL,
    ),
]

ModelOption = Annotated[
    str, typer.Option("--model", metavar="NAME|PATH", help="Model: nano, or a checkpoint.", rich_help_panel=MODEL)
]
MethodOption = Annotated[Method, typer.Option("--method", help="How to reconstruct.", rich_help_panel=MODEL)]
WeightsOption = Annotated[
    Path | None,
    typer.Option("--weights", metavar="FILE", help="Of the fastmri methods: .pt or .ckpt.", rich_help_panel=MODEL),
]
CombineOption = Annotated[
    Combine,
    typer.Option(
        "--combine",
        help="Coils: rss adds the noise floor that a root-sum-of-squares target has; sense keeps the cleaner picture.",
        rich_help_panel=MODEL,
    ),
]
AdaptOption = Annotated[
    int,
    typer.Option(
        "--adapt",
        metavar="STEPS",
        help="First let the model learn from this scan's own samples, so many steps at most (seconds each); used "
        "only where it explains samples set aside better.",
        rich_help_panel=MODEL,
    ),
]
StrengthOption = Annotated[
    float,
    typer.Option(
        "--strength",
        metavar="0..1",
        help="How far to follow the model: 1 all the way, 0 the classical answer (CG-SENSE).",
        rich_help_panel=MODEL,
    ),
]
ErrorBarsOption = Annotated[
    str | None,
    typer.Option(
        "--error-bars",
        metavar="FILE|shipped",
        help="Error bars calibrated for this method (scripts/calibrate_error_bars.py), or those that come with it.",
        rich_help_panel=OUTPUT,
    ),
]
AccelerateOption = Annotated[
    float | None,
    typer.Option(
        "--accelerate",
        metavar="FACTOR",
        help="Leave samples out as a scan that many times faster would; without it, all that was measured is used.",
        rich_help_panel=SAMPLING,
    ),
]
MaskOption = Annotated[
    str | None,
    typer.Option(
        "--mask",
        metavar="KIND|FILE",
        help="Which samples stay: random, equispaced, equispaced_fraction (default), magic, poisson; or your own, "
        "an npy file or FILE.h5:DATASET.",
        rich_help_panel=SAMPLING,
    ),
]
CenterOption = Annotated[
    float,
    typer.Option("--center-fraction", help="Share of the columns that stays in the centre.", rich_help_panel=SAMPLING),
]
SeedOption = Annotated[int, typer.Option("--seed", help="Of whatever is drawn at random.", rich_help_panel=SAMPLING)]
SlicesOption = Annotated[
    str | None,
    typer.Option("--slices", metavar="START:STOP", help="Only these: 3:10 is 3 to 9, 5 is one slice. From 0."),
]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, ...")]
JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE|-", help="Write as JSON too; - is standard output, alone.")
]


def model_or_weights(model: str, method: Method, weights: Path | None) -> str:
    """What the method loads: the model, or a peer's weights. Raises: UsageError for one without the other."""
    needed = method in (Method.fastmri_unet, Method.fastmri_varnet)
    if needed and weights is None:
        raise UsageError(f"--method {method.value} needs its weights; name their file with --weights")
    if weights is not None and not needed:
        raise UsageError(f"--weights is for the fastmri methods, not for {method.value}; leave it out")
    return model if weights is None else str(weights)


def parse_slices(text: str | None) -> tuple[int | None, int | None] | None:
    """(start, stop) of START:STOP or of one number; whether a scan has them is seen there. Raises: UsageError."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)|(\d*):(\d*)", text.strip(), flags=re.ASCII)
    if match is None:
        raise UsageError(f"--slices {text} is neither START:STOP nor one number, from 0 on; 3:10 is slices 3 to 9")
    one, start, stop = match.groups()
    if one:
        return int(one), int(one) + 1
    return int(start) if start else None, int(stop) if stop else None


def chosen_mask(mask: str | None, accelerate: float | None) -> str:
    """A mask's kind or file. Raises: UsageError where there is neither such a kind nor such a file."""
    from nirvana_mri.physics.masks import MASKS
    from nirvana_mri.recon.batch import mask_file

    kind = mask or "equispaced_fraction"
    if kind in MASKS:
        if mask and accelerate is None:
            raise UsageError(f"--mask {mask} needs an acceleration; add --accelerate 4, say")
        return kind
    if not mask_file(kind).exists():
        raise UsageError(f"--mask {kind} is neither a file nor one of: {', '.join(MASKS)}")
    return kind
