//! A choice that may differ between a model's blocks.

/// The choices repeat: block b (from 0) takes the one at b modulo their number, so that one choice is for all blocks
/// and two alternate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerBlock<T>(Vec<T>);

impl<T> PerBlock<T> {
    /// The same for every block.
    pub fn all(choice: T) -> PerBlock<T> {
        PerBlock(vec![choice])
    }

    pub fn of(&self, block: usize) -> &T {
        &self.0[block % self.0.len()]
    }

    /// Each choice once, as often as it stands in the repeated list.
    pub fn choices(&self) -> &[T] {
        &self.0
    }

    pub fn map<U>(&self, change: impl FnMut(&T) -> U) -> PerBlock<U> {
        PerBlock(self.0.iter().map(change).collect())
    }
}

impl<T: PartialEq> PerBlock<T> {
    /// From one choice for each block, of which the shortest list is kept that repeats to them; `None` without any.
    pub fn listed(mut choices: Vec<T>) -> Option<PerBlock<T>> {
        let repeats = |period: &usize| (*period..choices.len()).all(|block| choices[block] == choices[block - period]);
        let period = (1..=choices.len()).find(repeats)?;
        choices.truncate(period);
        Some(PerBlock(choices))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_kept_as_its_shortest_repetition_and_gives_back_every_choice() {
        for (list, period) in
            [(vec![4, 4, 4], 1), (vec![1, 2, 1, 2, 1], 2), (vec![1, 1, 2, 1, 1], 3), (vec![1, 1, 2], 3)]
        {
            let found = PerBlock::listed(list.clone()).unwrap();
            assert_eq!(found.choices().len(), period, "{list:?}");
            assert_eq!((0..list.len()).map(|block| *found.of(block)).collect::<Vec<_>>(), list);
        }
        assert_eq!(PerBlock::<u8>::listed(Vec::new()), None);
    }
}
