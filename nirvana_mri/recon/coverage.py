"""How far an input lies from what a model was trained for, said in a sentence each."""

from collections.abc import Mapping
from typing import Any

from nirvana_mri.scan import Scan

FAR = 1.5  # a matrix or a coil count beyond the range by less than this factor is not worth a warning

# fastMRI's names of acquisitions; a name that holds none of these says nothing.
ANATOMY_MARKS = {
    "brain": ("AXT1", "AXT2", "AXFLAIR", "BRAIN", "HEAD"),
    "knee": ("CORPD", "PDFS", "KNEE"),
    "prostate": ("PROSTATE",),
    "breast": ("BREAST",),
}


def distance_warnings(covers: Mapping[str, Any], scan: Scan, acceleration: float) -> tuple[str, ...]:
    """What of the scan lies outside the model card's ranges, with both figures; empty where all is inside.

    ``covers`` holds ``[low, high]`` for ``accelerations``, ``coils`` and ``matrix``, and a list of ``anatomy``. What
    lies near an edge counts as inside: a twentieth of acceleration, which masks only approach, and half as much again
    of matrix and coils, to which the model adapts.
    """
    _, coils, ny, nx = scan.shape
    measured = (
        ("acceleration", acceleration, covers.get("accelerations"), "x", 1.05),
        ("coil count", coils, covers.get("coils"), "", FAR),
        ("smaller matrix side", min(*scan.crop, nx), covers.get("matrix"), " pixels", FAR),
        ("larger matrix side", max(min(ny, scan.crop[0]), nx), covers.get("matrix"), " pixels", FAR),
    )
    notes = [
        f"{what} {value:.3g}{unit} lies outside the model's training range, {limits[0]:.3g} to {limits[1]:.3g}{unit}"
        for what, value, limits, unit, slack in measured
        if limits and not limits[0] / slack <= value <= limits[1] * slack
    ]
    anatomy = anatomy_of(scan)
    trained = covers.get("anatomy")
    if anatomy and trained and anatomy not in trained:
        notes.append(f"the scan seems to be of the {anatomy}; the model was trained on {', '.join(trained)} only")
    return tuple(notes)


def anatomy_of(scan: Scan) -> str | None:
    """What the scan shows, by the name of its acquisition; None where that does not say."""
    name = str(scan.metadata.get("acquisition", "")).upper().replace("_", "")
    return next((anatomy for anatomy, marks in ANATOMY_MARKS.items() if any(mark in name for mark in marks)), None)
