//! What stages have to say of what they made, for the end of a run's summary.

use std::collections::BTreeMap;

use strata_stages::Part;

use crate::plan::Plan;

type Notice = fn(&[Part]) -> anyhow::Result<Option<String>>;

/// The notices of the stages of a plan. One that cannot be made is left out: a later run checks the tables it reads.
pub fn of(plan: &Plan) -> Vec<String> {
    let mut stages: BTreeMap<&str, (Notice, BTreeMap<String, Part>)> = BTreeMap::new();
    for (id, state) in plan.states() {
        let stage = plan.graph.node(id).stage;
        let Some(notice) = stage.notice else { continue };
        let (_, parts) = stages.entry(stage.name).or_insert((notice, BTreeMap::new()));
        for output in state.parts() {
            // Nodes share parts (models with one tokenizer their tokens): each is told of once.
            let part = Part { path: plan.store.layout.object(output), name: output.file_name().to_string() };
            parts.insert(output.object.to_hex(), part);
        }
    }
    let notices = stages.into_values().map(|(notice, parts)| notice(&parts.into_values().collect::<Vec<_>>()));
    notices.filter_map(|notice| notice.ok().flatten()).collect()
}
