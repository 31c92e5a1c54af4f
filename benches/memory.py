"""The memory that `strata run --dry-run` says, beside the most that the run then had resident.

    pip install numpy
    cargo build --release && python benches/memory.py target/release/strata [--stages] [SET-UP | FOLDER…]

FOLDER is one with a pipeline.toml that has not been run. The set-up "default" is the repository's own pipeline.toml; the
others' models are random, of real models' shapes, with the small tokenizer of tests/golden. The measured figure is the peak
resident set of the process, mapped weights included (Linux, ru_maxrss). With --stages each stage of the pipeline runs in a
process of its own, to see which one has the peak.
"""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from multiprocessing import Process
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests/golden/models/qwen2"
SHAPES = {  # vocabulary, width, feed-forward width, blocks, heads, key-value heads
    "135m": (49152, 576, 1536, 30, 9, 3),
    "0.5b": (151936, 896, 4864, 24, 14, 2),
    "small": (8192, 256, 1024, 6, 4, 2),
}
STATES, LOSSES, GRADIENTS = "[stages.hidden_states]\n", "[stages.token_losses]\n", "[stages.gradients]\n"
PATCHING = '[stages.patching]\npairs = [{ source = "m0", target = "m1" }]\nlayers = [0, -1]\n'
REPORT = "[stages.next_tokens]\n[stages.directions]\npairs = [{ source = \"m0\", target = \"m1\" }]\n" \
    "[stages.projection_summary]\n[stages.separation]\n[stages.report]\n"
SET_UPS = {  # shape, models, examples, words an example, stages; and where the weights are not in bfloat16, their type
    "135m in f32, 3 models": ("135m", 3, 8, 6, STATES + LOSSES + GRADIENTS + PATCHING + REPORT, "F32"),
    "135m, 3 models, 256 tokens": ("135m", 3, 1, 40, STATES + LOSSES),
    "135m, 3 models, all but gradients": ("135m", 3, 16, 6, STATES + LOSSES + REPORT),
    "135m, 3 models, states and losses": ("135m", 3, 32, 8, STATES + LOSSES),
    "135m, patching": ("135m", 2, 2, 20, PATCHING),
    "135m, states": ("135m", 1, 64, 8, STATES),
    "135m, gradients": ("135m", 1, 32, 8, GRADIENTS),
    "0.5b, states and losses": ("0.5b", 1, 16, 6, STATES + LOSSES),
    "small, long parts": ("small", 1, 256, 200, STATES + LOSSES),
}


def write_model(folder, shape, seed, dtype):
    vocabulary, width, middle, blocks, heads, pairs = SHAPES[shape]
    head = width // heads
    folder.mkdir(parents=True)
    for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]:
        if (GOLDEN / name).exists():
            shutil.copy(GOLDEN / name, folder)
    config = dict(model_type="llama", vocab_size=vocabulary, hidden_size=width, intermediate_size=middle,
                  num_hidden_layers=blocks, num_attention_heads=heads, num_key_value_heads=pairs, rms_norm_eps=1e-6,
                  rope_theta=10000.0, tie_word_embeddings=True, torch_dtype={"BF16": "bfloat16", "F32": "float32"}[dtype], hidden_act="silu",
                  max_position_embeddings=8192)
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {"model.embed_tokens.weight": (vocabulary, width), "model.norm.weight": (width,)}
    for block in range(blocks):
        at = f"model.layers.{block}."
        for name, out, inputs in [("self_attn.q_proj", heads * head, width), ("self_attn.k_proj", pairs * head, width),
                                  ("self_attn.v_proj", pairs * head, width), ("self_attn.o_proj", width, heads * head),
                                  ("mlp.gate_proj", middle, width), ("mlp.up_proj", middle, width),
                                  ("mlp.down_proj", width, middle)]:
            tensors[f"{at}{name}.weight"] = (out, inputs)
        tensors[f"{at}input_layernorm.weight"] = tensors[f"{at}post_attention_layernorm.weight"] = (width,)
    header, offset = {}, 0
    for name, sides in tensors.items():
        size = {"BF16": 2, "F32": 4}[dtype] * int(np.prod(sides))
        header[name] = dict(dtype=dtype, shape=list(sides), data_offsets=[offset, offset + size])
        offset += size
    text = json.dumps(header).encode()
    random = np.random.default_rng(seed)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, sides in tensors.items():
            values = random.standard_normal(sides, dtype=np.float32) * 0.02 if len(sides) == 2 else np.ones(sides, np.float32)
            bits = values.view(np.uint32)
            file.write((bits if dtype == "F32" else (bits >> 16).astype(np.uint16)).tobytes())


def main():
    strata = Path(sys.argv[1]).absolute()
    by_stage = "--stages" in sys.argv
    wanted = [name for name in sys.argv[2:] if name != "--stages"] or ["default", *SET_UPS]
    print(f"{'set-up':<36} {'estimate':>9} {'measured':>9} {'ratio':>6}   MB")
    for name in wanted:
        if Path(name).is_dir():
            measure(strata, Path(name), name, by_stage)
            continue
        if name == "default":
            with tempfile.TemporaryDirectory() as folder:
                shutil.copy(ROOT / "pipeline.toml", folder)
                measure(strata, Path(folder), name, by_stage)
            continue
        shape, models, examples, words, stages, *dtype = SET_UPS[name]
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            for model in range(models):
                # In a process of its own: ru_maxrss of a program counts what the process that starts it had before.
                writer = Process(target=write_model, args=(folder / f"models/m{model}", shape, model, *(dtype or ["BF16"])))
                writer.start()
                writer.join()
            rows = [{"messages": [{"role": "user", "content": f"question {i} " + "some words here " * words},
                                  {"role": "assistant", "content": f"answer {i} " + "other words there " * words}]}
                    for i in range(examples)]
            (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            lines = ["[models]"] + [f'm{i} = {{ path = "models/m{i}" }}' for i in range(models)]
            (folder / "pipeline.toml").write_text("\n".join(lines) + '\n[datasets]\nd = { path = "data.jsonl" }\n' + stages)
            measure(strata, folder, name, by_stage)


def measure(strata, folder, name, by_stage):
    # Where text is there, its tokens are counted first: this is about memory, not about guessing the length of a text.
    if "train = {" not in (folder / "pipeline.toml").read_text():
        run(strata, folder, "run", "tokens", "--quiet")
    planned = json.loads(run(strata, folder, "run", "--dry-run", "--json")[0])
    estimate = planned["estimate"]["total"]["memory"]
    if by_stage:
        rows = {row["what"]: row["memory"] for row in planned["estimate"]["rows"]}
        for row in rows:
            if row not in planned["stages"]:
                print(f"  {row:<34} {rows[row] / 1e6:>9.0f}")
        # In the order in which they read each other.
        lines = run(strata, folder, "status")[0].split("\n")
        for stage in [line.split()[0] for line in lines if line.split()[:1] and line.split()[0] in planned["stages"]]:
            peak = run(strata, folder, "run", stage, "--quiet")[1]
            print(f"  {stage:<34} {rows.get(stage, 0) / 1e6:>9.0f} {peak / 1e6:>9.0f}", flush=True)
        return
    peak = run(strata, folder, "run", "--quiet")[1]
    print(f"{name:<36} {estimate / 1e6:>9.0f} {peak / 1e6:>9.0f} {estimate / peak:>6.2f}", flush=True)


def run(strata, folder, *arguments):
    """Standard output, and the peak resident set in bytes."""
    process = subprocess.Popen([strata, *arguments], cwd=folder, stdout=subprocess.PIPE, text=True)
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"strata {' '.join(arguments)} failed")
    return said, usage.ru_maxrss * 1024


if __name__ == "__main__":
    main()
