"""Compares a finished workspace with Hugging Face transformers: float32, eager attention, one example at a time.

    python benches/against_transformers.py FOLDER      # the folder of a pipeline.toml, after `strata run`

Every model of the pipeline is run again on every dataset, and what numpy makes of transformers' numbers is compared with
the tables that are there: tokens, token_losses, loss_summary, loss_vectors, next_tokens, hidden_states, gradients,
gradient_vectors, directions, projections, separation, direction_similarity, distance, similarity, pca (with robust = false),
patching and attribution. Each check is a line with the largest deviation, the tolerance and the count; the exit code is 1 when
one is over its tolerance. What a pipeline's settings put out of this script's reach is said. It holds all gradients of a module in memory: it is meant for small models.
Needs: pip install torch transformers numpy polars; for GGUF files gguf, for adapters peft
"""
import json
import re
import sys
import tomllib
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
PIPELINE = tomllib.loads((FOLDER / "pipeline.toml").read_text())
TABLES = FOLDER / "artifacts" / "tables"
MAX_TOKENS = PIPELINE["stages"].get("tokens", {}).get("max_tokens", 2048)
FAILED = []


def settings(stage):
    return PIPELINE["stages"].get(stage, {})


def named_sections(stage, name_of):
    """The sections of a stage that may have several, by name."""
    sections = settings(stage)
    return {section.get("name", name_of(section)): section for section in (sections if isinstance(sections, list) else [sections])}


def comparisons():
    return named_sections("similarity", lambda of: "groups" if "groups" in of else of.get("across", "datasets"))


def windows():
    return named_sections("loss_vectors", lambda of: of.get("start", "marker"))


def across_datasets(of):
    """The comparisons of the datasets under each model, centred on all of it."""
    sections = comparisons().items()
    found = [name for name, section in sections if section.get("across", "datasets") == "datasets" and not {"groups", "centring"} & set(section)]
    similarity = table("similarity")
    return [] if similarity is None else [similarity.filter(of=of, comparison=name) for name in found]


def say(what, who, deviation, tolerance, n):
    """One line; a deviation that is not a number is over any tolerance."""
    ok = deviation <= tolerance and n > 0
    if not ok:
        FAILED.append((what, who))
    print(f"{what:46} {who:24} {deviation:9.2e}  <= {tolerance:7.0e}  {'ok' if ok else 'NOT OK':6}  n = {n}", flush=True)


def skip(what, why):
    print(f"{what:46} not compared: {why}", flush=True)


def load(path, base=None):
    """Tokenizer and model of a directory, a GGUF file, or an adapter with its base."""
    if (path / "adapter_config.json").is_file():
        from peft import PeftModel

        trained_on = json.loads((path / "adapter_config.json").read_text())["base_model_name_or_path"]
        tokenizer, model = load(FOLDER / PIPELINE["models"].get(base, {}).get("path", base or trained_on))
        own = (path / "tokenizer.json").is_file()
        return AutoTokenizer.from_pretrained(path) if own else tokenizer, PeftModel.from_pretrained(model, path).get_base_model()
    where, file = (path.parent, dict(gguf_file=path.name)) if path.suffix == ".gguf" else (path, {})
    model = AutoModelForCausalLM.from_pretrained(where, **file, dtype=torch.float32, attn_implementation="eager")
    return AutoTokenizer.from_pretrained(where, **file), model


@cache
def table(name):
    """A table with its folders as text columns; None where the pipeline did not make it."""
    if not (TABLES / name).is_dir():
        return None
    files = pl.scan_parquet(TABLES / name / "**/*.parquet", hive_partitioning=True, try_parse_hive_dates=False)
    hive = {part.split("=")[0] for path in (TABLES / name).rglob("*.parquet") for part in path.parts if "=" in part}
    return files.with_columns(pl.col(sorted(hive)).cast(pl.String)).collect()


def rows(name, **where):
    found = table(name)
    return found.filter(**where) if where else found


def groups(name, *keys):
    """The distinct values of some columns of a table, and the rows that have them."""
    found = table(name)
    return [] if found is None else [(dict(zip(keys, of)), part) for of, part in found.partition_by(keys, as_dict=True).items()]


class Model:
    def __init__(self, name):
        path = PIPELINE["models"][name].get("path")
        self.path = FOLDER / path if path else FOLDER / "artifacts" / "models" / name
        self.tokenizer, self.model = load(self.path, PIPELINE["models"][name].get("base"))
        template = FOLDER / PIPELINE["models"][name].get("chat_template", "none")
        if template.is_file():
            self.tokenizer.chat_template = template.read_text()
        self.model = self.model.eval()
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        # The modules whose outputs are the residual stream at layers 0 to L.
        self.sites = [self.model.model.embed_tokens, *self.model.model.layers]

    def encode(self, messages, most=None):
        """Token ids of a conversation, and the span of its last message's content."""
        text = self.tokenizer.apply_chat_template(messages, tokenize=False)
        head = self.tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        first, last = len(head), len(head) + len(messages[-1]["content"])
        inside = [i for i, (a, b) in enumerate(encoded["offset_mapping"]) if a < last and b > first]
        ids = encoded["input_ids"][:most]
        inside = [i for i in inside if i < len(ids)]
        return ids, *((inside[0], inside[-1] + 1) if inside else (len(ids), len(ids)))

    def turn(self, messages):
        """The first token of the last message's turn."""
        text = self.tokenizer.apply_chat_template(messages, tokenize=False)
        before = self.tokenizer.apply_chat_template(messages[:-1], tokenize=False)
        assert text.startswith(before)
        offsets = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return next(i for i, (_, end) in enumerate(offsets) if end > len(before))

    def streams(self, ids):
        """The residual stream at layers 0 to L, and the last one after the final norm."""
        seen = []
        hooks = [site.register_forward_hook(lambda module, inputs, out: seen.append(out)) for site in self.sites]
        normed = self.model.model(torch.tensor([ids])).last_hidden_state
        for hook in hooks:
            hook.remove()
        return [(out[0] if isinstance(out, tuple) else out).reshape(len(ids), -1) for out in seen] + [normed[0]]

    def log_probs(self, ids, patch=None):
        """Log-probabilities of the next token everywhere; `patch` is a layer and the stream to put in there."""
        hooks = []
        if patch:
            layer, stream = patch
            put = lambda module, inputs, out: (stream[None], *out[1:]) if isinstance(out, tuple) else stream[None]
            hooks = [self.sites[layer].register_forward_hook(put)]
        logits = self.model(torch.tensor([ids])).logits[0]
        for hook in hooks:
            hook.remove()
        return torch.log_softmax(logits.double(), dim=-1)


@cache
def model(name):
    return Model(name)


@cache
def conversations(dataset):
    found = rows("examples", dataset=dataset).sort("row")
    return dict(zip(found["example"], map(json.loads, found["messages"])))


@cache
@torch.no_grad()
def encoded(name, dataset):
    return {example: model(name).encode(messages, MAX_TOKENS) for example, messages in conversations(dataset).items()}


POSITIONS = settings("hidden_states").get("positions", ["last"])


def span(position, name, dataset, example):
    """The tokens that a position of hidden_states pools."""
    ids, start, end = encoded(name, dataset)[example]
    kind, _, k = position.removesuffix("_mean").rpartition("_")
    if position == "last":
        return len(ids) - 1, len(ids)
    if position == "response_mean":
        return start, end
    if kind == "response_first":
        return start, min(end, start + int(k))
    if kind in ("marker_first", "role_first"):
        first = model(name).turn(conversations(dataset)[example]) + (kind == "role_first")
        return first, first + int(k)
    token = int(position.removeprefix("token:"))
    return (token, token + 1) if token >= 0 else (len(ids) + token, len(ids) + token + 1)


def keeps_tokens(position):
    return re.fullmatch(r"(marker|role)_first_\d+", position) is not None


@cache
@torch.no_grad()
def token_states(name, dataset):
    """For each position the examples that have it and their states [examples, tokens, layers 0..L and final norm, D]: of each token
    where the position keeps them, else their mean."""
    found = {position: ([], []) for position in POSITIONS}
    for example, (ids, start, end) in encoded(name, dataset).items():
        stack = torch.stack(model(name).streams(ids)).double()
        for position in POSITIONS:
            first, last = span(position, name, dataset, example)
            if 0 <= first < last <= len(ids):
                kept = stack[:, first:last]
                kept = kept if keeps_tokens(position) else kept.mean(1, keepdim=True)
                found[position][0].append(example)
                found[position][1].append(kept.transpose(0, 1).numpy())
    return {position: (examples, np.stack(values)) for position, (examples, values) in found.items() if examples}


@cache
def states(name, dataset):
    """The means over each example's tokens: [examples, layers 0..L and final norm, D]."""
    return {position: (examples, values.mean(1)) for position, (examples, values) in token_states(name, dataset).items()}


def place(row):
    """The index of a layer in the last but one axis of `states`."""
    return row["layer"] + (row["site"] == "final_norm")


def check_datasets():
    """What was read of JSON lines that are mapped by plain templates, against Python's own reading of them."""
    for name, of in PIPELINE["datasets"].items():
        if not str(of.get("path", "")).endswith(".jsonl") or {"schema", "filter", "sample", "system"} & set(of) or "prompt" not in of:
            skip("examples: messages", f"{name} is not plain JSON lines with a prompt template")
            continue
        fill = lambda template, row: template.format_map(row) if "{" in template else row[template]
        lines = [json.loads(line) for line in (FOLDER / of["path"]).read_text().splitlines() if line.strip()]
        expected = [(fill(of["prompt"], row), fill(of["response"], row)) for row in lines[: of.get("limit")]]
        found = [(m[-2]["content"], m[-1]["content"]) for m in conversations(name).values()]
        say("examples: messages that differ", name, sum(a != b for a, b in zip(found, expected)) + abs(len(found) - len(expected)), 0, len(expected))


def check_tokens(who, part):
    expected = encoded(who["model"], who["dataset"])
    found = {r["example"]: (r["ids"], r["response_start"], r["response_end"]) for r in part.iter_rows(named=True)}
    wrong = sum(found.get(example) != (list(ids), start, end) for example, (ids, start, end) in expected.items())
    say("tokens: ids and spans that differ", label(who), wrong + len(found) - len(expected), 0, len(expected))


@torch.no_grad()
def check_losses(who, part):
    worst, n = np.zeros(2), 0
    of = part.sort("token").partition_by("example", as_dict=True)
    for example, (ids, start, end) in encoded(who["model"], who["dataset"]).items():
        logp = model(who["model"]).log_probs(ids)[:-1]
        chosen = logp.gather(1, torch.tensor(ids[1:])[:, None])[:, 0].numpy()
        entropy = -(logp.exp() * logp).sum(-1).numpy()
        found = of[(example,)]
        assert found["id"].to_list() == list(ids[1:])
        assert found["in_response"].to_list() == [start <= t < end for t in range(1, len(ids))]
        worst = np.maximum(worst, [abs(found["logprob"].to_numpy() - chosen).max(), abs(found["entropy"].to_numpy() - entropy).max()])
        n += len(ids) - 1
    say("token_losses: log-probabilities, nats", label(who), worst[0], 1e-4, n)
    say("token_losses: entropies, nats", label(who), worst[1], 1e-4, n)


@cache
@torch.no_grad()
def losses(name, dataset):
    """For each example the cross-entropies of its tokens from the second on, and the entropies before them, in nats."""
    found = {}
    for example, (ids, _, _) in encoded(name, dataset).items():
        logp = model(name).log_probs(ids)[:-1]
        chosen = logp.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
        found[example] = (-chosen).numpy(), -(logp.exp() * logp).sum(-1).numpy()
    return found


def check_loss_summary(who, part):
    """Relative to the mean."""
    means = {}
    for example, (ids, start, end) in encoded(who["model"], who["dataset"]).items():
        loss, entropy = losses(who["model"], who["dataset"])[example]
        spans = {"": (max(start, 1) - 1, end - 1), "_with_end": (max(start, 1) - 1, len(ids) - 1), "_all": (0, len(ids) - 1)}
        for suffix, (first, last) in spans.items():
            # The end marker counts with a response alone.
            if last > first and end > start or suffix == "_all":
                for measure, value in [("joint_logprob", -loss[first:last].sum()), ("logprob", -loss[first:last].mean()), ("entropy", entropy[first:last].mean())]:
                    means.setdefault(measure + suffix, []).append(value)
    worst = 0.0
    for row in part.iter_rows(named=True):
        expected = means[row["measure"]]
        assert row["n"] == len(expected)
        worst = max(worst, abs(row["mean"] / np.mean(expected) - 1))
    say("loss_summary: means, relative", label(who), worst, 1e-5, len(part))


def check_loss_vectors(who, part):
    of, worst, n, wrong = windows()[who["window"]], 0.0, 0, 0
    for row in part.iter_rows(named=True):
        example = row["example"]
        _, start, _ = encoded(who["model"], who["dataset"])[example]
        turn = model(who["model"]).turn(conversations(who["dataset"])[example])
        first = {"marker": turn, "role": turn + 1, "content": start, "conversation": 1}[of.get("start", "marker")]
        expected = losses(who["model"], who["dataset"])[example][0][first - 1:][: of.get("n", 64)]
        found = np.array(row["vector"], dtype=float)
        wrong += (len(found) - len(expected) != row.get("missing", row.get("filled")))
        if len(expected):
            worst = max(worst, abs(found[: len(expected)] - expected).max())
            n += len(expected)
    say("loss_vectors: losses, nats", label(who), worst, 1e-4, n)
    say("loss_vectors: numbers missing that differ", label(who), wrong, 0, len(part))


@torch.no_grad()
def check_next_tokens(who, part):
    worst, n = {"probabilities": 0.0, "entropies": 0.0}, 0
    for (example, token), of in part.sort("rank").partition_by("example", "token", as_dict=True, maintain_order=True).items():
        ids, start, _ = encoded(who["model"], who["dataset"])[example]
        for (place,), found in of.partition_by("place", as_dict=True).items():
            if place == "response":
                assert token == start
            if place.startswith("before:"):
                # The word begins in this token: what stands before the token does not hold it.
                decode, word = model(who["model"]).tokenizer.decode, place.removeprefix("before:")
                assert word in decode(ids[token:]), place
            logp = model(who["model"]).log_probs(ids)[token - 1]
            # Of each rank, and of the token that has it: ties can come in either order.
            likeliest = logp.topk(len(found)).values.exp().numpy()
            own = logp[torch.tensor(found["id"].to_list())].exp().numpy()
            for expected in (likeliest, own):
                worst["probabilities"] = max(worst["probabilities"], abs(found["probability"].to_numpy() - expected).max())
            entropy = -(logp.exp() * logp).sum().item()
            worst["entropies"] = max(worst["entropies"], abs(found["entropy"].to_numpy() - entropy).max())
            n += len(found)
    say("next_tokens: probabilities", label(who), worst["probabilities"], 1e-4, n)
    say("next_tokens: entropies, nats", label(who), worst["entropies"], 1e-4, n)


def check_distance(who, part):
    """Of the two sample means; what noise does to them is taken out of another column, in Strata alone."""
    plain = "plain_distance" if "plain_distance" in part.columns else "cosine_distance"
    worst, n = 0.0, 0
    for row in part.iter_rows(named=True):
        a, b = (states(who["model"], who[f"dataset_{s}"])[row["position"]][1][:, place(row)].mean(0) for s in "ab")
        if row[plain] is not None:
            worst, n = max(worst, abs(row[plain] - (1 - unit(a) @ unit(b)))), n + 1
    say("distance: of the means", label(who), worst, 1e-5, n)


def check_states(who, part):
    for (position,), of in part.partition_by("position", as_dict=True).items():
        examples, values = token_states(who["model"], who["dataset"])[position]
        index = {example: i for i, example in enumerate(examples)}
        worst, n = 0.0, 0
        for row in of.iter_rows(named=True):
            expected = values[index[row["example"]], row["token"], place(row)]
            worst = max(worst, np.linalg.norm(np.array(row["vector"]) - expected) / np.linalg.norm(expected))
            n += 1
        assert n == np.prod(values.shape[:3]) or "layers" in settings("hidden_states")
        say(f"hidden_states: {position}, relative", label(who), worst, 1e-4, n)


def gradients(name, dataset, modules, over):
    """The gradients of each example's mean cross-entropy for some weight matrices: [examples, entries] each."""
    at = model(name)
    weights = {module: at.model.model.get_submodule(module).weight for module in modules}
    found, examples = {module: [] for module in modules}, []
    for weight in weights.values():
        weight.requires_grad_(True)
    for example, (ids, start, end) in encoded(name, dataset).items():
        tokens = torch.arange(1, len(ids)) if over == "all" else torch.arange(max(start, 1), end)
        if len(tokens) == 0:
            continue
        logp = torch.log_softmax(at.model(torch.tensor([ids])).logits[0], dim=-1)
        loss = -logp[tokens - 1, torch.tensor(ids)[tokens]].mean()
        for module, gradient in zip(modules, torch.autograd.grad(loss, list(weights.values()))):
            found[module].append(gradient.flatten().numpy())
        examples.append(example)
    for weight in weights.values():
        weight.requires_grad_(False)
    return examples, {module: np.stack(values).astype(np.float64) for module, values in found.items()}


def cosines(vectors, centred):
    vectors = vectors - vectors.mean(0) if centred else vectors
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    return vectors @ vectors.T


def check_cosines(what, who, index, vectors, found):
    """`index` is the row of each dataset's example; `found` a similarity table of one comparison."""
    for centred in (False, True):
        expected = cosines(vectors, centred)
        of = found.filter(centred=centred)
        a, b = ([index[d, e] for d, e in of.select(f"dataset_{s}", f"example_{s}").iter_rows()] for s in "ab")
        deviation = abs(of["cosine"].to_numpy() - expected[a, b]).max()
        n = len(vectors)
        assert len(of) == n * (n - 1) // 2, f"{len(of)} pairs of {n} vectors"
        say(f"similarity: {'centred' if centred else 'raw'} {what}", who, deviation, 1e-4, len(of))


def check_gradients(name):
    of = settings("gradients")
    table_of = rows("gradients", model=name)
    modules, datasets = table_of["module"].unique(maintain_order=True).to_list(), table_of["dataset"].unique(maintain_order=True).to_list()
    over, index, stacks = of.get("over", "all"), {}, {module: [] for module in modules}
    for dataset in datasets:
        examples, found = gradients(name, dataset, modules, over)
        index |= {(dataset, example): len(index) + i for i, example in enumerate(examples)}
        for module in modules:
            stacks[module].append(found[module])
    stacks = {module: np.concatenate(parts) for module, parts in stacks.items()}
    for module, stack in stacks.items():
        norms = np.linalg.norm(stack, axis=1)
        found = table_of.filter(module=module)
        at = [index[key] for key in found.select("dataset", "example").iter_rows()]
        say("gradients: norms, relative", f"{name} {short(module)}", abs(found["norm"].to_numpy() / norms[at] - 1).max(), 1e-4, len(at))
        if table("gradient_vectors") is not None:
            found = rows("gradient_vectors", model=name, module=module)
            at = np.array([index[key] for key in found.select("dataset", "example").iter_rows()])
            vectors = np.array(found["vector"].to_list(), dtype=np.float64)
            scale = np.outer(norms[at], norms[at])
            deviation = abs(vectors @ vectors.T - (stack @ stack.T)[np.ix_(at, at)]) / scale
            say("gradient_vectors: inner products, of the norms", f"{name} {short(module)}", deviation.max(), 1e-4, deviation.size)
        for similarity in across_datasets("gradient"):
            found = similarity.filter(model_a=name, module=module)
            if len(found):
                check_cosines("gradients", f"{name} {short(module)}", index, stack, found)


def check_state_similarity(name, found):
    for (position, layer, site), of in found.partition_by("position", "layer", "site", as_dict=True).items():
        index, vectors = {}, []
        for dataset in PIPELINE["datasets"]:
            examples, values = states(name, dataset)[position]
            index |= {(dataset, example): len(index) + i for i, example in enumerate(examples)}
            vectors.append(values[:, layer + (site == "final_norm")])
        vectors = np.concatenate(vectors)
        if np.linalg.norm(vectors - vectors.mean(0)) < 1e-6 * np.linalg.norm(vectors):
            skip("similarity: hidden states", f"all are equal at {position}, layer {layer}")
            continue
        check_cosines("hidden states", f"{name} {position} {layer}", index, vectors, of)
        pca = table("pca")
        if pca is not None and not settings("pca").get("robust", True):
            names = [(name, dataset, example) for dataset, example in index]
            check_pca("hidden states", f"{name} {position} {layer}", names, vectors, pca.filter(of="hidden_state", comparison=found["comparison"][0], shared=name, position=position, layer=layer, site=site))


def check_pca(what, who, names, vectors, found):
    """Coordinates relative to the largest, up to a component's sign; `names` are (model, dataset, example)."""
    u, s, _ = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    index = {name: i for i, name in enumerate(names)}
    at = [index[name] for name in found.select("model", "dataset", "example").iter_rows()]
    assert sorted(at) == list(range(len(names)))
    worst, shares, n = 0.0, 0.0, 0
    for component in (1, 2, 3):
        expected = (u[at, component - 1] * s[component - 1]) if component <= len(s) else None
        if expected is None or not distinct(s, component):
            continue
        own = found[f"pc{component}"].to_numpy()
        expected *= np.sign(expected @ own)
        worst = max(worst, abs(own - expected).max() / abs(expected).max())
        shares = max(shares, abs(found[f"explained_variance_{component}"][0] - s[component - 1] ** 2 / (s**2).sum()))
        n += len(at)
    say(f"pca: {what}, coordinates, relative", who, worst, 1e-3, n)
    say(f"pca: {what}, shares of the variance", who, shares, 1e-4, n and 3)


def loss_groups(section, groups, window):
    """The names (model, dataset, example) and losses of a comparison's groups, with what its `fill` makes of those that are not there."""
    names, matrices, n = [], [], window.get("n", 64)
    for name, dataset in groups:
        rows = []
        for example, (_, start, _) in encoded(name, dataset).items():
            turn = model(name).turn(conversations(dataset)[example])
            first = {"marker": turn, "role": turn + 1, "content": start, "conversation": 1}[window.get("start", "marker")]
            values = losses(name, dataset)[example][0][first - 1:][:n]
            if len(values) >= section.get("least", 8):
                rows.append(np.pad(values.astype(np.float64), (0, n - len(values)), constant_values=np.nan))
                names.append((name, dataset, example))
        matrices.append(np.array(rows))
    whole = np.vstack(matrices)
    match section.get("fill", "common"):
        case "common":
            return names, whole[:, ~np.isnan(whole).any(0)]
        case "group":
            return names, np.vstack([np.where(np.isnan(m), np.nanmean(m, axis=0), m) for m in matrices])
        case "all":
            return names, np.where(np.isnan(whole), np.nanmean(whole, axis=0), whole)
    return names, None


def check_losses_compared():
    sections, of_window = comparisons(), windows()
    for (comparison, shared), found in sorted(table("similarity").filter(of="loss").partition_by("comparison", "shared", as_dict=True).items()):
        section = sections[comparison]
        groups = found.filter(pl.col("dataset_a") == pl.col("dataset_b"), pl.col("model_a") == pl.col("model_b")).select("model_a", "dataset_a").unique(maintain_order=True)
        names, vectors = loss_groups(section, list(groups.iter_rows()), of_window[section.get("window", next(iter(of_window)))])
        if vectors is None:
            skip("similarity: losses", f"{comparison} fills pair by pair")
            continue
        index = {name: i for i, name in enumerate(names)}
        for (centred,), of in found.partition_by("centred", as_dict=True).items():
            if centred and section.get("centring", "comparison") != "comparison":
                continue
            expected = cosines(vectors, centred)
            a, b = ([index[name] for name in of.select(f"model_{s}", f"dataset_{s}", f"example_{s}").iter_rows()] for s in "ab")
            what = "centred" if centred else "raw"
            say(f"similarity: {what} losses", f"{comparison} {shared}", abs(of["cosine"].to_numpy() - expected[a, b]).max(), 1e-4, len(of))
        pca = table("pca")
        if pca is not None and not settings("pca").get("robust", True):
            check_pca("losses", f"{comparison} {shared}", names, vectors, pca.filter(of="loss", comparison=comparison, shared=shared))


def unit(vector):
    return vector / np.linalg.norm(vector)


@cache
@cache
def folds():
    """The fold of every example that is projected."""
    found = table("projections")
    return {} if found is None else dict(found.select("example", "fold").unique().iter_rows())


def directions(source, target, dataset, position, at, fold=0):
    """The mean difference, singular vectors and values of the examples outside a fold, as docs/tables.md defines them."""
    (a, from_), (b, to) = states(source, dataset)[position], states(target, dataset)[position]
    order = [b.index(example) for example in a]
    difference = to[order][:, at] - from_[:, at]
    if fold:
        difference = difference[[folds().get(example) != fold for example in a]]
    mean = difference.mean(0)
    _, values, vectors = np.linalg.svd(difference - mean, full_matrices=False)
    for vector in vectors:
        along = vector @ mean
        vector *= np.sign(along if abs(along) >= 1e-6 * np.linalg.norm(mean) else vector[abs(vector).argmax()])
    return mean, vectors, values


def distinct(values, component):
    """Whether a singular value is far enough from its neighbours for its vector to be one in float32."""
    k = component - 1
    gaps = [abs(values[k] - values[j]) for j in (k - 1, k + 1) if 0 <= j < len(values)]
    return values[k] > 1e-3 * values[0] and min(gaps) > 1e-2 * values[k]


def direction(source, target, dataset, row, component, fold=0):
    """A unit direction, or None where it is not determined. In a fold, the one most like that of all examples."""
    mean, vectors, values = directions(source, target, dataset, row["position"], place(row), fold)
    if row["kind"] == "mean_difference":
        return unit(mean)
    if fold:
        whole = direction(source, target, dataset, row, component)
        if whole is None:
            return None
        alike = abs(vectors @ whole)
        # Where two are about as like it, each may be another component's.
        if np.sort(alike)[-2] > alike.max() - 0.1:
            return None
        component = alike.argmax() + 1
    return vectors[component - 1] if distinct(values, component) else None


def check_directions(who, part):
    worst, n, left = {"mean_difference": 0.0, "svd": 0.0, "value": 0.0}, {"mean_difference": 0, "svd": 0}, 0
    for row in part.filter(fold=0).iter_rows(named=True):
        key = who["source"], who["target"], who["dataset"]
        expected = direction(*key, row, row["component"])
        if expected is None:
            left += 1
            continue
        mean, _, values = directions(*key, row["position"], place(row))
        of = row["norm"] / np.linalg.norm(mean) if row["kind"] == "mean_difference" else row["singular_value"] / values[row["component"] - 1]
        worst["value"] = max(worst["value"], abs(of - 1))
        worst[row["kind"]] = max(worst[row["kind"]], np.linalg.norm(np.array(row["vector"]) - expected))
        n[row["kind"]] += 1
    for kind in n:
        say(f"directions: {kind}", label(who), worst[kind], 1e-3, n[kind])
    say("directions: lengths, singular values, relative", label(who), worst["value"], 1e-3, sum(n.values()))
    if left:
        skip("directions: svd", f"{left} of {left + n['svd']}, whose singular values are within 1 % of another's")


def check_projections(who, part):
    """Relative to the root mean square of a place's projections."""
    worst, n, values_of = 0.0, 0, {}
    keys = "position", "layer", "site", "kind", "component", "fold"
    for (position, layer, site, kind, component, fold), of in part.drop_nulls("projection").partition_by(keys, as_dict=True).items():
        row = dict(position=position, layer=layer, site=site, kind=kind)
        along = direction(who["source"], who["target"], who["direction"], row, component, fold)
        if along is None:
            continue
        examples, values = token_states(who["model"], who["dataset"])[position]
        expected = dict(zip(examples, values[:, :, place(row)] @ along))
        scale = np.sqrt(np.mean(np.square(list(expected.values()))))
        worst = max(worst, max(abs(p - expected[e][t]) for e, t, p in of.select("example", "token", "projection").iter_rows()) / scale)
        n += len(of)
    say("projections, relative", label(who), worst, 1e-3, n)


def check_separation(who, part):
    """Over all tokens of the examples. Absolute, and relative where the score is above 1."""
    worst, n = 0.0, 0
    for row in part.iter_rows(named=True):
        examples = states(who["model_a"], who["dataset"])[row["position"]][0]
        of_fold = {f: direction(who["source"], who["target"], who["direction"], row, row["component"], f) for f in set(map(folds().get, examples))}
        # A fold that lacks the component gives its examples no projection.
        if any(along is None for along in of_fold.values()) or row["score"] is None or row["n"] != len(examples):
            continue
        along = np.stack([of_fold[folds()[example]] for example in examples])
        a, b = ((token_states(who[m], who["dataset"])[row["position"]][1][:, :, place(row)] * along[:, None]).sum(2) for m in ("model_a", "model_b"))
        expected = (b.mean() - a.mean()) / (a.std() + b.std())
        worst = max(worst, abs(row["score"] - expected) / max(1, abs(expected)))
        n += 1
    say("separation: scores", label(who), worst, 1e-3, n)


def check_direction_similarity(who, part):
    worst, n = 0.0, 0
    for row in part.iter_rows(named=True):
        a, b = (direction(who["source"], who["target"], who[f"dataset_{s}"], row, row[f"component_{s}"]) for s in "ab")
        if a is not None and b is not None:
            worst, n = max(worst, abs(row["cosine"] - a @ b)), n + 1
    say("direction_similarity: cosines", label(who), worst, 1e-3, n)


@torch.no_grad()
def check_patching(who, part):
    of = settings("patching")
    if of.get("positions", "all") != "all" or of.get("target", {"at": "response"}) != {"at": "response"} or who["dataset"] in of.get("message_only", []):
        return skip("patching", "its positions or its target are not the default, or messages pass alone")
    source, target, over = model(who["source"]), model(who["target"]), of.get("over", "all")
    worst, n = {"loss": 0.0, "logprob": 0.0, "entropy": 0.0, "clean": 0.0, "change": 0.0}, {}
    for (example,), found in part.partition_by("example", as_dict=True).items():
        ids, start, end = encoded(who["target"], who["dataset"])[example]
        turn = target.turn(conversations(who["dataset"])[example])

        def metrics(logp):
            tokens = {"all": range(1, len(ids)), "response": range(max(start, 1), end), "turn": range(turn + 2, len(ids))}[over]
            loss = -np.mean([logp[t - 1, ids[t]].item() for t in tokens]) if tokens else None
            row = logp[start - 1] if end > start else None
            return dict(loss=loss, logprob=None if row is None else row[ids[start]].item(),
                        entropy=None if row is None else -(row.exp() * row).sum().item())

        streams, own = source.streams(ids), target.streams(ids)
        clean = metrics(source.log_probs(ids)), metrics(target.log_probs(ids))
        for (layer,), at in found.partition_by("layer", as_dict=True).items():
            patched = metrics(target.log_probs(ids, (layer, streams[layer])))
            change = ((streams[layer] - own[layer]).norm() / own[layer].norm()).item()
            for row in at.iter_rows(named=True):
                metric = row["metric"]
                close(worst, n, metric, row["value"], patched[metric])
                close(worst, n, "clean", row["clean_source"], clean[0][metric])
                close(worst, n, "clean", row["clean_target"], clean[1][metric])
                close(worst, n, "change", row["change"], change)
    for what, deviation in worst.items():
        say(f"patching: {what}" + ("" if what == "change" else ", nats"), label(who), deviation, 1e-4, n.get(what, 0))


def close(worst, n, key, found, expected):
    """Notes an absolute deviation; a number against none is infinitely far."""
    if found is None or expected is None:
        worst[key] = worst[key] if found is expected else np.inf
        return
    worst[key], n[key] = max(worst[key], abs(found - expected)), n.get(key, 0) + 1


def pieces(prompt, most):
    """A prompt's words in at most so many groups of neighbours, and the prompt without each."""
    units = [match.span() for match in re.finditer(r"\S+", prompt)]
    count = min(len(units), most)
    bounds = [group * len(units) // count for group in range(count + 1)]
    for first, last in zip(bounds, bounds[1:]):
        start, end = units[first][0], units[last - 1][1]
        if last < len(units):
            kept = prompt[:start] + prompt[units[last][0]:]
        else:
            kept = prompt[: units[first - 1][1]] if first else ""
        yield prompt[start:end], kept


@torch.no_grad()
def check_attribution(who, part):
    of = settings("attribution")
    if of.get("pieces", "words") != "words" or "target" in of or of.get("by", "target") != "target":
        return skip("attribution", "its pieces are not words, or its target is not the whole response")
    sign = -1 if of.get("sign") == "contribution" else 1
    at = model(who["model"])

    def logprob(messages):
        ids, start, end = at.encode(messages)
        logp = at.log_probs(ids)
        return sum(logp[t - 1, ids[t]].item() for t in range(start, end)), end - start

    worst, n, tokens = {"whole": 0.0, "delta": 0.0}, {}, 0
    for (example,), found in part.partition_by("example", as_dict=True).items():
        messages = conversations(who["dataset"])[example]
        asked = max(i for i, message in enumerate(messages) if message["role"] == "user")
        whole, count = logprob(messages)
        expected = list(pieces(messages[asked]["content"], of.get("max_pieces", 32)))
        assert found.sort("piece")["text"].to_list() == [text for text, _ in expected]
        for row, (_, kept) in zip(found.sort("piece").iter_rows(named=True), expected):
            without, _ = logprob([{**m, "content": kept} if i == asked else m for i, m in enumerate(messages)])
            # Sums over all of the target's tokens, so that their rounding grows with them.
            close(worst, n, "whole", row["logprob"] / count, whole / count)
            close(worst, n, "delta", row["delta_logprob"] / count, sign * (without - whole) / count)
        tokens += count
    say("attribution: log-probabilities, nats a token", label(who), worst["whole"], 1e-4, n.get("whole", 0))
    say("attribution: changes, nats a token", label(who), worst["delta"], 1e-4, n.get("delta", 0))


def short(module):
    return ".".join(part for part in module.split(".") if part not in ("self_attn", "mlp"))


def label(who):
    return " ".join(who.values())


def main():
    check_datasets()
    by_model = ("model", "dataset")
    by_pair = ("source", "target")
    for name, keys, check in [
        ("tokens", by_model, check_tokens),
        ("token_losses", by_model, check_losses),
        ("loss_summary", by_model, check_loss_summary),
        ("loss_vectors", (*by_model, "window"), check_loss_vectors),
        ("next_tokens", by_model, check_next_tokens),
        ("hidden_states", by_model, check_states),
        ("directions", (*by_pair, "dataset"), check_directions),
        ("projections", ("direction", *by_pair, *by_model), check_projections),
        ("separation", ("direction", *by_pair, "dataset", "model_a", "model_b"), check_separation),
        ("direction_similarity", (*by_pair, "dataset_a", "dataset_b"), check_direction_similarity),
        ("distance", ("model", "dataset_a", "dataset_b"), check_distance),
        ("patching", (*by_pair, "dataset"), check_patching),
        ("attribution", by_model, check_attribution),
    ]:
        for who, part in sorted(groups(name, *keys), key=lambda of: tuple(of[0].values())):
            if any(who[key] not in PIPELINE["datasets"] for key in ("dataset", "direction") if key in who):
                skip(name, f"{label(who)} is a contrast")
                continue
            check(who, part)
    for name in sorted(table("gradients")["model"].unique()) if table("gradients") is not None else []:
        check_gradients(name)
    if table("similarity") is not None and "loss" in table("similarity")["of"]:
        check_losses_compared()
    for similarity in across_datasets("hidden_state"):
        for (name,), found in sorted(similarity.partition_by("model_a", as_dict=True).items()):
            check_state_similarity(name, found)
    print(f"{len(FAILED)} checks over their tolerance" if FAILED else "all within their tolerances")
    sys.exit(1 if FAILED else 0)


if __name__ == "__main__":
    main()
