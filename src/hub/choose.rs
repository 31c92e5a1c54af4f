//! Which files of a model's repository are read: those that would be read of the same folder on disk.

use strata_stages::model::adapter::file_names;

use super::Use;
use super::failure::Failure;
use super::listing::{Listing, some};
use super::names::FileName;

pub const CONFIG: &str = "config.json";
pub const INDEX: &str = "model.safetensors.index.json";
pub const WEIGHTS: &str = "safetensors";
/// Those of a tokenizer that a repository may have or not.
pub const TOKENIZER: [&str; 3] = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"];

/// What of a model is to come.
pub struct Chosen {
    /// Without which a pipeline cannot be planned. They are small.
    pub configs: Vec<FileName>,
    pub rest: Vec<FileName>,
    /// The file among `configs` that names the weights, which are then no part of `rest`.
    pub index: Option<FileName>,
    /// Files that would be read, and that the repository does not have.
    pub absent: Vec<FileName>,
}

/// The files of a model or of an adapter.
///
/// # Errors
/// When the repository holds neither.
pub fn whole(asked: &Use, listing: &Listing) -> Result<Chosen, Failure> {
    let there = |name: &str| FileName::new(name).ok().filter(|name| listing.files.contains_key(name));
    let top = || listing.files.keys().filter(|name| name.depth() == 0);
    let tokenizer = TOKENIZER.into_iter().filter_map(there);
    let absent = TOKENIZER.into_iter().filter(|name| !listing.has(name));
    let absent = absent.filter_map(|name| FileName::new(name).ok()).collect();
    if let Some(config) = there(file_names::CONFIG) {
        let Some(weights) = there(file_names::WEIGHTS) else {
            let message = format!("the adapter {} holds no {}", asked.name(), file_names::WEIGHTS);
            return Err(Failure::wrong(message).help("Strata reads safetensors; peft's save_pretrained writes them"));
        };
        let rest = tokenizer.chain([weights]).collect();
        return Ok(Chosen { configs: vec![config], rest, index: None, absent });
    }
    let Some(config) = there(CONFIG) else {
        let quantised: Vec<&str> = top().filter(|name| name.has_ending(&["gguf"])).map(FileName::as_str).collect();
        let error = Failure::wrong(format!("{} holds neither {CONFIG} nor {}", asked.name(), file_names::CONFIG));
        return Err(match quantised.first() {
            Some(first) => error.help(format!("it has {}; name one of them: file = \"{first}\"", some(&quantised))),
            None => error.help(format!("it has {}", some(&top().map(FileName::as_str).collect::<Vec<_>>()))),
        });
    };
    if let Some(index) = there(INDEX) {
        return Ok(Chosen {
            configs: vec![config, index.clone()],
            rest: tokenizer.collect(),
            index: Some(index),
            absent,
        });
    }
    let weights: Vec<FileName> =
        top().filter(|name| name.has_ending(&[WEIGHTS]) && name.as_str() != file_names::WEIGHTS).cloned().collect();
    if weights.is_empty() {
        let error = Failure::wrong(format!("{} holds no .{WEIGHTS} file", asked.name()));
        let others = top().filter(|name| name.has_ending(&["bin", "pt", "pth", "gguf", "h5", "msgpack"]));
        let others: Vec<&str> = others.map(FileName::as_str).collect();
        return Err(match others.iter().find(|name| name.ends_with(".gguf")) {
            Some(name) => error.help(format!("it has {}; name a GGUF file: file = \"{name}\"", some(&others))),
            None => error.help(format!(
                "it has {}; transformers' save_pretrained writes safetensors, and so do some of its pull requests: \
                 revision = \"refs/pr/N\"",
                some(&others)
            )),
        });
    }
    Ok(Chosen { configs: vec![config], rest: tokenizer.chain(weights).collect(), index: None, absent })
}
