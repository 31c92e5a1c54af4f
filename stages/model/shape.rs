//! What of a model's config.json says whether another model's numbers fit it.

use anyhow::Result;

use super::family;
use crate::contract::node::Alike;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub hidden_size: usize,
    pub layers: usize,
    pub vocabulary: usize,
}

/// Reads the text of a config.json.
///
/// # Errors
/// As for [`family::describe`].
pub fn shape(text: &str) -> Result<Shape> {
    let description = family::describe(text)?;
    Ok(Shape { hidden_size: description.hidden_size, layers: description.layers, vocabulary: description.vocabulary })
}

impl Shape {
    /// The first number in which the two must agree and do not: its name, this model's and the other's.
    pub fn difference(&self, other: &Shape, alike: Alike) -> Option<(&'static str, usize, usize)> {
        let sizes = [
            ("hidden size", self.hidden_size, other.hidden_size, Alike::States),
            ("number of layers", self.layers, other.layers, Alike::States),
            ("vocabulary size", self.vocabulary, other.vocabulary, Alike::Tokens),
        ];
        let differs = |&(_, a, b, asked): &(&str, usize, usize, Alike)| alike >= asked && a != b;
        sizes.into_iter().find(differs).map(|(name, a, b, _)| (name, a, b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_may_differ_in_vocabulary_and_tokens_may_not() {
        let a = Shape { hidden_size: 64, layers: 4, vocabulary: 640 };
        let with_token = Shape { vocabulary: 641, ..a };
        assert_eq!(a.difference(&with_token, Alike::States), None);
        assert_eq!(a.difference(&with_token, Alike::Tokens), Some(("vocabulary size", 640, 641)));
        let wider = Shape { hidden_size: 96, ..with_token };
        assert_eq!(a.difference(&wider, Alike::States), Some(("hidden size", 64, 96)));
        assert_eq!(a.difference(&Shape { layers: 5, ..a }, Alike::States), Some(("number of layers", 4, 5)));
        assert_eq!(a.difference(&a, Alike::Tokens), None);
    }
}
