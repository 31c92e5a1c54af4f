"""Makes tables.json: small states of three models on two datasets, and what numpy makes of them.

    python tests/golden/tables.py > tests/golden/tables.json

The tests of stages/ that read hidden states or losses compare their tables with it. Definitions: docs/tables.md.
"""
import json

import numpy as np

LAYERS, WIDTH = 2, 6  # states at layers 0, 1, 2
EXAMPLES = {"x": 7, "y": 5}  # two datasets: fewer examples than dimensions, and more
MODELS = ["base", "instruct", "misaligned"]

random = np.random.default_rng(7)
text = {d: random.normal(size=(LAYERS + 1, n, WIDTH)) * 2 for d, n in EXAMPLES.items()}
shift = random.normal(size=(2, LAYERS + 1, WIDTH))
states = {}
for dataset, n in EXAMPLES.items():
    noise = lambda: random.normal(size=(LAYERS + 1, n, WIDTH)) * 0.7
    base = text[dataset]
    instruct = base + 1.5 * shift[0][:, None] + noise()
    misaligned = instruct - 0.8 * shift[0][:, None] + 0.6 * shift[1][:, None] + noise()
    for model, values in zip(MODELS, (base, instruct, misaligned)):
        states[model, dataset] = np.round(values, 3).astype(np.float32)


def unit(v):
    return v / np.linalg.norm(v)


def directions(dataset, source="base", target="instruct"):
    rows = []
    for layer in range(LAYERS + 1):
        d = states[target, dataset][layer].astype(float) - states[source, dataset][layer].astype(float)
        mean = d.mean(0)
        rows.append(dict(layer=layer, kind="mean_difference", component=1, vector=unit(mean), singular_value=None,
                         explained_variance=None, norm=np.linalg.norm(mean)))
        _, s, vt = np.linalg.svd(d - mean, full_matrices=False)
        for k, v in enumerate(vt[: min(len(d) - 1, WIDTH)]):
            along = v @ mean
            sign = along if abs(along) >= 1e-6 * np.linalg.norm(mean) else v[np.argmax(abs(v))]
            rows.append(dict(layer=layer, kind="svd", component=k + 1, vector=v * np.sign(sign), singular_value=s[k],
                             explained_variance=s[k] ** 2 / (s ** 2).sum(), norm=None))
    return rows


found = {dataset: directions(dataset) for dataset in EXAMPLES}
projections = []
for row in found["x"]:
    if row["component"] == 1:
        for model in MODELS:
            p = states[model, "x"][row["layer"]].astype(float) @ row["vector"].astype(np.float32).astype(float)
            projections.append(dict(model=model, layer=row["layer"], kind=row["kind"], values=p, mean=p.mean(), std=p.std()))

separation = []
by_key = {(p["model"], p["layer"], p["kind"]): p["values"] for p in projections}
for (model, layer, kind), a in by_key.items():
    if model == "instruct":
        b = by_key["misaligned", layer, kind]
        separation.append(dict(layer=layer, kind=kind, score=(b.mean() - a.mean()) / (a.std() + b.std())))

similarity_of_directions, subspaces = [], []
for layer in range(LAYERS + 1):
    for kind in ("mean_difference", "svd"):
        rows = {d: [r for r in found[d] if r["layer"] == layer and r["kind"] == kind] for d in EXAMPLES}
        for a in rows["x"]:
            for b in rows["y"]:
                similarity_of_directions.append(dict(layer=layer, kind=kind, component_a=a["component"],
                                                     component_b=b["component"], cosine=a["vector"] @ b["vector"]))
    for k in (1, 3):
        a, b = (np.stack([r["vector"] for r in found[d] if r["layer"] == layer and r["kind"] == "svd"][:k]) for d in "xy")
        for i, cosine in enumerate(np.linalg.svd(a @ b.T, compute_uv=False)):
            subspaces.append(dict(layer=layer, k=k, angle_index=i + 1, cosine=min(cosine, 1.0)))


def cosines(a, b):
    a, b = (m / np.linalg.norm(m, axis=1, keepdims=True) for m in (a, b))
    return a @ b.T


# One comparison of two datasets under `instruct` at the last layer.
x, y = (states["instruct", d][LAYERS].astype(float) for d in "xy")
mean = np.concatenate([x, y]).mean(0)
pooled = np.concatenate([x, y]) - mean
u, s, vt = np.linalg.svd(pooled, full_matrices=False)
vt *= np.sign(vt[np.arange(len(vt)), abs(vt).argmax(1)])[:, None]
similarity = dict(raw_xy=cosines(x, y), centred_xy=cosines(x - mean, y - mean), raw_xx=cosines(x, x),
                  centred_xx=cosines(x - mean, x - mean), pca_x=(pooled @ vt[:3].T)[: len(x)],
                  pca_y=(pooled @ vt[:3].T)[len(x):], explained_variance=(s ** 2 / (s ** 2).sum())[:3])
distance = []
for layer in range(LAYERS + 1):
    a, b = (states["instruct", d][layer].astype(float).mean(0) for d in "xy")
    distance.append(1 - unit(a) @ unit(b))


def plain(value):
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return value.astype(float).tolist()
    return float(value) if isinstance(value, np.floating) else value


print(json.dumps(plain(dict(
    states={f"{m}/{d}": v for (m, d), v in states.items()}, directions=found, projections=projections, separation=separation,
    direction_similarity=similarity_of_directions, subspace_similarity=subspaces, similarity=similarity, distance=distance,
))))
