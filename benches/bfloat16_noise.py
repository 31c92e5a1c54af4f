"""How far the pairwise cosines of gradients lie from float64's when they are computed in bfloat16, and in float32.

    python benches/bfloat16_noise.py ARTIFACTS [MODEL] [--examples N]

ARTIFACTS is the folder of a finished run of the default pipeline; MODEL one of its trained models [instruct]. The gradient
is that of the mean cross-entropy over all tokens for the last block's self_attn.o_proj. Its figures are in
docs/accuracy.md. Needs: pip install torch transformers duckdb numpy
"""
import argparse
from pathlib import Path

import duckdb
import numpy as np
import torch
from transformers import AutoModelForCausalLM

parser = argparse.ArgumentParser()
parser.add_argument("artifacts", type=Path), parser.add_argument("model", nargs="?", default="instruct")
parser.add_argument("--examples", type=int, default=80)
args = parser.parse_args()

rows = duckdb.execute(
    "SELECT ids FROM read_parquet(?, hive_partitioning = true) WHERE model = ? ORDER BY dataset, example",
    [str(args.artifacts / "tables/tokens/**/*.parquet"), args.model]).fetchall()
ids = [row[0] for row in rows][:: max(1, len(rows) // args.examples)][: args.examples]


def gradients(dtype, rounded=True):
    """[examples, entries] in float64, of the weights rounded to bfloat16 or as they are, computed in this dtype."""
    model = AutoModelForCausalLM.from_pretrained(args.artifacts / "models" / args.model, dtype=torch.float32)
    model = (model.to(torch.bfloat16) if rounded else model).to(dtype)
    weight = model.model.layers[-1].self_attn.o_proj.weight
    for parameter in model.parameters():
        parameter.requires_grad_(parameter is weight)
    found = []
    for example in ids:
        model.zero_grad()
        tokens = torch.tensor([example])
        model(tokens, labels=tokens).loss.backward()
        found.append(weight.grad.double().flatten().numpy().copy())
    return np.stack(found)


def cosines(found, centred):
    found = found - found.mean(0) if centred else found
    found = found / np.linalg.norm(found, axis=1, keepdims=True)
    return found @ found.T


exact, single = gradients(torch.float64), gradients(torch.float32)
compared = {
    "float32": (single, exact),
    "bfloat16": (gradients(torch.bfloat16), exact),
    "float32, rounded weights against those as trained": (single, gradients(torch.float32, rounded=False)),
}
print(f"{len(ids)} examples of {args.model}: deviation of the cosines")
for name, (one, other) in compared.items():
    for centred in [False, True]:
        error = np.abs(cosines(one, centred) - cosines(other, centred))
        kind = "centred" if centred else "raw"
        print(f"{name}, {kind}: largest {error.max():.2e}, root mean square {np.sqrt((error**2).mean()):.2e}")
