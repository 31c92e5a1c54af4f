//! The difference of two key documents, in words.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use crate::key::{InputContent, KeyDocument};

/// One difference: where, what it was, what it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    pub at: String,
    pub before: String,
    pub now: String,
    pub what: What,
}

/// What differs, with whole hashes.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// The version or a parameter.
    Parameter,
    /// The bytes of a file.
    File { before: String, now: String },
    /// A column of a table; none where it was not read.
    Column { name: String, before: Option<String>, now: Option<String> },
    /// How many parts there are, or what they are called.
    Parts,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} -> {}", self.at, self.before, self.now)
    }
}

/// Every difference between the document a record was made from and the one a task has now.
pub fn differences(before: &KeyDocument, now: &KeyDocument) -> Vec<Difference> {
    let mut found = Vec::new();
    if before.version != now.version {
        let (before, now) = (before.version.to_string(), now.version.to_string());
        push(&mut found, "version".into(), &before, &now, What::Parameter);
    }
    compare_values("params", &before.params, &now.params, &mut found);
    let roles: BTreeSet<&String> = before.inputs.keys().chain(now.inputs.keys()).collect();
    for role in roles {
        let empty = Vec::new();
        let old = before.inputs.get(role).unwrap_or(&empty);
        let new = now.inputs.get(role).unwrap_or(&empty);
        compare_parts(role, old, new, &mut found);
    }
    found
}

fn push(found: &mut Vec<Difference>, at: String, before: &str, now: &str, what: What) {
    found.push(Difference { at, before: before.to_string(), now: now.to_string(), what });
}

fn compare_values(at: &str, before: &Value, now: &Value, found: &mut Vec<Difference>) {
    match (before, now) {
        (Value::Object(old), Value::Object(new)) => {
            let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                let missing = Value::String("(absent)".into());
                let (old, new) = (old.get(key).unwrap_or(&missing), new.get(key).unwrap_or(&missing));
                compare_values(&format!("{at}.{key}"), old, new, found);
            }
        }
        (old, new) if old != new => {
            push(found, at.to_string(), &old.to_string(), &new.to_string(), What::Parameter);
        }
        _ => {}
    }
}

fn compare_parts(role: &str, before: &[InputContent], now: &[InputContent], found: &mut Vec<Difference>) {
    if before.len() != now.len() {
        push(found, format!("inputs.{role}"), &parts(before.len()), &parts(now.len()), What::Parts);
    }
    for (index, (old, new)) in before.iter().zip(now).enumerate() {
        let at = if now.len() > 1 { format!("inputs.{role}[{index}]") } else { format!("inputs.{role}") };
        match (old, new) {
            (InputContent::File { name, content: old }, InputContent::File { name: new_name, content: new }) => {
                if name != new_name {
                    push(found, format!("{at}.name"), name, new_name, What::Parts);
                }
                if old != new {
                    let what = What::File { before: old.clone(), now: new.clone() };
                    push(found, format!("{at} {name}"), short(old), short(new), what);
                }
            }
            (InputContent::Columns { columns: old }, InputContent::Columns { columns: new }) => {
                let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
                for name in names {
                    let (old, new) = (old.get(name), new.get(name));
                    if old != new {
                        let said = |hash: Option<&String>| hash.map_or("(absent)", |hash| short(hash)).to_string();
                        let (name, before, now) = (name.clone(), old.cloned(), new.cloned());
                        let at = format!("{at}.{name}");
                        push(found, at, &said(old), &said(new), What::Column { name, before, now });
                    }
                }
            }
            _ => push(found, at, "another kind of input", "this kind of input", What::Parts),
        }
    }
}

fn parts(count: usize) -> String {
    if count == 1 { "1 part".into() } else { format!("{count} parts") }
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn document(k: u64, hash: &str) -> KeyDocument {
        let columns = BTreeMap::from([("ids".to_string(), hash.to_string())]);
        KeyDocument {
            stage: "hidden_states".into(),
            version: 1,
            params: serde_json::json!({ "k": k }),
            inputs: BTreeMap::from([("tokens".to_string(), vec![InputContent::Columns { columns }])]),
        }
    }

    #[test]
    fn the_changed_parameter_and_column_are_named() {
        assert!(differences(&document(1, "aaaa"), &document(1, "aaaa")).is_empty());
        let found = differences(&document(1, "aaaa"), &document(2, "bbbb"));
        let said: Vec<String> = found.iter().map(Difference::to_string).collect();
        assert_eq!(said, ["params.k: 1 -> 2", "inputs.tokens.ids: aaaa -> bbbb"]);
    }
}
