//! `[datasets]`: a dataset by its path, its address on the hub, its part of the corpus, or written here.

use serde_json::Value;
use strata_stages::contract::pipeline::{Dataset, DatasetSource};
use strata_stages::contract::toml_path::at;
use strata_stages::text::dataset::reading::KEYS;
use strata_stages::{Outputs, PlanError};

use super::{Manifest, check_keys, hub, maker};
use crate::hub::Kind;

impl Manifest {
    pub(super) fn dataset(&self, name: &str, value: &Value) -> Result<Dataset, PlanError> {
        let at = at("datasets").key(name);
        let corpus = maker(|outputs| matches!(outputs, Outputs::Corpus));
        let written = value.get("messages").filter(|messages| messages.is_array());
        let known = ["path", corpus].into_iter().chain(hub::OF_DATASET);
        check_keys(&at, value, known.chain(KEYS.iter().map(|setting| setting.key)).collect::<Vec<_>>())?;
        let of_hub = hub::of(&at, Kind::Dataset, value)?;
        let source = match (value.get("path"), of_hub, value.get(corpus)) {
            (None, None, None) if written.is_some() => DatasetSource::Written(written.cloned().unwrap_or_default()),
            _ if written.is_some() => {
                let message = "a dataset has either a file or conversations written here, not both";
                return Err(PlanError::new(at.key("messages"), message)
                    .help("messages = \"COLUMN\" names the column of a file that holds the conversation"));
            }
            (Some(Value::String(path)), None, None) if self.to_estimate => {
                DatasetSource::File(self.directory().join(path))
            }
            (Some(path), None, None) => DatasetSource::File(self.existing(&at.key("path"), path)?),
            (None, Some(asked), None) => DatasetSource::File(self.place_of(&at, &asked)?),
            (None, None, Some(Value::String(part))) => DatasetSource::Corpus(part.clone()),
            (None, None, Some(_)) => {
                return Err(PlanError::new(at.key(corpus), "expected the name of a corpus part"));
            }
            (None, None, None) => {
                let message = format!(
                    "a dataset needs path = \"FILE\", hub = \"ORGANISATION/NAME\", {corpus} = \"PART\" or \
                     messages = [ {{ role, content }}, … ]"
                );
                return Err(PlanError::new(at, message));
            }
            _ => {
                return Err(PlanError::new(at, format!("a dataset has one of path, hub and {corpus}, not several")));
            }
        };
        let mut reading = value.clone();
        if let Some(reading) = reading.as_object_mut() {
            if written.is_some() {
                reading.remove("messages");
            }
            for key in ["path", corpus].into_iter().chain(hub::OF_DATASET) {
                reading.remove(key);
            }
        }
        Ok(Dataset { name: name.to_string(), source, reading })
    }
}
