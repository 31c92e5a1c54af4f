//! The passes that the observers of one model and dataset share: each is counted once, in rows of its own.

use std::collections::BTreeMap;

use super::memory::PROCESS;
use super::planned::NodeIndex;
use super::row::Row;
use crate::contract::cost::{ModelSize, Pass, Text};

/// What one observer asks of a pass, and what all of them do.
pub struct Asked {
    pub text: Text,
    pub pass: Pass,
    /// How many parts of the examples pass.
    pub parts: f64,
    /// Tokens of the largest part.
    pub part: f64,
}

/// By the model's name and the tokens that pass.
#[derive(Default)]
pub struct Passes {
    shared: BTreeMap<(String, NodeIndex), Asked>,
}

impl Passes {
    /// Adds an observer.
    pub fn share(&mut self, model: &str, tokens: NodeIndex, asked: Asked) {
        let key = (model.to_string(), tokens);
        let Some(shared) = self.shared.get_mut(&key) else {
            self.shared.insert(key, asked);
            return;
        };
        shared.pass = shared.pass.and(asked.pass);
        if asked.text.tokens > shared.text.tokens {
            (shared.text, shared.parts) = (asked.text, asked.parts);
        }
    }

    /// A model's passes up and back; one that does not pass has no tokens. `fits` says whether its weights fit into
    /// memory: what does not is read again for every part that passes.
    pub fn rows(&self, model: &str, size: &ModelSize, fits: bool) -> [Row; 2] {
        let mut forward = Row::of(format!("forward passes of {model}"));
        let mut back = Row::of(format!("backward passes of {model}"));
        let mut times = 0.0;
        for shared in self.shared.iter().filter(|((name, _), _)| name == model).map(|(_, shared)| shared) {
            forward.tokens += shared.text.tokens;
            forward.flops += size.pass_flops(shared.text, shared.pass);
            let up = Pass { reversed: 0, ..shared.pass };
            forward.memory = forward.memory.max(PROCESS + size.pass_memory(shared.part, up));
            if shared.pass.reversed > 0 {
                back.tokens += shared.text.tokens;
                back.flops += size.backward_flops(shared.text, shared.pass);
                back.memory = back.memory.max(PROCESS + size.pass_memory(shared.part, shared.pass));
            }
            times += shared.parts;
        }
        forward.read = size.bytes() * if fits { 1.0 } else { times.max(1.0) };
        [forward, back]
    }
}
