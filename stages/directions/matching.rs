//! Which direction of one set is which of another: the singular vectors of two overlapping sets of examples come in the
//! order of their singular values, which two sets need not share.

use crate::linear_algebra::dot;

/// The |cosine| from which on two singular vectors are taken for one direction: a direction that four others mix into
/// equally still has 1/2 with each of them.
pub const LEAST: f64 = 0.5;

/// For each unit vector of `all`, its place in `others` and the cosine of the two, by taking the pair with the largest
/// |cosine|, then the largest of those that are left, down to [`LEAST`]. `None` where nothing is left for it.
pub fn matched(all: &[Vec<f64>], others: &[Vec<f64>]) -> Vec<Option<(usize, f64)>> {
    let mut pairs: Vec<(usize, usize, f64)> = Vec::new();
    for (i, one) in all.iter().enumerate() {
        pairs.extend(others.iter().enumerate().map(|(j, other)| (i, j, dot(one, other))));
    }
    pairs.retain(|(_, _, cosine)| cosine.abs() >= LEAST);
    pairs.sort_by(|a, b| b.2.abs().total_cmp(&a.2.abs()));
    let mut found = vec![None; all.len()];
    let mut taken = vec![false; others.len()];
    for (i, j, cosine) in pairs {
        if found[i].is_none() && !taken[j] {
            (found[i], taken[j]) = (Some((j, cosine)), true);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_alike_are_paired_first_whatever_their_order_and_sign() {
        let axis = |i: usize, sign: f64| (0..4).map(|j| if i == j { sign } else { 0.0 }).collect::<Vec<f64>>();
        let all = [axis(0, 1.0), axis(1, 1.0), axis(2, 1.0)];
        let others = [axis(1, -1.0), axis(0, 1.0), axis(3, 1.0)];
        assert_eq!(matched(&all, &others), [Some((1, 1.0)), Some((0, -1.0)), None]);
        // The second is more like the first of the others than the first is.
        let (near, far) = (vec![0.8, 0.6], vec![0.6, 0.8]);
        assert_eq!(matched(&[near, far], &[vec![0.0, 1.0]]), [None, Some((0, 0.8))]);
        assert_eq!(matched(&all, &[]), [None, None, None]);
    }
}
