//! Groups of vectors that are compared with one another: which groups there are, and how a task reads them.
//! Centring takes the mean over all of them, so that a task about two groups reads the whole comparison.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use arrow::array::{ArrayRef, StringArray, UInt32Array};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contract::cost::Expected;
use crate::contract::node::{Bindings, Input, Part};
use crate::contract::pipeline::{Pipeline, PlanError, Selection, model_dataset};
use crate::contract::setting::{Setting, setting};
use crate::contract::site::Stream;
use crate::contract::stage::Task;
use crate::contract::toml_path::at;
use crate::states::state_table::{Place, STATE_COLUMNS, StateTable, States};
use crate::table::{self, Column, Kind, column};

/// What the vectors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    /// Hidden states at one place.
    HiddenState,
    /// Losses of the first tokens of the assistant's turn.
    Loss,
    /// Gradients of the loss for one weight matrix.
    Gradient,
}

impl Of {
    pub fn name(self) -> &'static str {
        match self {
            Of::HiddenState => "hidden_state",
            Of::Loss => "loss",
            Of::Gradient => "gradient",
        }
    }

    fn input(self, role: String, model: &str, dataset: &str) -> Input {
        let (stage, columns) = match self {
            Of::HiddenState => ("hidden_states", STATE_COLUMNS),
            Of::Loss => ("loss_vectors", ["example", "vector"].as_slice()),
            Of::Gradient => ("gradient_vectors", ["example", "module", "vector"].as_slice()),
        };
        Input::node(role, stage, model_dataset(model, dataset)).columns(columns)
    }
}

/// Which groups are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Across {
    /// The datasets under one model; one comparison for each model.
    Datasets,
    /// The models on one dataset; one comparison for each dataset.
    Models,
    /// Every model on every dataset, in one comparison.
    All,
}

/// `[stages.similarity]`, which `similarity_summary` and `pca` share.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub of: Vec<Of>,
    pub across: Across,
    pub models: Selection,
    pub datasets: Selection,
    pub positions: Vec<String>,
    pub layers: Vec<i64>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            of: vec![Of::HiddenState, Of::Loss],
            across: Across::Datasets,
            models: Selection::default(),
            datasets: Selection::default(),
            positions: vec!["last".into()],
            layers: vec![-1],
        }
    }
}

pub const SETTINGS: &[Setting] = &[
    setting(
        "of",
        "What is compared: hidden_state, loss (the losses of the first tokens of the assistant's turn), gradient \
                (exactly, for the weight matrices of `[stages.gradients]`).",
    ),
    setting(
        "across",
        "The groups of a comparison: \"datasets\" (under one model), \"models\" (on one dataset) or \"all\".",
    ),
    setting("models", "The models whose vectors are compared."),
    setting("datasets", "The datasets whose examples are compared."),
    setting("positions", "The positions of the hidden states."),
    setting(
        "layers",
        "The layers of the hidden states, from the end where negative; at the last the state after the final norm.",
    ),
];

/// Groups whose vectors are centred on their common mean.
pub struct Comparison {
    pub of: Of,
    /// (model, dataset) of each group.
    pub groups: Vec<(String, String)>,
}

impl Comparison {
    /// One input for each group.
    pub fn inputs(&self) -> Vec<Input> {
        let numbered = self.groups.iter().enumerate();
        numbered.map(|(i, (model, dataset))| self.of.input(format!("group/{i}"), model, dataset)).collect()
    }

    /// The bindings of a pair of groups.
    pub fn pair(&self, a: usize, b: usize) -> Bindings {
        vec![
            ("of", self.of.name().to_string()),
            ("model_a", self.groups[a].0.clone()),
            ("dataset_a", self.groups[a].1.clone()),
            ("model_b", self.groups[b].0.clone()),
            ("dataset_b", self.groups[b].1.clone()),
        ]
    }

    /// Every pair of groups, each with itself too.
    pub fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let groups = self.groups.len();
        (0..groups).flat_map(move |a| (a..groups).map(move |b| (a, b)))
    }

    /// What a task has to know to read its vectors.
    pub fn params(&self, settings: &Settings) -> Value {
        match self.of {
            Of::HiddenState => json!({ "of": self.of, "positions": settings.positions, "layers": settings.layers }),
            Of::Loss | Of::Gradient => json!({ "of": self.of }),
        }
    }
}

/// The comparisons of a pipeline.
pub fn comparisons(settings: &Settings, pipeline: &Pipeline) -> Result<Vec<Comparison>, PlanError> {
    let at = |key: &str| at("stages.similarity").key(key);
    for (key, empty) in [
        ("of", settings.of.is_empty()),
        ("positions", settings.positions.is_empty()),
        ("layers", settings.layers.is_empty()),
    ] {
        if empty {
            return Err(PlanError::new(at(key), format!("{key} is empty")));
        }
    }
    if settings.of.contains(&Of::Gradient) && settings.across != Across::Datasets {
        let message = "gradients are compared within one model";
        return Err(
            PlanError::new(at("across"), message).help("across = \"datasets\" compares the datasets under each")
        );
    }
    let models = pipeline.models(&settings.models, at("models"))?;
    let datasets = pipeline.datasets(&settings.datasets, at("datasets"))?;
    let group = |model: usize, dataset: usize| (models[model].name.clone(), datasets[dataset].name.clone());
    let groups: Vec<Vec<(String, String)>> = match settings.across {
        Across::Datasets => {
            (0..models.len()).map(|model| (0..datasets.len()).map(|dataset| group(model, dataset)).collect()).collect()
        }
        Across::Models => {
            (0..datasets.len()).map(|dataset| (0..models.len()).map(|model| group(model, dataset)).collect()).collect()
        }
        Across::All => {
            vec![
                (0..models.len())
                    .flat_map(|m| (0..datasets.len()).map(move |d| (m, d)))
                    .map(|(m, d)| group(m, d))
                    .collect(),
            ]
        }
    };
    let of_each = settings.of.iter().flat_map(|of| groups.iter().map(|groups| (*of, groups.clone())));
    Ok(of_each.filter(|(_, groups)| !groups.is_empty()).map(|(of, groups)| Comparison { of, groups }).collect())
}

/// The parameters that [`Comparison::params`] gave.
#[derive(Debug, Deserialize)]
pub struct Reading {
    of: Of,
    #[serde(default)]
    positions: Vec<String>,
    #[serde(default)]
    layers: Vec<i64>,
}

/// What is known of a comparison before its vectors are there.
pub struct Sizes {
    /// Examples of each group.
    pub groups: Vec<f64>,
    /// Numbers in a vector.
    pub width: f64,
    pub slices: f64,
}

impl Sizes {
    /// `None` where a group's size is not known.
    pub fn expected(reading: &Reading, expected: &Expected) -> Option<Sizes> {
        let first = expected.tables.first()?;
        let groups: Vec<f64> = expected.tables.iter().map(|table| table.text.examples).collect();
        let (width, slices) = match reading.of {
            Of::HiddenState => {
                (first.model.hidden_size as f64, (reading.positions.len() * reading.layers.len()) as f64)
            }
            Of::Loss => (first.params["n"].as_f64()?, 1.0),
            Of::Gradient => (groups.iter().sum(), 1.0),
        };
        Some(Sizes { groups, width, slices })
    }

    pub fn examples(&self) -> f64 {
        self.groups.iter().sum()
    }

    /// Bytes of the vectors of one slice, in f64 as they are read and once more as they are compared.
    pub fn memory(&self) -> f64 {
        2.0 * 8.0 * self.examples() * self.width
    }

    /// Pairs of examples of two groups.
    pub fn pairs(&self, a: usize, b: usize) -> Option<f64> {
        let (in_a, in_b) = (*self.groups.get(a)?, *self.groups.get(b)?);
        Some(if a == b { in_a * (in_a - 1.0).max(0.0) / 2.0 } else { in_a * in_b })
    }
}

/// The vectors of all groups of a comparison, read one slice at a time.
pub enum Groups {
    States {
        tables: Vec<StateTable>,
        places: Vec<Place>,
    },
    Vectors(Vec<States>),
    /// For each module the vectors of all groups.
    Modules(Vec<(String, Vec<States>)>),
}

/// Where in the network the vectors of a slice come from.
#[derive(Debug, Clone)]
pub enum Slice {
    /// There is nothing more to say.
    Whole,
    Place(Place),
    /// A weight matrix by its name.
    Module(String),
}

impl Slice {
    fn place(&self) -> Option<&Place> {
        match self {
            Slice::Place(place) => Some(place),
            _ => None,
        }
    }

    fn module(&self) -> Option<&str> {
        match self {
            Slice::Module(name) => Some(name),
            _ => None,
        }
    }
}

impl Groups {
    /// Opens the inputs `group/0`, `group/1`, …
    ///
    /// # Errors
    /// When a group lacks a position or layer.
    pub fn open(task: &Task, reading: &Reading) -> Result<Groups> {
        let mut parts = Vec::new();
        while let Some(found) = task.inputs.get(&format!("group/{}", parts.len())) {
            parts.push(found.as_slice());
        }
        ensure!(!parts.is_empty(), "this task was given no groups");
        match reading.of {
            Of::HiddenState => {
                let tables: Vec<StateTable> = parts.into_iter().map(StateTable::open).collect::<Result<_>>()?;
                let places = chosen_places(&tables[0].places_at(&reading.positions)?, &reading.layers)?;
                Ok(Groups::States { tables, places })
            }
            Of::Loss => Ok(Groups::Vectors(parts.into_iter().map(read_vectors).collect::<Result<_>>()?)),
            Of::Gradient => Ok(Groups::Modules(read_modules(&parts)?)),
        }
    }

    pub fn slices(&self) -> Vec<Slice> {
        match self {
            Groups::States { places, .. } => places.iter().cloned().map(Slice::Place).collect(),
            Groups::Vectors(_) => vec![Slice::Whole],
            Groups::Modules(modules) => modules.iter().map(|(name, _)| Slice::Module(name.clone())).collect(),
        }
    }

    /// The vectors of each group.
    ///
    /// # Errors
    /// When the groups' vectors differ in length.
    pub fn load(&self, slice: &Slice) -> Result<Vec<States>> {
        let groups: Vec<States> = match self {
            Groups::States { tables, .. } => {
                let place = slice.place().context("hidden states have a place")?;
                let loaded = tables
                    .iter()
                    .enumerate()
                    .map(|(i, table)| table.load(place).with_context(|| format!("group {i} of the comparison")));
                loaded.collect::<Result<_>>()?
            }
            Groups::Vectors(groups) => groups.clone(),
            Groups::Modules(modules) => {
                let found = modules.iter().find(|(name, _)| slice.module() == Some(name));
                found.context("a module of the comparison")?.1.clone()
            }
        };
        if let Some(other) = groups.iter().find(|group| group.width != groups[0].width) {
            bail!("vectors of {} numbers cannot be compared with vectors of {}", other.width, groups[0].width);
        }
        Ok(groups)
    }
}

/// The vectors of all groups one after the other, and their mean subtracted where asked for.
pub fn pooled(groups: &[States], centred: bool) -> Vec<f64> {
    let mut pool: Vec<f64> = groups.iter().flat_map(|group| group.values.iter().copied()).collect();
    if centred {
        crate::linear_algebra::centre(&mut pool, groups[0].width);
    }
    pool
}

fn read_vectors(parts: &[Part]) -> Result<States> {
    let batch = table::read(parts, &["example", "vector"])?;
    let examples: &StringArray = table::values(&batch, "example")?;
    let (values, width) = table::vectors(&batch, "vector")?;
    Ok(States {
        examples: examples.iter().flatten().map(String::from).collect(),
        width,
        values: values.iter().map(|&value| f64::from(value)).collect(),
    })
}

/// For each module, in the order of the first group, the vectors of every group.
fn read_modules(groups: &[&[Part]]) -> Result<Vec<(String, Vec<States>)>> {
    let mut found: Vec<(String, Vec<States>)> = Vec::new();
    for (index, parts) in groups.iter().enumerate() {
        let batch = table::read(parts, &["example", "module", "vector"])?;
        let examples: &StringArray = table::values(&batch, "example")?;
        let modules: &StringArray = table::values(&batch, "module")?;
        let (vectors, width) = table::vectors(&batch, "vector")?;
        for (_, of_groups) in &mut found {
            of_groups.push(States { examples: Vec::new(), width, values: Vec::new() });
        }
        for ((example, module), vector) in
            examples.iter().flatten().zip(modules.iter().flatten()).zip(vectors.chunks(width))
        {
            let at = match found.iter().position(|(name, _)| name == module) {
                Some(at) => at,
                None => {
                    let empty = States { examples: Vec::new(), width, values: Vec::new() };
                    found.push((module.to_string(), vec![empty; index + 1]));
                    found.len() - 1
                }
            };
            let states = &mut found[at].1[index];
            states.examples.push(example.to_string());
            states.values.extend(vector.iter().map(|value| f64::from(*value)));
        }
    }
    Ok(found)
}

/// The places at these layers (from the end where negative), at each layer the state after the final norm
/// where there is one.
fn chosen_places(places: &[Place], layers: &[i64]) -> Result<Vec<Place>> {
    let top = i64::from(places.iter().map(|place| place.site.layer).max().unwrap_or(0) as u32);
    let mut wanted = Vec::new();
    for &layer in layers {
        let layer = if layer < 0 { layer + top + 1 } else { layer };
        if !places.iter().any(|place| place.site.layer as i64 == layer) {
            bail!("hidden_states holds no layer {layer}; the last is {top}");
        }
        wanted.push(layer);
    }
    let mut chosen: BTreeMap<(&str, usize), &Place> = BTreeMap::new();
    for place in places.iter().filter(|place| wanted.contains(&(place.site.layer as i64))) {
        let best = chosen.entry((&place.position, place.site.layer)).or_insert(place);
        if place.site.stream == Stream::FinalNorm {
            *best = place;
        }
    }
    Ok(chosen.into_values().cloned().collect())
}

pub const SLICE_COLUMNS: [Column; 4] = [
    column("position", Kind::Text, "where in the text a hidden state was read; null for other vectors"),
    column("layer", Kind::U32, "layer of a hidden state; null for other vectors"),
    column("site", Kind::Text, "residual or final_norm; null for other vectors"),
    column("module", Kind::Text, "weight matrix of a gradient; null for other vectors"),
];

/// [`SLICE_COLUMNS`] with each slice repeated for its number of rows.
pub fn slice_arrays(slices: &[(Slice, usize)]) -> [ArrayRef; 4] {
    let rows = || slices.iter().flat_map(|(slice, count)| std::iter::repeat_n(slice, *count));
    let positions: StringArray = rows().map(|slice| slice.place().map(|place| place.position.as_str())).collect();
    let layers: UInt32Array = rows().map(|slice| slice.place().map(|place| place.site.layer as u32)).collect();
    let sites: StringArray = rows().map(|slice| slice.place().map(|place| place.site.name())).collect();
    let modules: StringArray = rows().map(Slice::module).collect();
    [Arc::new(positions), Arc::new(layers), Arc::new(sites), Arc::new(modules)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_counted_from_the_end_and_the_final_norm_comes_first() {
        let place = |layer, site| Place::new("last", layer, site).unwrap();
        let all = [place(0, "residual"), place(1, "residual"), place(2, "residual"), place(2, "final_norm")];
        assert_eq!(chosen_places(&all, &[-1]).unwrap(), [all[3].clone()]);
        assert_eq!(chosen_places(&all, &[2, 0, -3]).unwrap(), [all[0].clone(), all[3].clone()]);
        assert!(chosen_places(&all, &[3]).unwrap_err().to_string().contains("no layer 3; the last is 2"));
        assert!(chosen_places(&all, &[-4]).is_err());
    }

    #[test]
    fn comparisons_hold_the_groups_that_are_centred_together() {
        let pipeline = crate::directions::directions::tests::pipeline(&["a", "b"], &["d", "e", "f"]);
        let count = |across| {
            let settings = Settings { of: vec![Of::Loss], across, ..Settings::default() };
            let found = comparisons(&settings, &pipeline).unwrap();
            found.iter().map(|comparison| comparison.pairs().count()).collect::<Vec<_>>()
        };
        assert_eq!(count(Across::Datasets), [6, 6]);
        assert_eq!(count(Across::Models), [3, 3, 3]);
        assert_eq!(count(Across::All), [21]);
        let error = comparisons(&Settings { layers: vec![], ..Settings::default() }, &pipeline).err().unwrap();
        assert_eq!(error.at, "stages.similarity.layers");
        let gradients = Settings { of: vec![Of::Gradient], across: Across::Models, ..Settings::default() };
        assert_eq!(comparisons(&gradients, &pipeline).err().unwrap().at, "stages.similarity.across");
    }
}
