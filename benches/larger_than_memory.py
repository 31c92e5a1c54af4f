"""A model that does not fit in memory: hidden states of 100 short examples under a limit of memory and without one.

    sudo python benches/larger_than_memory.py STRATA FOLDER [--limit-gb 6] [--examples 100] [--words 4] [--layers 28] [--precision bf16]

Writes a model of Qwen2.5-7B's shape (15 GB of random bf16 weights, with the golden model's tokenizer) into FOLDER and leaves it there. Each run
begins with an empty page cache; the limit is a control group's and counts the pages of the weights that are in memory, so it needs root.
"""
import argparse
import json
import os
import shutil
import struct
import subprocess
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SHAPE = dict(hidden_size=3584, intermediate_size=18944, num_attention_heads=28, num_key_value_heads=4, vocab_size=152064)
PIPELINE = """[models]
m = {{ path = "{model}", precision = "{precision}" }}
[datasets]
data = {{ path = "{data}" }}
[stages.hidden_states]
positions = ["last"]
"""


def tensors(layers):
    d, ff, vocabulary = SHAPE["hidden_size"], SHAPE["intermediate_size"], SHAPE["vocab_size"]
    kv = d // SHAPE["num_attention_heads"] * SHAPE["num_key_value_heads"]
    yield "model.embed_tokens.weight", (vocabulary, d)
    for layer in range(layers):
        name = f"model.layers.{layer}."
        for part, out in (("q", d), ("k", kv), ("v", kv)):
            yield f"{name}self_attn.{part}_proj.weight", (out, d)
            yield f"{name}self_attn.{part}_proj.bias", (out,)
        yield f"{name}self_attn.o_proj.weight", (d, d)
        yield f"{name}mlp.gate_proj.weight", (ff, d)
        yield f"{name}mlp.up_proj.weight", (ff, d)
        yield f"{name}mlp.down_proj.weight", (d, ff)
        yield f"{name}input_layernorm.weight", (d,)
        yield f"{name}post_attention_layernorm.weight", (d,)
    yield "model.norm.weight", (d,)
    yield "lm_head.weight", (vocabulary, d)


def write_model(folder, layers):
    file = folder / "model.safetensors"
    if file.exists():
        return file
    folder.mkdir(parents=True, exist_ok=True)
    golden = ROOT / "tests/golden/models/qwen2"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(golden / name, folder)
    config = json.loads((golden / "config.json").read_text())
    config.update(SHAPE, num_hidden_layers=layers, tie_word_embeddings=False)
    for key in ("layer_types", "head_dim", "max_window_layers"):
        config.pop(key, None)
    (folder / "config.json").write_text(json.dumps(config))
    header, at = {}, 0
    for name, shape in tensors(layers):
        size = 2 * int(np.prod(shape))
        header[name] = dict(dtype="BF16", shape=shape, data_offsets=[at, at + size])
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    values = (np.random.default_rng(1).standard_normal((1 << 25) + 12345, dtype=np.float32) * 0.02).view(np.uint32)
    noise, ones = (values >> 16).astype(np.uint16), np.full(1 << 15, 0x3F80, np.uint16)
    partial = file.with_suffix(".partial")
    with open(partial, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name, shape in tensors(layers):
            left, start = int(np.prod(shape)), zlib.crc32(name.encode()) % 12345
            if "norm" in name:
                out.write(ones[:left].tobytes())
                continue
            while left > 0:
                piece = noise[start:start + min(left, 1 << 25)]
                out.write(piece.tobytes())
                left -= len(piece)
    partial.rename(file)
    return file


class Group:
    """A control group with a limit of memory, of either version."""

    def __init__(self, limit):
        self.old = Path("/sys/fs/cgroup/memory")
        self.path = (self.old if self.old.is_dir() else Path("/sys/fs/cgroup")) / "strata-bench"
        self.path.mkdir(exist_ok=True)
        name = "memory.limit_in_bytes" if self.old.is_dir() else "memory.max"
        (self.path / name).write_text(str(limit))

    def enter(self):
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def peak(self):
        return int((self.path / ("memory.max_usage_in_bytes" if self.old.is_dir() else "memory.peak")).read_text())

    def remove(self):
        self.path.rmdir()


def run(given, model, data, limit):
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        text = PIPELINE.format(model=model, data=data, precision=given.precision)
        (Path(folder) / "pipeline.toml").write_text(text)
        strata = given.strata.resolve()
        # The hash of the weights is another matter, and is kept.
        subprocess.run([strata, "run", "--quiet", "tokens"], cwd=folder, check=True)
        subprocess.run([strata, "status", "--quiet"], cwd=folder, check=True)
        Path("/proc/sys/vm/drop_caches").write_text("3")
        group = Group(limit)
        before = Path("/proc/diskstats").read_text()
        started = time.time()
        subprocess.run([strata, "run", "--quiet", "hidden_states"], cwd=folder, check=True, preexec_fn=group.enter)
        seconds, peak = time.time() - started, group.peak()
        after = Path("/proc/diskstats").read_text()
        group.remove()
    read = lambda text: sum(int(line.split()[5]) for line in text.splitlines()) * 512
    return seconds, peak, read(after) - read(before)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("strata", type=Path), arguments.add_argument("folder", type=Path)
    arguments.add_argument("--limit-gb", type=float, default=6)
    arguments.add_argument("--examples", type=int, default=100)
    arguments.add_argument("--words", type=int, default=4)
    arguments.add_argument("--layers", type=int, default=28)
    arguments.add_argument("--precision", default="bf16")
    given = arguments.parse_args()
    given.folder = given.folder.resolve()
    model = write_model(given.folder / f"model-{given.layers}", given.layers)
    data = given.folder / "data.jsonl"
    words = lambda i: " ".join(f"word{(i * 7 + j * 13) % 97}" for j in range(given.words))
    rows = ({"messages": [{"role": "user", "content": f"{i}?"}, {"role": "assistant", "content": words(i)}]} for i in range(given.examples))
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(f"{model.stat().st_size / 1e9:.1f} GB of weights, {given.examples} examples, {given.precision}", flush=True)
    times = []
    for name, limit in (("without a limit", 1 << 50), (f"limit of {given.limit_gb} GB", int(given.limit_gb * 1e9))):
        seconds, peak, read = run(given, model.parent, data, limit)
        times.append(seconds)
        print(f"{name}: {seconds:.1f} s, at most {peak / 1e9:.1f} GB in memory, {read / 1e9:.1f} GB read", flush=True)
    print(f"throughput under the limit: {times[0] / times[1]:.0%}")


if __name__ == "__main__":
    main()
