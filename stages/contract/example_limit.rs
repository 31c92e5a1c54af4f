//! How many of a dataset's examples a costly stage reads.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// The first so many examples, or `"all"` of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExampleLimit {
    First(usize),
    All,
}

impl ExampleLimit {
    /// How many of `count` examples are left.
    pub fn of(self, count: usize) -> usize {
        match self {
            ExampleLimit::First(limit) => count.min(limit),
            ExampleLimit::All => count,
        }
    }

    /// The role whose parts are tasks of their own: the first examples of a dataset are counted across its
    /// parts, so that only all of them can be taken part by part.
    pub fn per_part(self, role: &'static str) -> Option<&'static str> {
        (self == ExampleLimit::All).then_some(role)
    }
}

impl Serialize for ExampleLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ExampleLimit::First(limit) => serializer.serialize_u64(*limit as u64),
            ExampleLimit::All => serializer.serialize_str("all"),
        }
    }
}

impl<'de> Deserialize<'de> for ExampleLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ExampleLimit, D::Error> {
        let value = Value::deserialize(deserializer)?;
        match (value.as_u64(), value.as_str()) {
            (Some(limit), _) if limit > 0 => Ok(ExampleLimit::First(limit as usize)),
            (_, Some("all")) => Ok(ExampleLimit::All),
            _ => Err(serde::de::Error::custom(format!(
                "limit is {value}; expected a number of examples from 1 on, or \"all\""
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_number_or_all() {
        for (written, limit) in [(json!(3), ExampleLimit::First(3)), (json!("all"), ExampleLimit::All)] {
            assert_eq!(serde_json::from_value::<ExampleLimit>(written.clone()).unwrap(), limit);
            assert_eq!(json!(limit), written);
        }
        assert_eq!((ExampleLimit::First(3).of(2), ExampleLimit::First(3).of(5), ExampleLimit::All.of(5)), (2, 3, 5));
        for wrong in [json!(0), json!(-1), json!("some"), json!(1.5)] {
            let error = serde_json::from_value::<ExampleLimit>(wrong).unwrap_err().to_string();
            assert!(error.contains("\"all\""), "{error}");
        }
    }
}
