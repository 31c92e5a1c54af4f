//! What a node and its tasks read: the files, and what of them is in a key.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use strata_stages::Part;

use super::Plan;
use crate::graph::{FileRole, From, NodeId, TaskId};
use crate::key::{InputContent, Key, KeyDocument, KeyText};
use crate::store::{FileState, OutputRecord};

/// A part as a task reads it.
#[derive(Clone)]
pub struct ResolvedPart {
    pub part: Part,
    content: InputContent,
    /// For a file of the user's, what it was when it was hashed.
    pub external: Option<FileState>,
    /// The task that made it, where its objects are not here.
    pub elsewhere: Option<TaskId>,
    /// Whether it is a file of the user's that is not here, and of which the lock says what it was.
    pub absent: bool,
}

pub type ResolvedInputs = BTreeMap<String, Vec<ResolvedPart>>;

impl Plan<'_> {
    /// All inputs of a ready node.
    pub fn inputs(&mut self, id: NodeId) -> Result<ResolvedInputs> {
        let graph = self.graph;
        let mut inputs = ResolvedInputs::new();
        for input in &graph.node(id).inputs {
            let mut parts = Vec::new();
            for from in input.from.each() {
                match from {
                    From::Files { role, files } => {
                        for (name, path) in files.iter() {
                            parts.push(self.external_part(*role, name, path)?);
                        }
                    }
                    From::Setting(setting) => parts.push(setting_part(setting)),
                    From::Absent { what, .. } => bail!("{what}"),
                    From::Node { node, files } => {
                        let state = &self.states[*node];
                        let away = state.away();
                        let outputs = state.outputs().unwrap_or_default().iter().enumerate();
                        let outputs = outputs.filter(|(_, output)| files.admits(output.file_name()));
                        parts.extend(outputs.map(|(index, output)| {
                            let elsewhere = away.get(index).copied().flatten().map(|task| node.task(task));
                            self.stored_part(output, input.columns.as_deref(), elsewhere)
                        }));
                    }
                    From::Together(_) => bail!("a defect in Strata: an input made of inputs that are made of inputs"),
                }
            }
            inputs.insert(input.role.clone(), parts);
        }
        Ok(inputs)
    }

    /// The inputs of one task: of the role that splits the node, one part.
    pub fn task_inputs(&self, task: TaskId, inputs: &ResolvedInputs) -> ResolvedInputs {
        let split = self.graph.node(task.node).per_part;
        let own = |(role, parts): (&String, &Vec<ResolvedPart>)| {
            let parts = match split {
                Some(split) if split == role => parts.get(task.index).cloned().into_iter().collect(),
                _ => parts.clone(),
            };
            (role.clone(), parts)
        };
        inputs.iter().map(own).collect()
    }

    /// The keys of all tasks of a node with these inputs, in order. What they have in common is written once.
    pub fn keys(&self, id: NodeId, inputs: &ResolvedInputs) -> Vec<Key> {
        let node = self.graph.node(id);
        let (mut text, mut after) = (KeyText::new(), KeyText::after());
        let split = node.per_part.unwrap_or_default();
        for (role, parts) in inputs {
            match (node.per_part, role.as_str() < split) {
                (Some(split), false) if role == split => {}
                (Some(_), false) => after.role(role, parts.iter().map(|part| &part.content)),
                _ => text.role(role, parts.iter().map(|part| &part.content)),
            }
        }
        after.end(node.stage.name, node.stage.version, &node.params);
        if node.per_part.is_none() {
            text.append(&after);
            return vec![text.key()];
        }
        let common = text.len();
        let of_part = |part: &ResolvedPart| {
            text.truncate(common);
            text.role(split, [&part.content]);
            text.append(&after);
            text.key()
        };
        inputs.get(split).map_or(&[][..], Vec::as_slice).iter().map(of_part).collect()
    }

    /// What a task's key is the hash of.
    pub fn document(&self, id: NodeId, inputs: &ResolvedInputs) -> KeyDocument {
        let node = self.graph.node(id);
        let contents = inputs
            .iter()
            .map(|(role, parts)| (role.clone(), parts.iter().map(|part| part.content.clone()).collect()))
            .collect();
        KeyDocument {
            stage: node.stage.name.to_string(),
            version: node.stage.version,
            params: node.params.clone(),
            inputs: contents,
        }
    }

    fn stored_part(&self, output: &OutputRecord, columns: Option<&[&str]>, elsewhere: Option<TaskId>) -> ResolvedPart {
        let part = Part { path: self.store.layout.object(output), name: output.file_name().to_string() };
        let content = if output.columns.is_empty() {
            InputContent::File { name: output.file_name().to_string(), content: output.object.to_hex() }
        } else {
            let read = |name: &String| columns.is_none_or(|columns| columns.contains(&name.as_str()));
            let kept = output.columns.iter().filter(|(name, _)| read(name));
            InputContent::Columns { columns: kept.map(|(name, hash)| (name.clone(), hash.clone())).collect() }
        };
        ResolvedPart { part, content, external: None, elsewhere, absent: false }
    }

    fn external_part(&mut self, role: FileRole, name: &str, path: &Path) -> Result<ResolvedPart> {
        if !self.external.contains_key(path) {
            let found = match (FileState::of_input(path), self.graph.lock.hash(path)) {
                (Err(error), Some(was)) if error.kind() == ErrorKind::NotFound => (None, was.to_hex()),
                (state, _) => {
                    let state = state.with_context(|| format!("cannot read {}", path.display()))?;
                    let hash = self.store.fingerprints.hash(path, state);
                    (Some(state), hash.with_context(|| format!("cannot read {}", path.display()))?)
                }
            };
            self.external.insert(path.to_path_buf(), found);
        }
        let (state, content) = self.external[path].clone();
        // A model's file is read by its name; a dataset's own name is not content, only its format.
        let role = match role {
            FileRole::Model => name.to_string(),
            FileRole::Dataset => {
                path.extension().map_or_else(String::new, |ending| ending.to_string_lossy().into_owned())
            }
        };
        Ok(ResolvedPart {
            part: Part { path: path.to_path_buf(), name: name.to_string() },
            content: InputContent::File { name: role, content },
            external: state,
            elsewhere: None,
            absent: state.is_none(),
        })
    }
}

/// A setting as a part without a file: its name says it, and so does the key.
fn setting_part(setting: &str) -> ResolvedPart {
    let content = blake3::hash(setting.as_bytes()).to_hex().to_string();
    ResolvedPart {
        part: Part { path: PathBuf::new(), name: setting.to_string() },
        content: InputContent::File { name: setting.to_string(), content },
        external: None,
        elsewhere: None,
        absent: false,
    }
}
