//! `strata graph`

use std::collections::BTreeSet;

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
        let mut vertices = Vec::new();
        let mut edges = BTreeSet::new();
        for (id, node) in graph.nodes() {
            if !vertices.contains(&name(id)) {
                vertices.push(name(id));
            }
            edges.extend(node.upstream().map(|upstream| (name(upstream), name(id))));
        }
        let place = |name: &String| vertices.iter().position(|vertex| vertex == name).unwrap_or_default();
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
