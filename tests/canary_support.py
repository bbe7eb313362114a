"""Scans with a canary in every field that can name a person, and the search for it in whatever comes out.

Tests import it as ``canary_support``. Names of files and folders are the user's own and hold none, but for the names
inside a folder of DICOM.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
import scipy.io
from dicom_support import enhanced, pixels, save, single
from pydicom import DataElement, datadict
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import UID

from nirvana_mri.io.fastmri import write_fastmri

NAME, BIRTH, NUMBER = "Canary", "19310713", "7777777"
UIDS = f"1.2.{NUMBER}"
MRD_PERSON = (
    f"<subjectInformation><patientName>{NAME}^Name</patientName><patientWeight_kg>77</patientWeight_kg>"
    f"<patientID>{NAME}ID</patientID><patientBirthdate>{BIRTH[:4]}-07-13</patientBirthdate>"
    "<patientGender>O</patientGender></subjectInformation>"
    f"<studyInformation><studyDate>{BIRTH[:4]}-07-13</studyDate><studyTime>{NAME}</studyTime><studyID>{NAME}</studyID>"
    f"<accessionNumber>{NUMBER}</accessionNumber><referringPhysicianName>{NAME}</referringPhysicianName>"
    f"<studyDescription>{NAME}</studyDescription><studyInstanceUID>{UIDS}.1</studyInstanceUID>"
    f"<bodyPartExamined>{NAME}</bodyPartExamined></studyInformation>"
    f"<measurementInformation><measurementID>{NAME}</measurementID><seriesDate>{BIRTH}</seriesDate>"
    f"<patientPosition>{NAME}</patientPosition><protocolName>{NAME}</protocolName><sequenceName>{NAME}</sequenceName>"
    f"<seriesDescription>{NAME}</seriesDescription><seriesInstanceUIDRoot>{UIDS}.2</seriesInstanceUIDRoot>"
    f"<frameOfReferenceUID>{UIDS}.3</frameOfReferenceUID></measurementInformation>"
    f"<acquisitionSystemInformation><systemVendor>{NAME}</systemVendor><systemModel>{NAME}</systemModel>"
    f"<systemFieldStrength_T>2.89</systemFieldStrength_T><institutionName>{NAME} Hospital</institutionName>"
    f"<stationName>{NAME}</stationName><deviceID>{NAME}</deviceID><deviceSerialNumber>{NUMBER}</deviceSerialNumber>"
    f"<coilLabel><coilNumber>1</coilNumber><coilName>{NAME}</coilName></coilLabel></acquisitionSystemInformation>"
)
MRD_USER = (
    f"<userParameters><userParameterString><name>{NAME}</name><value>{NAME}</value></userParameterString>"
    f"<userParameterLong><name>{NAME}</name><value>{NUMBER}</value></userParameterLong>"
    f"<userParameterBase64><name>{NAME}</name><value>{NAME}</value></userParameterBase64></userParameters>"
)


@dataclass(frozen=True)
class Planted:
    """A scan with canaries; ``options`` are those of `open_scan`, ``words`` the command line's."""

    path: Path
    options: dict[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    part: Path | None = None  # the file to damage, where ``path`` is not it


def fastmri(folder: Path) -> Planted:
    kspace, path = _kspace(2, 2, 32, 32), folder / "scan.h5"
    write_fastmri(path, kspace, reference=np.abs(kspace[:, 0]), voxel_mm=(5.0, 0.7, 0.7), attrs=_attributes())
    with h5py.File(path, "a") as file:
        xml = file["ismrmrd_header"][()].decode()
        del file["ismrmrd_header"]
        file["ismrmrd_header"] = xml.replace("<experimental", MRD_PERSON + "<experimental").replace(
            "</ismrmrdHeader>", MRD_USER + "</ismrmrdHeader>"
        )
        file[f"{NAME}^Jane"] = np.zeros(3)
        file[f"group {NAME}/{NAME}"] = np.zeros(3)
        for name, value in _attributes().items():
            file["kspace"].attrs[name] = value
    return Planted(path)


def ismrmrd(folder: Path) -> Planted:
    """The group, which is "dataset" by custom only, is called after the patient."""
    pytest.importorskip("ismrmrd", reason="the ismrmrd library is not installed: pip install ismrmrd")
    from mrd_support import encoding_xml, header_xml, lines_of, write_mrd

    kspace, path = _kspace(2, 32, 24), folder / "scan.h5"
    place = {"directions": ((1, 0, 0), (0, 1, 0), (0, 0, 1)), "position": (1.0, 2.0, 3.0)}
    xml = header_xml(encoding_xml((32, 24, 1)), more=MRD_PERSON + MRD_USER)
    write_mrd(path, xml, lines_of(kspace, **place), group=f"{NAME}_Jane")
    with h5py.File(path, "a") as file:
        table = file[f"{NAME}_Jane/data"]
        rows = table[()]
        for name in ("user_int", "user_float"):
            rows["head"][name if name in rows["head"].dtype.names else "idx"][...] = rows["head"][name] * 0 + 7777777
        table[...] = rows
        file[f"{NAME}_Jane"].attrs["patient"] = NAME
        file[f"{NAME}_Jane/waveforms"] = np.frombuffer(NAME.encode(), np.uint8)
    return Planted(path)


def dicom(folder: Path) -> Planted:
    inner = folder / "series"
    for number in range(3):
        made = planted_dicom(single(number, number + 1))
        made.SOPInstanceUID, made.SeriesInstanceUID = f"{UIDS}.{number}", f"{UIDS}.9"
        made.Rows, made.Columns, made.PixelData = 24, 20, pixels(number, (24, 20)).tobytes()
        _with_meta(save(made, inner / f"{NAME}-{number}.dcm"))
    return Planted(inner, part=inner / f"{NAME}-1.dcm")


def dicom_enhanced(folder: Path) -> Planted:
    made = planted_dicom(enhanced(slices=2, volumes=1))
    made.SeriesInstanceUID = f"{UIDS}.9"
    for item in made.PerFrameFunctionalGroupsSequence:
        item.FrameContentSequence[0].FrameComments = item.FrameContentSequence[0].StackID = NAME
    made.Rows, made.Columns = 24, 20
    made.PixelData = b"".join(pixels(number, (24, 20)).tobytes() for number in range(2))
    return Planted(_with_meta(save(made, folder / "scan.dcm")))


def planted_dicom(made: Dataset) -> Dataset:
    """Canaries in every element of the standard that holds text, a date or a UID, and that reading does not need."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        texts = {"LO", "SH", "PN", "LT", "ST", "UT", "UC", "AE"}
        dates = {"DA": BIRTH, "TM": "071307.7777777"[:13], "DT": f"{BIRTH}071307"}
        for number in list(datadict.DicomDictionary):
            tag, kind = Tag(number), datadict.dictionary_VR(number)
            if not 0x0008 <= tag.group < 0x5000 or (tag in made and tag.group in (0x0020, 0x0028)):
                continue
            if kind in texts:
                made[tag] = DataElement(tag, "LO" if kind == "PN" else kind, NAME)
            elif kind in dates:
                made[tag] = DataElement(tag, kind, dates[kind])
            elif kind == "UI" and tag not in made:
                made[tag] = DataElement(tag, "UI", f"{UIDS}.{number}")
        for name in ("BodyPartExamined", "ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType"):
            made[name] = DataElement(name, "LO", NAME.upper())
        made.ImageType = ["ORIGINAL", "PRIMARY", "M", NAME.upper()]
        made.PatientWeight, made.PatientSize, made.PatientSex = NUMBER, NUMBER, "O"
        made.StudyInstanceUID = made.FrameOfReferenceUID = UID(f"{UIDS}.5")
        made.private_block(0x09, f"{NAME} PRIVATE", create=True).add_new(1, "LO", NAME)
        made.private_block(0x29, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", NAME.encode() * 10)
        made.RequestAttributesSequence = [Dataset()]
        made.RequestAttributesSequence[0].ScheduledProcedureStepDescription = NAME
        made.add(DataElement(0xFFFCFFFC, "OB", NAME.encode()))
    return made


def _with_meta(path: Path) -> Path:
    """Canaries before and in the file meta information."""
    content = bytearray(path.read_bytes())
    content[:6] = NAME.encode()
    length = struct.unpack_from("<L", content, 140)[0]
    private = struct.pack("<HH2sH", 2, 0x16, b"AE", 6) + NAME.encode()
    private += struct.pack("<HH2sHL", 2, 0x102, b"OB", 0, 6) + NAME.encode()
    at = 144 + length
    content[at:at] = private
    struct.pack_into("<L", content, 140, length + len(private))
    path.write_bytes(content)
    return path


def nifti(folder: Path) -> Planted:
    return Planted(_nifti(folder, ".nii"))


def nifti_packed(folder: Path) -> Planted:
    """The gzip header names the patient too."""
    content = _nifti(folder, ".nii").read_bytes()
    (folder / "scan.nii").unlink()
    path = folder / "scan.nii.gz"
    with path.open("wb") as raw, gzip.GzipFile(f"{NAME}.nii", "wb", fileobj=raw) as packed:
        packed.write(content)
    return Planted(path)


def _nifti(folder: Path, suffix: str) -> Path:
    values = np.random.default_rng(2).integers(0, 900, (24, 20, 3)).astype(np.int16)
    image = nibabel.Nifti1Image(values, np.diag([-1.0, 1.5, 4.0, 1.0]))
    header = image.header
    header["descrip"], header["aux_file"], header["db_name"] = NAME, NAME, NAME
    header["intent_name"], header["data_type"], header["extents"] = NAME, NAME, int(NUMBER)
    for code in ("comment", "afni", "mrs"):
        content = NAME.encode()
        header.extensions.append(nibabel.nifti1.Nifti1Extension(code, content))
    path = folder / f"scan{suffix}"
    nibabel.save(image, path)
    beside = {"PatientName": NAME, "notice": NAME, "DeviceSerialNumber": NUMBER}
    (folder / "scan.json").write_text(json.dumps(beside))
    return path


def npz(folder: Path) -> Planted:
    """Its arrays are called after the patient, and so are members that are none."""
    path = folder / "scan.npz"
    np.savez_compressed(path, **{f"{NAME}_Jane": _kspace(2, 32, 24), f"{NAME}_sens": np.ones(3)})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{NAME}.txt", NAME)
        archive.writestr(f"../{NAME}.npy", b"\x93NUMPY")
        archive.comment = NAME.encode()
    return Planted(path, {"axes": "coil ny nx", "dataset": "#2"}, ("--axes", "coil ny nx", "--dataset", "#2"))


def mat(folder: Path) -> Planted:
    path = folder / "scan.mat"
    more = {f"{NAME}_text": NAME, "info": {"name": NAME}, f"{NAME}_cell": np.array([NAME], object), "k": np.ones(3)}
    scipy.io.savemat(path, {f"{NAME}_Jane": _kspace(2, 32, 24), **more})
    content = bytearray(path.read_bytes())
    content[20 : 20 + len(NAME)] = NAME.encode()
    path.write_bytes(content)
    return Planted(path, {"axes": "coil ny nx"}, ("--axes", "coil ny nx"))


def mat73(folder: Path) -> Planted:
    path, values = folder / "scan.mat", _kspace(2, 32, 24)
    with h5py.File(path, "w", userblock_size=512) as file:
        paired = np.empty(values.shape[::-1], [("real", "f4"), ("imag", "f4")])
        paired["real"], paired["imag"] = values.T.real, values.T.imag
        file.create_dataset(f"{NAME}_Jane", data=paired, chunks=(24, 32, 1), compression="gzip")
        file[f"{NAME}_Jane"].attrs["MATLAB_class"] = NAME
        file[f"{NAME}_records"] = np.zeros(2, [(NAME, "f4"), ("b", "f4")])
        file["#refs#/a"] = NAME
    with path.open("r+b") as raw:
        raw.write(f"MATLAB 7.3 MAT-file, Platform: {NAME}".encode().ljust(116) + bytes(8) + b"\0\2IM")
    return Planted(path, {"axes": "coil ny nx"}, ("--axes", "coil ny nx"))


def cfl(folder: Path) -> Planted:
    header = f"# Dimensions\n32 24 1 2 1 1 1 1 1 1 1 1 1 1 1 1 \n# Command\ntwixread {NAME}.dat x \n"
    (folder / "scan.hdr").write_text(f"{header}# Files\n > {NAME}\n# Creator\n{NAME}\n{NAME} {NUMBER}\n")
    (folder / "scan.cfl").write_bytes(_kspace(2, 24, 32).tobytes() + NAME.encode())
    return Planted(folder / "scan.cfl", part=folder / "scan.hdr")


def twix(folder: Path) -> Planted:
    pytest.importorskip("twixtools", reason="twixtools is not installed")
    from twix_support import header, image, marker, samples, write

    names = ("PatientName", "PatientID", "DeviceSerialNumber", "InstitutionName", "tOperatorName", "PatientLOID")
    names = ("PatientName", "PatientID", "DeviceSerialNumber", "InstitutionName", "tOperatorName", "PatientLOID")
    more = "\n".join(f'<ParamString."{name}"> {{ "{NAME}" }}' for name in names)
    more += f'\n<ParamString."PatientBirthDay"> {{ "{BIRTH}" }}\ntProtocolName = "{NAME}"'
    lines = [marker("SYNCDATA", NAME.encode() * 8), *image(samples(2, 32, 24))]
    path = write(folder / "scan.dat", lines, head=header({"sKSpace.lPhaseEncodingLines": "24"}, extra=more))
    content = path.read_bytes().replace(b"CANARY", NAME.encode())
    path.write_bytes(content)
    return Planted(path)


def real_twix(shared_data: Path, folder: Path) -> Planted:
    """The real file, whose texts about people, place and device are overwritten."""
    content = (shared_data / "kspace" / "phantom2_twix_gre.dat").read_bytes()
    names = rb"[^\"]*(?:Patient|Institution|Serial|Operator|Physician|Station|Study|Protocol)[^\"]*"
    pattern = re.compile(rb'(<ParamString\."' + names + rb'">\s*\{\s*")([^"]{6,})(")')
    kept = (b"HFS",)

    def overwrite(found: re.Match[bytes]) -> bytes:
        word = found[2] if found[2] in kept else (NAME.encode() * 20)[: len(found[2])]
        return found[1] + word + found[3]

    changed, count = pattern.subn(overwrite, content)
    assert count > 5
    assert len(changed) == len(content)
    (folder / "scan.dat").write_bytes(changed)
    return Planted(folder / "scan.dat")


def real_bruker(shared_data: Path, folder: Path) -> Planted:
    inner = folder / "scan"
    inner.mkdir()
    for path in (shared_data / "kspace" / "bruker_tubes1_100").iterdir():
        content = path.read_bytes()
        if path.name != "fid":
            content = re.sub(rb"(##(?:OWNER|ORIGIN)=)[^\n]*", rb"\g<1>" + NAME.encode(), content)
            content = re.sub(rb"\n\$\$ [^@][^\n]*", b"\n$$ " + NAME.encode(), content)
            content = re.sub(rb"<[^<>\n]*>", b"<" + NAME.encode() + b">", content)
        (inner / path.name).write_bytes(content)
    (inner / "subject").write_text(f"##TITLE={NAME}\n##$SUBJECT_name_string=( 64 )\n<{NAME}>\n")
    return Planted(inner / "fid", part=inner / "acqp")


MAKERS: dict[str, Callable[[Path], Planted]] = {
    maker.__name__: maker
    for maker in (fastmri, ismrmrd, dicom, dicom_enhanced, nifti, nifti_packed, npz, mat, mat73, cfl, twix)
}


def _kspace(*shape: int) -> Any:
    rng = np.random.default_rng(1)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


def _attributes() -> dict[str, str]:
    names = ("patient_id", "patient_name", "acquisition", "institution", "StudyInstanceUID", "operator", "comment")
    return {**dict.fromkeys(names, f"{NAME.upper()}_JANE"), "birth": BIRTH, "serial": NUMBER}


def canaries_in(content: bytes | str) -> list[str]:
    """The canaries in some output, however it is packed or written."""
    return sorted({word for layer in _layers(content) for word in _found(layer)})


def _found(content: bytes) -> list[str]:
    lower = content.lower()
    found = []
    for word in (NAME, BIRTH, f"{BIRTH[:4]}-07-13", NUMBER):
        plain = word.lower()
        forms = [plain.encode(), plain.encode("utf-16-le"), plain.encode("utf-16-be")]
        if any(form in lower for form in forms) or any(form in content for form in _base64_forms(word)):
            found.append(word)
    return found


def _base64_forms(word: str) -> list[bytes]:
    """What base64 makes of a word at each of its three places, without the letters that its neighbours change."""
    forms = []
    for text in {word, word.upper(), word.lower()}:
        for before in range(3):
            coded = base64.b64encode(bytes(before) + text.encode())
            forms.append(coded[(0, 2, 3)[before] : len(coded) - 4])
    return [form for form in forms if len(form) >= 4]


def _layers(content: bytes | str, depth: int = 0) -> list[bytes]:
    """The bytes, and what is packed in them: gzip, zip, PNG's texts, base64 in a page, HDF5's compressed parts."""
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogateescape")
    layers, inner = [content], []
    if depth > 3:
        return layers
    if content.startswith(b"\x1f\x8b"):
        inner.append(gzip.decompress(content))
    if content.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            inner += [archive.read(name) for name in archive.namelist()]
    if content.startswith(b"\x89PNG"):
        inner += _png_texts(content)
    if content.startswith(b"\x89HDF"):
        inner.append(_attributes_of(content))
    inner += [base64.b64decode(coded) for coded in re.findall(rb"base64,([A-Za-z0-9+/=]+)", content)]
    for part in inner:
        layers += _layers(part, depth + 1)
    return layers


def _png_texts(content: bytes) -> list[bytes]:
    texts, at = [], 8
    while at + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        chunk = content[at + 8 : at + 8 + length]
        if kind not in (b"IDAT", b"IHDR", b"PLTE"):
            texts.append(chunk)
        for start in (n for n in range(len(chunk)) if kind in (b"zTXt", b"iTXt") and chunk[n] == 0x78):
            try:
                texts.append(zlib.decompress(chunk[start:]))
            except zlib.error:
                continue
        at += 12 + length
    return texts


def _attributes_of(content: bytes) -> bytes:
    said = []
    with h5py.File(io.BytesIO(content)) as file:
        said.append(repr(dict(file.attrs)))
        file.visititems(lambda name, found: said.append(f"{name} {dict(found.attrs)}"))
    return "\n".join(said).encode()
