//! An adapter's tensor names, and what they are of in the base.

use crate::model::block::description::{Description, Head};

/// What one tensor of an adapter's file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A [rank, in] of a linear layer.
    A,
    /// B [out, rank] of a linear layer.
    B,
    /// What is added to x Aᵀ Bᵀ before it is scaled.
    Bias,
    /// A [rank, vocabulary] of the embeddings.
    EmbeddingA,
    /// B [D, rank] of the embeddings.
    EmbeddingB,
}

/// A tensor's name taken apart.
#[derive(Debug, PartialEq, Eq)]
pub enum Name<'a> {
    /// Part of a module's low-rank update.
    Update { module: &'a str, kind: Kind },
    /// What stands in place of a tensor of the base, named as in the adapter's model. `shared`: it is the base's own parameter
    /// with other values, so that what is tied to it has them too; otherwise a copy of it that was trained.
    Replaced { tensor: String, shared: bool },
    /// Of another kind of adapter.
    Other(&'a str),
}

/// Takes a name apart. `.default`, the adapter's name, is in files that were not written by save_pretrained.
pub fn name(tensor: &str) -> Name<'_> {
    let path = tensor.strip_prefix("base_model.model.").unwrap_or(tensor);
    let Some(at) = path.find(".lora_") else {
        let parts: Vec<&str> = path
            .split('.')
            .filter(|part| !matches!(*part, "base_layer" | "modules_to_save" | "default" | "original_module"))
            .collect();
        return Name::Replaced { tensor: parts.join("."), shared: path.contains(".base_layer.") };
    };
    let module = &path[..at];
    let kind = match path[at + 1..].replace(".default", "").as_str() {
        "lora_A.weight" => Kind::A,
        "lora_B.weight" => Kind::B,
        "lora_B.bias" => Kind::Bias,
        "lora_embedding_A" => Kind::EmbeddingA,
        "lora_embedding_B" => Kind::EmbeddingB,
        _ => return Name::Other(&path[at + 1..]),
    };
    Name::Update { module, kind }
}

/// How the adapter names a base's modules, and the files of the base do: `model.layers.0.mlp.up_proj` in both, or with another
/// beginning in models that also read images.
pub struct Naming<'a> {
    description: &'a Description,
    /// What stands before `layers.` in the adapter.
    prefix: String,
    head: &'a str,
}

/// What transformers calls the output head, in newer versions also where a family's files have another name for it.
const HEAD: &str = "lm_head";

impl<'a> Naming<'a> {
    /// From the adapter's module names.
    pub fn of(description: &'a Description, modules: &[&str]) -> Naming<'a> {
        let own = description.blocks.strip_suffix("layers").unwrap_or_default();
        let head = if modules.contains(&HEAD) { HEAD } else { last(description.head_name()) };
        let found = modules.iter().find_map(|module| {
            let (prefix, _) = module.split_once("layers.")?;
            (!is_unread(module, description)).then_some(prefix)
        });
        Naming { description, prefix: found.unwrap_or(own).to_string(), head }
    }

    /// The adapter's name of a linear layer in a block.
    pub fn in_block(&self, layer: usize, name: &str) -> String {
        format!("{}layers.{layer}.{name}", self.prefix)
    }

    /// The adapter's name of the embeddings.
    pub fn embedding(&self) -> String {
        format!("{}{}", self.prefix, last(self.description.embedding.name))
    }

    /// The adapter's name of the output head.
    pub fn head(&self) -> &str {
        self.head
    }

    /// The name in the base's files of a tensor that the adapter calls so; `None` where it belongs to a part of the model that is
    /// not computed.
    pub fn in_base(&self, tensor: &str) -> Option<String> {
        if is_unread(tensor, self.description) {
            return None;
        }
        if let Some(rest) = tensor.strip_prefix(self.prefix.as_str()).and_then(|rest| rest.strip_prefix("layers.")) {
            return Some(format!("{}.{rest}", self.description.blocks));
        }
        let (module, kind) = tensor.rsplit_once('.').unwrap_or((tensor, ""));
        let head = self.description.head_name();
        if module == HEAD {
            return Some(format!("{head}.{kind}"));
        }
        let known = [self.description.embedding.name, self.description.final_norm.name, head];
        match known.into_iter().find(|known| last(known) == last(module)) {
            Some(known) => Some(format!("{known}.{kind}")),
            None => Some(tensor.to_string()),
        }
    }
}

impl Description {
    /// The output head's tensor without `.weight`, which files with tied weights may lack.
    pub fn head_name(&self) -> &'static str {
        match self.head {
            Head::Tied { copy } => copy,
            Head::Own(head) => head.name,
        }
    }
}

/// Whether a module or tensor belongs to a part of the model that is not computed.
pub fn is_unread(name: &str, description: &Description) -> bool {
    let name = name.strip_prefix("model.").unwrap_or(name);
    description.unread.iter().any(|start| name.starts_with(start))
}

fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}
