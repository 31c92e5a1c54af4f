"""Kills a run at random moments. After each, `strata verify` must find no damage and the next run must give the tables of an
undisturbed run.

    cargo build --release && python benches/durability/kills.py --kills 200
"""

import argparse
import collections
import random
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import small_pipeline as small


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    options = small.arguments(parser)
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        reference, folder = Path(scratch) / "reference", Path(scratch) / "killed"
        small.make(reference)
        started = time.time()
        assert small.strata(options.program, reference, "run", "-q").returncode == 0
        seconds = time.time() - started
        expected, everything = small.tables(reference), len(small.records(reference))
        small.make(folder)
        kills, finished, damaged, differ, at = 0, 0, 0, 0, collections.Counter()
        while kills < options.kills:
            # A third of the runs begins with the objects and views of the last one and without its records.
            small.remove(folder / "artifacts" / ("records" if draw.random() < 0.33 else ""))
            jobs = draw.choice(["1", "2"])
            run = subprocess.Popen(
                [options.program, "run", "-q", "-j", jobs], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            time.sleep(draw.uniform(0, 1.1 * seconds))
            run.send_signal(signal.SIGKILL)
            if run.wait() == 0:
                finished += 1
                small.remove(folder / "artifacts")
                continue
            kills += 1
            at[10 * len(small.records(folder)) // everything] += 1
            verified = small.strata(options.program, folder, "verify")
            if verified.returncode != 0:
                damaged += 1
                print(f"kill {kills}: verify says\n{verified.stdout}{verified.stderr}")
            again = small.strata(options.program, folder, "run", "-q")
            if again.returncode != 0 or small.tables(folder) != expected:
                differ += 1
                print(f"kill {kills}: the next run gives other tables\n{again.stderr}")
    print(f"{kills} runs were killed ({finished} ended before); a run takes {seconds:.2f} s and writes {everything} records")
    print("records at the kill, in tenths:", " ".join(f"{tenth}0%:{at[tenth]}" for tenth in range(11)))
    print(f"verify found damage after {damaged}; the next run gave other tables after {differ}")
    raise SystemExit(damaged + differ > 0)


if __name__ == "__main__":
    main()
