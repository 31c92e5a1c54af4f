//! The linear layers of a model's blocks, by name, and the patterns that pick among them.

use std::sync::Arc;

use anyhow::{Result, bail};

/// A linear layer as every block of a model has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Its name below `model.layers.<l>.` in a checkpoint: `self_attn.o_proj`.
    pub name: Arc<str>,
    /// Rows of its weight matrix.
    pub out: usize,
    /// Columns of its weight matrix.
    pub inputs: usize,
}

/// The linear layers of a model: the same in each of its blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Modules {
    /// The number of blocks.
    pub layers: usize,
    /// In the order of the forward pass.
    pub of_block: Vec<Module>,
}

/// A linear layer of one block, numbered from 0: `layers.3.self_attn.o_proj`, its name below `model.` in a
/// checkpoint. Ordered as the forward pass comes by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModulePath {
    pub layer: usize,
    /// Its place among the linear layers of its block.
    pub ordinal: usize,
    /// Its place among the linear layers of the model.
    pub number: usize,
    name: Arc<str>,
}

impl ModulePath {
    pub fn name(&self) -> String {
        format!("layers.{}.{}", self.layer, self.name)
    }
}

impl Modules {
    /// Every linear layer, from the lowest up.
    pub fn all(&self) -> Vec<ModulePath> {
        (0..self.layers).flat_map(|layer| (0..self.of_block.len()).map(move |i| self.path(layer, i))).collect()
    }

    /// # Panics
    /// When a block has no linear layer of that ordinal.
    pub fn path(&self, layer: usize, ordinal: usize) -> ModulePath {
        let number = layer * self.of_block.len() + ordinal;
        ModulePath { layer, ordinal, number, name: self.of_block[ordinal].name.clone() }
    }

    /// What a path of this model names.
    ///
    /// # Panics
    /// When the path is another model's and this one has no such linear layer.
    pub fn of(&self, path: &ModulePath) -> &Module {
        &self.of_block[path.ordinal]
    }

    /// The linear layers that the patterns name, ascending and each once. `*` stands for any text, a layer
    /// below 0 counts from the end (-1 is the last block), and a checkpoint's own names (`model.….weight`) are
    /// understood.
    ///
    /// # Errors
    /// When a pattern names none: the error lists what there is.
    pub fn resolve(&self, patterns: &[String]) -> Result<Vec<ModulePath>> {
        let mut found = Vec::new();
        for pattern in patterns {
            let before = found.len();
            let written = count_from_the_end(pattern, self.layers);
            found.extend(self.all().into_iter().filter(|path| matches(&written, &path.name())));
            if found.len() == before {
                bail!("no weight matrix is named \"{pattern}\"; {}", self.what_there_is());
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// A sentence with the names that [`Modules::resolve`] knows.
    pub fn what_there_is(&self) -> String {
        let mut names: Vec<String> = Vec::new();
        for name in self.of_block.iter().map(|module| without_numbers(&module.name)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let last = self.layers.saturating_sub(1);
        format!("there are layers.0 to layers.{last} (or layers.-1 for the last), each with {}", names.join(", "))
    }
}

/// A name with `*` for the number of an expert.
fn without_numbers(name: &str) -> String {
    let pieces = name.split('.').map(|piece| if piece.parse::<usize>().is_ok() { "*" } else { piece });
    pieces.collect::<Vec<_>>().join(".")
}

/// The pattern without what a checkpoint's name has around it, its layer counted from the start.
fn count_from_the_end(pattern: &str, layers: usize) -> String {
    let inner = pattern.strip_prefix("model.").unwrap_or(pattern);
    // Other families' names begin otherwise: gpt_neox.layers.3.
    let inner = match inner.find(".layers.") {
        Some(end) if !inner[..end].contains('*') => &inner[end + 1..],
        _ => inner,
    };
    let inner = inner.strip_suffix(".weight").unwrap_or(inner);
    let mut pieces: Vec<String> = inner.split('.').map(String::from).collect();
    if let [first, layer, ..] = pieces.as_mut_slice()
        && first == "layers"
        && let Ok(number) = layer.parse::<i64>()
        && (-(layers as i64)..0).contains(&number)
    {
        *layer = (number + layers as i64).to_string();
    }
    pieces.join(".")
}

/// Whether the text is the pattern with each `*` replaced by some text.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == text };
    let Some(rest) = text.strip_prefix(before) else { return false };
    (0..=rest.len()).any(|skip| rest.is_char_boundary(skip) && matches(after, &rest[skip..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules() -> Modules {
        let of_block = ["self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj"].map(|name| Module {
            name: name.into(),
            out: 1,
            inputs: 1,
        });
        Modules { layers: 12, of_block: of_block.to_vec() }
    }

    fn names(patterns: &[&str]) -> Vec<String> {
        let patterns: Vec<String> = patterns.iter().map(|p| p.to_string()).collect();
        modules().resolve(&patterns).unwrap().iter().map(ModulePath::name).collect()
    }

    #[test]
    fn patterns_pick_modules_once_and_in_order() {
        assert_eq!(names(&["layers.-1.self_attn.o_proj"]), ["layers.11.self_attn.o_proj"]);
        assert_eq!(names(&["model.layers.1.mlp.up_proj.weight"]), ["layers.1.mlp.up_proj"]);
        assert_eq!(names(&["gpt_neox.layers.1.mlp.up_proj.weight"]), ["layers.1.mlp.up_proj"]);
        assert_eq!(names(&["language_model.model.layers.-1.mlp.up_proj"]), ["layers.11.mlp.up_proj"]);
        assert_eq!(names(&["layers.*.mlp.down_proj"]).len(), 12);
        assert_eq!(names(&["*"]).len(), 48);
        let both = names(&["layers.10.*.o_proj", "layers.2.self_attn.q_proj", "*.10.self_attn.o_proj"]);
        assert_eq!(both, ["layers.2.self_attn.q_proj", "layers.10.self_attn.o_proj"]);
    }

    #[test]
    fn what_there_is_names_the_experts_once() {
        let of_block = ["router", "experts.0.up", "experts.0.down", "experts.1.up", "experts.1.down"];
        let of_block = of_block.map(|name| Module { name: name.into(), out: 1, inputs: 1 }).to_vec();
        let text = Modules { layers: 1, of_block }.what_there_is();
        assert!(text.ends_with("each with router, experts.*.up, experts.*.down"), "{text}");
    }

    #[test]
    fn a_pattern_that_names_nothing_is_an_error_with_what_there_is() {
        for pattern in ["layers.12.mlp.down_proj", "layers.-13.mlp.down_proj", "lm_head", "layers.0.mlp", ""] {
            let error = modules().resolve(&["*".into(), pattern.into()]).unwrap_err().to_string();
            let expected = [format!("\"{pattern}\""), "layers.11".into(), "self_attn.o_proj".into()];
            assert!(expected.iter().all(|part| error.contains(part.as_str())), "{error}");
        }
    }
}
