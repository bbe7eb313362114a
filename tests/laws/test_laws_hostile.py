"""Files made to do harm, in every format: refused in one line that names them, at once, in little memory.

What one format alone can do is in tests/io (test_io_hostile, test_io_ismrmrd_hostile, test_io_dicom_hostile ...).
"""

import gzip
import json
import os
import re
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pydicom
import pytest
import scipy.io
from dicom_support import save as save_dicom
from dicom_support import single, write_series
from pydicom.uid import DeflatedExplicitVRLittleEndian
from typer.testing import CliRunner
from written import volume

from nirvana_mri.cli.app import app
from nirvana_mri.errors import NirvanaError
from nirvana_mri.io.fastmri import write_fastmri
from nirvana_mri.io.header import make_header
from nirvana_mri.io.mask_file import load_mask
from nirvana_mri.io.save import load_volume, save
from nirvana_mri.io.writers.dicom_reference import read_reference
from nirvana_mri.recon.open import open_scan

Make = Callable[[Path], Path]
SHAPE = (3, 2, 24, 16)


def random_kspace() -> Any:
    rng = np.random.default_rng(0)
    return (rng.normal(size=SHAPE) + 1j * rng.normal(size=SHAPE)).astype(np.complex64)


def refused(read: Callable[[Path], object], path: Path) -> str:
    """The one line, which begins with the path."""
    began = time.process_time()
    with pytest.raises(NirvanaError) as caught:
        read(path)
    assert time.process_time() - began < 5
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    assert len(message) - len(str(path)) < 400
    return message


# --- HDF5: the same tricks in every layout that is read ------------------------------------------------------------


def fastmri(path: Path) -> Path:
    return write_fastmri(
        path, random_kspace(), mask=np.arange(16) % 2 == 0, reference=np.ones((3, 16, 16)), voxel_mm=(5.0, 1.0, 1.0)
    )


def ismrmrd(path: Path) -> Path:
    pytest.importorskip("ismrmrd", reason="the ismrmrd library is not installed: pip install ismrmrd")
    from mrd_support import encoding_xml, header_xml, lines_of, write_mrd

    return write_mrd(path, header_xml(encoding_xml((24, 16, 1))), lines_of(random_kspace()[0]))


def mat73(path: Path) -> Path:
    with h5py.File(path, "w", userblock_size=512) as file:
        file["kspace"] = random_kspace()[0]
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(116) + bytes(8) + b"\0\2IM")
    return path


def reconstruction(path: Path) -> Path:
    return save(volume((3, 16, 16)), path)


def mask(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["mask"] = np.arange(16) % 2 == 0
    return path


def read_scan(path: Path) -> None:
    scan = open_scan(path, **({"axes": "coil ny nx"} if path.name.startswith("mat") else {}))
    for number in range(len(scan.kspace)):
        scan.kspace[number]
    list(scan.reference or ())


LAYOUTS: dict[str, tuple[Make, str, Callable[[Path], object]]] = {
    "fastmri kspace": (fastmri, "kspace", read_scan),
    "fastmri mask": (fastmri, "mask", read_scan),
    "fastmri header": (fastmri, "ismrmrd_header", read_scan),
    "fastmri target": (fastmri, "reconstruction_rss", read_scan),
    "ismrmrd data": (ismrmrd, "dataset/data", read_scan),
    "ismrmrd xml": (ismrmrd, "dataset/xml", read_scan),
    "mat73": (mat73, "kspace", read_scan),
    "reconstruction": (reconstruction, "reconstruction", load_volume),
    "reconstruction mask": (reconstruction, "mask", load_volume),
    "mask": (mask, "mask", load_mask),
}


def plugin_filter(file: h5py.File, name: str, shape: tuple[int, ...], kind: Any, _: Path) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk(shape)
    plist.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, (0,))
    made = h5py.h5d.create(
        file.id, name.encode(), h5py.h5t.py_create(np.dtype(kind)), h5py.h5s.create_simple(shape), plist
    )
    made.write_direct_chunk((0,) * len(shape), bytes(int(np.prod(shape)) * np.dtype(kind).itemsize))


def virtual(file: h5py.File, name: str, shape: tuple[int, ...], kind: Any, pipe: Path) -> None:
    layout = h5py.VirtualLayout(shape, kind)
    layout[...] = h5py.VirtualSource(str(pipe), "kspace", shape)
    file.create_virtual_dataset(name, layout)


def external_link(file: h5py.File, name: str, shape: tuple[int, ...], kind: Any, pipe: Path) -> None:
    file[name] = h5py.ExternalLink(str(pipe), "/kspace")


def raw_bytes(file: h5py.File, name: str, shape: tuple[int, ...], kind: Any, pipe: Path) -> None:
    file.create_dataset(name, shape, kind, external=[(str(pipe), 0, h5py.h5f.UNLIMITED)])


def soft_to_itself(file: h5py.File, name: str, shape: tuple[int, ...], kind: Any, pipe: Path) -> None:
    file[name] = h5py.SoftLink(f"/{name}")


def a_group(file: h5py.File, name: str, shape: tuple[int, ...], kind: Any, pipe: Path) -> None:
    file.create_group(name)


def absurd(file: h5py.File, name: str, shape: tuple[int, ...], kind: Any, pipe: Path) -> None:
    file.create_dataset(name, (2**40 // max(shape[-1], 1), *shape[1:]), kind, chunks=shape)


def overflowing(file: h5py.File, name: str, shape: tuple[int, ...], kind: Any, pipe: Path) -> None:
    rank = max(len(shape), 2)
    file.create_dataset(name, (2**31, 2**31, 2, 2)[:rank], kind, chunks=(1, 1, 2, 2)[:rank])


def bomb(file: h5py.File, name: str, shape: tuple[int, ...], kind: Any, pipe: Path) -> None:
    """Two gigabytes and more, of which one packed chunk is there."""
    rows = (2 << 30) // (int(np.prod(shape[1:])) * np.dtype(kind).itemsize)
    made = file.create_dataset(name, (rows, *shape[1:]), kind, chunks=(1024, *shape[1:]), compression="gzip")
    made[:1024] = np.zeros((), kind)


TRICKS = [plugin_filter, virtual, external_link, raw_bytes, soft_to_itself, a_group, absurd, overflowing, bomb]


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: trick.__name__)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_trick_of_hdf5_works_in_any_layout(tmp_path: Path, layout: str, trick: Callable[..., None]) -> None:
    """What other files are asked for is a pipe: opening it would hang."""
    make, name, read = LAYOUTS[layout]
    path = make(tmp_path / f"{layout.split()[0]}.h5")
    os.mkfifo(tmp_path / "pipe")
    with h5py.File(path, "a") as file:
        old = file[name]
        shape = old.shape or (1,)
        kind = np.dtype([("head", "f4"), ("data", "f4")]) if name == "dataset/data" else old.dtype
        kind = np.dtype("S8") if kind.kind == "O" else kind
        shape = (4,) if trick is bomb and not old.shape else shape
        del file[name]
        trick(file, name, shape, kind, tmp_path / "pipe")
    refused(read, path)


BOMBS = {
    "entities": '<!DOCTYPE x [<!ENTITY a "{}">{}]>'.format(
        "a" * 1000, "".join(f'<!ENTITY b{n} "{"&a;" * 1000}">' for n in range(9))
    ),
    "a file": '<!DOCTYPE x SYSTEM "file:///etc/hostname">',
    "an entity of a file": '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>',
    "spelled oddly": "<!doctype\tx\n[<!entity % a 'b'> %a;]>",
    "too deep": "<a>" * 100_000,
    "too many": "<a/>" * 400_000 + "<",
    "too long": "<a b='" + "c" * (5 << 20),
}


@pytest.mark.parametrize("attack", BOMBS)
@pytest.mark.parametrize("layout", ["fastmri header", "ismrmrd xml"])
def test_no_xml_explodes(tmp_path: Path, layout: str, attack: str) -> None:
    make, name, read = LAYOUTS[layout]
    path = make(tmp_path / "scan.h5")
    with h5py.File(path, "a") as file:
        xml = file[name][()]
        xml = (xml if isinstance(xml, bytes) else xml[0]).decode()
        del file[name]
        file[name] = xml.replace("<ismrmrdHeader", f"{BOMBS[attack]}<ismrmrdHeader", 1)
    assert re.search("DOCTYPE|XML|claims", refused(read, path))


# --- Archives and packed files ------------------------------------------------------------------------------------


def npz_bomb(path: Path) -> Path:
    """A third of a gigabyte of zeros in 330 kB."""
    head = bytearray(b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little"))
    head += b"{'descr': '<c8', 'fortran_order': False, 'shape': (40, 1024, 1024), }".ljust(117) + b"\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("kspace.npy", "w") as member:
        member.write(head)
        for _ in range(40):
            member.write(bytes(8 << 20))
    return path


def npz_lie(path: Path) -> Path:
    """An archive that says that its member is larger than it is."""
    np.savez(path, kspace=random_kspace())
    content = bytearray(path.read_bytes())
    content[content.index(b"(3, 2, 24, 16)") :][:14] = b"(3, 2, 24, 16)"
    path.write_bytes(bytes(content).replace(b"(3, 2, 24, 16)", b"(9999,9999,99)"))
    return path


def mat_bomb(path: Path) -> Path:
    scipy.io.savemat(path, {"kspace": np.zeros((1, 1), np.complex64)})
    head = path.read_bytes()[:128]
    size = 300 << 20
    packer = zlib.compressobj(6)
    body = packer.compress((14).to_bytes(4, "little") + size.to_bytes(4, "little"))
    body += packer.compress(bytes.fromhex("06000000080000000708000000000000"))
    body += packer.compress(bytes.fromhex("0500000008000000") + (1 << 14).to_bytes(4, "little") * 2)
    body += packer.compress(bytes.fromhex("0100010078000000"))
    for _ in range(300):
        body += packer.compress(bytes(1 << 20))
    body += packer.flush()
    path.write_bytes(head + (15).to_bytes(4, "little") + len(body).to_bytes(4, "little") + body)
    return path


def nifti_bomb(path: Path) -> Path:
    header = nibabel.Nifti1Header()
    header.set_data_shape((1024, 1024, 300))
    header["magic"], header["vox_offset"] = b"n+1", 352
    with gzip.open(path, "wb", 1) as packed:
        packed.write(header.binaryblock + bytes(4))
        for _ in range(300):
            packed.write(bytes(1 << 20))
    return path


def npz_of_objects(path: Path) -> Path:
    np.savez(path, kspace=np.array([os.system, "touch never"], object), allow_pickle=True)
    return path


def dicom_deflated(path: Path) -> Path:
    """A header of a few bytes that stands for 64 MB."""
    made = single(0, 1)
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    made.private_block(0x09, "X", create=True).add_new(1, "OB", bytes(64 << 20))
    return save_dicom(made, path)


PACKED: dict[str, tuple[str, Make, Callable[[Path], object]]] = {
    "npz bomb": ("scan.npz", npz_bomb, lambda path: open_scan(path, axes="coil ny nx")),
    "npz that lies": ("scan.npz", npz_lie, lambda path: open_scan(path, axes="coil ny nx")),
    "npz of objects": ("scan.npz", npz_of_objects, lambda path: open_scan(path, axes="coil ny nx")),
    "mat bomb": ("scan.mat", mat_bomb, lambda path: open_scan(path, axes="ny nx")),
    "NIfTI bomb": ("scan.nii.gz", nifti_bomb, open_scan),
    "reconstruction bomb": ("scan.nii.gz", nifti_bomb, load_volume),
    "deflated DICOM": ("scan.dcm", dicom_deflated, open_scan),
    "deflated reference": ("scan.dcm", dicom_deflated, read_reference),
}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each made once."""
    folder = tmp_path_factory.mktemp("packed")
    made = {}
    for number, (name, (file, make, _)) in enumerate(PACKED.items()):
        (folder / str(number)).mkdir()
        made[name] = make(folder / str(number) / file)
        assert made[name].stat().st_size < 8 << 20
    return made


@pytest.mark.parametrize("name", PACKED)
def test_nothing_packed_explodes(packed: dict[str, Path], name: str) -> None:
    refused(PACKED[name][2], packed[name])


def test_hostile_files_take_little_memory_of_a_fresh_process(packed: dict[str, Path], tmp_path: Path) -> None:
    """The resident size, which tracemalloc does not see, of readers and of `inspect`."""
    cases = {name: str(path) for name, path in packed.items() if "reference" not in name and "recon" not in name}
    zeros = zlib.compress(bytes(64 << 20), 6)
    for layout in ("fastmri kspace", "mat73"):
        path = LAYOUTS[layout][0](tmp_path / f"{layout}.h5")
        with h5py.File(path, "a") as file:
            del file["kspace"]
            made = file.create_dataset("kspace", (40, 8, 1024, 1024), "c8", chunks=(1, 8, 1024, 1024), compression=6)
            for number in range(40):  # all 2.7 GB are there
                made.id.write_direct_chunk((number, 0, 0, 0), zeros)
        cases[layout] = str(path)
    program = f"""
import json, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from fuzz_support import Sample, exercise, in_child
import nirvana_mri.recon.open, nirvana_mri.report.inspect, h5py, nibabel, torch
found = {{}}
for name, path in json.loads(sys.argv[1]).items():
    path = Path(path)
    options = {{"axes": "coil ny nx"}} if ".npz" in path.name or ".mat" in path.name or "mat" in name else {{}}
    sample = Sample(name, {{}}, path.name, options)
    verdict = in_child(lambda: exercise(sample, path.parent))
    found[name] = [verdict.kind, verdict.megabytes, verdict.said]
print(json.dumps(found))
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", program, json.dumps(cases)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True, env=environment)
    for name, (kind, megabytes, said) in json.loads(done.stdout.splitlines()[-1]).items():
        assert kind == "refused", (name, said)
        assert megabytes < 250, (name, megabytes)


# --- From the command line: one line, exit code, nothing written ---------------------------------------------------


def missing_slice(folder: Path) -> Path:
    return write_series(folder, change=lambda made, number, _: None if number == 2 else made)


def uneven_slices(folder: Path) -> Path:
    def moved(made: Any, number: int, _: int) -> Any:
        if number == 3:
            made.ImagePositionPatient = single(3.4, 4).ImagePositionPatient
        return made

    return write_series(folder, change=moved)


def mixed_series(folder: Path) -> Path:
    write_series(folder / "a")

    def other(made: Any, number: int, _: int) -> Any:
        made.SeriesInstanceUID = "../../1.2.9"
        return made

    write_series(folder / "b", change=other)
    return folder


def cut_short(folder: Path) -> Path:
    write_series(folder)
    path = folder / "0002.dcm"
    path.write_bytes(path.read_bytes()[:-40])
    return folder


def wrong_syntax(folder: Path) -> Path:
    write_series(folder)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0"))
    return folder


def packed_wrongly(folder: Path) -> Path:
    """Plain pixels in a file that says JPEG."""
    write_series(folder)
    for path in folder.iterdir():
        made = pydicom.dcmread(path)
        made.save_as(path)
        content = path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0")
        path.write_bytes(content)
    return folder


def empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def truncated(folder: Path) -> Path:
    folder.mkdir()
    path = fastmri(folder / "scan.h5")
    path.write_bytes(path.read_bytes()[:-2000])
    return path


def a_pipe(folder: Path) -> Path:
    folder.mkdir()
    os.mkfifo(folder / "scan.h5")
    return folder / "scan.h5"


BROKEN = [missing_slice, uneven_slices, mixed_series, cut_short, wrong_syntax, packed_wrongly, empty, truncated, a_pipe]


@pytest.mark.parametrize("make", BROKEN, ids=lambda make: make.__name__)
@pytest.mark.parametrize("out", ["out/x.h5", "out/x.nii.gz", "out/x.dcm"])
def test_the_command_says_one_line_and_writes_nothing(tmp_path: Path, make: Make, out: str) -> None:
    source = make(tmp_path / "in")
    before = sorted(tmp_path.rglob("*"))
    words = ["reconstruct", str(source), "-o", str(tmp_path / out), "--method", "zero-filled"]
    done = CliRunner().invoke(app, words, prog_name="nirvana-mri")
    said = done.stderr.strip().splitlines()
    assert done.exit_code in (1, 2)
    assert len(said) == 1, said
    assert said[0].startswith("error: ")
    assert str(source) in said[0]
    assert sorted(tmp_path.rglob("*")) == before


# --- Ids never become paths ---------------------------------------------------------------------------------------

TRICKY = ("../../evil", "/evil", "..", "evil\nline", "~/evil", "$(touch evil)", "con", "evil" * 70)


def fastmri_ids(folder: Path, word: str) -> Path:
    path = fastmri(folder / "scan.h5")
    with h5py.File(path, "a") as file:
        for name in ("patient_id", "acquisition", "name", "study"):
            file.attrs[name] = word
        del file["ismrmrd_header"]
        subject = f"<subjectInformation><patientID>{word}</patientID></subjectInformation>"
        header = make_header((24, 16), (1.0, 1.0, 1.0), (16, 16), (0, 16))
        file["ismrmrd_header"] = header.replace("<experimental", f"{subject}<experimental")
    return path


def dicom_ids(folder: Path, word: str) -> Path:
    def named(made: Any, number: int, _: int) -> Any:
        made.Rows, made.Columns, made.PixelData = 18, 16, bytes(number % 7 for number in range(18 * 16 * 2))
        for name in ("PatientID", "PatientName", "SeriesDescription", "ProtocolName", "SeriesInstanceUID", "StudyID"):
            made[name] = pydicom.DataElement(name, "LO", word.replace("\n", " "))
        return made

    return write_series(folder / "series", change=named)


def npz_ids(folder: Path, word: str) -> Path:
    path = folder / "scan.npz"
    np.savez(path, kspace=random_kspace()[0])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{word}.npy", b"\x93NUMPY")
    return path


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("word", TRICKY, ids=lambda word: ascii(word)[:12])
@pytest.mark.parametrize("make", [fastmri_ids, dicom_ids, npz_ids], ids=lambda make: make.__name__)
def test_ids_never_become_paths(tmp_path: Path, make: Callable[[Path, str], Path], word: str) -> None:
    """Outputs lie where they were asked for, whatever the file calls itself."""
    home = tmp_path / "deep" / "in"
    home.mkdir(parents=True)
    source = make(home, word)
    before = set(tmp_path.rglob("*"))
    out = tmp_path / "deep" / "out"
    more = ["--axes", "coil ny nx", "--dataset", "kspace"] if make is npz_ids else []
    words = ["reconstruct", str(source), "-o", f"{out}/", "--format", "nifti", "--method", "zero-filled", *more]
    done = CliRunner().invoke(app, words, prog_name="nirvana-mri")
    assert done.exit_code == 0, done.stderr
    made = {path.relative_to(tmp_path) for path in set(tmp_path.rglob("*")) - before}
    stem = "series" if make is dicom_ids else "scan"
    assert {str(path) for path in made} == {"deep/out", f"deep/out/{stem}.nii.gz", f"deep/out/{stem}.json"}
