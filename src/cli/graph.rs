//! `strata graph`

use std::collections::{BTreeSet, HashMap};

use anyhow::Result;
use clap::{Args, ValueEnum};

use super::say::say;
use super::{Outcome, Place};
use crate::graph::NodeId;

/// Print the graph of stages, or of nodes, as Mermaid, DOT or JSON
#[derive(Args)]
#[command(
    name = "graph",
    after_help = "Examples:
  strata graph                            stages, for a Markdown file
  strata graph --nodes --format dot | dot -Tsvg > graph.svg"
)]
pub struct GraphCommand {
    #[arg(long, value_enum, default_value = "mermaid")]
    format: Format,
    /// One vertex a node (stage, model, dataset) instead of one a stage
    #[arg(long)]
    nodes: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Mermaid,
    Dot,
    Json,
}

impl GraphCommand {
    pub fn execute(&self, place: &Place) -> Result<Outcome> {
        let graph = place.open()?.graph;
        let name = |id: NodeId| {
            let node = graph.node(id);
            if self.nodes { node.label() } else { node.stage.name.to_string() }
        };
        let (mut vertices, mut places) = (Vec::new(), HashMap::new());
        let mut edges = BTreeSet::new();
        for (id, node) in graph.nodes() {
            places.entry(name(id)).or_insert_with(|| {
                vertices.push(name(id));
                vertices.len() - 1
            });
            edges.extend(node.upstream().map(|upstream| (name(upstream), name(id))));
        }
        let place = |name: &String| places.get(name).copied().unwrap_or_default();
        match self.format {
            Format::Mermaid => {
                say!("graph TD");
                for (i, vertex) in vertices.iter().enumerate() {
                    say!("  n{i}[\"{vertex}\"]");
                }
                for (from, to) in &edges {
                    say!("  n{} --> n{}", place(from), place(to));
                }
            }
            Format::Dot => {
                say!("digraph strata {{\n  node [shape=box];");
                for vertex in &vertices {
                    say!("  \"{vertex}\";");
                }
                for (from, to) in &edges {
                    say!("  \"{from}\" -> \"{to}\";");
                }
                say!("}}");
            }
            Format::Json => say!("{}", serde_json::json!({ "vertices": vertices, "edges": edges })),
        }
        Ok(Outcome::Done)
    }
}
