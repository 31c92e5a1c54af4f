"""Exact inner products of gradients of a 5,120 x 5,120 matrix, beside numpy's product of gradients that are in memory already.

    python benches/gradient_tiles.py STRATA FOLDER [--examples 50 150 350] [--words 42] [--wanted 3200]

Writes a model of one block with 32B's o_proj and random weights into FOLDER and has Strata take the gradient of every example. For each number
of examples gradient_space runs alone, as a process of its own; what it takes is fitted as a part for each example (reading, laying down,
making the gradient) and a part for each pair, and said for --wanted examples. numpy multiplies slabs of random numbers with --wanted rows by
their transpose, which is what a product of materialised gradients would be if they fitted (335 GB for 3,200): it sees the symmetry and computes half of it
too. At the end, the eigenproblem of --wanted examples, with gradients of a tiny model. Times are processor time, so that a busy machine counts less;
on two idle cores the clock shows half.
Needs: pip install numpy polars
"""
import argparse
import json
import os
import shutil
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SIDE = 5120
SHAPE = dict(hidden_size=SIDE, intermediate_size=64, num_attention_heads=40, num_key_value_heads=1, num_hidden_layers=1)
PIPELINE = """[models]
m = {{ path = "{model}" }}
[datasets]
data = {{ path = "{data}", limit = {limit} }}
[stages.gradients]
[stages.gradient_space]
"""
NUMPY = """
import sys, time, numpy as np
n = int(sys.argv[1])
width = (1 << 26) // n
values = np.random.default_rng(0).standard_normal((n, width), dtype=np.float32)
values @ values.T
times = []
for _ in range(5):
    started = time.process_time()
    values @ values.T
    times.append(time.process_time() - started)
print(sorted(times)[2] / width / (n * (n + 1) / 2))
"""


def tensors(vocabulary):
    d, ff, kv = SIDE, SHAPE["intermediate_size"], SIDE // SHAPE["num_attention_heads"]
    name = "model.layers.0."
    yield "model.embed_tokens.weight", (vocabulary, d)
    for part, out in (("q", d), ("k", kv), ("v", kv)):
        yield f"{name}self_attn.{part}_proj.weight", (out, d)
        yield f"{name}self_attn.{part}_proj.bias", (out,)
    yield f"{name}self_attn.o_proj.weight", (d, d)
    for part, shape in (("gate", (ff, d)), ("up", (ff, d)), ("down", (d, ff))):
        yield f"{name}mlp.{part}_proj.weight", shape
    yield f"{name}input_layernorm.weight", (d,)
    yield f"{name}post_attention_layernorm.weight", (d,)
    yield "model.norm.weight", (d,)


def write_model(folder):
    import numpy as np

    golden = ROOT / "tests/golden/models/qwen2"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(golden / name, folder)
    config = json.loads((golden / "config.json").read_text())
    config.update(SHAPE, tie_word_embeddings=True)
    for key in ("layer_types", "head_dim", "max_window_layers"):
        config.pop(key, None)
    (folder / "config.json").write_text(json.dumps(config))
    header, at = {}, 0
    for name, shape in tensors(config["vocab_size"]):
        size = 4 * int(np.prod(shape))
        header[name] = dict(dtype="F32", shape=shape, data_offsets=[at, at + size])
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name, shape in tensors(config["vocab_size"]):
            random = np.random.default_rng(zlib.crc32(name.encode()))
            values = np.ones(shape) if "norm" in name else random.standard_normal(shape) * SIDE**-0.5
            out.write(values.astype(np.float32).tobytes())


def measured(command, **options):
    """Seconds, processor seconds and peak bytes of a process."""
    started = time.time()
    process = subprocess.Popen(command, **options)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{command} ended with status {status}")
    return time.time() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def space(strata, folder, model, data, limit):
    (folder / "pipeline.toml").write_text(PIPELINE.format(model=model, data=data, limit=limit))
    subprocess.run([strata, "run", "--quiet", "gradient_factors"], cwd=folder, check=True)
    return measured([strata, "run", "--quiet", "--force", "gradient_space"], cwd=folder)


def main():
    import numpy as np
    import polars as pl

    arguments = argparse.ArgumentParser()
    arguments.add_argument("strata", type=Path), arguments.add_argument("folder", type=Path)
    arguments.add_argument("--examples", type=int, nargs="+", default=[50, 150, 350])
    arguments.add_argument("--words", type=int, default=42)
    arguments.add_argument("--wanted", type=int, default=3200)
    given = arguments.parse_args()
    folder, strata = given.folder.resolve(), given.strata.resolve()
    model, data, most = folder / "model", folder / "data.jsonl", max(*given.examples, given.wanted)
    write_model(model)
    words = lambda i, count: " ".join(f"word{(i * 7 + j * 13) % 97}" for j in range(count))
    row = lambda i, count: {"messages": [{"role": "user", "content": f"{i}?"}, {"role": "assistant", "content": words(i, count)}]}
    data.write_text("".join(json.dumps(row(i, given.words)) + "\n" for i in range(most)))
    print("| examples | tokens each | factors | gradient_space | processor time | memory |\n| --- | --- | --- | --- | --- | --- |")
    found, entries = [], SIDE * SIDE
    for n in given.examples:
        seconds, processor, peak = space(strata, folder, model, data, n)
        rows = pl.scan_parquet(folder / "artifacts/tables/gradient_factors/**/*.parquet")
        rows = rows.filter(pl.col("kind") == "input").select(pl.len()).collect().item()
        found.append((n, processor))
        print(f"| {n} | {rows / n:.0f} | {rows * 2 * SIDE * 4 / 1e9:.1f} GB | {seconds:.1f} s | {processor:.1f} s | "
              f"{peak / 1e9:.2f} GB |", flush=True)
    counts, times = np.array(found).T
    columns = np.stack([counts, counts * (counts + 1) / 2], 1)
    (each, pair), *_ = np.linalg.lstsq(columns / times[:, None], np.ones(len(times)), rcond=None)
    n = given.wanted
    theirs = float(subprocess.check_output([sys.executable, "-c", NUMPY, str(n)])) * entries
    pairs = n * (n + 1) / 2
    print(f"\nprocessor time: {each * 1e3:.0f} ms an example and {pair * 1e3:.3f} ms a pair ({2 * entries / pair / 1e9:.0f} GFLOP/s); numpy with {n} rows "
          f"{theirs * 1e3:.3f} ms a pair ({2 * entries / theirs / 1e9:.0f} GFLOP/s)")
    small = folder / "small"
    small.mkdir(exist_ok=True)
    short = small / "data.jsonl"
    short.write_text("".join(json.dumps(row(i, 2)) + "\n" for i in range(n)))
    _, eigen, peak = space(strata, small, ROOT / "tests/golden/models/qwen2", short, n)
    print(f"the eigenproblem of {n} examples: {eigen:.0f} s, {peak / 1e9:.2f} GB")
    whole = each * n + pair * pairs + eigen
    print(f"{n} examples: {whole:.0f} s, {whole / pairs * 1e3:.3f} ms a pair; numpy's product alone {theirs * pairs:.0f} s")


if __name__ == "__main__":
    main()
