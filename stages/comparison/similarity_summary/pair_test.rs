//! One pair of groups: means of their cosines, and the two means that permuted labels are held against.

use std::collections::HashMap;

use crate::comparison::compared::SameExample;
use crate::comparison::cosines::Vectors;
use crate::comparison::family::Tested;
use crate::comparison::group_sums::{means_of_vectors, permuted_means};
use crate::statistics::labels::Permutations;
use crate::statistics::pair_mean::{PairMean, Pairs};
use crate::statistics::pair_mean_of_vectors::VectorPairs;
use crate::statistics::vector_products::are_too_many;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    pub a: usize,
    pub b: usize,
}

impl Pair {
    /// Every two groups, each with itself too.
    pub fn all(groups: usize) -> impl Iterator<Item = Pair> {
        (0..groups).flat_map(move |a| (a..groups).map(move |b| Pair { a, b }))
    }
}

/// The permutations of a pair's labels, kept from one layer to the next.
#[derive(Default)]
pub struct Permuted {
    examples: Vec<String>,
    first: usize,
    labels: Option<Permutations>,
}

impl Permuted {
    /// Permutes the labels of these examples, unless it has.
    pub fn of(&mut self, pair: Pair, [a, b]: [&[String]; 2], permutations: usize, seed: u64) {
        let known = self.labels.is_some() && self.first == a.len() && self.examples.iter().eq(a.iter().chain(b));
        if pair.a == pair.b || known {
            return;
        }
        (self.examples, self.first) = ([a, b].concat(), a.len());
        let groups: Vec<u16> = (0..self.examples.len()).map(|row| u16::from(row >= a.len())).collect();
        let names: Vec<&str> = self.examples.iter().map(String::as_str).collect();
        // Each pair of a comparison has a stream of its own.
        let stream = 1 + ((pair.a as u64) << 32) + pair.b as u64;
        self.labels = Some(Permutations::new(groups, &names, permutations, seed, stream));
    }
}

/// What is found of a pair at one place.
pub struct PairTest {
    pub n_a: usize,
    pub n_b: usize,
    /// Pairs between the groups that are one example.
    pub same: usize,
    /// Between the groups, or within where the two are one.
    pub mean: Option<PairMean>,
    pub within_a: Option<f64>,
    pub within_b: Option<f64>,
    /// The mean between the groups under permuted labels.
    pub between: Option<Tested>,
    /// The difference of the means within.
    pub within: Option<Tested>,
}

/// `vectors` are those of a and then of b; of a group with itself, its own.
pub fn test(
    pair: Pair,
    [a, b]: [&[String]; 2],
    vectors: &Vectors,
    permuted: &Permuted,
    same_example: SameExample,
    centred: bool,
) -> PairTest {
    let alone = pair.a == pair.b;
    let partner: Vec<Option<usize>> = if alone { vec![None; a.len()] } else { partners(a, b) };
    let (rows, first, same_example) = (partner.len(), a.len(), same_example == SameExample::Keep);
    // The cosines, but where they are too many to be held.
    let units = vectors.units();
    let held = units.is_none_or(|(_, width)| !are_too_many(rows, width)).then(|| vectors.cosines());
    let pairs = match (&held, units) {
        (None, Some((units, width))) => {
            Means::Vectors(VectorPairs { vectors: units, width, first, partner: &partner, same_example })
        }
        (cosines, _) => {
            let values = cosines.as_ref().map_or(&[][..], |cosines| &cosines.values);
            let counted = cosines.as_ref().and_then(|cosines| cosines.known.as_deref());
            Means::Held(Pairs { values, counted, first, partner: &partner, same_example })
        }
    };
    // A centre from the same examples shifts the mean, so that no interval around it holds.
    let shown = |mean: PairMean| PairMean { interval: mean.interval.filter(|_| !centred), ..mean };
    let within_a = pairs.within(false);
    let mut found = PairTest {
        n_a: a.len(),
        n_b: b.len(),
        same: partner[..a.len()].iter().flatten().count(),
        mean: None,
        within_a: within_a.map(|mean| mean.mean),
        within_b: None,
        between: None,
        within: None,
    };
    if alone {
        found.within_b = found.within_a;
        found.mean = within_a.map(shown);
        return found;
    }
    found.mean = pairs.between().map(shown);
    found.within_b = pairs.within(true).map(|mean| mean.mean);
    let Some(labels) = &permuted.labels else { return found };
    let Some(mean) = found.mean else { return found };
    // Labels move with pairs, so what is left out because it is one example is always between the groups.
    let means = match (&pairs, units) {
        (Means::Held(_), Some((units, width))) if width < rows && rows >= LEAST => {
            let of = VectorPairs { vectors: units, width, first, partner: &partner, same_example };
            labels.each(|labels| means_of_vectors(&of, labels))
        }
        (Means::Vectors(of), _) => labels.each(|labels| means_of_vectors(of, labels)),
        (Means::Held(pairs), _) => {
            let (values, counted) = counting(pairs);
            labels.each(|labels| permuted_means(&values, &counted, labels, pairs.counted.is_none()))
        }
    };
    found.between = Some(Tested { observed: mean.mean, null: means.iter().map(|mean| mean.between).collect() });
    if let (Some(within_a), Some(within_b)) = (found.within_a, found.within_b) {
        let null = means.iter().map(|mean| mean.within_a - mean.within_b).collect();
        found.within = Some(Tested { observed: within_a - within_b, null });
    }
    found
}

/// Rows from which on sums under permuted labels come from the vectors where these are fewer numbers than the cosines: of fewer rows a
/// permutation may be the observed one, and then has to give the observed value to the last digits.
const LEAST: usize = 32;

/// Where the means over pairs come from.
enum Means<'a> {
    Held(Pairs<'a>),
    Vectors(VectorPairs<'a>),
}

impl Means<'_> {
    fn within(&self, second: bool) -> Option<PairMean> {
        match self {
            Means::Held(pairs) => pairs.within(second),
            Means::Vectors(pairs) => pairs.within(second),
        }
    }

    fn between(&self) -> Option<PairMean> {
        match self {
            Means::Held(pairs) => pairs.between(),
            Means::Vectors(pairs) => pairs.between(),
        }
    }
}

/// The values with 0 for each pair that does not count, and 1 for each that does.
fn counting(pairs: &Pairs) -> (Vec<f64>, Vec<f64>) {
    let rows = pairs.partner.len();
    let mut counted = pairs.counted.map_or_else(|| vec![1.0; rows * rows], <[f64]>::to_vec);
    for i in 0..rows {
        counted[i * rows + i] = 0.0;
        if let Some(partner) = pairs.partner[i].filter(|_| !pairs.same_example) {
            counted[i * rows + partner] = 0.0;
        }
    }
    (pairs.values.iter().zip(&counted).map(|(value, counted)| value * counted).collect(), counted)
}

/// For each row of a and then of b the row of the same example in the other.
fn partners(a: &[String], b: &[String]) -> Vec<Option<usize>> {
    let of_b: HashMap<&str, usize> = b.iter().enumerate().map(|(row, name)| (name.as_str(), a.len() + row)).collect();
    let mut partner = vec![None; a.len() + b.len()];
    for (row, name) in a.iter().enumerate() {
        if let Some(&other) = of_b.get(name.as_str()) {
            (partner[row], partner[other]) = (Some(other), Some(row));
        }
    }
    partner
}
