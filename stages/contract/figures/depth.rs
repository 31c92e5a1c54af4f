//! A layer at a site, as figures name it.

/// A layer at a site, in the order in which a forward pass comes to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Depth {
    pub layer: u32,
    /// True at the final norm, which follows the last layer.
    pub normed: bool,
}

impl Depth {
    pub fn new(layer: u32, site: &str) -> Depth {
        Depth { layer, normed: site == "final_norm" }
    }

    /// `3`, or `norm` for the last layer's stream after the final norm.
    pub fn label(self) -> String {
        if self.normed { "norm".into() } else { self.layer.to_string() }
    }

    /// As part of a sentence.
    pub fn phrase(self) -> String {
        if self.normed { "the final norm".into() } else { format!("layer {}", self.layer) }
    }
}
