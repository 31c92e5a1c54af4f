"""Makes families.json: what transformers computes with a small model of each family, and of each rotary scaling.

    python tests/golden/families.py > tests/golden/families.json      (transformers 5.24, torch 2.15)

Each model has the config.json that save_pretrained writes. The values of the tensors that it saves, and the examples'
tokens, follow the formula of stages/model/test_model.rs. In float32: the states of each example's last token at every
layer (the last one before and after the final norm), and log-probability and entropy of every token. In float64: of each
weight matrix, the norms of the examples' gradients of their mean cross-entropy over all shifted tokens, and the cosines
of all pairs. An expert's matrix has the gradient 0 where no token was its.
"""
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

LENGTHS = [9, 2, 14, 30, 5]
SMALL = dict(vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64, bos_token_id=0, eos_token_id=1, pad_token_id=None)
GPT_NEOX = dict(vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=4,
                max_position_embeddings=64, bos_token_id=0, eos_token_id=1)
MOE = dict(moe_intermediate_size=12, num_experts=6, num_experts_per_tok=2)
IMAGES = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
MODELS = {
    "mistral": dict(sliding_window=6),
    "mistral, all tokens seen": dict(sliding_window=None, num_key_value_heads=4, head_dim=6),
    "gemma2": dict(head_dim=6, sliding_window=6, query_pre_attn_scalar=9, attn_logit_softcapping=2.0,
                   final_logit_softcapping=3.0),
    "gemma3_text": dict(
        head_dim=6, num_key_value_heads=1, num_hidden_layers=4, sliding_window=6, query_pre_attn_scalar=9,
        layer_types=["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
        rope_parameters={"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000.0},
                         "sliding_attention": {"rope_type": "default", "rope_theta": 100.0}}),
    "gemma3": dict(text_config=SMALL | dict(head_dim=6, sliding_window=6), vision_config=IMAGES, mm_tokens_per_image=4),
    "phi3": dict(num_attention_heads=2, num_key_value_heads=1, sliding_window=7, max_position_embeddings=48,
                 original_max_position_embeddings=12,
                 rope_parameters={"rope_type": "longrope", "rope_theta": 100.0, "partial_rotary_factor": 0.75,
                                  "short_factor": [1.0, 1.1, 1.3], "long_factor": [1.5, 2.0, 4.0]}),
    "olmo2": dict(),
    "smollm3": dict(num_key_value_heads=4, num_hidden_layers=4, no_rope_layer_interval=2, attention_bias=True, mlp_bias=True),
    "gpt_neox": dict(rope_parameters={"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5}),
    "gpt_neox, one layer after the other": dict(use_parallel_residual=False, hidden_act="gelu_new", tie_word_embeddings=True,
                                                rope_parameters={"rope_type": "default", "partial_rotary_factor": 1.0}),
    "granite": dict(embedding_multiplier=3.0, residual_multiplier=0.22, attention_multiplier=0.4, logits_scaling=8.0),
    "qwen2, windows": dict(use_sliding_window=True, sliding_window=6, max_window_layers=1),
    "llama, linear": dict(rope_parameters={"rope_type": "linear", "factor": 2.5, "rope_theta": 100.0}),
    "llama, dynamic": dict(max_position_embeddings=8, rope_parameters={"rope_type": "dynamic", "factor": 2.0}),
    "llama, yarn": dict(head_dim=12, rope_parameters={"rope_type": "yarn", "factor": 4.0, "rope_theta": 1000.0,
                                                      "original_max_position_embeddings": 16}),
    "llama, yarn with mscale": dict(
        head_dim=12, rope_parameters={"rope_type": "yarn", "factor": 4.0, "beta_fast": 8.0, "beta_slow": 0.5, "mscale": 1.0,
                                      "mscale_all_dim": 0.5, "truncate": False, "original_max_position_embeddings": 16}),
    "mixtral": dict(num_local_experts=4, num_experts_per_tok=2, sliding_window=6),
    "qwen2_moe": dict(shared_expert_intermediate_size=20, **MOE),
    "qwen3_moe": dict(head_dim=6, norm_topk_prob=True, **MOE),
}


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


def values(name, like):
    base = 1 if name.endswith("norm.weight") else 0
    return torch.from_numpy(numbers(name, like.numel()) + np.float32(base)).reshape(like.shape)


def rounded(tensor):
    return [float(f"{x:.7g}") for x in np.asarray(tensor, dtype=np.float64).flatten()]


def saved(model, folder):
    """The tensors' names in the file."""
    model.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def forward(model, examples):
    base = getattr(model.base_model, "language_model", model.base_model)
    norm = base.get_submodule("final_layer_norm" if hasattr(base, "final_layer_norm") else "norm")
    residual = {}
    hook = norm.register_forward_pre_hook(lambda _, inputs: residual.update(last=inputs[0]))
    found = []
    for ids in examples:
        with torch.no_grad():
            result = model(ids, output_hidden_states=True)
        states = [*result.hidden_states[:-1], residual["last"], result.hidden_states[-1]]
        log_probs = torch.log_softmax(result.logits[0, :-1], dim=-1)
        chosen = log_probs.gather(1, ids[0, 1:, None])
        found.append(dict(last=[rounded(state[0, -1]) for state in states], logprob=rounded(chosen),
                          entropy=rounded(-(log_probs.exp() * log_probs).sum(-1))))
    hook.remove()
    return found


def gradients(model, examples, folder):
    """Norms and cosines by the names of the matrices in the file, below those of the blocks."""
    rows = {}
    for ids in examples:
        model.zero_grad()
        torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:]).backward()
        with torch.no_grad():
            values = [parameter.detach().clone() for parameter in model.parameters()]
            for parameter in model.parameters():  # saved under the names that the values have
                parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
            for name, gradient in saved(model, folder).items():
                if gradient.dim() == 2 and ".layers." in name and not name.startswith("vision_tower"):
                    rows.setdefault(name[name.index("layers."):].removesuffix(".weight"), []).append(gradient.flatten().numpy())
            for parameter, value in zip(model.parameters(), values):
                parameter.copy_(value)
    found = {}
    for name, of_examples in rows.items():
        of_examples = np.stack(of_examples)
        norms = np.linalg.norm(of_examples, axis=1)
        unit = of_examples / np.maximum(norms, 1e-300)[:, None]
        found[name] = dict(norms=rounded(norms), cosines=rounded((unit @ unit.T)[np.triu_indices(len(unit), 1)]))
    return found


def main():
    examples = [torch.tensor([((numbers(f"ids {i}", n) + np.float32(0.5)) * 40).astype(np.int64)])
                for i, n in enumerate(LENGTHS)]
    lines = []
    for name, own in MODELS.items():
        family = name.split(",")[0]
        config = AutoConfig.for_model(family, **{"gpt_neox": GPT_NEOX, "gemma3": {}}.get(family, SMALL) | own)
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            tensors = saved(AutoModelForCausalLM.from_config(config).float(), folder)
            save_file({name: values(name, like) for name, like in tensors.items()}, folder / "model.safetensors",
                      metadata={"format": "pt"})
            written = json.loads((folder / "config.json").read_text())
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                                         experts_implementation="eager").eval()
            found = dict(config=written, examples=forward(model, examples))
            found["gradients"] = gradients(model.double(), examples, folder)
        lines.append(f"{json.dumps(name)}: {json.dumps(found)}")
        print(name, file=sys.stderr)
    print("{\n" + ",\n".join(lines) + "\n}")


if __name__ == "__main__":
    main()
