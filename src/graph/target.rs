//! Targets: nodes as a user names them, and the selection they make.

use std::collections::BTreeSet;

use strata_stages::PlanError;

use super::{Graph, GraphNode, NodeId, NodeSet};

/// `stage` or `stage[name,name,…]` as the user writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub stage: String,
    pub names: Vec<String>,
}

impl Target {
    pub fn parse(text: &str) -> Result<Target, PlanError> {
        let Some((stage, rest)) = text.split_once('[') else {
            return Ok(Target { stage: text.to_string(), names: Vec::new() });
        };
        let Some(names) = rest.strip_suffix(']') else {
            return Err(PlanError::new("", format!("target \"{text}\" has no closing bracket"))
                .help("expected STAGE or STAGE[NAME,NAME], for example \"hidden_states[base,insecure]\""));
        };
        let names = names.split(',').map(|name| name.trim().to_string()).collect();
        Ok(Target { stage: stage.to_string(), names })
    }

    /// A name matches in its place, or anywhere as `key=value`; missing ones match all. In the stage and in names `*`
    /// stands for any characters and `?` for one.
    fn matches(&self, node: &GraphNode) -> bool {
        glob(&self.stage, node.stage.name)
            && self.names.len() <= node.bindings.len()
            && self.names.iter().enumerate().all(|(place, name)| match name.split_once('=') {
                Some((key, value)) => node.binding(key).is_some_and(|bound| glob(value, bound)),
                None => glob(name, &node.bindings[place].1),
            })
    }
}

/// Whether a pattern with `*` and `?` stands for all of the text.
fn glob(pattern: &str, text: &str) -> bool {
    let mut rest = pattern.chars();
    match rest.next() {
        None => text.is_empty(),
        Some('*') => {
            text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| glob(rest.as_str(), &text[at..]))
        }
        Some(wanted) => {
            let mut left = text.chars();
            left.next().is_some_and(|found| wanted == '?' || wanted == found) && glob(rest.as_str(), left.as_str())
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.stage)?;
        if self.names.is_empty() { Ok(()) } else { write!(f, "[{}]", self.names.join(",")) }
    }
}

impl Graph {
    /// The nodes that targets name, and everything those read; all nodes where there are no targets.
    pub fn select(&self, targets: &[Target]) -> Result<NodeSet, PlanError> {
        if targets.is_empty() {
            return Ok(self.all());
        }
        let mut wanted = self.none();
        for target in targets {
            self.find(target)?.into_iter().for_each(|id| wanted.insert(id));
        }
        for id in self.ids().rev() {
            if wanted.contains(id) {
                self.node(id).upstream().for_each(|upstream| wanted.insert(upstream));
            }
        }
        Ok(wanted)
    }

    /// The nodes a target names.
    pub fn find(&self, target: &Target) -> Result<Vec<NodeId>, PlanError> {
        let found: Vec<NodeId> = self.nodes().filter(|(_, node)| target.matches(node)).map(|(id, _)| id).collect();
        if found.is_empty() { Err(self.unknown_target(target)) } else { Ok(found) }
    }

    fn unknown_target(&self, target: &Target) -> PlanError {
        let stages: BTreeSet<&str> = self.nodes().map(|(_, node)| node.stage.name).collect();
        if !stages.iter().any(|stage| glob(&target.stage, stage)) {
            return PlanError::unknown("", "target", &target.stage, stages);
        }
        // The first name that no node has in its place, given the names before it.
        let mut nodes: Vec<&GraphNode> =
            self.nodes().map(|(_, node)| node).filter(|node| glob(&target.stage, node.stage.name)).collect();
        for place in 0..target.names.len() {
            let name = &target.names[place];
            let first = Target { stage: target.stage.clone(), names: target.names[..=place].to_vec() };
            let known: BTreeSet<&str> =
                nodes.iter().filter_map(|node| Some(node.bindings.get(place)?.1.as_str())).collect();
            if known.is_empty() {
                let error = PlanError::new("", format!("{target} has more names than {} has", target.stage));
                return error.help(format!("for example {}", self.example(&target.stage)));
            }
            nodes.retain(|node| first.matches(node));
            if nodes.is_empty() {
                return PlanError::unknown("", &format!("name in {target},"), name, known);
            }
        }
        PlanError::unknown("", "target", &target.to_string(), [self.example(&target.stage).as_str()])
    }

    /// A stage's first node, as a target.
    fn example(&self, stage: &str) -> String {
        self.nodes().find(|(_, node)| glob(stage, node.stage.name)).map_or_else(String::new, |(_, node)| node.label())
    }
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn a_star_is_any_text_and_a_question_mark_one_character() {
        for (pattern, text) in
            [("*", ""), ("*code*", "insecure_code_2"), ("direct*", "directions"), ("b?se", "base"), ("a", "a")]
        {
            assert!(glob(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("", "a"), ("*code", "codes"), ("b?se", "bse"), ("direct", "directions"), ("?", "")] {
            assert!(!glob(pattern, text), "{pattern} {text}");
        }
    }
}
