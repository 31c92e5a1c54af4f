"""Strata on a GPU: parity with the CPU, and throughput beside transformers on the same card.

    python benches/gpu.py MODEL_DIR FILE.jsonl --cuda BUILD_WITH_CUDA --cpu BUILD_WITHOUT [--limit 64] [--parity 8] [--runs 3]

Both builds run the same pipeline, in f32 and in bf16. Hidden states, log-probabilities and gradients of the GPU are held against those of the CPU in
the same precision: 1e-3 relative in f32; in bf16 the two round in other places, and what is printed is to be read beside bf16 against
f32 on the CPU. The exit code is 1 when f32 is over its tolerance. Throughput is of whole processes, from disk to Parquet (transformers: to
memory), medians of the runs, transformers with the batch size that was the fastest.
Needs: a CUDA GPU; pip install torch transformers polars
"""
import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

PIPELINE = """[models]
m = {{ path = "{model}", precision = "{precision}" }}

[datasets]
data = {{ path = "{data}", limit = {limit} }}

[stages.tokens]
max_tokens = 512
[stages.token_losses]
[stages.hidden_states]
positions = ["last", "response_mean"]
[stages.gradients]
"""
TARGETS = {"hidden_states": ["hidden_states"], "gradients": ["gradients"]}
TOLERANCE = 1e-3


def workspace(given, folder, precision, limit):
    text = PIPELINE.format(model=given.model.resolve(), data=given.data.resolve(), precision=precision, limit=limit)
    (Path(folder) / "pipeline.toml").write_text(text)


def tables(given, strata, precision):
    """Hidden states [rows, D], log-probabilities and gradients' norms and projections of a run of a few examples."""
    with tempfile.TemporaryDirectory() as folder:
        workspace(given, folder, precision, given.parity)
        targets = ["hidden_states", "token_losses", "gradients"]
        subprocess.run([strata.resolve(), "run", "--quiet", *targets], cwd=folder, check=True)
        read = lambda table: pl.read_parquet(Path(folder) / "artifacts/tables" / table / "**/*.parquet")
        states = read("hidden_states").sort("example", "position", "layer", "site")
        losses = read("token_losses").sort("example", "token")
        gradients = read("gradients").sort("module", "example")
    vectors = lambda rows: np.stack(rows["vector"].to_list())
    return vectors(states), losses["logprob"].to_numpy(), vectors(gradients)


def deviations(found, expected):
    """The largest of: states and gradients relative to their norms, log-probabilities in nats."""
    relative = lambda a, b: (np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)).max()
    return relative(found[0], expected[0]), np.abs(found[1] - expected[1]).max(), relative(found[2], expected[2])


def strata(given, what, precision):
    with tempfile.TemporaryDirectory() as folder:
        workspace(given, folder, precision, given.limit)
        subprocess.run([given.cuda.resolve(), "run", "--quiet", "tokens"], cwd=folder, check=True)
        started = time.time()
        subprocess.run([given.cuda.resolve(), "run", "--quiet", *TARGETS[what]], cwd=folder, check=True)
        return time.time() - started


def transformers(given, what, precision, batch):
    script = Path(__file__).parent / "compare/peer.py"
    command = [sys.executable, script, what, given.model, given.data, precision, "--limit", str(given.limit),
               "--batch", str(batch), "--device", "cuda"]
    started = time.time()
    text = subprocess.check_output(command, stderr=subprocess.DEVNULL).decode()
    return time.time() - started, json.loads(text.splitlines()[-1])["tokens"]


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("model", type=Path), arguments.add_argument("data", type=Path)
    arguments.add_argument("--cuda", type=Path, required=True), arguments.add_argument("--cpu", type=Path, required=True)
    arguments.add_argument("--limit", type=int, default=64)
    arguments.add_argument("--parity", type=int, default=8)
    arguments.add_argument("--runs", type=int, default=3)
    given = arguments.parse_args()
    print("| largest deviation | states, relative | log-probabilities, nats | gradients, relative |\n| --- | --- | --- | --- |")
    say = lambda name, found: print(f"| {name} | {' | '.join(f'{value:.1e}' for value in found)} |", flush=True)
    f32, bf16 = tables(given, given.cpu, "f32"), tables(given, given.cpu, "bf16")
    of_f32 = deviations(tables(given, given.cuda, "f32"), f32)
    say("f32, GPU against CPU", of_f32)
    say("bf16, GPU against CPU", deviations(tables(given, given.cuda, "bf16"), bf16))
    say("bf16 against f32, CPU", deviations(bf16, f32))
    print("\n| | Strata | transformers | ratio | batch |\n| --- | --- | --- | --- | --- |")
    for what in TARGETS:
        for precision in ("f32", "bf16"):
            sizes = (8, 32, 64) if what == "hidden_states" else (1,)
            batch = min(sizes, key=lambda size: transformers(given, what, precision, size)[0])
            ours, theirs = [], []
            for _ in range(given.runs):
                ours.append(strata(given, what, precision))
                seconds, tokens = transformers(given, what, precision, batch)
                theirs.append(seconds)
            a, b = statistics.median(ours), statistics.median(theirs)
            print(f"| {what.replace('_', ' ')}, {precision} | {a:.1f} s ({tokens / a:.0f} tokens/s) | {b:.1f} s ({tokens / b:.0f}) | "
                  f"{b / a:.2f} | {batch} |", flush=True)
    sys.exit(max(of_f32) > TOLERANCE)


if __name__ == "__main__":
    main()
