"""What precision = "bf16" costs: Strata's bf16 against its f32, beside transformers' bf16 against its float32.

    python benches/bf16_accuracy.py MODEL_DIR FILE.jsonl [--strata target/release/strata] [--limit 24]

FILE has one {"messages": [...]} a line. Printed are, by layer, the largest and the mean relative error and the least cosine of
the residual stream at the last token; then the errors of log-probabilities and of the mean log-probability of a response.
Needs: pip install torch transformers polars
"""
import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import torch
from transformers import AutoModelForCausalLM

PIPELINE = """[models]
f32  = {{ path = "{model}" }}
bf16 = {{ path = "{model}", precision = "bf16" }}

[datasets]
data = {{ path = "{data}", limit = {limit} }}

[stages.tokens]
max_tokens = 512
[stages.token_losses]
[stages.hidden_states]
positions = ["last"]
"""


def ours(folder, model):
    tables = folder / "artifacts" / "tables"
    read = lambda table: pl.read_parquet(tables / table / f"model={model}" / "**/*.parquet")
    states = read("hidden_states").filter(pl.col("site") == "residual").sort("example", "layer")
    ids = read("tokens").sort("example")
    names = ids["example"].to_list()
    layers = states["layer"].n_unique()
    vectors = np.stack(states["vector"].to_numpy()).reshape(len(names), layers, -1)
    logprobs = read("token_losses").sort("example", "token")["logprob"].to_numpy()
    return names, ids, vectors, logprobs


def theirs(directory, ids, dtype):
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, attn_implementation="eager").eval()
    vectors, logprobs = [], []
    for row in ids["ids"].to_list():
        with torch.no_grad():
            out = model(torch.tensor([row]), output_hidden_states=True)
        # The last entry is after the final norm, which is another site.
        vectors.append([state[0, -1].float().numpy() for state in out.hidden_states[:-1]])
        scores = out.logits[0, :-1].float().log_softmax(-1)
        logprobs.append(scores[torch.arange(len(row) - 1), torch.tensor(row[1:])].numpy())
    return np.array(vectors), logprobs


def against(vectors, reference):
    """Relative errors and cosines, [examples, layers]."""
    lengths = np.linalg.norm(reference, axis=-1)
    cosines = (vectors * reference).sum(-1) / (np.linalg.norm(vectors, axis=-1) * lengths)
    return np.linalg.norm(vectors - reference, axis=-1) / lengths, cosines


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("model", type=Path)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--strata", type=Path, default=Path("target/release/strata"))
    arguments.add_argument("--limit", type=int, default=24)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        text = PIPELINE.format(model=given.model.resolve(), data=given.data.resolve(), limit=given.limit)
        (folder / "pipeline.toml").write_text(text)
        subprocess.run([given.strata.resolve(), "run", "--quiet"], cwd=folder, check=True)
        names, ids, reference, reference_logprobs = ours(folder, "f32")
        _, _, narrow, narrow_logprobs = ours(folder, "bf16")
    wide, wide_logprobs = theirs(given.model, ids, torch.float32)
    rounded, rounded_logprobs = theirs(given.model, ids, torch.bfloat16)

    print(f"{len(names)} examples. Residual stream at the last token, bf16 against f32:\n")
    print("| layer | Strata, mean error | largest | least cosine | transformers, mean error | largest | least cosine |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    layers = min(reference.shape[1], wide.shape[1])
    (mine, my_cosines), (other, other_cosines) = against(narrow, reference), against(rounded, wide)
    for layer in sorted({*range(0, layers, max(1, layers // 6)), layers - 1}):
        cells = [f"{e[:, layer].mean():.2e} | {e[:, layer].max():.2e} | {c[:, layer].min():.6f}"
                 for e, c in ((mine, my_cosines), (other, other_cosines))]
        print(f"| {layer} | {' | '.join(cells)} |")
    mine = np.abs(narrow_logprobs - reference_logprobs)
    other = np.abs(np.concatenate(rounded_logprobs) - np.concatenate(wide_logprobs))
    print("\nLog-probabilities of tokens, nats:\n\n| | mean error | 99 % | largest |\n| --- | --- | --- | --- |")
    for name, errors in (("Strata", mine), ("transformers", other)):
        print(f"| {name} | {errors.mean():.2e} | {np.quantile(errors, 0.99):.2e} | {errors.max():.2e} |")


if __name__ == "__main__":
    main()
