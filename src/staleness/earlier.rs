//! The documents that a node's tasks were shown with, and which of them a task of now may have been.

use std::collections::{BTreeSet, HashMap};

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::key::{InputContent, Key, KeyDocument};
use crate::store::Store;

pub struct Earlier {
    /// In the order of the tasks.
    documents: Vec<KeyDocument>,
    /// By the part that it alone read, where the node has a task for each.
    by_part: HashMap<InputContent, Vec<usize>>,
}

/// How many documents a task is held against, around its own place.
const AROUND: usize = 16;

impl Earlier {
    /// Those of these keys whose records are there. `split` is the role whose parts split the node.
    pub fn read(store: &Store, keys: &[Key], split: Option<&str>) -> Earlier {
        Earlier::new(keys.par_iter().filter_map(|key| Some(store.record(*key)?.document)).collect(), split)
    }

    pub fn new(documents: Vec<KeyDocument>, split: Option<&str>) -> Earlier {
        let mut by_part: HashMap<InputContent, Vec<usize>> = HashMap::new();
        for (place, document) in documents.iter().enumerate() {
            if let Some(part) = own_part(document, split) {
                by_part.entry(part.clone()).or_default().push(place);
            }
        }
        Earlier { documents, by_part }
    }

    /// Those that the task at this index may have been: those that read its part, and those around its place. All of them would be
    /// a million comparisons for a thousand parts.
    pub fn like<'a>(
        &'a self,
        now: &'a KeyDocument,
        split: Option<&str>,
        index: usize,
    ) -> impl Iterator<Item = &'a KeyDocument> {
        let same_part = own_part(now, split).and_then(|part| self.by_part.get(part));
        let mut places: BTreeSet<usize> = same_part.into_iter().flatten().copied().take(AROUND).collect();
        let first = index.min(self.documents.len()).saturating_sub(AROUND / 2);
        places.extend((first..self.documents.len()).take(AROUND));
        places.into_iter().map(|place| &self.documents[place])
    }
}

fn own_part<'a>(document: &'a KeyDocument, split: Option<&str>) -> Option<&'a InputContent> {
    match document.inputs.get(split?)?.as_slice() {
        [part] => Some(part),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::staleness::differences;
    use crate::testing::Bench;

    fn part(of: usize) -> InputContent {
        InputContent::File { name: String::new(), content: of.to_string() }
    }

    fn document(k: u64, of: usize) -> KeyDocument {
        let inputs = [("lines".to_string(), vec![part(of)])].into();
        KeyDocument { stage: "x".into(), version: 1, params: serde_json::json!({ "k": k }), inputs }
    }

    #[test]
    fn the_task_of_the_same_part_is_found_wherever_it_was() {
        let documents: Vec<KeyDocument> = (0..1000).map(|of| document(1, of)).collect();
        let by_part = (0..1000).map(|of| (part(of), vec![of])).collect();
        let earlier = Earlier { documents, by_part };
        let nearest = |now: &KeyDocument, index| {
            earlier.like(now, Some("lines"), index).map(|before| differences(before, now).len()).min()
        };
        assert_eq!(nearest(&document(2, 999), 3), Some(1), "the parameter alone differs");
        assert_eq!(nearest(&document(1, 5000), 999), Some(1), "a new part is held against those around it");
        assert!(earlier.like(&document(1, 5000), Some("lines"), 5000).count() <= 2 * AROUND);
        let none = Earlier::read(&Bench::new(&[("one", "a")]).store(), &[], None);
        assert_eq!(none.like(&document(1, 1), None, 0).count(), 0);
    }
}
