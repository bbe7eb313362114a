"""Whatever happens to a file, reading it ends in one clear line or in a valid read. 200 seeded cases of `make fuzz`."""

import os
import random
import resource
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from fuzz_samples import made_samples
from fuzz_support import MEGABYTES, SECONDS, Sample, damage, damaged_files, exercise, write_files

CASES = 200


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return made_samples(tmp_path_factory.mktemp("samples"))


def test_what_is_not_damaged_is_read(samples: list[Sample], tmp_path: Path) -> None:
    for sample in samples:
        write_files(sample.files, tmp_path)
        assert exercise(sample, tmp_path) == "", sample.name


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damage_ends_in_one_line_or_a_valid_read(samples: list[Sample], tmp_path: Path) -> None:
    """Every sample in turn; `exercise` lets out whatever is no NirvanaError, and so names the case."""
    outcomes = Counter[str]()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for case in range(CASES):
        sample = samples[case % len(samples)]
        write_files(damaged_files(sample, random.Random(f"law/{case}")), tmp_path)
        began = time.process_time()
        try:
            message = exercise(sample, tmp_path)
        except Exception as problem:
            problem.add_note(f"case {case}: {sample.name}")
            raise
        assert time.process_time() - began < SECONDS, (case, sample.name)
        outcomes["refused" if message else "read"] += 1
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < MEGABYTES
    assert min(outcomes["read"], outcomes["refused"]) > CASES // 10, outcomes


def test_damage_repeats_with_its_seed_and_changes_something(samples: list[Sample]) -> None:
    whole = samples[0].files["scan.h5"]
    copies = [damage(whole, random.Random(f"x/{case}")) for case in range(50)]
    assert copies == [damage(whole, random.Random(f"x/{case}")) for case in range(50)]
    assert sum(copy != whole for copy in copies) > 40
    assert len({len(copy) for copy in copies}) > 5


FAULTS = {
    "read": "return ''",
    "refused": "return 'one line'",
    "raised": "raise ValueError('no NirvanaError')",
    "crashed": "os.kill(os.getpid(), signal.SIGSEGV)",
    "hung": "time.sleep(60)",
    "memory": "kept.append(b'x' * (80 << 20))\n    return ''",
}


@pytest.mark.parametrize("kind", FAULTS)
def test_every_kind_of_fault_is_seen(kind: str) -> None:
    """In a process of its own: this one has threads, and must not fork."""
    program = f"""
import os, signal, sys, time
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from fuzz_support import in_child
kept = []
def read():
    {FAULTS[kind]}
verdict = in_child(read, seconds=0.2, megabytes=40)
print(verdict.kind, verdict.fault)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == [kind, str(kind not in ("read", "refused"))], done.stderr


def test_the_script_names_the_case_that_failed(project_root: Path) -> None:
    script = project_root / "scripts" / "fuzz.py"
    words = [sys.executable, script, "--made-only", "--cases", "6", "--files", "mask"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 cases over 2 samples" in done.stdout
    assert "0 faults" in done.stdout
