"""Makes gradients.json: inner products of per-example gradients of two small models, by transformers in float64.

    python tests/golden/gradients.py > tests/golden/gradients.json

The models' weights and the examples' tokens follow the formula of stages/model/test_model.rs. For each weight matrix:
gram, the inner products of the examples' gradients of their mean cross-entropy over all shifted tokens, and centred,
the cosines after subtracting the mean gradient; both as upper triangles, row by row.
"""
import json

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

LENGTHS = [9, 2, 14, 30, 5]
MODULES = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
           "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
SMALL = dict(vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=4,
             num_key_value_heads=2, rms_norm_eps=1e-6, rope_theta=10000.0)


def numbers(name, count):
    """FNV-1a of the name, then SplitMix64, as numbers in [-0.5, 0.5)."""
    h = 0xcbf29ce484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001b3 % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(h) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9e3779b97f4a7c15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xbf58476d1ce4e5b9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94d049bb133111eb)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(40)).astype(np.float32) / np.float32(2**24) - np.float32(0.5)


def upper(matrix, k):
    return [float(f"{x:.7g}") for x in matrix[np.triu_indices(len(matrix), k)]]


examples = [torch.tensor([((numbers(f"ids {i}", n) + np.float32(0.5)) * 40).astype(np.int64)])
            for i, n in enumerate(LENGTHS)]
golden = {"lengths": LENGTHS}
FAMILIES = {"qwen2": dict(tie_word_embeddings=True), "llama": dict(tie_word_embeddings=False),
            "qwen3": dict(tie_word_embeddings=True, head_dim=6)}
for family, own in FAMILIES.items():
    config = AutoConfig.for_model(family, **own, **SMALL)
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = numbers(name, parameter.numel()) + (1 if name.endswith("norm.weight") else 0)
            parameter.copy_(torch.from_numpy(values).reshape(parameter.shape))
    model.double()
    weights = {f"layers.{l}.{m}": model.model.get_submodule(f"layers.{l}.{m}").weight for l in range(3) for m in MODULES}
    gradients = {name: [] for name in weights}
    losses = []
    for ids in examples:
        model.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:])
        loss.backward()
        losses.append(float(loss.detach()))
        for name, weight in weights.items():
            gradients[name].append(weight.grad.flatten().numpy().copy())
    golden[family] = {"losses": losses}
    for name, rows in gradients.items():
        rows = np.stack(rows)
        centred = rows - rows.mean(0)
        centred /= np.linalg.norm(centred, axis=1, keepdims=True)
        golden[family][name] = {"gram": upper(rows @ rows.T, 0), "centred": upper(centred @ centred.T, 1)}
print(json.dumps(golden).replace('"layers', '\n"layers').replace('"qwen2', '\n"qwen2').replace('"llama', '\n"llama')
      .replace('"qwen3', '\n"qwen3'))
