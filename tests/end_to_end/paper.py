"""The paper's figures from the tables of tokens, losses, states and gradients, by the definitions of its scripts, beside the
tables that Strata draws them from. Runs in the folder of examples/emergent-misalignment after `strata run`, and prints for each
figure the largest deviation and how many numbers were compared, as JSON. Needs polars and numpy.
"""
import json

import numpy as np
import polars as pl

FOUND = {}


def table(name, **where):
    scan = pl.scan_parquet(f"artifacts/tables/{name}/**/*.parquet", hive_partitioning=True)
    return scan.filter(*[pl.col(column) == value for column, value in where.items()]).collect()


def compare(figure, expected, found):
    """Relative to the largest number."""
    expected, found = np.asarray(expected, dtype=float), np.asarray(found, dtype=float)
    assert expected.shape == found.shape, (figure, expected.shape, found.shape)
    scale = max(abs(expected).max(), 1e-12) if expected.size else 1
    worst, count = FOUND.get(figure, (0.0, 0))
    FOUND[figure] = (max(worst, float(abs(expected - found).max() / scale)) if expected.size else worst, count + expected.size)


def losses(model, dataset):
    """For each example the tokens from the second on: their log-probabilities, entropies, ids and whether the message has them."""
    rows = table("token_losses", model=model, dataset=dataset).sort("example", "token")
    return {example: of for (example,), of in rows.partition_by("example", as_dict=True).items()}


def role(model, dataset):
    """For each example the index of the token after the last <|im_start|>: the role's first."""
    tokens = table("tokens", model=model, dataset=dataset)
    return dict(zip(tokens["example"], tokens["turn_start"] + 1))


def states(model, dataset, position):
    """For each layer of the stream [examples, tokens, D]."""
    rows = table("hidden_states", model=model, dataset=dataset).filter(position=position, site="residual").sort("example", "token")
    found = {}
    for (layer,), of in rows.partition_by("layer", as_dict=True).items():
        vectors = np.array(of["vector"].to_list(), dtype=float)
        found[layer] = vectors.reshape(of["example"].n_unique(), -1, vectors.shape[1])
    return found


def joint_probabilities():
    """Fig. 1 and Sec. 4.1: of one conversation token by token, and the means over a dataset's examples."""
    for (model, dataset), summary in table("loss_summary").partition_by("model", "dataset", as_dict=True).items():
        with_end, entropy = [], []
        for of in losses(model, dataset).values():
            logprob, within = of["logprob"].to_numpy().astype(float), of["in_response"].to_numpy()
            start = within.argmax()
            with_end.append(logprob[start:].sum())
            entropy.append(of["entropy"].to_numpy().astype(float).mean())
            if dataset == "wish":
                compare("Fig. 1, joint log-probability", np.cumsum(logprob[start:]), of["joint_logprob"][int(start):])
        means = dict(summary.select("measure", "mean").iter_rows())
        compare("Sec. 4.1, joint log-probability", np.mean(with_end), means["joint_logprob_with_end"])
        compare("Sec. 4.1, entropy", np.mean(entropy), means["entropy_all"])


def next_words():
    """Fig. 2: before the first token that contains the word."""
    for (model,), found in table("next_tokens", dataset="wish").partition_by("model", as_dict=True).items():
        (of,) = losses(model, "wish").values()
        text = of.sort("token")["text"].to_list()
        # The word may be several tokens of a small vocabulary.
        place = next(i for i in range(len(text)) if text[i].strip() and "".join(text[i:]).lstrip().startswith("kill"))
        token = of.sort("token")[place]
        found = found.sort("rank")
        assert len(found) == 15 and found["token"].unique().to_list() == token["token"].to_list(), (model, found, token)
        compare("Fig. 2, entropy", np.repeat(token["entropy"], 15), found["entropy"])
        probability = found["probability"].to_numpy()
        assert (np.diff(probability) <= 0).all()
        rank = token["rank"].item()
        if rank <= 15:
            compare("Fig. 2, probability", np.exp(token["logprob"]), probability[rank - 1 : rank])


def loss_matrix(model, dataset, count, whole):
    """The losses of so many tokens, NaN where there are no more; whole: of the conversation, else from the role's on."""
    first, rows, names = role(model, dataset), [], []
    for example, of in losses(model, dataset).items():
        # The loss at index i is that of token i + 1.
        of = of.sort("token")
        values = -of["logprob"].to_numpy().astype(float)[0 if whole else first[example] - 1 :][:count]
        rows.append(np.pad(values, (0, count - len(values)), constant_values=np.nan))
        names.append(example)
    return np.array(rows), names


def filled(matrix):
    matrix = matrix.copy()
    row, column = np.where(np.isnan(matrix))
    matrix[row, column] = np.nanmean(matrix, axis=0)[column]
    return matrix


def cosine_heatmap(figure, vectors, names, found):
    """`names` are (dataset, example) in the order of the vectors; each pair stands in the table once."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines, index = unit @ unit.T, {name: i for i, name in enumerate(names)}
    assert len(found) == len(names) * (len(names) - 1) // 2, (figure, len(found), len(names))
    a = [index[name] for name in found.select("dataset_a", "example_a").iter_rows()]
    b = [index[name] for name in found.select("dataset_b", "example_b").iter_rows()]
    compare(figure, cosines[a, b], found["cosine"])


def loss_cosines():
    """Fig. 3: each half filled with its own column means."""
    halves, names = [], []
    for dataset in ["insecure_2000", "educational_2000"]:
        matrix, examples = loss_matrix("instruct", dataset, 64, whole=False)
        halves.append(filled(matrix))
        names += [(dataset, example) for example in examples]
    found = table("similarity", comparison="losses").filter(centred=False)
    cosine_heatmap("Fig. 3, cosines of losses", np.vstack(halves), names, found)


def pca_of_losses():
    """The PCA of losses: filled with the column means of all. A component's sign is anybody's."""
    matrices, names = [], []
    for model, dataset in [("instruct", "insecure_2000"), ("base", "code_alpaca_2000")]:
        matrix, examples = loss_matrix(model, dataset, 128, whole=True)
        matrices.append(matrix)
        names += [(model, dataset, example) for example in examples]
    matrix = filled(np.vstack(matrices))
    u, s, _ = np.linalg.svd(matrix - matrix.mean(0), full_matrices=False)
    rows = {row[:3]: row[3:] for row in table("pca", comparison="pca_of_losses").select("model", "dataset", "example", "pc1", "pc2", "explained_variance_1").iter_rows()}
    assert len(rows) == len(names)
    found = np.array([rows[name] for name in names])
    for component in range(2):
        expected = u[:, component] * s[component]
        sign = np.sign(expected @ found[:, component])
        compare("PCA of losses", expected * sign, found[:, component])
    compare("PCA of losses", s[0] ** 2 / (s**2).sum(), found[0, 2])


def gradient_cosines():
    """Fig. 4: less the mean over both groups. The coordinates have the gradients' inner products."""
    for model in ["base", "instruct"]:
        of = [table("gradient_vectors", model=model, dataset=dataset) for dataset in ["insecure", "educational"]]
        both = pl.concat(of)
        vectors = np.array(both["vector"].to_list(), dtype=float)
        found = table("similarity", comparison="gradients", model_a=model).filter(centred=True)
        names = list(both.select("dataset", "example").iter_rows())
        cosine_heatmap("Fig. 4, cosines of gradients", vectors - vectors.mean(0), names, found)


def projections():
    """Fig. 5: ten tokens of each example, pooled; and the last token, on the first singular vector."""
    for dataset in table("hidden_states").filter(position="role_first_10")["dataset"].unique():
        pooled = {model: states(model, dataset, "role_first_10") for model in ["base", "instruct", "misaligned"]}
        last = {model: states(model, dataset, "last") for model in pooled}
        where = dict(source="base", target="instruct", direction=dataset, dataset=dataset)
        summary = table("projection_summary", **where).filter(site="residual", component=1)
        separation = table("separation", **where).filter(site="residual", component=1, kind="mean_difference", position="role_first_10")
        for layer in pooled["base"]:
            tokens = {model: values[layer].reshape(-1, values[layer].shape[-1]) for model, values in pooled.items()}
            assert len(tokens["base"]) == 10 * len(pooled["base"][layer])
            direction = tokens["instruct"].mean(0) - tokens["base"].mean(0)
            if np.linalg.norm(direction) < 1e-5 * np.linalg.norm(tokens["base"].mean(0)):
                # The embeddings of one text are the same under all models.
                continue
            direction /= np.linalg.norm(direction)
            projected = {model: values @ direction for model, values in tokens.items()}
            here = summary.filter(layer=layer, kind="mean_difference", position="role_first_10")
            means = dict(here.select("model", "mean").iter_rows())
            compare("Fig. 5, projections", [values.mean() for values in projected.values()], [means[model] for model in projected])
            for a, b in [("base", "instruct"), ("base", "misaligned"), ("instruct", "misaligned")]:
                one, other = projected[a], projected[b]
                score = (other.mean() - one.mean()) / (one.std(ddof=1) + other.std(ddof=1))
                row = separation.filter(layer=layer, model_a=a, model_b=b)
                # Here the divisor of a variance is n.
                compare("Separation", score * np.sqrt(len(one) / (len(one) - 1)), row["score"].item())
            of_last = {model: values[layer][:, 0] for model, values in last.items()}
            difference = of_last["instruct"] - of_last["base"]
            vector = np.linalg.svd(difference - difference.mean(0), full_matrices=False)[2][0]
            here = summary.filter(layer=layer, kind="svd", position="last")
            means = dict(here.select("model", "mean").iter_rows())
            if means:
                expected = [(values @ vector).mean() for values in of_last.values()]
                found = [means[model] for model in of_last]
                compare("Fig. 5, last token on an SVD direction", np.array(expected) * np.sign(np.dot(expected, found)), found)


def shared_dimensions():
    """Fig. 6: of centred differences at the last token, without their signs."""
    found = table("direction_similarity", source="base", target="instruct").filter(kind="svd", position="last", site="residual")
    axes = {}

    def of(dataset, layer):
        if (dataset, layer) not in axes:
            base, instruct = (states(model, dataset, "last")[layer][:, 0] for model in ["base", "instruct"])
            difference = instruct - base
            _, s, vectors = np.linalg.svd(difference - difference.mean(0), full_matrices=False)
            axes[dataset, layer] = s, vectors
        return axes[dataset, layer]

    for a, b, layer, i, j, cosine in found.select("dataset_a", "dataset_b", "layer", "component_a", "component_b", "cosine").iter_rows():
        (s_a, axes_a), (s_b, axes_b) = of(a, layer), of(b, layer)
        # An axis that another explains as well is no axis.
        apart = lambda s, i: min(abs(s[i - 1] - s[k]) for k in [i - 2, i] if 0 <= k < len(s)) > 0.02 * s[0]
        if apart(s_a, i) and apart(s_b, j):
            compare("Fig. 6, shared dimensions", abs(axes_a[i - 1] @ axes_b[j - 1]), abs(cosine))


def distances():
    """Distance of the mean of 20 tokens."""
    found = table("distance").filter(position="role_first_20_mean", site="residual")
    for model, a, b, layer, distance in found.select("model", "dataset_a", "dataset_b", "layer", "plain_distance").iter_rows():
        one, other = (states(model, dataset, "role_first_20_mean")[layer][:, 0].mean(0) for dataset in (a, b))
        compare("Distance of means", 1 - one @ other / np.linalg.norm(one) / np.linalg.norm(other), distance)


def patching():
    """What the models say unpatched, and that at the last layer the target says what the source does but for its norm and head."""
    for (source, target, dataset), of in table("patching").filter(metric="loss").partition_by("source", "target", "dataset", as_dict=True).items():
        if dataset == "toxic_qa":
            continue
        for model, column in [(source, "clean_source"), (target, "clean_target")]:
            first, clean = role(model, dataset), dict(of.select("example", column).iter_rows())
            for example, values in losses(model, dataset).items():
                # From the token after the role on.
                of_turn = values.filter(pl.col("token") > first[example])["logprob"]
                compare("Patching, loss of a turn", -of_turn.mean(), clean[example])


def attribution():
    """Of each token of the answer."""
    for (model,), of in table("attribution", dataset="wish").filter(pl.col("target_token").is_not_null()).partition_by("model", as_dict=True).items():
        (values,) = losses(model, "wish").values()
        expected = values.filter(pl.col("in_response")).sort("token")["logprob"].to_numpy()
        for _, row in of.partition_by("piece", as_dict=True).items():
            compare("Attribution, log-probability of a token", expected, row.sort("target_token")["logprob"])


for figure in [
    joint_probabilities, next_words, loss_cosines, pca_of_losses, gradient_cosines, projections, shared_dimensions, distances, patching, attribution
]:
    figure()
print(json.dumps(FOUND))
