//! Which layers a stage looks at.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// `"all"`, or layers from 0 to L, negative ones counted from the end (-1 is L).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Layers {
    Name(String),
    Chosen(Vec<i64>),
}

impl Default for Layers {
    fn default() -> Self {
        Layers::Name("all".into())
    }
}

impl Layers {
    /// The layers of a model with `top` blocks, ascending and each once.
    ///
    /// # Errors
    /// When one lies outside 0..=top, or the name is not "all".
    pub fn resolve(&self, top: usize) -> Result<Vec<usize>> {
        let chosen = match self {
            Layers::Name(name) if name == "all" => return Ok((0..=top).collect()),
            Layers::Name(name) => bail!("layers is \"{name}\", expected \"all\" or a list of layers"),
            Layers::Chosen(chosen) => chosen,
        };
        let mut layers = Vec::new();
        for layer in chosen {
            let resolved = if *layer < 0 { layer + top as i64 + 1 } else { *layer };
            match usize::try_from(resolved) {
                Ok(resolved) if resolved <= top => layers.push(resolved),
                _ => bail!("layer {layer} is not in this model: it has layers 0 to {top} (-1 being {top})"),
            }
        }
        layers.sort_unstable();
        layers.dedup();
        Ok(layers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_count_from_either_end_and_are_checked() {
        assert_eq!(Layers::default().resolve(3).unwrap(), [0, 1, 2, 3]);
        assert_eq!(Layers::Chosen(vec![-1, 0, 3, -2]).resolve(3).unwrap(), [0, 2, 3]);
        let error = Layers::Chosen(vec![4]).resolve(3).unwrap_err().to_string();
        assert!(error.contains("layer 4") && error.contains("0 to 3"), "{error}");
        assert!(Layers::Chosen(vec![-5]).resolve(3).is_err());
    }
}
