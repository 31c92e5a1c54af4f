//! The documented keys of a section of pipeline.toml. Their defaults are those of the settings' own type.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A documented key.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pub key: &'static str,
    /// What it is; of a key without a default also what holds where it is not written.
    pub about: &'static str,
    /// A value as it would be written in TOML, for a key without a default.
    pub example: Option<&'static str>,
    /// An earlier name, which is still read.
    pub formerly: Option<&'static str>,
}

pub const fn setting(key: &'static str, about: &'static str) -> Setting {
    Setting { key, about, example: None, formerly: None }
}

impl Setting {
    pub const fn example(mut self, toml: &'static str) -> Setting {
        self.example = Some(toml);
        self
    }

    pub const fn formerly(mut self, key: &'static str) -> Setting {
        self.formerly = Some(key);
        self
    }
}

/// The settings of every stage that draws at random.
pub const RESAMPLES_SETTING: Setting = setting("resamples", "The number of bootstrap resamples behind an interval.");
pub const PERMUTATIONS_SETTING: Setting = setting("permutations", "The number of permutations behind a p-value.");
pub const SEED_SETTING: Setting = setting("seed", "The seed of every random draw.");

/// The section of a stage that has no keys.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoSettings {}

/// The defaults of a settings type: every key, null where it has no default.
pub fn defaults<S: Default + Serialize>() -> Value {
    serde_json::to_value(S::default()).expect("settings are made of texts, numbers, lists and tables")
}

/// A value as it is written in TOML on one line; `None` for null, which TOML does not have.
pub fn toml(value: &Value) -> Option<String> {
    let all = |values: &[Value]| values.iter().filter_map(toml).collect::<Vec<_>>().join(", ");
    match value {
        Value::Null => None,
        // JSON's escapes are TOML's too.
        Value::Bool(_) | Value::Number(_) | Value::String(_) => Some(value.to_string()),
        Value::Array(values) => Some(format!("[{}]", all(values))),
        Value::Object(table) if table.is_empty() => Some("{}".into()),
        Value::Object(table) => {
            let entries = table.iter().filter_map(|(key, value)| Some(format!("{} = {}", toml_key(key), toml(value)?)));
            Some(format!("{{ {} }}", entries.collect::<Vec<_>>().join(", ")))
        }
    }
}

fn toml_key(key: &str) -> String {
    let bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if bare { key.into() } else { Value::from(key).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_survives_toml() {
        for value in [
            json!("a \"quoted\" text\nof two lines, a \\ and a tab\t"),
            json!([-1, 2.5, 1e-9, 3.0, true]),
            json!({ "least": 16, "a key": { "b": [] }, "c": {} }),
        ] {
            let text = format!("value = {}", toml(&value).unwrap());
            let read: Value = toml_edit::de::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(read["value"], value, "{text}");
        }
        assert_eq!(toml(&json!({ "least": 16, "of": ["all"] })).unwrap(), "{ least = 16, of = [\"all\"] }");
        assert_eq!(toml(&Value::Null), None);
    }
}
