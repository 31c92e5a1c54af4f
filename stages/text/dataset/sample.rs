//! Which examples a draw takes: `sample = 1` beside a limit, or `sample = { n = 400, seed = 1, by = "topic" }`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cell::cell;
use crate::contract::pipeline::PlanError;
use crate::contract::toml_path::TomlPath;

/// A draw without replacement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Sample {
    /// As many as the dataset's limit says, with this seed.
    Seed(u64),
    Strata(Strata),
}

/// A draw from each group of rows that have one value in a column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strata {
    /// How many, of all strata together.
    pub n: usize,
    pub seed: u64,
    /// The column.
    pub by: String,
    #[serde(default)]
    pub counts: Counts,
}

/// How the draws are shared out among the strata.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counts {
    /// By how many rows each has.
    #[default]
    Proportional,
    /// To each the same.
    Equal,
}

const KEYS: [&str; 4] = ["n", "seed", "by", "counts"];

impl Sample {
    /// The sample as written in pipeline.toml, and the limit that it stands for where it is no stratified one.
    ///
    /// # Errors
    /// Anything wrong with it, at its place.
    pub fn parse(written: &Value, at: &TomlPath) -> Result<(Sample, Option<usize>), PlanError> {
        if let Some(seed) = written.as_u64() {
            return Ok((Sample::Seed(seed), None));
        }
        let Value::Object(table) = written else {
            let message = format!("sample is a seed (a whole number) or a table, found {}", cell(written));
            return Err(PlanError::new(at, message).help("for example sample = { n = 400, seed = 1, by = \"topic\" }"));
        };
        if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(PlanError::unknown(at.key(key), "key", key, KEYS));
        }
        let whole = |key: &str| match table.get(key) {
            None => Ok(None),
            Some(value) => value
                .as_u64()
                .map(Some)
                .ok_or_else(|| PlanError::new(at.key(key), format!("{key} is a whole number, found {}", cell(value)))),
        };
        let text = |key: &str| match table.get(key) {
            None => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.as_str())),
            Some(other) => Err(PlanError::new(at.key(key), format!("{key} is a text, found {}", cell(other)))),
        };
        let n = match whole("n")? {
            None => return Err(PlanError::new(at, "sample does not say how many to draw").help("write n = …")),
            Some(0) => return Err(PlanError::new(at.key("n"), "a sample of 0 leaves no examples")),
            Some(n) => n as usize,
        };
        let seed = whole("seed")?.unwrap_or(0);
        let counts = match text("counts")? {
            None => None,
            Some("proportional") => Some(Counts::Proportional),
            Some("equal") => Some(Counts::Equal),
            Some(other) => {
                return Err(PlanError::unknown(at.key("counts"), "counts", other, ["proportional", "equal"]));
            }
        };
        match (text("by")?, counts) {
            (Some(by), counts) => {
                let strata = Strata { n, seed, by: by.into(), counts: counts.unwrap_or_default() };
                Ok((Sample::Strata(strata), None))
            }
            (None, Some(_)) => {
                let message = "counts says how a draw is shared out among strata, and there are none";
                Err(PlanError::new(at.key("counts"), message).help("write by = \"COLUMN\", or leave out counts"))
            }
            (None, None) => Ok((Sample::Seed(seed), Some(n))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::toml_path::at;
    use serde_json::json;

    fn parse(written: Value) -> Result<(Sample, Option<usize>), PlanError> {
        Sample::parse(&written, &at("datasets.d.sample"))
    }

    #[test]
    fn a_seed_or_a_table() {
        assert_eq!(parse(json!(9)).expect("a seed"), (Sample::Seed(9), None));
        assert_eq!(parse(json!({"n": 5, "seed": 9})).expect("a draw"), (Sample::Seed(9), Some(5)));
        let strata = |counts| Sample::Strata(Strata { n: 5, seed: 0, by: "topic".into(), counts });
        assert_eq!(parse(json!({"n": 5, "by": "topic"})).expect("strata").0, strata(Counts::Proportional));
        let equal = json!({"n": 5, "seed": 0, "by": "topic", "counts": "equal"});
        assert_eq!(parse(equal.clone()).expect("strata").0, strata(Counts::Equal));
        assert_eq!(serde_json::from_value::<Sample>(equal).expect("as in a key"), strata(Counts::Equal));
    }

    #[test]
    fn mistakes_point_at_the_key() {
        for (written, place, what) in [
            (json!("x"), "datasets.d.sample", "found the text \"x\""),
            (json!(-1), "datasets.d.sample", "found the number -1"),
            (json!({"seed": 1}), "datasets.d.sample", "how many"),
            (json!({"n": 0}), "datasets.d.sample.n", "no examples"),
            (json!({"n": 1, "sed": 1}), "datasets.d.sample.sed", "unknown key"),
            (json!({"n": 1, "by": 3}), "datasets.d.sample.by", "is a text"),
            (json!({"n": 1, "by": "t", "counts": "eqaul"}), "datasets.d.sample.counts", "unknown counts"),
            (json!({"n": 1, "counts": "equal"}), "datasets.d.sample.counts", "there are none"),
        ] {
            let error = parse(written).expect_err("a mistake");
            assert_eq!(error.at, place);
            assert!(error.message.contains(what), "{}", error.message);
        }
    }
}
