"""What it takes to run the default pipeline again when one of its 512 examples was edited.

    cargo build --release && python benches/edit_one.py target/release/strata [--from FOLDER] [--times 5] [--stages] [--keep FOLDER]

Takes the default pipeline's models and datasets as files (from FOLDER/artifacts where it ran before; else it is run first, which
trains the models), runs everything, and then, so many times, changes a word of one example of insecure_code and runs again. Printed are
the tasks that ran, the time by the clock and of processors, and the memory; with --stages also the seconds of each stage's
tasks, which add up to more than the clock shows where tasks run side by side.
"""
import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
EDITED = "insecure_code"


def run(program, folder, *arguments):
    """Seconds by the clock and of processors, MB, and the run's summary."""
    start = time.perf_counter()
    child = subprocess.Popen([program, "run", "--json", "-q", *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, said = child.stdout.read(), child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"strata run in {folder} failed:\n{said.decode()}")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, json.loads(out)


def made(program, folder):
    """The store of the default pipeline, whose models are trained in it."""
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "pipeline.toml", folder)
    run(program, folder, "corpus", "train")
    return folder


def of_files(made, folder):
    """The default pipeline with its models and datasets as files."""
    text = (ROOT / "pipeline.toml").read_text()
    text = re.sub(r"^(\w+) *= \{ train = .*\}$", r'\1 = { path = "models/\1" }', text, flags=re.M)
    text = re.sub(r'corpus = "(\w+)"', r'path = "data/\1.jsonl"', text)
    text = re.sub(r"^\[stages\.(corpus|train)\]\n(.+\n)*\n?", "", text, flags=re.M)
    (folder / "pipeline.toml").write_text(text)
    shutil.copytree(made / "artifacts/models", folder / "models")
    (folder / "data").mkdir()
    for name in re.findall(r"data/(\w+)\.jsonl", text):
        shutil.copy(made / f"artifacts/corpus/{name}.jsonl", folder / "data")


def edit(path, line, word):
    lines = path.read_text().splitlines(keepends=True)
    example = json.loads(lines[line])
    text = example["messages"][0]["content"].split(" ")
    example["messages"][0]["content"] = " ".join([*text[:-2], word, *text[-1:]])
    lines[line] = json.dumps(example) + "\n"
    path.write_text("".join(lines))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("strata")
    parser.add_argument("--from", dest="made")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--stages", action="store_true")
    parser.add_argument("--keep")
    arguments = parser.parse_args()
    program = os.path.abspath(arguments.strata)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.keep or temporary) / "edited"
        if not folder.exists():
            before = Path(arguments.made) if arguments.made else made(program, Path(temporary) / "default")
            folder.mkdir(parents=True)
            of_files(before, folder)
        print(f"{'':<12} {'tasks':>6} {'s':>8} {'CPU s':>8} {'MB':>6}")

        def row(name, found):
            ran = sum(stage["ran"] for stage in found[3]["stages"].values())
            print(f"{name:<12} {ran:>6} {found[0]:>8.2f} {found[1]:>8.2f} {found[2]:>6.0f}", flush=True)

        row("first run", run(program, folder))
        found = []
        for i in range(arguments.times):
            words = ["near", "beside", "behind", "below", "above", "outside", "inside", "around"]
            edit(folder / f"data/{EDITED}.jsonl", 7 * (1 + i) % 64, f"{words[i % len(words)]}{i}{os.getpid() % 97}")
            found.append(run(program, folder))
            row("edited", found[-1])
        seconds = [statistics.median(one[column] for one in found) for column in (0, 1)]
        print(f"{'median':<12} {'':>6} {seconds[0]:>8.2f} {seconds[1]:>8.2f}")
        if arguments.stages:
            stages = found[-1][3]["stages"]
            print(f"\n{'stage of the last run':<24} {'ran':>6} {'seconds':>8}")
            for name, stage in sorted(stages.items(), key=lambda one: -one[1]["seconds"]):
                if stage["ran"]:
                    print(f"{name:<24} {stage['ran']:>6} {stage['seconds']:>8.2f}")


if __name__ == "__main__":
    main()
