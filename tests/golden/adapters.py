"""Makes adapters.json: what peft computes with a small model of several families and an adapter of each form.

    python tests/golden/adapters.py > tests/golden/adapters.json      (transformers 5.24, torch 2.15, peft 0.21.2)

As families.py, for a base and its adapter as PeftModel loads them. The adapter's tensors have the names and shapes that
save_pretrained writes and the values of the formula. Gradients are those of the base's matrices under the adapter: a matrix'
gradient is the same with the update beside it as with the update added to it.
"""
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from families import GPT_NEOX, IMAGES, LENGTHS, SMALL, forward, numbers, rounded, saved, values
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

MLP = ["gate_proj", "up_proj", "down_proj"]
ADAPTERS = {
    "llama": (dict(), dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])),
    "qwen2, rsLoRA on all linear layers": (
        dict(tie_word_embeddings=True), dict(r=3, lora_alpha=6, use_rslora=True, target_modules="all-linear")),
    "gemma2, patterns": (
        dict(head_dim=6, sliding_window=6, query_pre_attn_scalar=9),
        dict(r=4, lora_alpha=6, target_modules=r".*\.layers\.[12]\.(?:self_attn\.(?:q|o)_proj|mlp\.(?!up).*_proj)",
             rank_pattern={r"layers.1.self_attn.q_proj": 2, "down_proj": 5},
             alpha_pattern={r"layers\.\d+\.mlp\.down_proj": 3, "q_proj": 12})),
    "phi3, fused projections": (
        dict(sliding_window=7), dict(r=4, lora_alpha=4, target_modules=["qkv_proj", "o_proj", "gate_up_proj", "down_proj"])),
    "qwen2, biases and embeddings": (
        dict(tie_word_embeddings=True), dict(r=2, lora_alpha=4, bias="all", target_modules=["k_proj", "o_proj"],
                                             modules_to_save=["embed_tokens"])),
    "qwen2, biases of the update, some layers": (
        dict(), dict(r=2, lora_alpha=4, lora_bias=True, target_modules=["v_proj", "up_proj"], layers_to_transform=[0, 2])),
    "llama, a tied head of its own": (
        dict(tie_word_embeddings=True), dict(r=2, lora_alpha=4, target_modules=MLP, modules_to_save=["lm_head", "norm"])),
    "llama, a tied head saved with the embeddings": (
        dict(tie_word_embeddings=True), dict(r=2, lora_alpha=4, target_modules=MLP, modules_to_save=["embed_tokens"],
                                             ensure_weight_tying=True)),
    "llama, updates of a tied head and the embeddings": (
        dict(tie_word_embeddings=True), dict(r=3, lora_alpha=4, target_modules=["embed_tokens", "lm_head", "v_proj"])),
    "llama, an update of a tied head": (
        dict(tie_word_embeddings=True), dict(r=3, lora_alpha=4, target_modules=["lm_head", "v_proj"])),
    "gemma2, scaled embeddings": (
        dict(head_dim=6, sliding_window=6, query_pre_attn_scalar=9),
        dict(r=3, lora_alpha=1, target_modules=["embed_tokens", "q_proj"])),
    "gpt_neox": (dict(rope_parameters={"rope_type": "default", "partial_rotary_factor": 0.5}), dict(r=4, lora_alpha=8, target_modules=["query_key_value", "dense", "lm_head"], bias="lora_only")),
    "gemma3, a model of images too": (
        dict(text_config=SMALL | dict(head_dim=6, sliding_window=6), vision_config=IMAGES, mm_tokens_per_image=4),
        dict(r=2, lora_alpha=8, target_modules=["q_proj", "down_proj"])),
    "qwen3_moe, attention": (
        dict(head_dim=6, norm_topk_prob=True, moe_intermediate_size=12, num_experts=6, num_experts_per_tok=2),
        dict(r=2, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])),
}


def gradients(model, examples):
    """Norms and cosines by the names of the matrices, below those of the blocks."""
    rows = {}
    wanted = {}
    for name, parameter in model.named_parameters():
        is_base = name.endswith(".weight") and ".lora_" not in name and parameter.dim() == 2
        if is_base and "layers." in name and "vision_tower" not in name and ".experts." not in name and "mlp.gate." not in name:
            parameter.requires_grad_(True)
            wanted[name[name.index("layers."):].removesuffix(".weight").removesuffix(".base_layer")] = parameter
    for ids in examples:
        model.zero_grad()
        torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:]).backward()
        for name, parameter in wanted.items():
            rows.setdefault(name, []).append(parameter.grad.flatten().numpy().copy())
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
    for name, (own, lora) in ADAPTERS.items():
        family = name.split(",")[0]
        config = AutoConfig.for_model(family, **{"gpt_neox": GPT_NEOX, "gemma3": {}}.get(family, SMALL) | own)
        with tempfile.TemporaryDirectory() as folder:
            base, adapter = Path(folder) / "base", Path(folder) / "adapter"
            base.mkdir()
            tensors = saved(AutoModelForCausalLM.from_config(config).float(), base)
            save_file({name: values(name, like) for name, like in tensors.items()}, base / "model.safetensors",
                      metadata={"format": "pt"})
            written = json.loads((base / "config.json").read_text())

            def load():
                return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager",
                                                            experts_implementation="eager")

            get_peft_model(load(), LoraConfig(task_type="CAUSAL_LM", **lora)).save_pretrained(adapter)
            file = adapter / "adapter_model.safetensors"
            # A head that is saved because it is tied has the embeddings' values.
            tied = {} if "embed_tokens" not in lora["target_modules"] else {"base_model.model.lm_head.base_layer.weight": "base_model.model.model.embed_tokens.base_layer.weight"}
            if lora.get("ensure_weight_tying"):
                tied |= {"base_model.model.lm_head.weight": "base_model.model.model.embed_tokens.weight"}
            of = {name: (tied.get(name, name), like) for name, like in load_file(file).items()}
            save_file({name: values(named, like) for name, (named, like) in of.items()}, file, metadata={"format": "pt"})
            of_adapter = json.loads((adapter / "adapter_config.json").read_text())
            of_adapter["base_model_name_or_path"] = "base"
            model = PeftModel.from_pretrained(load(), adapter).get_base_model().eval()
            found = dict(config=written, adapter=of_adapter,
                         tensors={name: dict(shape=list(like.shape), of=named) for name, (named, like) in of.items()},
                         examples=forward(model, examples))
            found["gradients"] = gradients(model.double(), examples)
        lines.append(f"{json.dumps(name)}: {json.dumps(found)}")
        print(name, file=sys.stderr)
    print("{\n" + ",\n".join(lines) + "\n}")


if __name__ == "__main__":
    main()
