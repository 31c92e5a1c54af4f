//! Which tables the report reads: those of the pipeline's own stages, and of the stages that these read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::contract::node::{Bindings, Input, Node, Source};
use crate::contract::pipeline::{Pipeline, PlanError, Selection};
use crate::contract::stage::Stage;
use crate::contract::toml_path::at;

/// A table that the report knows how to show, and the columns it reads.
pub struct Shown {
    pub stage: &'static str,
    pub columns: &'static [&'static str],
}

/// In the order of the sections.
pub const SHOWN: &[Shown] = &[
    Shown { stage: "examples", columns: &["label"] },
    Shown { stage: "loss_summary", columns: &["measure", "n", "mean", "ci_low", "ci_high"] },
    Shown { stage: "token_losses", columns: &["example", "token", "text", "in_response", "logprob", "entropy"] },
    Shown { stage: "next_tokens", columns: &["example", "place", "token", "rank", "text", "probability", "entropy"] },
    Shown {
        stage: "similarity",
        columns: &["position", "layer", "site", "module", "example_a", "example_b", "centred", "cosine"],
    },
    Shown {
        stage: "similarity_summary",
        columns: &[
            "position",
            "layer",
            "site",
            "module",
            "centred",
            "n_pairs",
            "mean",
            "ci_low",
            "ci_high",
            "null_mean",
            "p_value",
        ],
    },
    Shown {
        stage: "pca",
        columns: &[
            "position",
            "layer",
            "site",
            "module",
            "pc1",
            "pc2",
            "pc3",
            "explained_variance_1",
            "explained_variance_2",
            "explained_variance_3",
        ],
    },
    Shown { stage: "gradients", columns: &["module", "norm"] },
    Shown { stage: "projections", columns: &["kind", "position", "layer", "site", "projection"] },
    Shown {
        stage: "projection_summary",
        columns: &["kind", "component", "position", "layer", "site", "n", "mean", "ci_low", "ci_high"],
    },
    Shown { stage: "departure", columns: &["kind", "component", "position", "layer", "site", "stays"] },
    Shown {
        stage: "directions",
        columns: &["position", "layer", "site", "kind", "component", "explained_variance", "norm", "n"],
    },
    Shown {
        stage: "direction_similarity",
        columns: &[
            "position",
            "layer",
            "site",
            "kind",
            "component_a",
            "component_b",
            "cosine",
            "null_cosine",
            "null_high",
            "random_cosine",
            "random_high",
        ],
    },
    Shown {
        stage: "subspace_similarity",
        columns: &["position", "layer", "site", "k", "angle_index", "cosine", "null_cosine", "null_high"],
    },
    Shown {
        stage: "separation",
        columns: &["kind", "component", "position", "layer", "site", "score", "ci_low", "ci_high", "p_holm"],
    },
    Shown { stage: "distance", columns: &["position", "layer", "site", "cosine_distance", "ci_low", "ci_high"] },
    Shown { stage: "patching", columns: &["layer", "metric", "value", "clean_source", "clean_target", "change"] },
    Shown { stage: "attribution", columns: &["example", "piece", "text", "target", "delta_logprob"] },
];

/// A node's place in the report's parameters: the report prints its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shelved {
    pub role: String,
    pub stage: String,
    pub bindings: Vec<(String, String)>,
}

/// The nodes to read, in the order of [`SHOWN`] and, within a stage, of its plan.
///
/// # Errors
/// When a stage's own plan fails, or `selection` names a stage that is not there or has nothing to show.
pub fn find(stages: &[&Stage], selection: &Selection, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let asked: Option<Vec<&str>> = match selection {
        Selection::One(star) if star == "*" => None,
        Selection::One(name) => Some(vec![name]),
        Selection::Many(names) => Some(names.iter().map(String::as_str).collect()),
    };
    for (i, name) in asked.iter().flatten().enumerate() {
        if !SHOWN.iter().any(|shown| shown.stage == *name) {
            let known = SHOWN.iter().map(|shown| shown.stage);
            return Err(PlanError::unknown(at("stages.report.stages").index(i), "table of the report", name, known));
        }
    }

    let mut planner = Planner { stages, pipeline, planned: Vec::new(), implied: BTreeMap::new() };
    for (name, _) in pipeline.sections.iter().filter(|(name, _)| name != "report") {
        planner.plan(name)?;
    }
    for name in asked.iter().flatten() {
        planner.plan(name)?;
    }
    let wanted = planner.close()?;

    let shown = |stage: &str| {
        SHOWN.iter().position(|shown| shown.stage == stage).filter(|_| {
            // The datasets' sizes and labels are part of any report.
            stage == "examples" || asked.as_ref().is_none_or(|asked| asked.contains(&stage))
        })
    };
    let mut found: Vec<(usize, Node)> =
        wanted.into_iter().filter_map(|node| Some((shown(node.stage)?, node))).collect();
    found.sort_by_key(|(place, _)| *place);
    keep_first_direction(&mut found);
    Ok(found.into_iter().map(|(_, node)| node).collect())
}

/// Drops all projections but those that box plots are drawn of: of the first two models, each dataset's on its own
/// direction, or all on the first direction. The table of single examples is the largest there is.
fn keep_first_direction(found: &mut Vec<(usize, Node)>) {
    let name = |node: &Node, role: &str| -> String {
        node.bindings.iter().find(|(key, _)| *key == role).map_or(String::new(), |(_, name)| name.clone())
    };
    let pair = |node: &Node| (name(node, "source"), name(node, "target"));
    let own = |node: &Node| name(node, "direction") == name(node, "dataset");
    let all = || found.iter().map(|(_, node)| node).filter(|node| node.stage == "projections");
    let Some(first) = all().next() else { return };
    let (first_pair, first_direction) = (pair(first), name(first, "direction"));
    let with_own = all().any(|node| pair(node) == first_pair && own(node));
    found.retain(|(_, node)| {
        let here = if with_own { own(node) } else { name(node, "direction") == first_direction };
        node.stage != "projections" || pair(node) == first_pair && here
    });
}

/// The inputs that read these nodes, and what the report's parameters say of each.
pub fn shelve(nodes: &[Node]) -> (Vec<Input>, Vec<Shelved>) {
    let mut inputs = Vec::new();
    let mut shelved = Vec::new();
    for (i, node) in nodes.iter().enumerate() {
        let role = format!("{}/{i}", node.stage);
        let columns = SHOWN.iter().find(|shown| shown.stage == node.stage).map(|shown| shown.columns);
        let input = Input::node(role.clone(), node.stage, node.bindings.clone());
        inputs.push(Input { columns, ..input });
        let bindings = node.bindings.iter().map(|(key, name)| (key.to_string(), name.clone())).collect();
        shelved.push(Shelved { role, stage: node.stage.to_string(), bindings });
    }
    (inputs, shelved)
}

struct Planner<'a> {
    stages: &'a [&'a Stage],
    pipeline: &'a Pipeline,
    /// The stages whose nodes are all wanted, and these nodes.
    planned: Vec<(&'static str, Vec<Node>)>,
    /// The nodes of the stages that others read, and that have no section.
    implied: BTreeMap<&'static str, BTreeMap<Bindings, Node>>,
}

impl Planner<'_> {
    fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().copied().find(|stage| stage.name == name)
    }

    /// Wants all nodes of a stage under its section's settings. A name that is no stage is the engine's to report.
    fn plan(&mut self, name: &str) -> Result<(), PlanError> {
        let Some(stage) = self.stage(name) else { return Ok(()) };
        let stage_name = stage.name;
        if self.planned.iter().all(|(planned, _)| *planned != stage_name) {
            let section = self.pipeline.sections.iter().find(|(section, _)| section == name);
            let none = json!({});
            let nodes = (stage.plan)(section.map_or(&none, |(_, settings)| settings), self.pipeline)?;
            self.planned.push((stage_name, nodes));
        }
        Ok(())
    }

    /// All wanted nodes, and those that they read, directly or not.
    fn close(mut self) -> Result<Vec<Node>, PlanError> {
        let whole: Vec<&str> = self.planned.iter().map(|(stage, _)| *stage).collect();
        let mut wanted: Vec<Node> =
            std::mem::take(&mut self.planned).into_iter().flat_map(|(_, nodes)| nodes).collect();
        let mut next = 0;
        while next < wanted.len() {
            let mut found = Vec::new();
            for input in &wanted[next].inputs {
                // A stage with a section has all of its nodes here already.
                if let Source::Node { stage, bindings } = &input.source
                    && !whole.contains(stage)
                {
                    found.extend(self.take(stage, bindings)?);
                }
            }
            wanted.extend(found);
            next += 1;
        }
        Ok(wanted)
    }

    /// A node of a stage that has no section, the first time it is asked for.
    fn take(&mut self, name: &'static str, bindings: &Bindings) -> Result<Option<Node>, PlanError> {
        if !self.implied.contains_key(name) {
            let nodes = match self.stage(name) {
                Some(stage) => (stage.plan)(&json!({}), self.pipeline)?,
                None => Vec::new(),
            };
            self.implied.insert(name, nodes.into_iter().map(|node| (node.bindings.clone(), node)).collect());
        }
        Ok(self.implied.get_mut(name).and_then(|nodes| nodes.remove(bindings)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn box_plots_are_drawn_of_the_first_models_and_each_datasets_own_direction() {
        let node = |direction: &str, target: &str, dataset: &str| {
            let names = [("direction", direction), ("source", "base"), ("target", target), ("dataset", dataset)];
            let bindings: Bindings = names.map(|(key, name)| (key, name.to_string())).to_vec();
            (0, Node { stage: "projections", bindings, params: json!({}), inputs: Vec::new(), per_part: None })
        };
        let kept = |nodes: &[(&str, &str, &str)]| {
            let mut found = nodes.iter().map(|(direction, target, dataset)| node(direction, target, dataset)).collect();
            keep_first_direction(&mut found);
            found
                .iter()
                .map(|(_, node)| node.bindings.iter().map(|(_, name)| &name[..1]).collect())
                .collect::<Vec<String>>()
        };
        let all = [("a", "i", "a"), ("a", "i", "b"), ("b", "i", "b"), ("a", "m", "a")];
        assert_eq!(kept(&all), ["abia", "bbib"]);
        let foreign = [("a", "i", "b"), ("a", "i", "c"), ("b", "i", "c")];
        assert_eq!(kept(&foreign), ["abib", "abic"]);
    }
}
