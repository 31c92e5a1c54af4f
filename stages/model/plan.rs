//! The nodes of stages that watch a model's pass over a dataset.

use serde_json::Value;

use super::token_part::TOKEN_COLUMNS;
use crate::contract::node::{Input, Node};
use crate::contract::pipeline::{Pipeline, PlanError, Selection, model_dataset};
use crate::contract::toml_path::at;

/// One node for each of the models and datasets, reading the model's weights and the dataset's tokens, and with
/// `tokenizer` the model's tokenizer files too.
///
/// # Errors
/// When a selection names what the pipeline does not have; it points at `stages.<stage>.models` or `.datasets`.
pub fn watching_nodes(
    stage: &'static str,
    models: &Selection,
    datasets: &Selection,
    pipeline: &Pipeline,
    params: Value,
    tokenizer: bool,
) -> Result<Vec<Node>, PlanError> {
    let mut nodes = Vec::new();
    let datasets = pipeline.datasets(datasets, at("stages").key(stage).key("datasets"))?;
    for model in pipeline.models(models, at("stages").key(stage).key("models"))? {
        for dataset in &datasets {
            let bindings = model_dataset(&model.name, &dataset.name);
            let tokens = Input::node("tokens", "tokens", bindings.clone()).columns(TOKEN_COLUMNS);
            let mut inputs = vec![Input::weights(&model.name), tokens];
            if tokenizer {
                inputs.push(Input::tokenizer(&model.name));
            }
            nodes.push(Node { stage, bindings, params: params.clone(), inputs, per_part: Some("tokens") });
        }
    }
    Ok(nodes)
}
