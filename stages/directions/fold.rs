//! Cross-fitting: an example is projected on a direction that it did not help to find. Otherwise the projections of the
//! examples that a direction was fitted to lie further along it than those of others, and its source and target are told
//! from any third model without a shift (docs/statistics.md).

/// The fold of the direction that is found from all examples.
pub const ALL: u32 = 0;

/// The fold of an example, from 1 to `folds`; [`ALL`] where there are none. It comes from the example's identity alone, so
/// that an edit of one example leaves the others where they are. Repeats of an example (`-2`, `-3`) share its fold.
pub fn fold(example: &str, folds: u32) -> u32 {
    if folds == 0 {
        return ALL;
    }
    let identity = example.split('-').next().unwrap_or(example);
    let hash = blake3::hash(format!("fold {identity}").as_bytes());
    let bytes: [u8; 8] = std::array::from_fn(|i| hash.as_bytes()[i]);
    (u64::from_le_bytes(bytes) % u64::from(folds)) as u32 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_share_a_fold_and_folds_are_of_about_one_size() {
        let mut sizes = [0; 5];
        for i in 0..1000 {
            let example = format!("{:016x}", i * 7919);
            let fold = fold(&example, 5);
            assert_eq!(fold, super::fold(&format!("{example}-2"), 5));
            sizes[fold as usize - 1] += 1;
        }
        assert!(sizes.iter().all(|size| (150..250).contains(size)), "{sizes:?}");
        assert_eq!(fold("a", 0), ALL);
    }
}
