"""Nobody is named: canaries in every identifying field of every format, searched for in all that comes out.

A path that the user typed may be repeated; nothing from inside a file is, but numbers and codes from fixed lists.
"""

import base64
import gzip
import logging
import pickle
import random
import shutil
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pydicom
import pytest
from canary_support import MAKERS, NAME, NUMBER, UIDS, Planted, canaries_in, real_bruker, real_twix
from fuzz_support import damage
from matplotlib import image as matplotlib_image
from typer.testing import CliRunner

from nirvana_mri.cli.app import app
from nirvana_mri.errors import NirvanaError
from nirvana_mri.io.names import is_plain, numbered
from nirvana_mri.io.save import load_volume, save
from nirvana_mri.recon.open import open_scan
from nirvana_mri.recon.pipeline import reconstruct
from nirvana_mri.report.inspect import inspect
from nirvana_mri.volume import Volume

REAL = {"real_twix": real_twix, "real_bruker": real_bruker}
LOGGERS = ("", "nirvana_mri", "pydicom", "nibabel.global", "h5py", "h5py._conv", "matplotlib")
DAMAGED = 25  # copies of each file
Heard = Callable[[], str]


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[Heard]:
    """Everything that was logged, warned of or printed so far."""
    for name in LOGGERS:
        caplog.set_level(logging.DEBUG, logger=name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")

        def everything() -> str:
            printed = capfd.readouterr()
            records = [f"{record.getMessage()} {record.args} {record.exc_text}" for record in caplog.records]
            return "\n".join([printed.out, printed.err, *records, *(str(warning.message) for warning in caught)])

        yield everything


@pytest.fixture(params=[*MAKERS, *REAL])
def planted(request: pytest.FixtureRequest, tmp_path: Path) -> Planted:
    """A scan of each format, which really holds canaries."""
    folder = tmp_path / "in"
    folder.mkdir()
    if request.param in REAL:
        found = REAL[request.param](request.getfixturevalue("shared_data"), folder)
    else:
        found = MAKERS[request.param](folder)
    assert NAME in canaries_in((found.part or found.path).read_bytes())
    return found


def run(*words: Any) -> str:
    """What a command says, in whatever way it ends, its traceback included."""
    done = CliRunner().invoke(app, [str(word) for word in words], prog_name="nirvana-mri")
    trace = "".join(traceback.format_exception(done.exception)) if done.exception else ""
    return f"{done.stdout}\n{done.stderr}\n{trace}"


def told(scan: Any) -> str:
    """A scan in every form that it has by itself."""
    parts = [scan, scan.kspace, scan.reference, scan.geometry, scan.metadata, scan.warnings, scan.name, vars(scan)]
    return "\n".join(repr(part) for part in parts)


def test_a_scan_and_its_reconstruction_name_nobody(planted: Planted, heard: Heard) -> None:
    scan = open_scan(planted.path, **planted.options)
    volume = reconstruct(scan, method="zero-filled", slices=[0])
    inner = str(planted.part or planted.path)
    assert canaries_in(told(scan)) == []
    assert canaries_in(repr(volume) + repr(vars(volume))) == []
    assert canaries_in(repr(inspect(scan)) + repr(inspect(scan).as_dict())) == []
    by_name = NAME in inner or scan.file_format == "array mat 7.3"  # these read by a name, which has to travel
    assert by_name or canaries_in(pickle.dumps((scan, volume))) == []
    assert canaries_in(heard()) == []


def test_no_command_and_no_output_names_anybody(planted: Planted, tmp_path: Path, heard: Heard) -> None:
    out = tmp_path / "out"
    out.mkdir()
    known = open_scan(planted.path, **planted.options).geometry.orientation_known
    assumed = () if known else ("--assume-orientation", "axial")
    fast = ("--method", "zero-filled", "--accelerate", 2, *planted.words)
    said = [run("inspect", planted.path, "--json", *planted.words), run("inspect", planted.path, *planted.words)]
    for name, more in {"x.h5": (), "x.nii.gz": (), "x.dcm": assumed, "x.png": ()}.items():
        said.append(run("reconstruct", planted.path, "-o", out / name, *fast, *more))
        assert (out / name).exists(), said[-1]
    said.append(run("evaluate", out / "x.h5", "--target", planted.path, "--json", out / "scores.json", "--debug"))
    said.append(run("reconstruct", planted.path, "-o", out / "folder/", *fast))
    for text in (*said, heard()):
        assert canaries_in(text) == []
    written = [path for path in out.rglob("*") if path.is_file()]
    assert {path.suffix for path in written} >= {".h5", ".gz", ".json", ".dcm", ".png"}
    for path in written:
        assert canaries_in(path.read_bytes()) == [], path
        assert canaries_in(str(path.relative_to(out))) == []


@pytest.mark.parametrize("kind", ["fastmri", "dicom"])
def test_a_page_names_nobody(kind: str, tmp_path: Path, heard: Heard) -> None:
    (tmp_path / "in").mkdir()
    planted = MAKERS[kind](tmp_path / "in")
    said = run("report", planted.path, "-o", tmp_path / "page.html", "--alone", "--method", "zero-filled")
    assert canaries_in(said + heard()) == []
    assert canaries_in((tmp_path / "page.html").read_bytes()) == []


def test_no_error_names_anybody(planted: Planted, heard: Heard) -> None:
    """Damage anywhere: neither the line nor, with --debug, the traceback repeats what stands in the file."""
    part, rng = planted.part or planted.path, random.Random(planted.path.name)
    whole, errors = part.read_bytes(), 0
    copies = [whole[: int(len(whole) * share)] for share in (0.05, 0.3, 0.6, 0.9, 0.999)]
    copies += [whole.replace(b"1", NAME.encode()[:1], 5), _texts_for_numbers(whole)]
    copies += [damage(whole, rng) for _ in range(DAMAGED)]
    for content in copies:
        part.write_bytes(content)
        try:
            scan = open_scan(planted.path, **planted.options)
            said = told(scan) + str(scan.kspace[0].shape)
        except NirvanaError as error:
            said, errors = "".join(traceback.format_exception(error)), errors + 1
        assert canaries_in(said) == []
    assert errors >= 3
    assert canaries_in(heard()) == []


def _texts_for_numbers(content: bytes) -> bytes:
    """Canaries where XML, JSON and parameter files have numbers; the length stays."""
    places = ((b"<x>", b"</x>"), (b"<TR>", b"</TR>"), (b"_T>", b"</"), (b"( 2 )\n", b"\n"), (b" = \t", b"\n"))
    for before, after in places:
        start = content.find(before)
        stop = content.find(after, start + len(before))
        if 0 <= start < stop < start + 40:
            start += len(before)
            content = content[:start] + (NAME.encode() * 7)[: stop - start] + content[stop:]
    return content


@pytest.mark.parametrize(
    "options",
    [{}, {"axes": f"coil ny {NAME}"}, {"volume": 9}, {"dataset": "nothing"}, {"encoding": 5}],
    ids=["nothing", "axes", "volume", "dataset", "encoding"],
)
def test_no_refusal_of_an_option_names_anybody(planted: Planted, options: dict[str, Any]) -> None:
    try:
        open_scan(planted.path, **options)
    except NirvanaError as error:
        said = str(error).replace(f"coil ny {NAME}", "")  # what was typed
        assert canaries_in(said) == []


def test_arrays_called_after_a_person_can_be_chosen_by_number(tmp_path: Path) -> None:
    path = MAKERS["npz"](tmp_path).path
    assert open_scan(path, axes="coil ny nx", dataset=f"{NAME}_Jane").shape == (1, 2, 32, 24)
    said = run("inspect", path, "--axes", "coil ny nx", "--debug")
    assert "'#1', '#2', '#3'" in said


@pytest.mark.parametrize("name", ["kspace", "coil_maps", "KSpaceDATA", "arr_0", "dataset", "k", "rawdata", "img-2"])
def test_words_of_the_trade_are_repeated(name: str) -> None:
    assert is_plain(name)


@pytest.mark.parametrize(
    "name",
    ["doe", "Doe_Jane", "kspace_doe", "k19310713", "13.07.31", "../k", "k\nspace", "k" * 41, "jd", "Müller", "k/é"],
)
def test_other_words_are_not(name: str) -> None:
    assert not is_plain(name)
    assert numbered(["kspace", name])[name].startswith("#")


def test_records_named_after_a_person_are_refused_without_their_names(tmp_path: Path) -> None:
    """The type of an array may have names in it."""
    named = np.zeros((2, 4, 4), [(NAME, "f4"), ("b", "f4")])
    np.save(tmp_path / "a.npy", named)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kspace"] = named
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file[NAME] = h5py.SoftLink(f"/{NAME}/Jane")
        file["kspace"] = h5py.SoftLink(f"/{NAME}")
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["kspace"] = np.ones((1, 1, 8, 8), np.complex64)
        file["mask"] = h5py.SoftLink(f"/{NAME}_gone")
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file[NAME] = np.ones(3)
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(NirvanaError) as caught:
            open_scan(path)
        assert canaries_in("".join(traceback.format_exception(caught.value))) == []


def test_only_codes_of_the_contrast_are_kept(tmp_path: Path) -> None:
    path = MAKERS["fastmri"](tmp_path).path
    for value, kept in {"AXT1POST": True, "CORPDFS_FBK": True, "CANARY_JANE": False, "AXDOE": False}.items():
        with h5py.File(path, "a") as file:
            file.attrs["acquisition"] = value
        assert ("acquisition" in open_scan(path).metadata) is kept


@pytest.fixture
def source(tmp_path: Path) -> tuple[Path, Volume]:
    """A planted series, and its reconstruction."""
    planted = MAKERS["dicom"](tmp_path)
    return planted.path, reconstruct(open_scan(planted.path), method="zero-filled")


def test_a_reference_lends_no_names(source: tuple[Path, Volume], tmp_path: Path, heard: Heard) -> None:
    folder = save(source[1], tmp_path / "out.dcm", reference_dicom=source[0])
    for path in folder.iterdir():
        assert canaries_in(path.read_bytes()) == []
    assert canaries_in(heard()) == []


def test_identifiers_are_kept_only_where_asked_and_documented(source: tuple[Path, Volume], tmp_path: Path) -> None:
    folder = save(source[1], tmp_path / "out.dcm", reference_dicom=source[0], keep_identifiers=True)
    kept = {
        element.keyword
        for path in folder.iterdir()
        for element in pydicom.dcmread(path).iterall()
        if canaries_in(str(element.value))
    }
    assert {"PatientName", "PatientID", "StudyInstanceUID"} <= kept
    assert kept <= {
        *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge"),
        *("PatientSize", "PatientWeight", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"),
        *("ReferringPhysicianName", "StudyDescription", "StudyInstanceUID", "FrameOfReferenceUID"),
    }


@pytest.mark.parametrize("change", ["cut", "numbers", "deflated"])
def test_a_reference_that_cannot_be_used_is_refused_without_names(
    source: tuple[Path, Volume], tmp_path: Path, change: str
) -> None:
    place = sorted(source[0].iterdir())[1]
    content = place.read_bytes()
    if change == "cut":
        place.write_bytes(content[: content.index(NAME.encode(), 1000) + 3])
    elif change == "deflated":
        place.write_bytes(content.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"[:20]))
    else:
        made = pydicom.dcmread(place)
        for name in ("PixelSpacing", "ImagePositionPatient", "EchoTime", "MagneticFieldStrength", "Rows"):
            made[name] = pydicom.DataElement(name, "LO", NAME)
        made.save_as(place, enforce_file_format=True)
    said = ""
    try:
        save(source[1], tmp_path / "out.dcm", reference_dicom=source[0])
    except NirvanaError as error:
        said = "".join(traceback.format_exception(error))
    assert canaries_in(said) == []
    assert said or change != "numbers"


def test_a_reconstruction_of_others_gives_no_name_away(tmp_path: Path) -> None:
    """Names and ids in somebody's prediction file are not taken for ours."""
    with h5py.File(tmp_path / "made.h5", "w") as file:
        file["reconstruction"] = np.ones((2, 16, 16), np.float32)
        file.attrs["patient_id"] = file.attrs["name"] = NAME
        file.attrs["institution"] = NAME
    volume = load_volume(tmp_path / "made.h5")
    assert canaries_in(repr(vars(volume))) == []
    assert canaries_in(save(volume, tmp_path / "again.h5").read_bytes()) == []


def test_the_search_finds_what_is_packed(tmp_path: Path) -> None:
    """Or the laws above would prove nothing."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("x").attrs.create("y", NAME, dtype=h5py.string_dtype())
    matplotlib_image.imsave(tmp_path / "a.png", np.ones((2, 2)), metadata={"Author": NAME * 20})
    texts = [
        f"x{NAME.upper()}y".encode(),
        f"x{NAME}".encode("utf-16-le"),
        gzip.compress(NAME.encode()),
        *(base64.b64encode(b"x" * n + NAME.encode() + b"yz") for n in range(3)),
        b"<img src='data:image/png;base64," + base64.b64encode((tmp_path / "a.png").read_bytes()) + b"'>",
        (tmp_path / "a.h5").read_bytes(),
        f"{UIDS}.1 {NUMBER}".encode(),
    ]
    assert all(canaries_in(text) for text in texts)
    assert canaries_in(b"nothing") == []
    shutil.rmtree(tmp_path)
