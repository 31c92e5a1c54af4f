"""What is saved where datasets answer the same prompts: hidden states of both in one run, beside one run for each.

    python benches/shared_prompts.py target/release/strata MODEL_DIR FILE.jsonl [--examples 24] [--runs 3] [--precision f32]

FILE has one {"messages": [...]} a line. Its conversations become prompts that are about two thirds of the tokens, with two answers
each: the datasets that are written. All runs are of whole processes with a store of their own, in turn; the tables are compared byte by
byte. Needs nothing but Python.
"""
import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PIPELINE = """[models]
m = {{ path = "{model}", precision = "{precision}" }}

[datasets]
{datasets}

[stages.tokens]
max_tokens = 2048

[stages.hidden_states]
positions = ["last", "response_mean"]
"""


def write_datasets(source, folder, count):
    rows = [json.loads(line)["messages"] for line in open(source) if line.strip()][:count + 1]
    texts = ["\n".join(message["content"] for message in row)[:1200] for row in rows]
    for shift, name in enumerate(("first", "second")):
        with open(folder / f"{name}.jsonl", "w") as out:
            for i in range(count):
                answer = texts[(i + shift) % len(texts)][: len(texts[i]) // 2]
                messages = [{"role": "user", "content": texts[i]}, {"role": "assistant", "content": answer}]
                out.write(json.dumps({"messages": messages}) + "\n")


def run(given, names):
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_datasets(given.data, folder, given.examples)
        datasets = "\n".join(f'{name} = {{ path = "{name}.jsonl" }}' for name in names)
        text = PIPELINE.format(model=given.model.resolve(), precision=given.precision, datasets=datasets)
        (folder / "pipeline.toml").write_text(text)
        started = time.time()
        subprocess.run([given.strata.resolve(), "run", "--quiet", "hidden_states"], cwd=folder, check=True)
        seconds = time.time() - started
        tables = {}
        for path in sorted((folder / "artifacts" / "tables" / "hidden_states").rglob("*.parquet")):
            name = next(name for name in ("first", "second") if name in str(path))
            tables.setdefault(name, []).append(hashlib.sha256(path.read_bytes()).hexdigest())
        return seconds, tables


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("strata", type=Path), arguments.add_argument("model", type=Path), arguments.add_argument("data", type=Path)
    arguments.add_argument("--examples", type=int, default=24), arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--precision", default="f32")
    given = arguments.parse_args()
    together, apart = [], []
    for _ in range(given.runs):
        seconds, tables = run(given, ["first", "second"])
        together.append(seconds)
        (first, of_first), (second, of_second) = run(given, ["first"]), run(given, ["second"])
        apart.append(first + second)
        if tables != {**of_first, **of_second} or len(tables) != 2:
            sys.exit("the tables of a run of both datasets are others than those of a run for each")
        print(f"together {together[-1]:.1f} s, apart {apart[-1]:.1f} s", file=sys.stderr)
    a, b = statistics.median(together), statistics.median(apart)
    print(f"two datasets of {given.examples} examples with the same prompts, {given.precision}: together {a:.1f} s, one run each "
          f"{b:.1f} s: {b / a:.2f} times as fast, and the same bytes; medians of {given.runs}")


if __name__ == "__main__":
    main()
