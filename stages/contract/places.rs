//! Where in a list the item of each name is, so that a pipeline of ten thousand names is not searched for each of them.

use std::collections::HashMap;
use std::sync::OnceLock;

/// Made at the first search. It is only a memory: what it says is held against the list, which may have changed since.
#[derive(Debug, Clone, Default)]
pub struct Places(OnceLock<HashMap<String, usize>>);

impl Places {
    /// The first item of this name.
    pub fn find<'a, T>(&self, all: &'a [T], name: fn(&T) -> &String, wanted: &str) -> Option<&'a T> {
        let places = self.0.get_or_init(|| {
            // The first of several comes last, and stays.
            all.iter().enumerate().rev().map(|(place, item)| (name(item).clone(), place)).collect()
        });
        let known = places.get(wanted).and_then(|place| all.get(*place)).filter(|item| name(item) == wanted);
        known.or_else(|| all.iter().find(|item| name(item) == wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_in_a_list_that_grew_or_was_sorted_since() {
        let places = Places::default();
        let find = |all: &[(String, u8)], wanted: &str| places.find(all, |(name, _)| name, wanted).map(|found| found.1);
        let mut all: Vec<(String, u8)> = vec![("b".into(), 1), ("a".into(), 2), ("b".into(), 3)];
        assert_eq!([find(&all, "a"), find(&all, "b"), find(&all, "c")], [Some(2), Some(1), None]);
        all.sort();
        all.push(("c".into(), 4));
        assert_eq!([find(&all, "a"), find(&all, "b"), find(&all, "c")], [Some(2), Some(1), Some(4)]);
    }
}
