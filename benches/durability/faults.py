"""Makes every write, flush, rename, link, new file and new folder of a run fail in turn. Each time the run must end with an error
that says so (or get by without what failed), `strata verify` must find no damage, and the next run must give the tables of an
undisturbed run.

    cargo build --release && python benches/durability/faults.py --every 1

Needs a C compiler, for tests/end_to_end/faulty_disk.c.
"""

import argparse
import collections
import errno
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import small_pipeline as small

# The error, whether all later steps fail too, and what the system calls it.
FAULTS = [
    (errno.EIO, "0", "Input/output error"),
    (errno.ENOSPC, "1", "No space left on device"),
    (errno.ENOSPC, "0", "No space left on device"),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="each how-manieth step fails")
    parser.add_argument("--examples", type=int, default=10, help="of each dataset")
    parser.add_argument("--at-once", type=int, default=2)
    options = small.arguments(parser)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        shim = scratch / "faulty_disk.so"
        source = small.REPOSITORY / "tests/end_to_end/faulty_disk.c"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl"], check=True)

        def run(folder, **faults):
            below = {"LD_PRELOAD": str(shim), "FAULTS_BELOW": str(folder / "artifacts")}
            return small.strata(options.program, folder, "run", "-q", "-j", "1", env=below | faults)

        reference = scratch / "reference"
        small.make(reference, options.examples)
        assert run(reference, FAULTS_COUNT=str(scratch / "count")).returncode == 0
        steps, expected = int((scratch / "count").read_text()), small.tables(reference)

        def trial(case):
            number, (error, stay, text) = case
            folder = scratch / f"step-{number}"
            small.make(folder, options.examples)
            faulty = run(folder, FAULTS_AT=str(number), FAULTS_ERROR=str(error), FAULTS_STAY=stay)
            wrong = []
            if faulty.returncode not in (0, 1) or "panicked" in faulty.stderr or "a defect in Strata" in faulty.stderr:
                wrong.append(f"exit code {faulty.returncode}")
            if faulty.returncode == 0 and small.tables(folder) != expected:
                wrong.append("exit code 0 and other tables")
            if faulty.returncode == 1 and (text not in faulty.stderr or "artifacts" not in faulty.stderr):
                wrong.append("an error that does not say what failed")
            verified = small.strata(options.program, folder, "verify")
            if verified.returncode != 0:
                wrong.append(f"verify: {verified.stdout}")
            again = small.strata(options.program, folder, "run", "-q")
            if again.returncode != 0 or small.tables(folder) != expected:
                wrong.append(f"the next run: {again.stderr}")
            small.remove(folder)
            return number, text, faulty, wrong

        cases = [(number, FAULTS[number // options.every % 3]) for number in range(1, steps + 1, options.every)]
        codes, bad = collections.Counter(), 0
        with ThreadPoolExecutor(options.at_once) as pool:
            for number, text, faulty, wrong in pool.map(trial, cases):
                codes[faulty.returncode] += 1
                if wrong:
                    bad += 1
                    print(f"step {number}, {text}: {'; '.join(wrong)}\n{faulty.stderr}")
    print(f"{len(cases)} of {steps} steps failed; exit codes: {dict(codes)}; {bad} were not as they must be")
    raise SystemExit(bad > 0)


if __name__ == "__main__":
    main()
