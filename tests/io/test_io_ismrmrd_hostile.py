"""ISMRMRD files that are damaged, made to do harm, or full of names: one line, little memory, nobody's name."""

import os
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from mrd_support import NOISE, Line, encoding_xml, header_xml, lines_of, random_kspace, write_mrd

from nirvana_mri.errors import DataError, NirvanaError, ScanError
from nirvana_mri.io.ismrmrd.reader import is_ismrmrd, read_ismrmrd

KSPACE = random_kspace(2, 8, 6)
XML = header_xml(encoding_xml((8, 6, 1)))


def refused(path: Path) -> str:
    """The one line that reading the whole file ends with."""
    with pytest.raises(ScanError) as caught:
        list(read_ismrmrd(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def changed(change: Callable[[Line], Line], number: int = 2) -> list[Line]:
    lines = lines_of(KSPACE)
    lines[number] = change(lines[number])
    return lines


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        (
            changed(lambda line: replace(line, step1=6)),
            "line 2 goes to column 6:7 of 0:6; check kspace_encoding",
        ),
        (changed(lambda line: replace(line, step1=65535)), "line 2 goes to column 65535:65536 of 0:6"),
        (changed(lambda line: replace(line, center=0)), "line 2 goes to rows 4:12 of 0:8; check center_sample"),
        (changed(lambda line: replace(line, center=65535)), "line 2 goes to rows -65531:-65523 of 0:8"),
        (changed(lambda line: replace(line, pre=5, post=3)), "line 2 goes to rows 5:5 of 0:8"),
        (changed(lambda line: replace(line, data=line.data[:1])), "lines have 1 to 2 coils, expected one number"),
        (changed(lambda line: replace(line, flags=(53,))), "line 2 is compressed"),
        (changed(lambda line: replace(line, encoding=3)), "a line is of encoding 3, but dataset/xml describes 1"),
        (changed(lambda line: replace(line, idx={"kspace_encode_step_2": 4})), "kspace_encode_step_2 up to 4"),
        (changed(lambda line: replace(line, data=line.data * np.nan)), "NaN or Inf in 8 acquired samples"),
        (changed(lambda line: replace(line, data=line.data * 0)), "zero in 1 columns that count as acquired"),
        ([replace(line, data=line.data * 0) for line in lines_of(KSPACE)], "slice 0 is all zero"),
        ([Line(KSPACE[:, :, 0], flags=(NOISE,), center=0)], "no lines of a picture"),
    ],
)
def test_a_line_that_cannot_be_right_is_named(tmp_path: Path, lines: list[Line], match: str) -> None:
    assert match in refused(write_mrd(tmp_path / "scan.h5", XML, lines))


@pytest.mark.parametrize(
    ("xml", "match"),
    [
        ('<!DOCTYPE x [<!ENTITY a "aaaa">]>' + XML, "DOCTYPE"),
        (XML[:-9], "its XML is broken"),
        (header_xml(), "describes no encoding"),
        (header_xml("<encoding></encoding>"), "no encodedSpace matrix"),
        (XML.replace("<x>8</x>", "<x>-8</x>", 1), "matrixSize/x is -8"),
        (XML.replace("<x>8</x>", "<x>99999999</x>", 1), "matrixSize/x is 1e+08"),
        (XML.replace("<x>8</x>", "<x>65000</x>", 1).replace("<y>6</y>", "<y>65000</y>", 1), "over 100 times the 48"),
        (XML.replace("<z>1</z>", "<z>65000</z>", 1), "over 100 times the 48"),
        (XML.replace("<center>3</center>", "<center>-3</center>", 1), "center is -3"),
        (XML.replace("<center>3</center>", "<center>60000</center>", 1), "line 0 goes to column -59997:-59996 of 0:6"),
        (XML.replace("<x>8</x>", "<x>eight</x>", 1), "matrixSize/x is not a number"),
    ],
)
def test_a_header_that_cannot_be_right_is_named(tmp_path: Path, xml: str, match: str) -> None:
    path = write_mrd(tmp_path / "scan.h5", xml, lines_of(KSPACE))
    tracemalloc.start()
    assert match in refused(path)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def patch(path: Path, member: str, place: int, content: bytes) -> None:
    """Overwrite bytes of the third record's list ``member`` (length, address, number)."""
    with h5py.File(path) as file:
        table = file["dataset/data"]
        offset = table.id.get_chunk_info_by_coord((2,)).byte_offset + table.dtype.fields[member][1]
    with path.open("r+b") as raw:
        raw.seek(offset + place)
        raw.write(content)


@pytest.mark.parametrize(
    ("place", "value", "width", "match"),
    [
        (0, 2**32 - 1, 4, "claims 17179869"),
        (0, 30, 4, "line 2 stores 30 numbers, expected 2 x 2 coils x 8 samples"),
        (4, 2**62, 8, "points to data that the file does not hold"),
        (4, 2**64 - 1, 8, "points to data that the file does not hold"),
        (4, 0, 8, "points to data that the file does not hold"),
        (12, 999, 4, "line 2 claims 128 bytes where the file holds 0"),
    ],
)
def test_a_list_that_the_file_does_not_hold_takes_no_memory(
    tmp_path: Path, place: int, value: int, width: int, match: str
) -> None:
    path = write_mrd(tmp_path / "scan.h5", XML, lines_of(KSPACE))
    patch(path, "data", place, value.to_bytes(width, "little"))
    tracemalloc.start()
    assert match in refused(path)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_a_trajectory_that_claims_gigabytes_is_never_read(tmp_path: Path) -> None:
    path = write_mrd(tmp_path / "scan.h5", XML, lines_of(KSPACE))
    patch(path, "traj", 0, (2**32 - 1).to_bytes(4, "little"))
    assert np.array_equal(read_ismrmrd(path).kspace[0], KSPACE)


def test_a_file_that_changed_is_said(tmp_path: Path) -> None:
    path = write_mrd(tmp_path / "scan.h5", XML, lines_of(KSPACE))
    scan = read_ismrmrd(path)
    with path.open("ab") as raw:
        raw.write(b"more")
    with pytest.raises(ScanError, match="changed since it was opened"):
        scan.kspace[0]


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.999])
def test_truncation_is_named(tmp_path: Path, share: float) -> None:
    path = write_mrd(tmp_path / "scan.h5", XML, lines_of(KSPACE))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert not is_ismrmrd(path)
    assert "truncated" in refused(path)


@pytest.mark.parametrize("where", ["dataset", "dataset/data", "dataset/xml"])
@pytest.mark.parametrize("kind", ["external", "soft"])
def test_links_are_not_followed(tmp_path: Path, where: str, kind: str) -> None:
    """Not even inside the file: a soft link may lead through an external one. A pipe would hang whoever opens it."""
    os.mkfifo(tmp_path / "pipe")
    path = write_mrd(tmp_path / "scan.h5", XML, lines_of(KSPACE))
    with h5py.File(path, "a") as file:
        file.create_group("deep")
        file.move(where, "deep/kept")
        elsewhere = h5py.ExternalLink(str(tmp_path / "pipe"), "/x")
        file[where] = elsewhere if kind == "external" else h5py.SoftLink("/deep/kept")
    message = refused(path)
    assert "is a link, which is not followed" in message or "no group with xml and data" in message


def test_data_of_another_kind_is_refused(tmp_path: Path) -> None:
    for name, data, match in (
        ("numbers", np.zeros(5, np.float32), "expected ISMRMRD's records"),
        ("matrix", np.zeros((2, 2), np.float32), "expected ISMRMRD's records"),
        ("records", np.zeros(3, [("head", "f4"), ("data", "f4")]), "type |V1|holds samples of type"),
    ):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["dataset/xml"] = XML
            file["dataset/data"] = data
        assert any(part in refused(tmp_path / f"{name}.h5") for part in match.split("|"))


def test_a_packed_table_is_not_unpacked_beyond_its_size(tmp_path: Path) -> None:
    path = write_mrd(tmp_path / "scan.h5", XML, lines_of(KSPACE))
    with h5py.File(path, "a") as file:
        kind = file["dataset/data"].dtype
        del file["dataset/data"]
        table = file.create_dataset("dataset/data", (10**9,), kind, chunks=(1000,), compression="gzip")
        row = np.empty(1, kind)
        row["head"] = np.zeros(1, kind["head"])
        row["traj"][0] = row["data"][0] = np.zeros(0, np.float32)
        table[:1] = row
    tracemalloc.start()
    assert "declares" in refused(path)
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


def test_damage_gives_one_line_or_a_valid_read(tmp_path: Path) -> None:
    path = write_mrd(tmp_path / "scan.h5", XML, [Line(KSPACE[:, :, 0], flags=(NOISE,), center=0), *lines_of(KSPACE)])
    whole = path.read_bytes()
    rng = np.random.default_rng(11)
    outcomes = {"read": 0, "refused": 0}
    for case in range(100):
        damaged = bytearray(whole)
        if case % 8 == 0:
            damaged = damaged[: rng.integers(len(whole))]
        else:
            for place in rng.integers(len(whole), size=1 + case % 5):
                damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        start = time.perf_counter()
        message = outcome(path)
        assert time.perf_counter() - start < 5
        assert "\n" not in message
        outcomes["refused" if message else "read"] += 1
    assert min(outcomes.values()) >= 5


def outcome(path: Path) -> str:
    """The message of the DataError that reading ends with, empty where it succeeds; nothing else is caught."""
    is_ismrmrd(path)
    try:
        list(read_ismrmrd(path))
    except DataError as error:
        return str(error)
    return ""


CANARY = "Canary"
PERSON = (
    f"<subjectInformation><patientName>{CANARY}^Name</patientName><patientID>{CANARY}ID</patientID>"
    f"<patientBirthdate>1931-07-{CANARY}</patientBirthdate></subjectInformation>"
    f"<studyInformation><studyDate>{CANARY}</studyDate><studyID>{CANARY}</studyID>"
    f"<referringPhysicianName>{CANARY}</referringPhysicianName><studyDescription>{CANARY}</studyDescription>"
    f"<studyInstanceUID>1.2.{CANARY}</studyInstanceUID></studyInformation>"
    f"<measurementInformation><protocolName>{CANARY}</protocolName><seriesDescription>{CANARY}</seriesDescription>"
    f"<measurementID>{CANARY}</measurementID></measurementInformation>"
    f"<acquisitionSystemInformation><systemVendor>{CANARY}</systemVendor><stationName>{CANARY}</stationName>"
    f"<institutionName>{CANARY} Hospital</institutionName><deviceID>{CANARY}</deviceID>"
    "<systemFieldStrength_T>2.89</systemFieldStrength_T></acquisitionSystemInformation>"
)
USER = (
    f"<userParameters><userParameterString><name>{CANARY}</name><value>{CANARY}</value></userParameterString>"
    "</userParameters>"
)


def test_nobody_is_named_by_a_scan(tmp_path: Path) -> None:
    xml = header_xml(encoding_xml((8, 6, 1)), more=PERSON + USER)
    scan = read_ismrmrd(write_mrd(tmp_path / "scan.h5", xml, lines_of(KSPACE)))
    told = repr(scan) + repr(scan.metadata) + repr(scan.warnings) + repr(scan.kspace) + repr(scan.geometry) + scan.name
    assert CANARY not in told
    assert scan.metadata["field_strength_t"] == 2.89
    assert set(scan.metadata) <= {"field_strength_t", "encoding_size", "recon_size"}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda xml: xml[:-9],
        lambda xml: "<!DOCTYPE x>" + xml,
        lambda xml: xml.replace("<x>8</x>", f"<x>{CANARY}</x>"),
        lambda xml: xml.replace("2.89", CANARY),
        lambda xml: xml.replace("cartesian", CANARY),
        lambda xml: xml.replace("<x>8</x>", "<x>7</x>"),
        lambda xml: xml.replace(f"{CANARY}^Name", f"&{CANARY};"),
        lambda xml: xml.replace(f"<patientName>{CANARY}^Name</patientName>", f"<{CANARY}>"),
        lambda xml: xml.replace("</ismrmrdHeader>", encoding_xml((8, 6, 1), trajectory=CANARY) + "</ismrmrdHeader>"),
    ],
)
def test_nobody_is_named_by_an_error(tmp_path: Path, spoil: Callable[[str], str]) -> None:
    xml = spoil(header_xml(encoding_xml((8, 6, 1)), more=PERSON + USER))
    lines = lines_of(KSPACE) + (lines_of(KSPACE, encoding=1) if xml.count("<encoding>") > 1 else [])
    path = write_mrd(tmp_path / "scan.h5", xml, lines)
    with pytest.raises(NirvanaError) as caught:
        list(read_ismrmrd(path))
    assert CANARY not in str(caught.value)


def test_noise_whose_square_overflows_is_not_used(tmp_path: Path) -> None:
    noise = random_kspace(2, 64)
    noise[0, 3] = 1e27
    path = write_mrd(tmp_path / "scan.h5", XML, [Line(noise, flags=(NOISE,), center=0), *lines_of(KSPACE)])
    scan = read_ismrmrd(path)
    assert scan.noise is None
    assert any("noise measurement is not used" in warning for warning in scan.warnings)
