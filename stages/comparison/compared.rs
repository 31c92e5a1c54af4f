//! Groups of vectors that are compared with one another: which comparisons there are, and of which groups.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::contract::node::{Bindings, Input, Node};
use crate::contract::pipeline::{Pipeline, PlanError, Selection, check_folder_name, model_dataset, parse_each};
use crate::contract::setting::{Setting, setting};
use crate::contract::toml_path::TomlPath;
use crate::losses::windows::{self, LOSS_VECTORS};
use crate::states::state_table::STATE_COLUMNS;

/// What the vectors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    /// Hidden states at one place.
    HiddenState,
    /// Losses of the tokens of a window.
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

    /// `window` is of losses.
    fn input(self, role: String, Group { model, dataset }: &Group, window: &str) -> Input {
        let of = model_dataset(model, dataset);
        match self {
            Of::HiddenState => Input::node(role, "hidden_states", of).columns(STATE_COLUMNS),
            Of::Loss => {
                let of = windows::bindings(model, dataset, window);
                Input::node(role, LOSS_VECTORS, of).columns(&["example", "vector"])
            }
            Of::Gradient => Input::node(role, "gradient_vectors", of).columns(&["example", "module", "vector"]),
        }
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

/// What is subtracted of centred vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Centring {
    /// The mean over all vectors of the comparison.
    #[default]
    Comparison,
    /// The mean over the vectors of the two groups of a pair (Giordani 2025, Fig. 4).
    Pair,
    /// Nothing: there are no centred cosines.
    None,
}

/// What becomes of pairs of one example, of one dataset under two models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SameExample {
    #[default]
    LeaveOut,
    Keep,
}

/// What stands for the losses that an example does not have, because its answer is shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fill {
    /// Nothing: vectors end where the shortest answer that has `least` losses ends, and shorter ones are left out.
    #[default]
    Common,
    /// Nothing: each cosine is over the positions that both examples have.
    Pairwise,
    /// The mean of the others of its group at its position (Giordani 2025, Sec. 4.2).
    Group,
    /// The mean over all groups at its position.
    All,
}

/// A model on a dataset.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    pub model: String,
    pub dataset: String,
}

/// A section `[stages.similarity]`, or one of several `[[stages.similarity]]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub name: Option<String>,
    pub of: Vec<Of>,
    pub across: Across,
    pub models: Selection,
    pub datasets: Selection,
    pub groups: Option<Vec<Group>>,
    pub positions: Vec<String>,
    pub layers: Vec<i64>,
    pub window: Option<String>,
    pub centring: Centring,
    pub same_example: SameExample,
    pub fill: Fill,
    pub least: usize,
}

/// Losses that an example must have to be compared, where a pipeline says nothing else.
pub const LEAST: usize = 8;

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            name: None,
            of: vec![Of::HiddenState, Of::Loss],
            across: Across::Datasets,
            models: Selection::default(),
            datasets: Selection::default(),
            groups: None,
            positions: vec!["last".into()],
            layers: vec![-1],
            window: None,
            centring: Centring::default(),
            same_example: SameExample::default(),
            fill: Fill::default(),
            least: LEAST,
        }
    }
}

pub const SETTINGS: &[Setting] = &[
    setting(
        "name",
        "The comparison's name in the tables, where the pipeline has several, each a `[[stages.similarity]]`; where none is \
         written, what `across` says.",
    )
    .example("\"insecure_or_educational\""),
    setting(
        "of",
        "What is compared: hidden_state, loss (the losses of a window of `[stages.loss_vectors]`), gradient \
                (exactly, for the weight matrices of `[stages.gradients]`).",
    ),
    setting(
        "across",
        "The groups of a comparison: \"datasets\" (under one model), \"models\" (on one dataset) or \"all\".",
    ),
    setting("models", "The models whose vectors are compared."),
    setting("datasets", "The datasets whose examples are compared."),
    setting(
        "groups",
        "The groups one by one, in place of `across`, `models` and `datasets`: models on datasets, in one comparison.",
    )
    .example("[{ model = \"base\", dataset = \"insecure\" }, { model = \"instruct\", dataset = \"insecure\" }]"),
    setting("positions", "The positions of the hidden states; of several states of an example the mean is taken."),
    setting(
        "layers",
        "The layers of the hidden states; negative numbers count from the end. At the last layer it is \
             the state after the final norm.",
    ),
    setting("window", "The window of the losses, by its name in `[[stages.loss_vectors]]`; without it, the first one.")
        .example("\"whole_conversation\""),
    setting(
        "centring",
        "What is subtracted of centred vectors: the mean over all of the \"comparison\", over the two groups of a \"pair\" (the \
         paper's Fig. 4), or \"none\", without centred cosines. Raw ones are always there.",
    ),
    setting(
        "same_example",
        "Pairs of one example in two groups (a dataset under two models): \"leave_out\" of the means between groups, or \"keep\".",
    ),
    setting(
        "fill",
        "What stands for losses that a short answer does not have. \"common\": nothing, vectors end where the shortest answer of \
         the comparison ends; \"pairwise\": nothing, a cosine is over what both examples have; \"group\" (the paper's): the mean \
         of the others of the group; \"all\": the mean over all groups. With all but \"common\" groups whose answers differ in \
         length alone differ in their cosines, and the tests find that.",
    ),
    setting(
        "least",
        "The losses that an example must have, or with \"pairwise\" two examples in common; examples and pairs with fewer are \
         left out and counted.",
    ),
];

/// Groups that are compared with each other.
pub struct Comparison {
    pub of: Of,
    pub name: String,
    /// The model or dataset that all groups share; `all` where they share neither.
    pub shared: String,
    pub groups: Vec<Group>,
    /// Of losses.
    window: String,
    settings: Settings,
}

impl Comparison {
    /// One input for each group.
    pub fn inputs(&self) -> Vec<Input> {
        let numbered = self.groups.iter().enumerate();
        numbered.map(|(i, group)| self.of.input(format!("group/{i}"), group, &self.window)).collect()
    }

    pub fn bindings(&self) -> Bindings {
        vec![("of", self.of.name().to_string()), ("comparison", self.name.clone()), ("shared", self.shared.clone())]
    }

    /// Every pair of groups, each with itself too.
    pub fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let groups = self.groups.len();
        (0..groups).flat_map(move |a| (a..groups).map(move |b| (a, b)))
    }

    /// What a task has to know to read its vectors and take their cosines.
    pub fn params(&self) -> Value {
        let Settings { positions, layers, centring, same_example, fill, least, .. } = &self.settings;
        let mut params = json!({ "of": self.of, "centring": centring, "same_example": same_example });
        match self.of {
            Of::HiddenState => (params["positions"], params["layers"]) = (json!(positions), json!(layers)),
            Of::Loss => (params["fill"], params["least"]) = (json!(fill), json!(least)),
            Of::Gradient => {}
        }
        params
    }
}

/// One node for each comparison, with the groups' names and these settings in its parameters: for a stage whose table has
/// the groups in its rows.
pub fn nodes(stage: &'static str, settings: &impl Serialize, pipeline: &Pipeline) -> Result<Vec<Node>, PlanError> {
    let Value::Object(settings) = json!(settings) else { return Ok(Vec::new()) };
    let node = |comparison: Comparison| {
        let mut params = comparison.params();
        params["groups"] = json!(comparison.groups);
        settings.iter().for_each(|(key, value)| params[key] = value.clone());
        Node { stage, bindings: comparison.bindings(), params, inputs: comparison.inputs(), per_part: None }
    };
    Ok(comparisons(pipeline)?.into_iter().map(node).collect())
}

/// The comparisons of a pipeline.
fn comparisons(pipeline: &Pipeline) -> Result<Vec<Comparison>, PlanError> {
    let section = pipeline.sections.iter().find(|(name, _)| name == "similarity");
    of_section(section.map_or(&json!({}), |(_, settings)| settings), pipeline)
}

/// The comparisons of the section or sections of `similarity`.
pub fn of_section(section: &Value, pipeline: &Pipeline) -> Result<Vec<Comparison>, PlanError> {
    let mut found: Vec<Comparison> = Vec::new();
    for (at, settings) in parse_each::<Settings>("similarity", section)? {
        for comparison in one_section(&at, &settings, pipeline)? {
            if found.iter().any(|known| known.bindings() == comparison.bindings()) {
                let message = format!("two comparisons are called \"{}\"", comparison.name);
                return Err(PlanError::new(at, message).help("give each a name = \"…\" of its own"));
            }
            found.push(comparison);
        }
    }
    Ok(found)
}

fn one_section(at: &TomlPath, settings: &Settings, pipeline: &Pipeline) -> Result<Vec<Comparison>, PlanError> {
    for (key, empty) in [
        ("of", settings.of.is_empty()),
        ("positions", settings.positions.is_empty()),
        ("layers", settings.layers.is_empty()),
        ("groups", settings.groups.as_ref().is_some_and(Vec::is_empty)),
    ] {
        if empty {
            return Err(PlanError::new(at.key(key), format!("{key} is empty")));
        }
    }
    if let Some(name) = &settings.name {
        check_folder_name(&at.key("name"), name)?;
    }
    let window = match settings.of.contains(&Of::Loss) {
        true => windows::chosen(settings.window.as_deref(), at.key("window"), pipeline)?,
        false => String::new(),
    };
    let groups = groups(at, settings, pipeline)?;
    let within_one = groups.iter().all(|groups| groups.iter().all(|group| group.model == groups[0].model));
    if settings.of.contains(&Of::Gradient) && !within_one {
        let message = "gradients are compared within one model";
        let key = if settings.groups.is_some() { "groups" } else { "across" };
        return Err(PlanError::new(at.key(key), message).help("across = \"datasets\" compares the datasets under each"));
    }
    let name = settings.name.clone().unwrap_or_else(|| match settings.across {
        _ if settings.groups.is_some() => "groups".into(),
        Across::Datasets => "datasets".into(),
        Across::Models => "models".into(),
        Across::All => "all".into(),
    });
    let of_each = settings.of.iter().flat_map(|of| groups.iter().map(|groups| (*of, groups.clone())));
    let comparison = |(of, groups): (Of, Vec<Group>)| Comparison {
        of,
        name: name.clone(),
        shared: shared(settings, &groups),
        groups,
        window: window.clone(),
        settings: settings.clone(),
    };
    Ok(of_each.map(comparison).collect())
}

fn groups(at: &TomlPath, settings: &Settings, pipeline: &Pipeline) -> Result<Vec<Vec<Group>>, PlanError> {
    if let Some(groups) = &settings.groups {
        let mut known = BTreeSet::new();
        for (i, group) in groups.iter().enumerate() {
            let at = at.key("groups").index(i);
            pipeline.model(&group.model, at.key("model"))?;
            pipeline.dataset(&group.dataset, at.key("dataset"))?;
            if !known.insert(group) {
                let message = format!("the group {} on {} is there twice", group.model, group.dataset);
                return Err(PlanError::new(at, message));
            }
        }
        return Ok(vec![groups.clone()]);
    }
    let models = pipeline.models(&settings.models, at.key("models"))?;
    let datasets = pipeline.datasets(&settings.datasets, at.key("datasets"))?;
    let all: Vec<Vec<Group>> = models
        .iter()
        .map(|model| {
            let group = |dataset: &str| Group { model: model.name.clone(), dataset: dataset.into() };
            datasets.iter().map(|dataset| group(&dataset.name)).collect()
        })
        .collect();
    let groups = match settings.across {
        Across::Datasets => all,
        Across::Models => {
            (0..datasets.len()).map(|d| all.iter().map(|of_model| of_model[d].clone()).collect()).collect()
        }
        Across::All => vec![all.concat()],
    };
    Ok(groups.into_iter().filter(|groups| !groups.is_empty()).collect())
}

/// The name that the groups have in common.
fn shared(settings: &Settings, groups: &[Group]) -> String {
    let one_model = groups.iter().all(|group| group.model == groups[0].model);
    let one_dataset = groups.iter().all(|group| group.dataset == groups[0].dataset);
    match (settings.groups.is_some(), settings.across) {
        (true, _) if one_model => groups[0].model.clone(),
        (true, _) if one_dataset => groups[0].dataset.clone(),
        (false, Across::Datasets) => groups[0].model.clone(),
        (false, Across::Models) => groups[0].dataset.clone(),
        _ => "all".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipeline() -> Pipeline {
        crate::directions::directions::tests::pipeline(&["a", "b"], &["d", "e", "f"])
    }

    #[test]
    fn comparisons_hold_the_groups_that_are_compared() {
        let found = |across: &str| {
            let section = json!({ "of": ["loss"], "across": across });
            let found = of_section(&section, &pipeline()).unwrap();
            found.iter().map(|one| (one.shared.clone(), one.pairs().count())).collect::<Vec<_>>()
        };
        assert_eq!(found("datasets"), [("a".into(), 6), ("b".into(), 6)]);
        assert_eq!(found("models"), ["d", "e", "f"].map(|name| (name.to_string(), 3)));
        assert_eq!(found("all"), [("all".into(), 21)]);
    }

    #[test]
    fn several_comparisons_have_names_and_their_own_groups() {
        let group = |model: &str, dataset: &str| json!({ "model": model, "dataset": dataset });
        let own =
            json!({ "name": "two", "of": ["loss"], "groups": [group("a", "d"), group("b", "e")], "fill": "group" });
        let section = json!([{ "of": ["loss"], "models": "a" }, own]);
        let found = of_section(&section, &pipeline()).unwrap();
        let names: Vec<Vec<String>> =
            found.iter().map(|one| one.bindings().into_iter().map(|(_, name)| name).collect()).collect();
        assert_eq!(names, [["loss", "datasets", "a"], ["loss", "two", "all"]]);
        let mut pipeline = pipeline();
        pipeline.sections.push(("similarity".into(), section));
        let nodes = nodes("pca", &json!({ "robust": true }), &pipeline).unwrap();
        assert_eq!(nodes[1].params["groups"], json!([group("a", "d"), group("b", "e")]));
        assert_eq!((&nodes[1].params["robust"], &nodes[1].bindings), (&json!(true), &found[1].bindings()));
        assert_eq!((&found[1].params()["fill"], &found[0].params()["fill"]), (&json!("group"), &json!("common")));
    }

    #[test]
    fn mistakes_are_named_where_they_are() {
        let error = |section: Value| of_section(&section, &pipeline()).err().unwrap();
        assert_eq!(error(json!({ "layers": [] })).at, "stages.similarity.layers");
        let gradients = json!({ "of": ["gradient"], "across": "models" });
        assert_eq!(error(gradients).at, "stages.similarity.across");
        assert_eq!(error(json!([{}, { "centring": "mean" }])).at, "stages.similarity[1].centring");
        let twice = error(json!([{ "models": "a" }, { "models": ["a", "b"] }]));
        assert!(twice.at == "stages.similarity[1]" && twice.message.contains("\"datasets\""), "{twice:?}");
        let unknown = json!({ "groups": [{ "model": "a", "dataset": "d" }, { "model": "a", "dataset": "x" }] });
        assert_eq!(error(unknown).at, "stages.similarity.groups[1].dataset");
        assert_eq!(error(json!({ "name": "a/b" })).at, "stages.similarity.name");
    }
}
