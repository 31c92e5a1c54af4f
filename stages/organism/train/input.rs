//! The files that the task is given, by name.

use anyhow::{Context, Result, bail};

use crate::contract::node::Part;

/// The bytes of the file `name`.
pub fn read(parts: &[Part], name: &str) -> Result<Vec<u8>> {
    let Some(part) = parts.iter().find(|part| part.name == name) else {
        let found: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
        bail!("the input has no file {name}; it has {}", found.join(", "));
    };
    std::fs::read(&part.path).with_context(|| format!("cannot read {}", part.path.display()))
}
