"""Eight runs at once over overlapping targets of one store, half of them by a second path to it (mounted twice where that is allowed,
else a link), and one of them killed in every second round. No task may be lost or, but for what the killed one had begun, computed
twice, and the tables must be those of an undisturbed run.

    cargo build --release && python benches/durability/eight_runs.py --rounds 20
"""

import argparse
import json
import random
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import small_pipeline as small

TARGETS = [
    [],
    ["separation"],
    ["token_losses"],
    ["projection_summary", "token_losses"],
    ["hidden_states[base,*]"],
    ["directions", "tokens"],
    ["hidden_states[*,two]", "projections"],
    [],
]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    options = small.arguments(parser)
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        reference, folder = Path(scratch) / "reference", Path(scratch) / "shared"
        small.make(reference)
        alone = json.loads(small.strata(options.program, reference, "run", "-q", "--json").stdout)
        expected, everything = small.tables(reference), alone["ran"]
        small.make(folder)
        ran, killed, wrong, mounted = [], 0, 0, False
        for number in range(options.rounds):
            (folder / "artifacts").mkdir()
            (folder / "second").mkdir()
            mounted = subprocess.run(["mount", "--bind", "artifacts", "second"], cwd=folder, stderr=subprocess.DEVNULL).returncode == 0
            if not mounted:
                (folder / "second").rmdir()
                (folder / "second").symlink_to("artifacts")
            try:
                runs = []
                for index, targets in enumerate(TARGETS):
                    words = ["run", "-q", "--json", "-j", "2", "--store", ["artifacts", "second"][index % 2], *targets]
                    runs.append(subprocess.Popen([options.program, *words], cwd=folder, stdout=subprocess.PIPE, text=True))
                victim = None
                if number % 2:
                    time.sleep(draw.uniform(0.05, 1.0))
                    victim = draw.choice(runs[:-1])
                    victim.send_signal(signal.SIGKILL)
                total = 0
                for run in runs:
                    said = run.communicate()[0]
                    if run.returncode == 0:
                        total += json.loads(said)["ran"]
                    elif run is not victim or run.returncode != -signal.SIGKILL:
                        wrong += 1
                        print(f"round {number}: a run ended with {run.returncode}")
                    else:
                        killed += 1
            finally:
                if mounted:
                    subprocess.run(["umount", "second"], cwd=folder, check=True)
            ran.append(total)
            twice = total > everything or (total != everything and victim is None)
            if twice or small.tables(folder) != expected or len(small.records(folder)) != everything:
                wrong += 1
                print(f"round {number}: {total} ran, {len(small.records(folder))} records of {everything}")
            if small.strata(options.program, folder, "verify").returncode != 0:
                wrong += 1
            (folder / "second").rmdir() if mounted else (folder / "second").unlink()
            small.remove(folder / "artifacts")
    where = "mounted twice" if mounted else "by a link"
    print(f"{options.rounds} rounds of eight runs, {everything} tasks, the second path {where}; {killed} runs killed")
    print(f"tasks that the runs that were not killed computed, by round: {ran}")
    print(f"{wrong} rounds were not as they must be")
    raise SystemExit(wrong > 0)


if __name__ == "__main__":
    main()
