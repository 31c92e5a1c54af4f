//! Groups of vectors that are compared with one another: which groups there are.
//! Centring takes the mean over all of them, so that a task about two groups reads the whole comparison.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contract::node::{Bindings, Input};
use crate::contract::pipeline::{Pipeline, PlanError, Selection, model_dataset};
use crate::contract::setting::{Setting, setting};
use crate::contract::toml_path::at;
use crate::states::state_table::STATE_COLUMNS;

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
        "The layers of the hidden states; negative numbers count from the end. At the last layer it is \
             the state after the final norm.",
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

#[cfg(test)]
mod tests {
    use super::*;

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
