"""The ISMRMRD header, as its own files and fastMRI's carry it in XML: matrices, fields of view, sampled range.

Its x is the readout (our ny), its y the phase encoding (our nx), its z the slice. Schema:
ismrmrd.github.io, ``ismrmrdHeader``. Subject, study and institution are never looked at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import numpy as np

from nirvana_mri.scan import Geometry

NAMESPACE = "http://www.ismrm.org/ISMRMRD"
LARGEST_MATRIX = 1 << 16


class HeaderError(ValueError):
    """What is wrong with the XML, in words without its contents; the reader adds the path."""


@dataclass(frozen=True)
class Ramps:
    """An EPI readout's gradient, in the schema's own words (microseconds), and when its samples are taken."""

    ramp_up_us: float
    flat_top_us: float
    delay_us: float
    samples: float
    dwell_us: float

    @property
    def sampled(self) -> bool:
        """True where samples lie on a ramp, off the Cartesian grid."""
        end = self.delay_us + self.samples * self.dwell_us
        slack = self.dwell_us
        return self.delay_us < self.ramp_up_us - slack or end > self.ramp_up_us + self.flat_top_us + slack


@dataclass(frozen=True)
class Header:
    """The part of the header that a reconstruction needs. None: the header does not say.

    Matrices and fields of view [mm] are (x, y, z) = (readout, phase, slice).
    ``phase_center`` and ``phase_maximum`` are the limits of kspace_encoding_step_1, ``partition_center`` of step_2.
    A header may describe several ``encodings``; these are the values of one. ``echo_times_ms`` has one for each
    contrast, ``noise_bandwidth`` is the receiver's, relative, and ``ramps`` describes an EPI readout.
    """

    encoded_matrix: tuple[int, int, int] | None = None
    encoded_fov_mm: tuple[float, float, float] | None = None
    recon_matrix: tuple[int, int, int] | None = None
    recon_fov_mm: tuple[float, float, float] | None = None
    phase_center: int | None = None
    phase_maximum: int | None = None
    trajectory: str = "cartesian"
    field_strength_t: float | None = None
    tr_ms: float | None = None
    te_ms: float | None = None
    ti_ms: float | None = None
    flip_angle_deg: float | None = None
    encodings: int = 1
    partition_center: int | None = None
    calibration_mode: str | None = None
    echo_times_ms: tuple[float, ...] = ()
    noise_bandwidth: float | None = None
    ramps: Ramps | None = None

    def padding(self) -> tuple[int, int] | None:
        """(left, right): columns [left, right) were measured, by the rule of fastmri.data.SliceDataset."""
        if self.encoded_matrix is None or self.phase_center is None or self.phase_maximum is None:
            return None
        left = self.encoded_matrix[1] // 2 - self.phase_center
        return left, left + self.phase_maximum + 1

    def crop(self, ny: int, nx: int) -> tuple[int, int] | None:
        """Matrix (ny, nx) of the finished picture; a width below the recon matrix gives a square of that width."""
        if self.recon_matrix is None:
            return None
        rows, columns = self.recon_matrix[:2]
        if nx < columns:
            rows, columns = min(rows, nx), nx
        return min(rows, ny), columns

    def geometry(self, slices: int, crop: tuple[int, int]) -> Geometry:
        """Voxels and field of view [mm] of a picture of matrix ``crop``; a centred diagonal affine.

        Nothing is interpolated: where the k-space is smaller than the recon matrix, pixels are as large as
        the encoding made them.
        """
        recon = _pixels(self.recon_fov_mm, self.recon_matrix)
        encoded = _pixels(self.encoded_fov_mm, self.encoded_matrix)
        if recon is None and encoded is None:
            return Geometry()
        pixels = list(recon or encoded or ())
        if recon and encoded and self.recon_matrix:
            for axis in (0, 1):
                if crop[axis] < self.recon_matrix[axis]:
                    pixels[axis] = encoded[axis]
        return centred_geometry((pixels[2], pixels[0], pixels[1]), (slices, *crop))


def centred_geometry(voxel_mm: tuple[float, float, float], matrix: tuple[int, int, int]) -> Geometry:
    """Geometry without orientation: both in (slice, ny, nx); the field's centre lies at 0 mm.

    In plane the centre is pixel n // 2, where the Fourier transform has it; through plane the stack's middle.
    """
    dz, dy, dx = voxel_mm
    slices, ny, nx = matrix
    affine = np.diag([dx, dy, dz, 1.0])
    affine[:3, 3] = -dx * (nx // 2), -dy * (ny // 2), -dz * (slices - 1) / 2
    field = dz * slices, dy * ny, dx * nx
    return Geometry(voxel_mm=(dz, dy, dx), field_of_view_mm=field, affine=affine, orientation_known=False)


def parse_header(xml: str, encoding: int = 0) -> Header:
    """The header in ``xml``, with the matrices of one ``encoding``.

    Raises: HeaderError for XML that is broken, hostile, or holds no sensible numbers.
    """
    if "<!doctype" in xml.lower() or "<!entity" in xml.lower():
        raise HeaderError("its XML has a DOCTYPE or ENTITY, which no ISMRMRD header needs")
    try:
        root = ElementTree.fromstring(xml)
    except (ElementTree.ParseError, ValueError) as problem:
        raise HeaderError(f"its XML is broken ({problem})") from None
    every = root.findall("{*}encoding")
    one = every[encoding] if encoding < len(every) else ElementTree.Element("encoding")
    step_1, step_2 = (f"encodingLimits/kspace_encoding_step_{n}" for n in (1, 2))
    return Header(
        encoded_matrix=_matrix(one, "encodedSpace/matrixSize"),
        encoded_fov_mm=_field_of_view(one, "encodedSpace/fieldOfView_mm"),
        recon_matrix=_matrix(one, "reconSpace/matrixSize"),
        recon_fov_mm=_field_of_view(one, "reconSpace/fieldOfView_mm"),
        phase_center=_whole(one, f"{step_1}/center"),
        phase_maximum=_whole(one, f"{step_1}/maximum"),
        trajectory=(_text(one, "trajectory") or "cartesian").lower(),
        field_strength_t=_number(root, "acquisitionSystemInformation/systemFieldStrength_T"),
        tr_ms=_number(root, "sequenceParameters/TR"),
        te_ms=_number(root, "sequenceParameters/TE"),
        ti_ms=_number(root, "sequenceParameters/TI"),
        flip_angle_deg=_number(root, "sequenceParameters/flipAngle_deg"),
        encodings=len(every),
        partition_center=_whole(one, f"{step_2}/center"),
        calibration_mode=(_text(one, "parallelImaging/calibrationMode") or "").lower() or None,
        echo_times_ms=_numbers(root, "sequenceParameters/TE"),
        noise_bandwidth=_number(root, "acquisitionSystemInformation/relativeReceiverNoiseBandwidth"),
        ramps=_ramps(one),
    )


def make_header(
    shape: tuple[int, int], voxel_mm: tuple[float, float, float], crop: tuple[int, int], padding: tuple[int, int]
) -> str:
    """Header XML for k-space of ``shape`` (ny, nx): what fastmri.data.SliceDataset and open_scan need.

    ``voxel_mm`` is (slice, ny, nx); columns [padding[0], padding[1]) were measured.
    """
    dz, dy, dx = voxel_mm
    spaces = "".join(
        f"<{name}><matrixSize><x>{ny}</x><y>{nx}</y><z>1</z></matrixSize>"
        f"<fieldOfView_mm><x>{ny * dy:.9g}</x><y>{nx * dx:.9g}</y><z>{dz:.9g}</z></fieldOfView_mm></{name}>"
        for name, (ny, nx) in (("encodedSpace", shape), ("reconSpace", crop))
    )
    left, right = padding
    limits = f"<minimum>0</minimum><maximum>{right - left - 1}</maximum><center>{shape[1] // 2 - left}</center>"
    return (
        f'<?xml version="1.0" encoding="utf-8"?><ismrmrdHeader xmlns="{NAMESPACE}">'
        "<experimentalConditions><H1resonanceFrequency_Hz>0</H1resonanceFrequency_Hz></experimentalConditions>"
        f"<encoding>{spaces}<encodingLimits><kspace_encoding_step_1>{limits}</kspace_encoding_step_1></encodingLimits>"
        "<trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"
    )


def _pixels(field: tuple[float, ...] | None, matrix: tuple[int, ...] | None) -> tuple[float, ...] | None:
    return tuple(length / n for length, n in zip(field, matrix, strict=True)) if field and matrix else None


def _path(path: str) -> str:
    return "/".join(f"{{*}}{step}" for step in path.split("/"))


def _text(root: ElementTree.Element, path: str) -> str | None:
    found = root.find(_path(path))
    return found.text.strip() if found is not None and found.text else None


def _number(root: ElementTree.Element, path: str) -> float | None:
    text = _text(root, path)
    return None if text is None else _finite(text, path)


def _finite(text: str, path: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        raise HeaderError(f"{path} is not a number") from None
    return value if math.isfinite(value) else None


def _numbers(root: ElementTree.Element, path: str) -> tuple[float, ...]:
    values = [_finite((found.text or "").strip() or "nan", path) for found in root.findall(_path(path))]
    return tuple(value for value in values if value is not None)


def _ramps(encoding: ElementTree.Element) -> Ramps | None:
    """What trajectoryDescription says of an EPI readout, if it says all of it."""
    values: dict[str, float | None] = {}
    for kind in ("userParameterLong", "userParameterDouble"):
        for parameter in encoding.findall(_path(f"trajectoryDescription/{kind}")):
            values[(_text(parameter, "name") or "").lower()] = _number(parameter, "value")
    wanted = [values.get(name) for name in ("rampuptime", "flattoptime", "acqdelaytime", "numsamples", "dwelltime")]
    known = [value for value in wanted if value is not None]
    return Ramps(*known) if len(known) == len(wanted) else None


def _whole(root: ElementTree.Element, path: str) -> int | None:
    value = _number(root, path)
    if value is not None and (value != int(value) or not 0 <= value <= LARGEST_MATRIX):
        raise HeaderError(f"{path} is {value:g}, expected a whole number up to {LARGEST_MATRIX}")
    return None if value is None else int(value)


def _triple(values: list[Any]) -> Any:
    return tuple(values) if all(value is not None and value > 0 for value in values) else None


def _matrix(root: ElementTree.Element, path: str) -> tuple[int, int, int] | None:
    size: tuple[int, int, int] | None = _triple([_whole(root, f"{path}/{axis}") for axis in "xyz"])
    return size


def _field_of_view(root: ElementTree.Element, path: str) -> tuple[float, float, float] | None:
    size: tuple[float, float, float] | None = _triple([_number(root, f"{path}/{axis}") for axis in "xyz"])
    return size
