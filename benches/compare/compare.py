"""Strata beside transformers: the same examples in turn, whole processes, from the files on disk to Parquet (transformers: to memory).

    python benches/compare/compare.py MODEL_DIR FILE.jsonl [--strata target/release/strata] [--runs 3] [--limit 24]
                                      [--gradients 12] [--ragged FILE.jsonl] [--only WHAT ...] [--precision f32 bf16] [--json OUT]

FILE has one {"messages": [...]} a line. Every run takes each side once, in turn, and the bare products of PyTorch between them,
since machines differ from minute to minute. Printed are medians over the runs and the ratios of the medians.

hidden_states   the last token's and the response's mean state at every layer
gradients       cosines of the gradients of the last block's o_proj, for which transformers is asked alone
all_gradients   the same cosines, of transformers as the paper has them: every weight asks for a gradient
everything      hidden states, token losses and gradients in one run, beside three scripts of transformers (all_gradients)
bergson         norms and projections of the same gradients to 256 numbers, beside bergson in batches of 2, which take 6 GB (pip install bergson)
ragged          hidden states of --ragged's examples, up to 2,048 tokens of them, beside batches that are padded
Needs: pip install torch transformers
"""
import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PIPELINE = """[models]
m = {{ path = "{model}", precision = "{precision}" }}

[datasets]
data = {{ path = "{data}", limit = {limit} }}

[stages.tokens]
max_tokens = {most}
{stages}
"""
STATES = '[stages.hidden_states]\npositions = ["last", "response_mean"]\n'
GRADIENTS = '[stages.gradients]\n[stages.similarity]\nof = ["gradient"]\nacross = "all"\n'
OF_GRADIENTS = (GRADIENTS, ["gradients", "gradient_space"], 512)
# Stages of the pipeline, targets, most tokens of an example; and what transformers does instead.
ROWS = {
    "hidden_states": ((STATES, ["hidden_states"], 512), ["hidden_states"]),
    "gradients": (OF_GRADIENTS, ["gradients"]),
    "all_gradients": (OF_GRADIENTS, ["all_gradients"]),
    "bergson": ((GRADIENTS, ["gradients"], 512), ["bergson"]),
    "everything": ((STATES + "[stages.token_losses]\n" + GRADIENTS,
                    ["hidden_states", "token_losses", "gradients", "gradient_space"], 512),
                   ["hidden_states", "token_losses", "all_gradients"]),
    "ragged": ((STATES, ["hidden_states"], 2048), ["hidden_states"]),
}

PRODUCT = """
import time, torch
torch.manual_seed(0)
for dtype in (torch.float32, torch.bfloat16):
    a, b = torch.randn(512, 896).to(dtype), torch.randn(896, 4864).to(dtype)
    for _ in range(3): a @ b
    started, count = time.time(), 0
    while time.time() - started < 1.5:
        a @ b
        count += 1
    print(2 * 512 * 896 * 4864 * count / (time.time() - started) / 1e9)
"""


def measured(command, **options):
    """Seconds and peak bytes of a process."""
    started = time.time()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, **options)
    text = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{command} ended with status {status}")
    return text, time.time() - started, usage.ru_maxrss * 1024


def strata(given, what, data, precision, limit):
    (stages, targets, most), _ = ROWS[what]
    with tempfile.TemporaryDirectory() as folder:
        text = PIPELINE.format(model=given.model.resolve(), data=data.resolve(), limit=limit, precision=precision, most=most,
                               stages=stages)
        (Path(folder) / "pipeline.toml").write_text(text)
        _, seconds, peak = measured([given.strata.resolve(), "run", "--quiet", *targets], cwd=folder)
    return {"seconds": seconds, "peak_bytes": peak}


def transformers(given, what, data, dtype, limit):
    (_, _, most), scripts = ROWS[what]
    seconds, peak, tokens = 0, 0, 0
    for name in scripts:
        script = Path(__file__).parent / "peer.py"
        command = [sys.executable, script, name, given.model, data, dtype, "--limit", str(limit), "--max-tokens", str(most),
                   "--batch", "2" if name == "bergson" else "8"]
        text, took, most_bytes = measured(command, stderr=subprocess.DEVNULL)
        seconds, peak, tokens = seconds + took, max(peak, most_bytes), json.loads(text.splitlines()[-1])["tokens"]
    return {"tokens": tokens, "seconds": seconds, "peak_bytes": peak}


def processor():
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} threads" if names else platform.processor()


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("model", type=Path), arguments.add_argument("data", type=Path)
    arguments.add_argument("--strata", type=Path, default=Path("target/release/strata"))
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--limit", type=int, default=24)
    arguments.add_argument("--gradients", type=int, default=12)
    arguments.add_argument("--ragged", type=Path)
    arguments.add_argument("--only", nargs="+", choices=list(ROWS), default=[])
    arguments.add_argument("--precision", nargs="+", choices=["f32", "bf16"], default=["f32", "bf16"])
    arguments.add_argument("--json", type=Path)
    given = arguments.parse_args()
    limits = {"hidden_states": given.limit, "ragged": given.limit}
    names = given.only or [name for name in ROWS if name != "bergson" and (name != "ragged" or given.ragged)]
    rows = [(name, given.ragged if name == "ragged" else given.data, limits.get(name, given.gradients)) for name in names]
    found = {}
    for _ in range(given.runs):
        product, _, _ = measured([sys.executable, "-c", PRODUCT])
        for dtype, speed in zip(("f32", "bf16"), product.split()):
            found.setdefault(f"product {dtype}", []).append(float(speed))
        for what, data, limit in rows:
            for dtype in given.precision:
                for name, side in (("strata", strata), ("transformers", transformers)):
                    found.setdefault(f"{what} {dtype} {name}", []).append(side(given, what, data, dtype, limit))
                    print(f"{what} {dtype} {name}: {found[f'{what} {dtype} {name}'][-1]['seconds']:.1f} s", file=sys.stderr)
    median = lambda key, field: statistics.median(one[field] for one in found[key])
    products = {dtype: statistics.median(found[f"product {dtype}"]) for dtype in ("f32", "bf16")}
    print(f"{processor()}; PyTorch's bare product 512 x 896 x 4864: {products['f32']:.0f} GFLOP/s in f32, "
          f"{products['bf16']:.0f} in bf16; {given.runs} runs, medians\n")
    print("| | Strata | transformers | ratio | memory |\n| --- | --- | --- | --- | --- |")
    for what, _, limit in rows:
        for dtype in given.precision:
            ours, theirs = f"{what} {dtype} strata", f"{what} {dtype} transformers"
            tokens = median(theirs, "tokens")
            a, b = median(ours, "seconds"), median(theirs, "seconds")
            print(f"| {what.replace('_', ' ')}, {dtype}, {limit} examples of {tokens / limit:.0f} tokens | {a:.1f} s ({tokens / a:.0f} "
                  f"tokens/s) | {b:.1f} s ({tokens / b:.0f}) | {b / a:.2f} | {median(ours, 'peak_bytes') / 1e9:.2f} and "
                  f"{median(theirs, 'peak_bytes') / 1e9:.2f} GB |")
    if given.json:
        given.json.write_text(json.dumps({"processor": processor(), "found": found}, indent=1))


if __name__ == "__main__":
    main()
