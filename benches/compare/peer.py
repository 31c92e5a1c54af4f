"""What a user would run instead of Strata, with transformers; one JSON line with what it did.

    python peer.py {hidden_states,token_losses,gradients,all_gradients,bergson} MODEL_DIR FILE.jsonl {f32,bf16}
                   [--limit N] [--max-tokens 512] [--batch 8] [--device cuda]

hidden_states: the last token's state and the mean over all tokens, at every layer, in batches of examples of like length.
token_losses: each token's log-probability, entropy and rank, in the same batches.
gradients: for each example the gradient of its mean loss for the last block's o_proj, and the cosines of all pairs; only
that weight asks for a gradient, so that the reverse pass ends there.
all_gradients: the same cosines, as the paper has them: every weight asks for a gradient.
bergson: the same gradients projected to 256 numbers, by bergson (EleutherAI) as its command line sets a model up.
"""
import argparse
import json
import resource
import tempfile
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def batches(tokenizer, texts, given):
    """Batches of examples of like length, padded."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    for start in range(0, len(order), given.batch):
        yield tokenizer([texts[i] for i in order[start:start + given.batch]], return_tensors="pt", padding=True,
                        truncation=True, max_length=given.max_tokens, add_special_tokens=False).to(given.device)


def hidden_states(model, tokenizer, texts, given):
    kept, tokens = [], 0
    with torch.no_grad():
        for batch in batches(tokenizer, texts, given):
            mask = batch["attention_mask"]
            last, rows = mask.sum(1) - 1, torch.arange(len(mask), device=mask.device)
            for state in model.model(**batch, output_hidden_states=True).hidden_states:
                mean = (state * mask[..., None]).sum(1).float() / mask.sum(1, keepdim=True)
                kept.append((state[rows, last].float().cpu(), mean.cpu()))
            tokens += int(mask.sum())
    return tokens


def token_losses(model, tokenizer, texts, given):
    kept, tokens = [], 0
    with torch.no_grad():
        for batch in batches(tokenizer, texts, given):
            mask, ids = batch["attention_mask"], batch["input_ids"]
            logits = model(**batch).logits
            for row in range(len(ids)):  # one example's probabilities at a time, so that a batch's fit into memory
                length = int(mask[row].sum())
                logprobs = logits[row, :length - 1].float().log_softmax(-1)
                of_next = logprobs.gather(-1, ids[row, 1:length, None])
                entropies, ranks = -(logprobs.exp() * logprobs).sum(-1), (logprobs > of_next).sum(-1) + 1
                kept.append((of_next.cpu(), entropies.cpu(), ranks.cpu()))
            tokens += int(mask.sum())
    return tokens


def all_gradients(model, tokenizer, texts, given):
    model.gradient_checkpointing_enable()
    model.train()
    return cosines(model, tokenizer, texts, given)


def gradients(model, tokenizer, texts, given):
    weight = model.model.layers[-1].self_attn.o_proj.weight
    for parameter in model.parameters():
        parameter.requires_grad_(parameter is weight)
    return cosines(model, tokenizer, texts, given)


def bergson(model, tokenizer, texts, given):
    from bergson import CollectorComputer, GradientProcessor, IndexConfig, InMemoryCollector
    from datasets import Dataset

    model.requires_grad_(False)
    model.get_input_embeddings().requires_grad_(True)
    ids = [tokenizer(text, truncation=True, max_length=given.max_tokens, add_special_tokens=False)["input_ids"] for text in texts]
    data = Dataset.from_dict({"input_ids": ids})
    folder = tempfile.TemporaryDirectory()
    configuration = IndexConfig(run_path=f"{folder.name}/run", projection_dim=16)
    configuration.partial_run_path.mkdir()
    collector = InMemoryCollector(model=model.base_model, cfg=configuration, processor=GradientProcessor(projection_dim=16), data=data,
                                  target_modules={f"layers.{len(model.model.layers) - 1}.self_attn.o_proj"})
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    batches = [order[start:start + given.batch] for start in range(0, len(order), given.batch)]
    CollectorComputer(model, data, collector=collector, batches=batches, cfg=configuration).run_with_collector_hooks(desc="gradients")
    assert [len(gradients) for gradients in collector.gradients.values()] == [len(ids)]
    return sum(map(len, ids))


def cosines(model, tokenizer, texts, given):
    weight = model.model.layers[-1].self_attn.o_proj.weight
    found, tokens = [], 0
    for text in texts:
        ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=given.max_tokens,
                        add_special_tokens=False)["input_ids"].to(given.device)
        model.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        found.append(weight.grad.flatten().float().clone())
        tokens += ids.numel()
    stacked = torch.nn.functional.normalize(torch.stack(found), dim=1)
    stacked @ stacked.T
    return tokens


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("what", choices=["hidden_states", "token_losses", "gradients", "all_gradients", "bergson"])
    arguments.add_argument("model"), arguments.add_argument("data")
    arguments.add_argument("dtype", choices=["f32", "bf16"])
    arguments.add_argument("--limit", type=int)
    arguments.add_argument("--max-tokens", type=int, default=512)
    arguments.add_argument("--batch", type=int, default=8)
    arguments.add_argument("--device", default="cpu")
    given = arguments.parse_args()
    started = time.time()
    tokenizer = AutoTokenizer.from_pretrained(given.model, padding_side="right")
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[given.dtype]
    model = AutoModelForCausalLM.from_pretrained(given.model, dtype=dtype).eval().to(given.device)
    rows = [json.loads(line)["messages"] for line in open(given.data) if line.strip()][:given.limit]
    texts = [tokenizer.apply_chat_template(row, tokenize=False) for row in rows]
    loaded = time.time()
    tokens = globals()[given.what](model, tokenizer, texts, given)
    print(json.dumps({
        "tokens": tokens, "seconds": time.time() - started, "seconds_without_loading": time.time() - loaded,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }))


if __name__ == "__main__":
    main()
