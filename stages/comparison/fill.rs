//! Losses that short answers do not have: what stands for them, or which are compared without them.

use crate::comparison::compared::Fill;
use crate::states::state_table::States;

/// The vectors of all groups of a comparison, ready to be compared.
pub struct Filled {
    /// Complete vectors but under [`Fill::Pairwise`], where what is missing is 0. Examples that have too few numbers are
    /// left out.
    pub groups: Vec<States>,
    /// For each group 1 for each number that is there and 0 for each that is missing, where that matters.
    pub present: Option<Vec<Vec<f64>>>,
    /// How many examples of each group are left out.
    pub left_out: Vec<usize>,
    /// Of each group's numbers the share that was missing, the examples left out among them.
    pub missing: Vec<f64>,
}

/// Missing numbers are NaN. `least` is how many an example must have; where none is missing nothing is left out.
pub fn filled(mut groups: Vec<States>, fill: Fill, least: usize) -> Filled {
    let share = |group: &States| {
        let missing = group.values.iter().filter(|value| value.is_nan()).count();
        missing as f64 / group.values.len().max(1) as f64
    };
    let missing: Vec<f64> = groups.iter().map(share).collect();
    let mut left_out = vec![0; groups.len()];
    if missing.iter().all(|share| *share == 0.0) {
        return Filled { groups, present: None, left_out, missing };
    }
    // Vectors of fewer numbers are whole with what they have.
    let least = least.min(groups[0].width);
    for (group, left_out) in groups.iter_mut().zip(&mut left_out) {
        *left_out = drop_short(group, least);
    }
    let mut present = None;
    match fill {
        Fill::Common => cut_to_common(&mut groups, least, &mut left_out),
        Fill::Pairwise => {
            let of_group =
                |group: &States| group.values.iter().map(|value| f64::from(u8::from(!value.is_nan()))).collect();
            present = Some(groups.iter().map(of_group).collect());
            let values = groups.iter_mut().flat_map(|group| &mut group.values);
            values.filter(|value| value.is_nan()).for_each(|value| *value = 0.0);
        }
        Fill::Group => groups.iter_mut().for_each(|group| {
            let means = column_means(std::slice::from_ref(group), group.width);
            put(group, &means);
        }),
        Fill::All => {
            let means = column_means(&groups, groups[0].width);
            groups.iter_mut().for_each(|group| put(group, &means));
        }
    }
    Filled { groups, present, left_out, missing }
}

/// Leaves out the examples that have fewer numbers than `least`, and says how many.
fn drop_short(group: &mut States, least: usize) -> usize {
    let width = group.width.max(1);
    let has = |row: &[f64]| row.iter().filter(|value| !value.is_nan()).count() >= least;
    let keep: Vec<bool> = group.values.chunks_exact(width).map(has).collect();
    keep_rows(group, &keep)
}

fn keep_rows(group: &mut States, keep: &[bool]) -> usize {
    let width = group.width.max(1);
    let rows = group.values.chunks_exact(width).zip(keep).filter(|(_, keep)| **keep);
    group.values = rows.flat_map(|(row, _)| row.iter().copied()).collect();
    let mut kept = keep.iter();
    group.examples.retain(|_| kept.next() == Some(&true));
    keep.iter().filter(|keep| !**keep).count()
}

/// Keeps the positions at which every example of every group has a number; with fewer than `least` of them, no example.
fn cut_to_common(groups: &mut [States], least: usize, left_out: &mut [usize]) {
    let width = groups[0].width;
    let mut common = vec![true; width];
    for row in groups.iter().flat_map(|group| group.values.chunks_exact(width)) {
        common.iter_mut().zip(row).for_each(|(common, value)| *common &= !value.is_nan());
    }
    let kept = common.iter().filter(|common| **common).count();
    for (group, left_out) in groups.iter_mut().zip(left_out) {
        if kept < least.max(1) {
            *left_out += keep_rows(group, &vec![false; group.examples.len()]);
            continue;
        }
        let values = group.values.iter().enumerate().filter(|(i, _)| common[i % width]);
        group.values = values.map(|(_, value)| *value).collect();
        group.width = kept;
    }
}

/// The mean of each column over the numbers that are there; of a column without any, the mean over all.
fn column_means(groups: &[States], width: usize) -> Vec<f64> {
    let (mut sums, mut counts) = (vec![0.0; width], vec![0.0; width]);
    for row in groups.iter().flat_map(|group| group.values.chunks_exact(width)) {
        for (column, value) in row.iter().enumerate().filter(|(_, value)| !value.is_nan()) {
            sums[column] += value;
            counts[column] += 1.0;
        }
    }
    let all = sums.iter().sum::<f64>() / counts.iter().sum::<f64>().max(1.0);
    sums.iter().zip(&counts).map(|(sum, count)| if *count > 0.0 { sum / count } else { all }).collect()
}

fn put(group: &mut States, means: &[f64]) {
    let width = group.width;
    let values = group.values.iter_mut().enumerate().filter(|(_, value)| value.is_nan());
    values.for_each(|(i, value)| *value = means[i % width]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: f64 = f64::NAN;

    fn groups() -> Vec<States> {
        let group = |names: &[&str], values: &[f64]| States {
            examples: names.iter().map(|name| name.to_string()).collect(),
            width: 4,
            values: values.to_vec(),
        };
        vec![
            group(&["a", "b", "c"], &[1.0, 2.0, 3.0, NONE, 3.0, 4.0, 7.0, NONE, 9.0, NONE, NONE, NONE]),
            group(&["d"], &[5.0, 6.0, NONE, NONE]),
        ]
    }

    #[test]
    fn vectors_end_where_the_shortest_that_counts_ends() {
        let found = filled(groups(), Fill::Common, 2);
        assert_eq!(found.groups[0].examples, ["a", "b"]);
        assert_eq!(found.groups[0].values, [1.0, 2.0, 3.0, 4.0]);
        assert_eq!((&found.groups[1].values, found.groups[1].width), (&vec![5.0, 6.0], 2));
        assert_eq!((&found.left_out, &found.missing), (&vec![1, 0], &vec![5.0 / 12.0, 0.5]));
        // d has fewer than three, and c too.
        let found = filled(groups(), Fill::Common, 3);
        assert_eq!((found.groups[0].width, found.groups[1].examples.len()), (3, 0));
        assert_eq!(found.left_out, [1, 1]);
    }

    #[test]
    fn positions_that_no_two_examples_share_leave_none() {
        let mut apart = groups();
        apart[1].values = vec![NONE, NONE, 1.0, 1.0];
        let found = filled(apart, Fill::Common, 2);
        assert_eq!((found.left_out, found.groups[0].values.len()), (vec![3, 1], 0));
    }

    #[test]
    fn what_is_missing_is_filled_or_marked() {
        // The last position has no loss at all: the mean of the group.
        let found = filled(groups(), Fill::Group, 1);
        let all = 29.0 / 7.0;
        assert_eq!(found.groups[0].values, [1.0, 2.0, 3.0, all, 3.0, 4.0, 7.0, all, 9.0, 3.0, 5.0, all]);
        assert_eq!(found.groups[1].values, [5.0, 6.0, 5.5, 5.5]);
        let found = filled(groups(), Fill::All, 1);
        assert_eq!(found.groups[1].values, [5.0, 6.0, 5.0, 40.0 / 9.0]);
        let found = filled(groups(), Fill::Pairwise, 1);
        assert_eq!(found.groups[1].values, [5.0, 6.0, 0.0, 0.0]);
        assert_eq!(found.present.unwrap()[1], [1.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn vectors_shorter_than_the_least_are_whole() {
        let found = filled(groups(), Fill::Common, 8);
        assert_eq!(found.left_out, [3, 1], "none has all four");
        let mut whole = groups();
        whole[0].values[3] = 0.5;
        assert_eq!(filled(whole, Fill::Common, 8).groups[0].examples, ["a"]);
    }

    #[test]
    fn complete_vectors_stay_as_they_are() {
        let complete = States { examples: vec!["a".into()], width: 2, values: vec![1.0, 2.0] };
        let found = filled(vec![complete], Fill::Common, 8);
        assert_eq!((found.left_out, found.groups[0].values.len()), (vec![0], 2));
    }
}
