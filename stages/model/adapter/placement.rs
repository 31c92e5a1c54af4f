//! Which of a model's linear layers an adapter's tensors update, checked against what its config asks for.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use super::config::AdapterConfig;
use super::layout::{Kind, Name, Naming, is_unread, name};
use super::pattern::Patterns;
use crate::contract::pipeline::nearest;
use crate::model::block::description::{Description, Form, Head};

/// Of each tensor of a file its rows and columns, or the length of a vector.
pub type Shapes = BTreeMap<String, Vec<usize>>;

/// What an adapter changes in a model.
#[derive(Debug, Default, PartialEq)]
pub struct Adapter {
    pub updates: Vec<(Target, LowRank)>,
    /// Tensors of the adapter's file in place of those of the base's: (name in the base, name in the adapter).
    pub replaced: Vec<(String, String)>,
    /// The tensor in place of the embeddings of a model whose output head is tied to them, also in the head.
    pub shared_embedding: Option<String>,
    /// Tensors for parts of the model that are not computed.
    pub unread: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Embedding,
    /// A linear layer by its number in the block.
    Module {
        layer: usize,
        module: usize,
    },
    Head,
}

/// A low-rank update's tensors by their names.
#[derive(Debug, Clone, PartialEq)]
pub struct LowRank {
    pub a: String,
    pub b: String,
    pub bias: Option<String>,
    pub rank: usize,
    pub scale: f32,
}

/// A module of the base.
struct Known {
    name: String,
    target: Target,
    out: usize,
    inputs: usize,
}

impl Adapter {
    /// # Errors
    /// When a tensor has no place in the model, or its shape does not fit; when a module that the config names has none; when a
    /// pattern names nothing.
    pub fn place(config: &AdapterConfig, shapes: &Shapes, description: &Description) -> Result<Adapter> {
        let patterns = Patterns::of(config)?;
        let mut adapter = Adapter::default();
        let mut updates: BTreeMap<&str, BTreeMap<Kind, &str>> = BTreeMap::new();
        let mut replaced = Vec::new();
        for tensor in shapes.keys() {
            match name(tensor) {
                Name::Update { module, kind } => {
                    updates.entry(module).or_default().insert(kind, tensor);
                }
                Name::Replaced { tensor: module, shared } => replaced.push((module, tensor, shared)),
                Name::Other(kind) => {
                    bail!("the tensor \"{tensor}\" is a \"{kind}\", of a kind of adapter that is not supported")
                }
            }
        }
        let names: Vec<&str> = updates.keys().copied().collect();
        let naming = Naming::of(description, &names);
        let modules = modules(description, &naming);
        let find = |name: &str| modules.iter().find(|module| module.name == name);
        for (module, tensors) in &updates {
            if is_unread(module, description) {
                adapter.unread.extend(tensors.values().map(|tensor| tensor.to_string()));
                continue;
            }
            let Some(known) = find(module) else {
                bail!(
                    "the adapter updates \"{module}\", which the base does not have{}{}",
                    near(module, &modules),
                    trained_on(config)
                );
            };
            let head = known.target == Target::Head;
            if !patterns.is_target(module, head)? {
                bail!(
                    "the adapter's file updates \"{module}\", which \"target_modules\" of adapter_config.json does not name"
                );
            }
            let (rank, alpha) = patterns.rank_and_alpha(config, module)?;
            let update = low_rank(known, tensors, rank, config.scale(rank, alpha))?;
            check_shapes(known, &update, shapes)
                .with_context(|| format!("the update of \"{module}\"{}", trained_on(config)))?;
            adapter.updates.push((known.target, update));
        }
        adapter.updates.sort_by_key(|(target, _)| *target);
        for module in &modules {
            let missing = patterns.is_target(&module.name, module.target == Target::Head)?
                && !names.contains(&module.name.as_str())
                && !is_left_out(module, config, description, &names);
            if missing {
                bail!(
                    "adapter_config.json names \"{}\", but the adapter's file holds no update of it: it is cut short, or of another \
                     base{}",
                    module.name,
                    trained_on(config)
                );
            }
        }
        let saved: Vec<&str> =
            replaced.iter().map(|(module, ..)| module.rsplit_once('.').map_or(module.as_str(), |(of, _)| of)).collect();
        // What else a model that reads images has is not known here.
        if description.unread.is_empty() {
            let modules: Vec<&str> = modules.iter().map(|module| module.name.as_str()).collect();
            patterns.check_all_used(&modules, &names, &saved).context("adapter_config.json")?;
        }
        let tied = match description.head {
            Head::Tied { copy } => [description.embedding.name, copy].map(|name| format!("{name}.weight")).to_vec(),
            Head::Own(_) => Vec::new(),
        };
        for (module, tensor, shared) in replaced {
            match naming.in_base(&module) {
                Some(base) if shared && tied.contains(&base) => {
                    // Of both its names the file may hold it under each.
                    adapter.unread.extend(adapter.shared_embedding.replace(tensor.clone()));
                }
                Some(base) => adapter.replaced.push((base, tensor.clone())),
                None => adapter.unread.push(tensor.clone()),
            }
        }
        Ok(adapter)
    }
}

fn modules(description: &Description, naming: &Naming) -> Vec<Known> {
    let of_block = description.modules();
    let (vocabulary, width) = (description.vocabulary, description.hidden_size);
    let mut modules =
        vec![Known { name: naming.embedding(), target: Target::Embedding, out: width, inputs: vocabulary }];
    for layer in 0..of_block.layers {
        for (module, of) in of_block.of_block.iter().enumerate() {
            let name = naming.in_block(layer, &of.name);
            modules.push(Known { name, target: Target::Module { layer, module }, out: of.out, inputs: of.inputs });
        }
    }
    modules.push(Known { name: naming.head().to_string(), target: Target::Head, out: vocabulary, inputs: width });
    modules
}

/// Modules that are named and need not be there: the embeddings, which are no linear layer, under a pattern for all; and the
/// experts and routers of a mixture, which newer versions of transformers do not hold as linear layers.
fn is_left_out(module: &Known, config: &AdapterConfig, description: &Description, targets: &[&str]) -> bool {
    match module.target {
        Target::Embedding => matches!(&config.target_modules, Some(super::config::Names::Pattern(_))),
        Target::Module { .. } => match &description.block.feed_forward.form {
            Form::Dense(_) => false,
            Form::Experts(experts) => {
                let expert = |name: &str| name.contains(&format!("{}.", experts.prefix));
                let router = |name: &str| name.ends_with(&format!(".{}", experts.router.name));
                (expert(&module.name) && !targets.iter().any(|name| expert(name)))
                    || (router(&module.name) && !targets.iter().any(|name| router(name)))
            }
        },
        Target::Head => false,
    }
}

fn low_rank(known: &Known, tensors: &BTreeMap<Kind, &str>, rank: usize, scale: f32) -> Result<LowRank> {
    let (a, b) = match known.target {
        Target::Embedding => (Kind::EmbeddingA, Kind::EmbeddingB),
        _ => (Kind::A, Kind::B),
    };
    let of = |kind: Kind| {
        let tensor = tensors.get(&kind).map(|tensor| tensor.to_string());
        tensor.with_context(|| format!("the update of \"{}\" lacks its matrix {kind:?}", known.name))
    };
    let bias = tensors.get(&Kind::Bias).map(|tensor| tensor.to_string());
    let update = LowRank { a: of(a)?, b: of(b)?, bias, rank, scale };
    let used = 2 + usize::from(update.bias.is_some());
    if tensors.len() != used {
        let names: Vec<&str> = tensors.values().copied().collect();
        bail!("the update of \"{}\" has matrices that do not belong together: {}", known.name, names.join(", "));
    }
    Ok(update)
}

fn check_shapes(known: &Known, update: &LowRank, shapes: &Shapes) -> Result<()> {
    let LowRank { a, b, bias, rank, .. } = update;
    let expected = [(a, vec![*rank, known.inputs]), (b, vec![known.out, *rank])].into_iter();
    for (tensor, expected) in expected.chain(bias.iter().map(|bias| (bias, vec![known.out]))) {
        let found = &shapes[tensor];
        if *found != expected {
            bail!(
                "the tensor \"{tensor}\" has the shape {found:?}, expected {expected:?} by the base's config.json and the rank {rank}"
            );
        }
    }
    Ok(())
}

fn near(module: &str, modules: &[Known]) -> String {
    match nearest(module, modules.iter().map(|module| module.name.as_str())) {
        Some(near) => format!("; the nearest is \"{near}\""),
        None => String::new(),
    }
}

fn trained_on(config: &AdapterConfig) -> String {
    match &config.base_model_name_or_path {
        Some(base) => format!("; the adapter was trained on {base}"),
        None => String::new(),
    }
}
