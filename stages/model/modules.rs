//! Names of weight matrices, and the patterns that pick among them.

use anyhow::{Result, bail};

use super::reverse::Module;

/// A linear layer of a block, numbered from 0: `layers.3.self_attn.o_proj`, its name below `model.` in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModulePath {
    pub layer: usize,
    pub module: Module,
}

impl ModulePath {
    pub fn name(self) -> String {
        format!("layers.{}.{}", self.layer, self.module.name())
    }
}

/// Every linear layer of the blocks of a model with `layers` blocks, from the lowest up.
pub fn all(layers: usize) -> Vec<ModulePath> {
    (0..layers).flat_map(|layer| Module::ALL.map(|module| ModulePath { layer, module })).collect()
}

/// The linear layers that the patterns name, ascending and each once. `*` stands for any text, a layer
/// below 0 counts from the end (-1 is the last block), and a checkpoint's own names (`model.….weight`) are understood.
///
/// # Errors
/// When a pattern names none: the error lists what there is.
pub fn resolve(patterns: &[String], layers: usize) -> Result<Vec<ModulePath>> {
    let mut found = Vec::new();
    for pattern in patterns {
        let before = found.len();
        let written = count_from_the_end(pattern, layers);
        found.extend(all(layers).into_iter().filter(|path| matches(&written, &path.name())));
        if found.len() == before {
            bail!("no weight matrix is named \"{pattern}\"; {}", what_there_is(layers));
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// A sentence with the names that [`resolve`] knows.
pub fn what_there_is(layers: usize) -> String {
    let names = Module::ALL.map(Module::name).join(", ");
    format!("there are layers.0 to layers.{} (or layers.-1 for the last), each with {names}", layers.saturating_sub(1))
}

/// The pattern without what a checkpoint's name has around it, its layer counted from the start.
fn count_from_the_end(pattern: &str, layers: usize) -> String {
    let inner = pattern.strip_prefix("model.").unwrap_or(pattern);
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

    fn names(patterns: &[&str]) -> Vec<String> {
        let patterns: Vec<String> = patterns.iter().map(|p| p.to_string()).collect();
        resolve(&patterns, 12).unwrap().into_iter().map(ModulePath::name).collect()
    }

    #[test]
    fn patterns_pick_modules_once_and_in_order() {
        assert_eq!(names(&["layers.-1.self_attn.o_proj"]), ["layers.11.self_attn.o_proj"]);
        assert_eq!(names(&["model.layers.1.mlp.up_proj.weight"]), ["layers.1.mlp.up_proj"]);
        assert_eq!(names(&["layers.*.mlp.down_proj"]).len(), 12);
        assert_eq!(names(&["*"]).len(), 84);
        let both = names(&["layers.10.*.o_proj", "layers.2.self_attn.q_proj", "*.10.self_attn.o_proj"]);
        assert_eq!(both, ["layers.2.self_attn.q_proj", "layers.10.self_attn.o_proj"]);
    }

    #[test]
    fn a_pattern_that_names_nothing_is_an_error_with_what_there_is() {
        for pattern in ["layers.12.mlp.down_proj", "layers.-13.mlp.down_proj", "lm_head", "layers.0.mlp", ""] {
            let error = resolve(&["*".into(), pattern.into()], 12).unwrap_err().to_string();
            let expected = [format!("\"{pattern}\""), "layers.11".into(), "self_attn.o_proj".into()];
            assert!(expected.iter().all(|part| error.contains(part.as_str())), "{error}");
        }
    }
}
