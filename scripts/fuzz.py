"""Damage files of every format in seeded ways and read each copy in a process of its own.

Nothing but one clear line may come of it: no other exception, no crash, no more than 5 s, no more than 500 MB. Each
case is told by its number alone, so that ``--seed 0 --only 1234`` repeats one. Exits with 1 where a case failed.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: a pool of threads would not survive the fork
os.environ.setdefault("MPLBACKEND", "Agg")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from fuzz_samples import made_samples, real_samples  # noqa: E402
from fuzz_support import Sample, damaged_files, exercise, in_child, write_files  # noqa: E402


def main() -> int:
    arguments = parse()
    warnings.simplefilter("ignore")
    warnings.filterwarnings("error", category=RuntimeWarning, module="nirvana_mri")
    with tempfile.TemporaryDirectory(prefix="fuzz-") as made:
        samples = made_samples(Path(made))
        data = Path(os.environ.get("NIRVANA_SHARED", ROOT.parent / "shared")) / "data"
        if arguments.real and data.is_dir():
            samples += real_samples(data)
        wanted = [sample for sample in samples if arguments.files.lower() in sample.name.lower()]
        if not wanted:
            print(f"no sample is called like {arguments.files!r}; there are: {', '.join(s.name for s in samples)}")
            return 2
        check_undamaged(wanted, Path(made) / "case")
        return fuzz(wanted, arguments, Path(made) / "case")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=5000, help="how many damaged files (default 5000)")
    parser.add_argument("--seed", type=int, default=0, help="another one gives other cases (default 0)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    parser.add_argument("--files", default="", metavar="WORD", help="only samples whose name holds this word")
    parser.add_argument("--only", type=int, metavar="CASE", help="repeat one case, in this process, with its traceback")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="copy the files of failing cases there")
    parser.add_argument("--made-only", dest="real", action="store_false", help="leave the real files out")
    return parser.parse_args()


def check_undamaged(samples: list[Sample], folder: Path) -> None:
    """What is refused before it is damaged teaches nothing (a radial scan is, for good)."""
    for sample in samples:
        write_files(sample.files, folder)
        said = exercise(sample, folder)
        if said:
            print(f"{sample.name}, undamaged: refused: {said}")


def fuzz(samples: list[Sample], arguments: argparse.Namespace, folder: Path) -> int:
    began, counts, faults = time.monotonic(), Counter[str](), 0
    slowest, largest = 0.0, 0.0
    for case in range(arguments.cases) if arguments.only is None else [arguments.only]:
        if time.monotonic() - began > arguments.seconds:
            break
        rng = random.Random(f"{arguments.seed}/{case}")
        sample = samples[case % len(samples)]
        write_files(damaged_files(sample, rng), folder)
        if arguments.only is not None:
            print(f"{sample.name}: {exercise(sample, folder) or 'read'}")
        verdict = in_child(lambda sample=sample: exercise(sample, folder))  # type: ignore[misc]
        counts[verdict.kind] += 1
        slowest, largest = max(slowest, verdict.seconds), max(largest, verdict.megabytes)
        if verdict.fault:
            faults += 1
            again = f"--seed {arguments.seed} --only {case}{'' if arguments.real else ' --made-only'}"
            again += f" --files '{arguments.files}'" if arguments.files else ""
            print(f"{sample.name}: {verdict.kind} ({verdict.seconds:.1f} s, {verdict.megabytes:.0f} MB); {again}")
            print(verdict.said, flush=True)
            if arguments.keep:
                shutil.copytree(folder, arguments.keep / f"{arguments.seed}-{case}", dirs_exist_ok=True)
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    print(f"{sum(counts.values())} cases over {len(samples)} samples in {time.monotonic() - began:.0f} s: {told}; ")
    print(f"slowest {slowest:.2f} s, largest {largest:.0f} MB; {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
