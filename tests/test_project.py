"""The project's own promises: its two commands, its guards, its contracts, and nothing of one machine in its files."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support import load_program

import nirvana_mri

PROGRAMS = Path(sys.executable).parent
DISTRIBUTIONS = {
    "rouge_score": "rouge-score",
    "lightning_fabric": "lightning-fabric",
    "PIL": "pillow",
    "skimage": "scikit-image",
    "pywt": "pywavelets",
    "fhir": "fhir-resources",
    "fla": "fla-core",
    "huggingface_hub": "huggingface-hub",
    "lm_eval": "lm-eval",
    "mlflow": "mlflow-skinny",
}


@pytest.fixture(scope="session")
def project(project_root: Path) -> dict:
    return tomllib.loads((project_root / "pyproject.toml").read_text())


@pytest.fixture(scope="session")
def tracked(project_root: Path) -> list[Path]:
    if not (project_root / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git clone: no list of tracked files")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=project_root, capture_output=True, check=True, text=True)
    return [project_root / name for name in listed.stdout.split("\0") if name and (project_root / name).is_file()]


def requirement_names(lines: list[str]) -> set[str]:
    """Normalised distribution names of requirement lines."""
    found = (re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line) for line in lines)
    return {re.sub(r"[-_.]+", "-", match.group()).lower() for match in found if match}


def pinned(project_root: Path) -> dict[str, str]:
    """Name to version specifier of every line of the constraints."""
    lines = (line.split("#")[0].strip() for line in (project_root / "constraints-cpu.txt").read_text().splitlines())
    split = (re.fullmatch(r"([A-Za-z0-9._-]+)(.*)", line) for line in lines if line)
    return {requirement_names([match[1]]).pop(): match[2] for match in split if match}


def test_remarks_by_hand_outlive_new_figures(project_root: Path, tmp_path: Path) -> None:
    machine = load_program(project_root / "benchmarks" / "machine.py")
    page = tmp_path / "page.md"
    machine.keep(page, "old figures\n")
    assert page.read_text() == "old figures\n"
    page.write_text(f"old figures\n\n{machine.BY_HAND}What was tried.\n")
    for _ in range(2):
        machine.keep(page, "new figures\n\n")
        assert page.read_text() == f"new figures\n\n{machine.BY_HAND}What was tried.\n"


def test_every_make_command_in_the_documents_exists(project_root: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (project_root / "Makefile").read_text(), flags=re.M))
    named = set()
    for document in ("README.md", "CONTRIBUTING.md", "docs/architecture.md"):
        text = (project_root / document).read_text()
        named |= set(re.findall(r"^make ([a-z]+)", text, flags=re.M)) | set(re.findall(r"`make ([a-z]+)", text))
    assert {"demo", "test", "check", "peers"} <= named
    assert named <= targets


def test_readme_starts_with_the_two_commands(project_root: Path) -> None:
    first_block = (project_root / "README.md").read_text().split("```sh\n")[1].split("```")[0]
    assert re.findall(r"^make (\w+)", first_block, flags=re.M) == ["demo", "test"]


def test_every_documented_command_is_registered(project_root: Path) -> None:
    named = set(re.findall(r"^nirvana-mri ([a-z-]+)", (project_root / "README.md").read_text(), flags=re.M))
    assert {"train", "reconstruct", "evaluate"} <= named
    shown = subprocess.run([PROGRAMS / "nirvana-mri", "--help"], capture_output=True, check=True, text=True).stdout
    assert [name for name in sorted(named) if name not in shown.split()] == []


@pytest.mark.parametrize("guard", ["torchvision", "torchaudio", "nvidia-cublas", "cuda-toolkit"])
def test_constraints_refuse_what_breaks_cpu_machines(project_root: Path, guard: str) -> None:
    assert pinned(project_root)[guard] == "<0"


def test_constraints_pin_every_direct_dependency(project_root: Path, project: dict) -> None:
    declared = list(project["project"]["dependencies"])
    for extra in project["project"]["optional-dependencies"].values():
        declared += extra
    versions = pinned(project_root)
    unpinned = {name for name in requirement_names(declared) if not versions.get(name, "").startswith("==")}
    assert unpinned <= {"nirvana-mri"}


def test_fastmri_is_installed_but_never_declared(project_root: Path, project: dict) -> None:
    declared = requirement_names(project["project"]["dependencies"])
    for extra in project["project"]["optional-dependencies"].values():
        declared |= requirement_names(extra)
    assert not declared & {"fastmri", "torchvision"}
    assert "install --no-deps" in (project_root / "scripts/setup_env.sh").read_text()


def test_core_is_small(project: dict) -> None:
    heavy = {"triton", "lightning-fabric", "transformers", "fla-core", "pandas"}
    assert not heavy & requirement_names(project["project"]["dependencies"])


def imported_names(source: Path) -> set[str]:
    """Top-level names that a file imports anywhere, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


def test_package_imports_only_what_it_declares(project_root: Path, project: dict) -> None:
    """What some other package happens to bring along may be gone tomorrow."""
    extras = project["project"]["optional-dependencies"]
    declared = requirement_names(project["project"]["dependencies"])
    for name in extras.keys() - {"fastmri", "test", "dev"}:
        declared |= requirement_names(extras[name])
    known = set(sys.stdlib_module_names) | {"nirvana_mri"}
    undeclared = {
        f"{source.relative_to(project_root)}: {name}"
        for source in (project_root / "nirvana_mri").rglob("*.py")
        for name in imported_names(source) - known
        if DISTRIBUTIONS.get(name, name) not in declared
    }
    assert undeclared == set()


def test_version_has_one_source(project: dict) -> None:
    assert "version" not in project["project"]
    assert project["tool"]["hatch"]["version"]["path"] == "nirvana_mri/__init__.py"
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", nirvana_mri.__version__)


def test_licence_is_the_whole_apache_text(project_root: Path, project: dict) -> None:
    text = (project_root / "LICENSE").read_text()
    assert project["project"]["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_import_contracts_hold(project_root: Path) -> None:
    linter = PROGRAMS / "lint-imports"
    if not linter.exists():
        pytest.skip("import-linter is not installed: make check")
    done = subprocess.run([linter, "--no-cache"], cwd=project_root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_test_folders_are_no_packages(project_root: Path) -> None:
    """A ``tests/codecs/__init__.py`` would shadow Python's own codecs."""
    assert list((project_root / "tests").rglob("__init__.py")) == []


def test_test_files_have_unique_names(project_root: Path) -> None:
    names = [path.name for path in (project_root / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_no_path_or_address_of_one_machine_is_tracked(project_root: Path, tracked: list[Path]) -> None:
    places = [project_root, project_root.parent / "shared", Path.home()]
    strings = [f"{place}/" for place in places] + ["/ho" + "me/", "pypi" + ".org/simple", "download.pytorch" + ".org"]
    found = []
    for path in tracked:
        content = path.read_bytes()
        found += [f"{path.relative_to(project_root)}: {text}" for text in strings if text.encode() in content]
    assert found == []


def test_local_hooks_only(project_root: Path) -> None:
    repositories = re.findall(r"- repo: (\S+)", (project_root / ".pre-commit-config.yaml").read_text())
    assert repositories == ["local"]


def test_shape_checks_are_switched_on() -> None:
    from jaxtyping import TypeCheckError

    from nirvana_mri import Scan

    with pytest.raises(TypeCheckError):
        Scan(name="s", kspace=None, acquired=None, crop=(1, 1))
