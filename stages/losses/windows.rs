//! The windows of losses that `[stages.loss_vectors]` takes, as it says them to every stage that reads its tables.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contract::node::Bindings;
use crate::contract::pipeline::{Pipeline, PlanError, Selection, check_folder_name, model_dataset, parse_each};
use crate::contract::toml_path::TomlPath;

/// The stage.
pub const LOSS_VECTORS: &str = "loss_vectors";

/// Where a window begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// The turn's opening marker.
    Marker,
    /// The token after it, which is the role's name in ChatML.
    Role,
    /// The first token of the message itself.
    Content,
    /// The conversation's second token, the first that has a loss.
    Conversation,
}

impl Start {
    fn name(self) -> &'static str {
        match self {
            Start::Marker => "marker",
            Start::Role => "role",
            Start::Content => "content",
            Start::Conversation => "conversation",
        }
    }
}

/// A section `[stages.loss_vectors]`, or one of several `[[stages.loss_vectors]]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub name: Option<String>,
    pub models: Selection,
    pub datasets: Selection,
    pub n: usize,
    pub start: Start,
}

impl Default for Settings {
    fn default() -> Settings {
        let (models, datasets) = (Selection::default(), Selection::default());
        Settings { name: None, models, datasets, n: 64, start: Start::Marker }
    }
}

impl Settings {
    /// The window's name.
    pub fn window(&self) -> &str {
        self.name.as_deref().unwrap_or(self.start.name())
    }
}

/// The windows of the section or sections, each with its path.
///
/// # Errors
/// When a section cannot be read, or two windows have one name.
pub fn of_section(section: &Value) -> Result<Vec<(TomlPath, Settings)>, PlanError> {
    let windows = parse_each::<Settings>(LOSS_VECTORS, section)?;
    for (i, (at, window)) in windows.iter().enumerate() {
        if window.n == 0 {
            return Err(PlanError::new(at.key("n"), "n must be at least 1"));
        }
        if let Some(name) = &window.name {
            check_folder_name(&at.key("name"), name)?;
        }
        if windows[..i].iter().any(|(_, known)| known.window() == window.window()) {
            let message = format!("two windows are called \"{}\"", window.window());
            return Err(PlanError::new(at.clone(), message).help("give each a name = \"…\" of its own"));
        }
    }
    Ok(windows)
}

/// The name of the window that was chosen at `at`: the first one where none was.
///
/// # Errors
/// When there is no such window.
pub fn chosen(name: Option<&str>, at: TomlPath, pipeline: &Pipeline) -> Result<String, PlanError> {
    let section = pipeline.sections.iter().find(|(stage, _)| stage == LOSS_VECTORS);
    let windows = of_section(section.map_or(&json!({}), |(_, settings)| settings))?;
    let known: Vec<&str> = windows.iter().map(|(_, window)| window.window()).collect();
    match name {
        None => Ok(known.first().copied().unwrap_or_default().to_string()),
        Some(name) if known.contains(&name) => Ok(name.to_string()),
        Some(name) => Err(PlanError::unknown(at, "window", name, known)),
    }
}

pub fn bindings(model: &str, dataset: &str, window: &str) -> Bindings {
    let mut bindings = model_dataset(model, dataset);
    bindings.push(("window", window.to_string()));
    bindings
}
