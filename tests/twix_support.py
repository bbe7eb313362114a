"""Siemens raw data made line by line, each kind of line where it belongs. Tests import it as ``twix_support``."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

mdh_def = pytest.importorskip("twixtools.mdh_def", reason="twixtools is not installed")

NY, NX, COILS = 32, 12, 2
PROTOCOL = {
    "sKSpace.lBaseResolution": "16",
    "sKSpace.lPhaseEncodingLines": "12",
    "sKSpace.ucDimension": "0x2",
    "sKSpace.ucTrajectory": "0x1",
    "sSliceArray.asSlice[0].dThickness": "4.0",
    "sSliceArray.asSlice[0].dPhaseFOV": "120.0",
    "sSliceArray.asSlice[0].dReadoutFOV": "160.0",
    "sRXSPEC.alDwellTime[0]": "5000",
    "alTR[0]": "2500000",
    "alTE[0]": "30000",
    "sProtConsistencyInfo.flNominalB0": "2.8936",
}


def samples(*shape: int, seed: int = 0) -> NDArray[np.complex64]:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


def line(
    data: NDArray[np.complex64],
    *flags: str,
    vb: bool = False,
    centre: tuple[int, int, int] = (NY // 2, NX // 2, 0),
    z: float = 0.0,
    **counters: int,
) -> bytes:
    """One readout ``[coil, sample]``: CenterCol, CenterLin, CenterPar; ``z`` is the slice's position."""
    head = mdh_def.VB17_header() if vb else mdh_def.Scan_header()
    head.SamplesInScan, head.UsedChannels = data.shape[1], data.shape[0]
    head.CenterCol, head.CenterLin, head.CenterPar = centre
    for flag in ("ONLINE", *flags):
        mdh_def.add_flag(head, flag)
    for name, value in counters.items():
        setattr(head.Counter, name, value)
    head.SliceData.SlicePos.Tra = z
    head.SliceData.Quaternion[0] = 1.0
    if vb:
        return b"".join(bytes(head) + channel.tobytes() for channel in data)
    channel_head = bytes(mdh_def.Channel_header())
    return bytes(head) + b"".join(channel_head + channel.tobytes() for channel in data)


def marker(flag: str, content: bytes = b"", vb: bool = False) -> bytes:
    """A line without samples, of its own length: the end, or physiological data."""
    head = mdh_def.VB17_header() if vb else mdh_def.Scan_header()
    mdh_def.add_flag(head, flag)
    head.FlagsAndDMALength = len(bytes(head)) + len(content)
    return bytes(head) + content


def header(changes: dict[str, str] | None = None, extra: str = "") -> bytes:
    values = PROTOCOL | (changes or {})
    lines = "\n".join(f"{name}\t = \t{value}" for name, value in values.items())
    protocol = f"### ASCCONV BEGIN ###\n{lines}\n### ASCCONV END ###\n"
    text = f'<ParamString."tPatientName"> {{ "CANARY" }}\n{extra}\n{protocol}'
    text = text.ljust(12_000)  # a length below 10000 would be taken for a directory
    body = b"Meas\x00" + struct.pack("<I", len(text)) + text.encode()
    return struct.pack("<II", 8 + len(body), 1) + body


def write(path: Path, *measurements: Sequence[bytes], head: bytes | None = None, vb: bool = False) -> Path:
    """A file of measurements, each a list of lines; an end marker is added."""
    bodies = [(head or header()) + b"".join(lines) + marker("ACQEND", vb=vb) for lines in measurements]
    if vb:
        path.write_bytes(bodies[0])
        return path
    directory = bytearray(10240)
    struct.pack_into("<II", directory, 0, 0, len(bodies))
    at = len(directory)
    for number, body in enumerate(bodies):
        struct.pack_into("<IIQQ64s64s", directory, 8 + 152 * number, 1, 2, at, len(body), b"CANARY^JANE", b"CANARY")
        at += len(body)
    path.write_bytes(bytes(directory) + b"".join(bodies))
    return path


def image(kspace: NDArray[np.complex64], **more: Any) -> list[bytes]:
    """The lines of one slice ``[coil, ny, nx]``."""
    return [line(kspace[:, :, number], Lin=number, **more) for number in range(kspace.shape[2])]
