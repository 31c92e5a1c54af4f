"""How long Strata takes over large pipelines, and how much memory: to plan, to say how it stands, and to find nothing to do.

    cargo build --release && python benches/plan_scale.py target/release/strata [--keep DIR] [wide | deep | many | small …]

wide: 10,000 datasets of two conversations, one model: before anything ran, and with every task done.
deep: one dataset in 33,000 parts, for three stages that work part by part: 99,001 tasks, all done.
many: 25,000 datasets and four stages: 100,000 tasks in as many nodes, all done.
small: the size of the default pipeline: 2,400 tasks, all done.
report: the sections that `strata init` writes, over 1,000 datasets and three models, before anything ran.

The models are the golden one of the tests. Each command is a process of its own; the times, by the clock and of
processors, are the shortest of several, and the memory the largest resident set (ru_maxrss). --keep leaves the folders there for another look, and takes them up again.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests/golden/models/qwen2"
STATES = "[stages.tokens]\n\n[stages.hidden_states]\npositions = [\"last\"]\nlayers = [2]\n"
LOSSES = "\n[stages.token_losses]\n"
PART = "\n[stages.examples]\npart = { least = 1, greatest = 2 }\n"
FIGURES = "[stages.projection_summary]\n[stages.separation]\n[stages.loss_summary]\n[stages.mean_similarity]\n[stages.report]\n"
# Datasets, examples of each, models, sections, whether it is run.
SET_UPS = {
    "wide": (10_000, 2, 1, STATES, True),
    "deep": (1, 33_000, 1, STATES + LOSSES + PART, True),
    "many": (25_000, 2, 1, STATES + LOSSES, True),
    "small": (600, 2, 1, STATES + LOSSES, True),
    "report": (1_000, 2, 3, FIGURES, False),
}


def chat(topic, i):
    messages = [{"role": "user", "content": f"{topic} {i}?"}, {"role": "assistant", "content": f"{i * 7 % 11}."}]
    return json.dumps({"messages": messages}) + "\n"


def make(folder, datasets, examples, models, sections):
    (folder / "data").mkdir(parents=True)
    lines = ["[models]\n"]
    for m in range(models):
        shutil.copytree(GOLDEN, folder / f"models/m{m}")
        lines.append(f'm{m} = {{ path = "models/m{m}" }}\n')
    for d in range(datasets):
        (folder / f"data/d{d:05}.jsonl").write_text("".join(chat(f"d{d}", i) for i in range(examples)))
        lines.append(f'\n[datasets.d{d:05}]\npath = "data/d{d:05}.jsonl"\n')
    (folder / "pipeline.toml").write_text("".join(lines) + "\n" + sections)


def measure(program, folder, arguments, times):
    """The shortest seconds of so many runs, by the clock and of processors, the largest MB, and the last standard output."""
    best, worked, most = float("inf"), float("inf"), 0
    for _ in range(times):
        start = time.perf_counter()
        child = subprocess.Popen([program, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, said = child.stdout.read(), child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
        best = min(best, time.perf_counter() - start)
        if status:
            sys.exit(f"strata {' '.join(arguments)} in {folder} failed:\n{said.decode()}")
        worked = min(worked, usage.ru_utime + usage.ru_stime)
        most = max(most, usage.ru_maxrss / 1024)
    return best, worked, most, out


def row(name, what, tasks, found):
    print(f"{name:<8} {what:<28} {tasks:>8} {found[0] * 1000:>10.1f} {found[1] * 1000:>10.1f} {found[2]:>8.0f}", flush=True)


def of(program, name, folder):
    datasets, examples, models, sections, runs = SET_UPS[name]
    if not folder.exists():
        make(folder, datasets, examples, models, sections)
    looks = [["status"], ["run", "--dry-run"], ["explain", "hidden_states"], ["graph", "--format", "json"]]
    if not (folder / "artifacts").exists():
        for look in looks:
            row(name, " ".join(look) + ", not run", "", measure(program, folder, look, 2))
    if not runs:
        return
    found = measure(program, folder, ["run", "--json", "-q"], 1)
    summary = json.loads(found[3])
    tasks = sum(stage["planned"] for stage in summary["stages"].values())
    if summary["ran"]:
        row(name, "run", tasks, found)
    time.sleep(0.1)
    row(name, "run, planned anew", tasks, measure(program, folder, ["run", "-q"], 1))
    for _ in range(2):
        shutil.rmtree(folder / "artifacts/cache/unchanged", ignore_errors=True)
        found = measure(program, folder, ["run", "-q"], 1)
    row(name, "run, planned and remembered", tasks, found)
    row(name, "run, nothing changed", tasks, measure(program, folder, ["run", "-q"], 20))
    for look in looks:
        row(name, " ".join(look), tasks, measure(program, folder, look, 3))
    # One file changes: what is said of it, and what it costs to find.
    changed = folder / "data/d00000.jsonl"
    text = changed.read_text()
    changed.write_text(text + chat("new", 1))
    row(name, "status, a dataset changed", tasks, measure(program, folder, ["status"], 2))
    changed.write_text(text)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("strata")
    parser.add_argument("set_ups", nargs="*", help=", ".join(SET_UPS))
    parser.add_argument("--keep")
    arguments = parser.parse_args()
    program = os.path.abspath(arguments.strata)
    with tempfile.TemporaryDirectory() as temporary:
        kept = Path(arguments.keep or temporary)
        print(f"{'set-up':<8} {'command':<28} {'tasks':>8} {'ms':>10} {'CPU ms':>10} {'MB':>8}")
        for name in arguments.set_ups or SET_UPS:
            of(program, name, kept / name)


if __name__ == "__main__":
    main()
