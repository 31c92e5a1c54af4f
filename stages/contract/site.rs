//! Where in the network a state is read, edited or compared.

use std::fmt;

use anyhow::{Result, bail};

/// A point on the residual stream's way. Ordered as the pass comes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site {
    /// 0 is the embedding output, l the stream after block l.
    pub layer: usize,
    pub stream: Stream,
}

/// What the states at a [`Site`] are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// The residual stream.
    Residual,
    /// The last layer's residual stream after the final norm.
    FinalNorm,
}

impl Stream {
    pub const ALL: [Stream; 2] = [Stream::Residual, Stream::FinalNorm];

    /// The name in tables, in the column `site`.
    pub fn name(self) -> &'static str {
        match self {
            Stream::Residual => "residual",
            Stream::FinalNorm => "final_norm",
        }
    }
}

impl Site {
    pub fn residual(layer: usize) -> Site {
        Site { layer, stream: Stream::Residual }
    }

    /// The final norm of a model with so many layers.
    pub fn final_norm(layers: usize) -> Site {
        Site { layer: layers, stream: Stream::FinalNorm }
    }

    /// From the columns `layer` and `site` of a table.
    ///
    /// # Errors
    /// When `site` is no such name.
    pub fn parse(layer: u32, site: &str) -> Result<Site> {
        match Stream::ALL.into_iter().find(|stream| stream.name() == site) {
            Some(stream) => Ok(Site { layer: layer as usize, stream }),
            None => bail!("unknown site \"{site}\"; expected {}", Stream::ALL.map(Stream::name).join(" or ")),
        }
    }

    /// The name in tables, in the column `site`.
    pub fn name(self) -> &'static str {
        self.stream.name()
    }

    /// As part of a sentence: `layer 3`, or `the final norm`.
    pub fn phrase(self) -> String {
        match self.stream {
            Stream::Residual => format!("layer {}", self.layer),
            Stream::FinalNorm => "the final norm".into(),
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "layer {} ({})", self.layer, self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_come_in_the_order_of_the_pass_and_are_read_back() {
        let all = [Site::residual(0), Site::residual(1), Site::residual(2), Site::final_norm(2)];
        assert!(all.is_sorted());
        for site in all {
            assert_eq!(Site::parse(site.layer as u32, site.name()).unwrap(), site);
        }
        assert_eq!(Site::final_norm(2).to_string(), "layer 2 (final_norm)");
        let error = Site::parse(0, "normed").unwrap_err().to_string();
        assert!(error.contains("\"normed\"") && error.contains("residual or final_norm"), "{error}");
    }
}
