"""What precision = "bf16" changes in what is concluded: two finished stores of one pipeline, one in f32 and one in bf16.

    python benches/bf16_conclusions.py F32_FOLDER BF16_FOLDER [--peer] [--gradients 60]

Both folders have the same pipeline.toml, but for the models' precision, and were run. Directions, projections, separation, cosines of
gradients, summaries of similarities and differences of losses are read with Polars and compared row by row. With --peer the models are
also run with transformers, in float32 and in bfloat16, on the tokens of F32_FOLDER, and both sides' states at the last token go through the same
numpy: directions by mean difference from the first model to each other one, and projections on them; and the gradients of the last
block's o_proj under the first model, for so many examples. Of GGUF files transformers reads its own dequantised values.
Needs: pip install polars numpy; for --peer torch transformers gguf peft
"""
import argparse
import tomllib
from pathlib import Path

import numpy as np
import polars as pl

NOT_KEYS = {"vector", "n", "agreement", "left_out"}


def table(folder, name):
    where = folder / "artifacts" / "tables" / name
    if not where.is_dir():
        return None
    files = pl.scan_parquet(where / "**/*.parquet", hive_partitioning=True, try_parse_hive_dates=False)
    return files.collect()


def joined(given, name):
    """Rows of both stores that say the same thing, the bf16 one's numbers with the suffix _bf16."""
    wide, narrow = table(given.f32, name), table(given.bf16, name)
    if wide is None or narrow is None:
        return None
    keys = [c for c, t in wide.schema.items() if c not in NOT_KEYS and not t.is_float() and not isinstance(t, (pl.List, pl.Array))]
    return wide.join(narrow, on=keys, how="inner", suffix="_bf16", nulls_equal=True)


def row(what, *cells):
    print(f"| {what} | {' | '.join(cells)} |", flush=True)


def vectors(rows, column):
    return np.stack(rows[column].to_list()).astype(np.float64)


def cosines(a, b):
    return (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))


def directions(given):
    rows = joined(given, "directions")
    if rows is None:
        return
    rows = rows.filter((pl.col("fold") == 0) & (pl.col("layer") > 0))
    for kind, component, name in (("mean_difference", 1, "by mean difference"), ("svd", 1, "first of the SVD")):
        part = rows.filter((pl.col("kind") == kind) & (pl.col("component") == component))
        if len(part):
            found = np.abs(cosines(vectors(part, "vector"), vectors(part, "vector_bf16")))
            row(f"directions {name}: cosine", str(len(found)), f"{np.median(found):.5f}", f"{found.min():.5f}")


def projections(given):
    rows = joined(given, "projections")
    if rows is None:
        return
    rows = rows.filter((pl.col("kind") == "mean_difference") & (pl.col("layer") > 0))
    by = [c for c in ("direction", "source", "target", "position", "layer", "site", "dataset", "model") if c in rows.columns]
    found = rows.group_by(by).agg(
        pl.corr("projection", "projection_bf16").alias("correlation"),
        ((pl.col("projection_bf16") - pl.col("projection")).pow(2).mean().sqrt() / pl.col("projection").std()).alias("error"),
    )
    row("projections on these: correlation over examples", str(len(found)), f"{found['correlation'].median():.5f}", f"{found['correlation'].min():.5f}")
    row("their error, of their standard deviation", str(len(found)), f"{found['error'].median():.2%}", f"{found['error'].max():.2%}")


def interval(given, name, what, estimate, low, high, p, where=None):
    """A number with an interval: how far it moves, in halves of its interval, and how often its test changes its mind."""
    rows = joined(given, name)
    if rows is None:
        return
    rows = rows.filter(where) if where is not None else rows
    half = (rows[high] - rows[low]).to_numpy() / 2
    moved = np.abs((rows[f"{estimate}_bf16"] - rows[estimate]).to_numpy())
    share = moved[half > 0] / half[half > 0]
    flips = int(((rows[p] < 0.05) != (rows[f"{p}_bf16"] < 0.05)).sum())
    row(f"{what}: moved by", str(len(rows)), f"{np.median(moved):.1e}", f"{moved.max():.1e}")
    row("as a share of half its interval", str(len(share)), f"{np.median(share):.1%}", f"{share.max():.1%}")
    row(f"tests that cross 0.05 (`{p}`)", str(len(rows)), "", str(flips))


def gradients(given):
    rows = joined(given, "similarity")
    if rows is None:
        return
    rows = rows.filter(pl.col("of") == "gradient", ~pl.col("same_example"))
    for centred in (False, True):
        part = rows.filter(pl.col("centred") == centred)
        if len(part):
            found = np.abs((part["cosine_bf16"] - part["cosine"]).to_numpy())
            name = "centred" if centred else "raw"
            row(f"cosines of gradients, {name}: moved by", str(len(found)), f"{np.median(found):.1e}", f"{found.max():.1e}")


def load(folder, models, name, dtype):
    import torch
    from transformers import AutoModelForCausalLM

    path = folder / models[name]["path"]
    if (path / "adapter_config.json").is_file():
        from peft import PeftModel

        return PeftModel.from_pretrained(load(folder, models, models[name]["base"], torch.float32), path).get_base_model().to(dtype).eval()
    where, file = (path.parent, dict(gguf_file=path.name)) if path.suffix == ".gguf" else (path, {})
    return AutoModelForCausalLM.from_pretrained(where, **file, dtype=torch.float32, attn_implementation="eager").to(dtype).eval()


def peer_states(model, ids):
    """The residual stream after each block at the last token [layers, width]."""
    import torch

    seen = []
    last = lambda module, inputs, out: seen.append((out[0] if isinstance(out, tuple) else out).reshape(-1, out[0].shape[-1])[-1].float().numpy())
    hooks = [block.register_forward_hook(last) for block in model.model.layers]
    with torch.no_grad():
        model.model(torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    return np.stack(seen)


def peer_gradients(model, rows):
    import torch

    for parameter in model.parameters():
        parameter.requires_grad_(False)
    weight = model.model.layers[-1].self_attn.o_proj.weight.requires_grad_(True)
    found = []
    for ids in rows:
        model.zero_grad()
        model(torch.tensor([ids]), labels=torch.tensor([ids])).loss.backward()
        found.append(weight.grad.float().numpy().ravel().copy())
    return np.stack(found)


def gradient_cosines(gradients):
    """Of every pair, raw and centred."""
    upper = np.triu_indices(len(gradients), 1)
    for vectors in (gradients, gradients - gradients.mean(0)):
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        yield (unit @ unit.T)[upper]


def ours_states(folder, names, examples):
    states = table(folder, "hidden_states").filter(pl.col("site") == "residual", pl.col("position") == "last", pl.col("layer") > 0)
    found = {}
    for name in names:
        for dataset, ids in examples.items():
            part = states.filter(pl.col("model") == name, pl.col("dataset") == dataset)
            order = pl.DataFrame({"example": [example for example, _ in ids], "order": range(len(ids))})
            part = part.join(order, on="example").sort("order", "layer")
            found[name, dataset] = vectors(part, "vector").reshape(len(ids), -1, len(part["vector"][0]))
    return found


def directions_of(states, names, dataset):
    """Mean differences [layers, width] from the first model to each other one, and projections of all models' states on them."""
    for other in names[1:]:
        difference = (states[other, dataset] - states[names[0], dataset]).mean(0)
        unit = difference / np.linalg.norm(difference, axis=-1, keepdims=True)
        yield other, unit, {name: (states[name, dataset] * unit).sum(-1) for name in (names[0], other)}


def against(wide, narrow, names, datasets):
    found, correlations, errors = [], [], []
    for dataset in datasets:
        for (_, a, p), (_, b, q) in zip(directions_of(wide, names, dataset), directions_of(narrow, names, dataset)):
            found.extend(cosines(a, b))
            for name in p:
                deviation = np.sqrt(((q[name] - p[name]) ** 2).mean(0))
                errors.extend(deviation / p[name].std(0))
                correlations.extend(np.corrcoef(p[name][:, l], q[name][:, l])[0, 1] for l in range(p[name].shape[1]))
    return np.array(found), np.array(correlations), np.array(errors)


def peer(given):
    import torch

    models = tomllib.loads((given.f32 / "pipeline.toml").read_text())["models"]
    names = list(models)
    tokens = table(given.f32, "tokens").filter(pl.col("model") == names[0]) if "model" in table(given.f32, "tokens").columns else table(given.f32, "tokens")
    examples = {}
    for dataset, part in tokens.partition_by("dataset", as_dict=True).items():
        examples[dataset[0]] = list(zip(part["example"].to_list(), part["ids"].to_list()))
    theirs = {}
    for dtype in (torch.float32, torch.bfloat16):
        for name in names:
            model = load(given.f32, models, name, dtype)
            for dataset, ids in examples.items():
                theirs[dtype, name, dataset] = np.stack([peer_states(model, ids) for _, ids in ids]).astype(np.float64)
    of = lambda dtype: {(name, dataset): states for (found, name, dataset), states in theirs.items() if found == dtype}
    sides = {"Strata": (ours_states(given.f32, names, examples), ours_states(given.bf16, names, examples)),
             "transformers": (of(torch.float32), of(torch.bfloat16))}
    print("\nThe same from states at the last token, bf16 against f32, median and worst over layers and datasets:\n")
    print("| | directions: cosine | projections: correlation | error, of the standard deviation |\n| --- | --- | --- | --- |")
    for name, (wide, narrow) in sides.items():
        found, correlations, errors = against(wide, narrow, names, list(examples))
        row(name, f"{np.median(found):.5f}, {found.min():.5f}", f"{np.median(correlations):.5f}, {correlations.min():.5f}",
            f"{np.median(errors):.2%}, {errors.max():.2%}")
    every = [(dataset, example, ids) for dataset, rows in examples.items() for example, ids in rows]
    some = every[:: max(1, len(every) // given.gradients)][: given.gradients]
    both = [list(gradient_cosines(peer_gradients(load(given.f32, models, names[0], dtype), [ids for _, _, ids in some])))
            for dtype in (torch.float32, torch.bfloat16)]
    print("\nCosines of gradients of the last o_proj, moved by, root mean square and largest:\n")
    print("| | raw | centred |\n| --- | --- | --- |")
    spaces = []
    for folder in (given.f32, given.bf16):
        space = table(folder, "gradient_vectors").filter(pl.col("model") == names[0])
        at = {(dataset, example): i for i, (dataset, example) in enumerate(zip(space["dataset"], space["example"]))}
        spaces.append(list(gradient_cosines(vectors(space, "vector")[[at[dataset, example] for dataset, example, _ in some]])))
    for name, (wide, narrow) in {"Strata": spaces, "transformers": both}.items():
        cells = [np.abs(a - b) for a, b in zip(wide, narrow)]
        row(name, *(f"{np.sqrt((cell**2).mean()):.1e}, {cell.max():.1e}" for cell in cells))


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("f32", type=Path), arguments.add_argument("bf16", type=Path)
    arguments.add_argument("--peer", action="store_true")
    arguments.add_argument("--gradients", type=int, default=60)
    given = arguments.parse_args()
    print("| bf16 against f32 | compared | median | worst |\n| --- | --- | --- | --- |")
    directions(given)
    projections(given)
    interval(given, "separation", "separation: the score", "score", "ci_low", "ci_high", "p_holm",
             where=(pl.col("kind") == "mean_difference") & (pl.col("layer") > 0))
    gradients(given)
    interval(given, "similarity_summary", "means of similarities", "mean", "ci_low", "ci_high", "p_holm")
    interval(given, "mean_similarity", "cosines of means", "cosine", "ci_low", "ci_high", "p_holm")
    interval(given, "loss_difference", "differences of losses", "difference", "ci_low", "ci_high", "p_holm")
    if given.peer:
        peer(given)


if __name__ == "__main__":
    main()
