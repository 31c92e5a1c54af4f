//! llama.cpp's names of tensors, and a checkpoint's.

/// Tensors whose values stand in a config.json.
pub const IN_CONFIG: [&str; 3] = ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"];

/// The modules of a block: (in the file, in a checkpoint).
const IN_BLOCK: &[(&str, &str)] = &[
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_qkv", "self_attn.qkv_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// Where Gemma's blocks differ, which have norms after their layers.
const IN_GEMMA: &[(&str, &str)] = &[
    ("ffn_norm", "pre_feedforward_layernorm"),
    ("post_attention_norm", "post_attention_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
];

/// Where Phi-3's do, whose gate is in one matrix with what it gates.
const IN_PHI3: &[(&str, &str)] = &[("ffn_up", "mlp.gate_up_proj")];

/// The name in a checkpoint, `None` for one that the architecture does not have.
pub fn in_checkpoint(architecture: &str, tensor: &str) -> Option<String> {
    let (module, kind) = tensor.rsplit_once('.')?;
    let whole = match module {
        "token_embd" => Some("model.embed_tokens"),
        "output_norm" => Some("model.norm"),
        "output" => Some("lm_head"),
        _ => None,
    };
    if let Some(whole) = whole {
        return Some(format!("{whole}.{kind}"));
    }
    let (block, name) = module.strip_prefix("blk.")?.split_once('.')?;
    block.parse::<usize>().ok()?;
    let own = match architecture {
        "gemma2" | "gemma3" => IN_GEMMA,
        "phi3" => IN_PHI3,
        _ => &[],
    };
    let (_, name) = own.iter().chain(IN_BLOCK).find(|(known, _)| *known == name)?;
    Some(format!("model.layers.{block}.{name}.{kind}"))
}

/// What kind of tensor it is, where the kind is stored in another way than in a checkpoint.
pub enum Kind {
    Queries,
    Keys,
    Norm,
    Other,
}

pub fn change(architecture: &str, name: &str) -> Kind {
    match architecture {
        "llama" if name.contains("self_attn.q_proj.") => Kind::Queries,
        "llama" if name.contains("self_attn.k_proj.") => Kind::Keys,
        "gemma2" | "gemma3" if name.ends_with("norm.weight") => Kind::Norm,
        _ => Kind::Other,
    }
}
