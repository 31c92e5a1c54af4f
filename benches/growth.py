"""How time and memory of each stage grow with the number of examples.

    cargo build --release && python benches/growth.py target/release/strata [--examples 100 1000 10000] [--keep FOLDER] [STAGE …]

Two datasets of so many synthetic conversations under two models, the golden one of the tests and that with its weights moved a
little. Each stage is a process of its own, which finds what it reads in the store. Printed are, for each stage, the processor seconds and
the memory (ru_maxrss) at each size, and by how much the time of an example grew from one size to the next: 1.00 is linear. `similarity` writes
every pair of examples and is left out above 1,000; so are gradients and patching, which take passes like those above them.
"""
import argparse
import array
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests/golden/models/qwen2"
STAGES = """
[stages.tokens]
[stages.hidden_states]
positions = ["last"]
layers = [0, 2]
[stages.token_losses]
[stages.next_tokens]
[stages.loss_summary]
[stages.loss_difference]
[stages.loss_vectors]
n = 8
[stages.directions]
pairs = [{ source = "one", target = "other" }]
[stages.projections]
[stages.projection_summary]
[stages.separation]
[stages.departure]
[stages.null_directions]
[stages.direction_similarity]
[stages.subspace_similarity]
[stages.distance]
[stages.similarity_summary]
[stages.permanova]
[stages.mean_similarity]
[stages.pca]
"""
PAIRS = "\n[stages.similarity]\n"
WORDS = "sum list file name line code text word part node time call type loop path test data main copy"


def chats(count, seed):
    draw = random.Random(seed)
    words = WORDS.split()
    for i in range(count):
        said = [" ".join(draw.choice(words) for _ in range(length)) for length in (draw.randint(4, 9), 12)]
        messages = [{"role": "user", "content": f"{said[0]} {i}"}, {"role": "assistant", "content": said[1]}]
        yield json.dumps({"messages": messages}) + "\n"


def moved(folder):
    """The golden model with every weight moved by a hundredth of itself, up or down."""
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    weights = array.array("f", bytes(content[start:]))
    draw = random.Random(1)
    content[start:] = array.array("f", (weight * draw.uniform(0.99, 1.01) for weight in weights)).tobytes()
    path.write_bytes(content)


def make(folder, examples):
    (folder / "data").mkdir(parents=True)
    lines = ["[models]\n"]
    for name in ("one", "other"):
        shutil.copytree(GOLDEN, folder / f"models/{name}")
        lines.append(f'{name} = {{ path = "models/{name}" }}\n')
    moved(folder / "models/other")
    lines.append("\n[datasets]\n")
    for seed, name in enumerate(("a", "b")):
        (folder / f"data/{name}.jsonl").write_text("".join(chats(examples, seed)))
        lines.append(f'{name} = {{ path = "data/{name}.jsonl" }}\n')
    pairs = PAIRS if examples <= 1000 else ""
    (folder / "pipeline.toml").write_text("".join(lines) + STAGES + pairs)


def run(program, folder, stage):
    """Processor seconds, seconds by the clock and MB."""
    start = time.perf_counter()
    child = subprocess.Popen([program, "run", "-q", stage], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"strata run {stage} in {folder} failed:\n{said.decode()}")
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - start, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("strata")
    parser.add_argument("stages", nargs="*")
    parser.add_argument("--examples", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--keep")
    arguments = parser.parse_args()
    program = os.path.abspath(arguments.strata)
    stages = ["examples", *(line[8:-1] for line in STAGES.split("\n") if line.startswith("[stages.")), "similarity"]
    sizes = arguments.examples
    found = {}
    with tempfile.TemporaryDirectory() as temporary:
        for examples in sizes:
            folder = Path(arguments.keep or temporary) / str(examples)
            if not folder.exists():
                make(folder, examples)
            for stage in stages:
                if stage != "similarity" or examples <= 1000:
                    found[stage, examples] = run(program, folder, stage)
                    if not arguments.stages or stage in arguments.stages:
                        print(f"{stage} {examples}: {found[stage, examples][0]:.2f} s", file=sys.stderr, flush=True)
    print(f"{'stage':<22}" + "".join(f"{f'{n} examples: CPU s':>24} {'s':>7} {'MB':>6} {'growth':>7}" for n in sizes))
    # What every process takes, with nothing to do.
    for stage in stages:
        if arguments.stages and stage not in arguments.stages:
            continue
        row, before = f"{stage:<22}", None
        for examples in sizes:
            here = found.get((stage, examples))
            if here is None:
                row += f"{'–':>24} {'–':>7} {'–':>6} {'–':>7}"
                continue
            each = here[0] / examples
            growth = f"{each / before:.2f}" if before else ""
            row += f"{here[0]:>24.2f} {here[1]:>7.2f} {here[2]:>6.0f} {growth:>7}"
            before = each
        print(row)


if __name__ == "__main__":
    main()
