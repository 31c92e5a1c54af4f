//! `[stages.tokens]`: how a model's conversations are encoded. The stages that encode text of their own read the same
//! section.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::contract::file::{CONFIGURATION, read_text};
use crate::contract::pipeline::{Model, Origin, Pipeline, PlanError, Selection, TemplateSource};
use crate::model::family::changes_tokenizers;
use crate::text::chat::{ChatTemplate, ChatTokenizer, Date};

/// `[stages.tokens]`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    pub models: Selection,
    pub datasets: Selection,
    pub max_tokens: usize,
    pub date: String,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            models: Selection::default(),
            datasets: Selection::default(),
            max_tokens: 2048,
            date: "2024-07-26".into(),
        }
    }
}

/// How a model's conversations are encoded, as far as its tokenizer's files do not say it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Params {
    pub max_tokens: usize,
    pub date: String,
    /// Only where it changes how the tokenizer's files are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_type: Option<String>,
    /// The built-in chat template that takes the place of the tokenizer's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<String>,
    /// Which of the tokenizer's own chat templates, where it is not the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named_template: Option<String>,
}

impl Params {
    /// Those under which `tokens` encodes the model's conversations in this pipeline.
    ///
    /// # Errors
    /// When the section `[stages.tokens]` has another form.
    pub fn of(pipeline: &Pipeline, model: &Model) -> Result<Params, PlanError> {
        Ok(Params::new(&pipeline.section("tokens")?, pipeline, model))
    }

    pub fn new(settings: &Settings, pipeline: &Pipeline, model: &Model) -> Params {
        Params {
            max_tokens: settings.max_tokens,
            date: settings.date.clone(),
            model_type: model_type(pipeline, model).filter(|model_type| changes_tokenizers(model_type)),
            chat_template: match &model.chat_template {
                Some(TemplateSource::BuiltIn(name)) => Some(name.clone()),
                _ => None,
            },
            named_template: match &model.chat_template {
                Some(TemplateSource::Named(name)) => Some(name.clone()),
                _ => None,
            },
        }
    }

    /// The chat template with which the tokenizer's model reads conversations.
    ///
    /// # Errors
    /// When there is none, or it cannot be parsed.
    pub fn template(&self, tokenizer: &ChatTokenizer) -> Result<ChatTemplate> {
        let date = Date::parse(&self.date)?;
        match &self.named_template {
            Some(name) => tokenizer.named_template(date, name),
            None => tokenizer.template(date, self.chat_template.as_deref()),
        }
    }
}

/// The `model_type` in the config.json beside the tokenizer's files. Few families' tokenizers need it
/// (see [`crate::text::chat::ChatTokenizer::open`]), so it is looked at here and kept as a parameter, instead of making config.json
/// an input: models with one tokenizer share one table although their configurations differ.
fn model_type(pipeline: &Pipeline, model: &Model) -> Option<String> {
    let directory = match (&model.tokenizer, pipeline.origin(model)?) {
        (Some(directory), _) => directory,
        (None, Origin::Directory(directory)) => directory,
        // A trained model's tokenizer_config.json names its tokenizer class.
        (None, Origin::Trained(_)) => return None,
    };
    // A GGUF file's tokenizer is built from its own metadata.
    let text = read_text(&directory.join("config.json"), CONFIGURATION).ok();
    let text = text.or_else(|| pipeline.configs.get(directory).cloned())?;
    serde_json::from_str::<Value>(&text).ok()?.get("model_type")?.as_str().map(str::to_string)
}
