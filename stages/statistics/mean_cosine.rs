//! The cosine of two groups' mean vectors, from the inner products of their members: an estimate that noise does not
//! bend, its interval, and the test that the two means have no common direction.
//!
//! The cosine of two sample means is too near 0, since noise lengthens both. Here the lengths and the inner product are
//! U-statistics, means over pairs of *different* examples, which have no such bias. Nothing is resampled: the interval and
//! the test come from the jackknife, in one pass over the inner products. docs/statistics.md has the formulas.

use std::borrow::Borrow;
use std::collections::HashMap;

use super::bootstrap::Interval;
use super::random::Random;
use super::student::{quantile_975, two_sided};
use super::vector_products::{Centred, VectorProducts};

/// The inner products of the vectors of two groups.
pub struct InnerProducts<'a> {
    /// [n_a, n_a]
    pub a: Matrix<'a>,
    /// [n_b, n_b]
    pub b: Matrix<'a>,
    /// [n_a, n_b]
    pub between: Matrix<'a>,
}

impl<'a> InnerProducts<'a> {
    pub fn of_vectors(a: &'a Centred<'a>, b: &'a Centred<'a>) -> InnerProducts<'a> {
        let of = |a, b| Matrix::Vectors(VectorProducts::new(a, b));
        InnerProducts { a: of(a, a), b: of(b, b), between: of(a, b) }
    }
}

/// A matrix of inner products.
pub enum Matrix<'a> {
    /// Row-major.
    Held(&'a [f64]),
    /// As the vectors, of which the products would be too many.
    Vectors(VectorProducts<'a>),
}

impl Matrix<'_> {
    /// The sums of the rows and of the columns, of which there are so many.
    fn sums(&self, columns: usize) -> (Vec<f64>, Vec<f64>) {
        let matrix = match self {
            Matrix::Held(matrix) => matrix,
            Matrix::Vectors(vectors) => return vectors.sums(),
        };
        let (mut rows, mut of_columns) = (Vec::new(), vec![0.0; columns]);
        for row in matrix.chunks_exact(columns.max(1)) {
            of_columns.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            rows.push(row.iter().sum::<f64>());
        }
        (rows, of_columns)
    }

    fn at(&self, row: usize, column: usize, columns: usize) -> f64 {
        match self {
            Matrix::Held(matrix) => matrix[row * columns + column],
            Matrix::Vectors(vectors) => vectors.at(row, column),
        }
    }

    fn total(&self) -> f64 {
        match self {
            Matrix::Held(matrix) => matrix.iter().sum(),
            Matrix::Vectors(vectors) => vectors.total(),
        }
    }

    /// The sum of the squares of value - rows_i - columns_j + mean.
    fn squares_about(&self, rows: &[f64], columns: &[f64], mean: f64) -> f64 {
        match self {
            Matrix::Held(matrix) => {
                let mut sum = 0.0;
                for (row, values) in rows.iter().zip(matrix.chunks_exact(columns.len().max(1))) {
                    let shift = mean - row;
                    sum +=
                        values.iter().zip(columns).map(|(value, column)| (value - column + shift).powi(2)).sum::<f64>();
                }
                sum
            }
            Matrix::Vectors(vectors) => {
                let (rows, columns, mean) = about(vectors, rows, columns, mean);
                vectors.squares_with(&rows, &columns, mean)
            }
        }
    }
}

/// What remains of rows, columns and mean when what the vectors' means make of the products is taken from them.
fn about(vectors: &VectorProducts, rows: &[f64], columns: &[f64], mean: f64) -> (Vec<f64>, Vec<f64>, f64) {
    let of =
        |along: &[f64], sums: &[f64]| along.iter().zip(sums).map(|(along, sum)| vectors.level + along - sum).collect();
    (of(&vectors.rows, rows), of(&vectors.columns, columns), mean - vectors.level)
}

/// Which vectors are of one example. Pairs of them are left out, and the example is what the jackknife leaves out.
pub struct Examples {
    /// The number of each vector's example, from 0.
    a: Vec<usize>,
    b: Vec<usize>,
    count: usize,
}

impl Examples {
    /// Every vector is of an example of its own.
    pub fn different(n_a: usize, n_b: usize) -> Examples {
        Examples { a: (0..n_a).collect(), b: (n_a..n_a + n_b).collect(), count: n_a + n_b }
    }

    /// By the examples' identities; repeats of an example (`-2`, `-3` … after its identity) are the same example.
    pub fn by_identity<'a>(a: impl IntoIterator<Item = &'a str>, b: impl IntoIterator<Item = &'a str>) -> Examples {
        let mut known = HashMap::new();
        let mut number = |identity: &'a str| {
            let next = known.len();
            *known.entry(without_repeat(identity)).or_insert(next)
        };
        let a = a.into_iter().map(&mut number).collect();
        let b = b.into_iter().map(&mut number).collect();
        Examples { a, b, count: known.len() }
    }

    /// How many pairs of a vector of `a` and one of `b` are of one example.
    pub fn same_pairs(&self) -> usize {
        let mut of_b = vec![0; self.count];
        self.b.iter().for_each(|&example| of_b[example] += 1);
        self.a.iter().map(|&example| of_b[example]).sum()
    }
}

/// An identity without the number of its repeat.
pub fn without_repeat(identity: &str) -> &str {
    match identity.rsplit_once('-') {
        Some((first, repeat)) if !repeat.is_empty() && repeat.bytes().all(|byte| byte.is_ascii_digit()) => first,
        _ => identity,
    }
}

pub struct MeanCosine {
    /// The cosine of the two sample means, which is too near 0; NaN where one of them is 0.
    pub plain: f64,
    /// The estimate from pairs of different examples. It can lie beyond -1 and 1 by chance. `None` where a squared length
    /// is estimated at 0 or less: the group has no mean that could be told from 0.
    pub estimate: Option<f64>,
    /// 95 %; all of [-1, 1] where the means' lengths are not known well enough. Needs 4 examples in each group.
    pub interval: Option<Interval>,
    /// The estimated inner product of the means by its standard error: what the test looks at.
    pub z: Option<f64>,
    /// Two-sided, of the hypothesis that the inner product of the two groups' expected vectors is 0.
    pub p_value: Option<f64>,
    /// Each example's share in `z`, for [`null_of`]; empty where there is no `z`.
    shares: Vec<f64>,
}

/// The cosine of the means of two groups.
pub fn mean_cosine(products: InnerProducts, examples: &Examples) -> MeanCosine {
    let (n_a, n_b) = (examples.a.len(), examples.b.len());
    let InnerProducts { a, b, between: matrix } = &products;
    let plain = matrix.total() / (a.total() * b.total()).sqrt();
    let between = Pairs::new(matrix, &examples.a, &examples.b, examples.count);
    let within = [
        Pairs::new(a, &examples.a, &examples.a, examples.count),
        Pairs::new(b, &examples.b, &examples.b, examples.count),
    ];
    let length = (within[0].mean * within[1].mean).sqrt();
    let defined = within[0].mean > 0.0 && within[1].mean > 0.0;
    let estimate = Some(between.mean / length).filter(|cosine| defined && cosine.is_finite());
    let none = MeanCosine { plain, estimate, interval: None, z: None, p_value: None, shares: Vec::new() };

    let sizes = [&examples.a, &examples.b].map(|group| distinct(group, examples.count));
    let smaller = sizes[0].min(sizes[1]);
    if smaller < 4 || between.pairs == 0.0 {
        return none;
    }
    let freedom = smaller as f64 - 1.0;
    let roots = jackknife_roots(examples, sizes);
    let inner: Vec<f64> = between.changes().iter().zip(&roots).map(|(change, root)| change * root).collect();
    let inner_noise = between.noise(matrix, examples);

    // What examples alone make of the inner product, and what pairs do. The jackknife counts the pairs' part twice.
    let variance = (squares(&inner) - inner_noise).max(inner_noise);
    let scale = mean_diagonal(a, n_a) * mean_diagonal(b, n_b);
    // States that are equal but for the rounding of f32 have no spread that a test could use.
    let varies = variance * smaller as f64 > 1e-12 * scale;
    let z = Some(between.mean / variance.sqrt()).filter(|z| varies && z.is_finite());
    let shares = match z {
        Some(_) => inner.iter().map(|share| share / squares(&inner).sqrt()).collect(),
        None => Vec::new(),
    };
    let p_value = z.map(|z| two_sided(z, freedom));

    let interval = estimate.map(|estimate| {
        // The product of the lengths, linear in each: sqrt(P_a P_b) = (r P_a + P_b / r) / 2 at r = sqrt(P_b / P_a).
        let r = (within[1].mean / within[0].mean).sqrt();
        let scales = [0.5 * r, 0.5 / r];
        let mut lengths = vec![0.0; examples.count];
        let mut length_noise = 0.0;
        for ((within, scale), (matrix, group)) in within.iter().zip(scales).zip([(a, &examples.a), (b, &examples.b)]) {
            let changes = within.changes();
            lengths.iter_mut().zip(changes).zip(&roots).for_each(|((sum, change), root)| *sum += scale * change * root);
            length_noise += scale * scale * length_variance(matrix, group.len());
        }
        let spread = Quadratic { constant: squares(&inner), linear: dot(&inner, &lengths), square: squares(&lengths) };
        let noise = Quadratic { constant: inner_noise, linear: 0.0, square: length_noise };
        confidence(between.mean, length, estimate, spread, noise, quantile_975(smaller - 1))
    });
    MeanCosine { interval, z, p_value, shares, ..none }
}

/// Null values of the tests' `z`, [draws, tests]: each example's share takes a random sign, the same one in every test (of
/// layers with the same examples), so that a maximum over the tests can be judged. Tests without a `z` have zeros.
pub fn null_of(tests: &[impl Borrow<MeanCosine>], draws: usize, seed: u64, stream: u64) -> Vec<f64> {
    let examples = tests.iter().map(|test| test.borrow().shares.len()).max().unwrap_or(0);
    let mut random = Random::new(seed, stream);
    let mut signs = vec![0.0; examples];
    let mut null = Vec::with_capacity(draws * tests.len());
    for _ in 0..draws {
        signs.iter_mut().for_each(|sign| *sign = if random.coin() { 1.0 } else { -1.0 });
        null.extend(tests.iter().map(|test| dot(&test.borrow().shares, &signs)));
    }
    null
}

/// The inner products of pairs of different examples: their sums by row and column and their mean.
struct Pairs<'a> {
    /// The example of each row and of each column.
    of_rows: &'a [usize],
    of_columns: &'a [usize],
    rows: Vec<f64>,
    columns: Vec<f64>,
    /// How many pairs each row and column has.
    in_row: Vec<f64>,
    in_column: Vec<f64>,
    sum: f64,
    pairs: f64,
    mean: f64,
    examples: usize,
}

impl<'a> Pairs<'a> {
    fn new(matrix: &Matrix, of_rows: &'a [usize], of_columns: &'a [usize], examples: usize) -> Pairs<'a> {
        let (n, m) = (of_rows.len(), of_columns.len());
        let (mut rows, mut columns) = matrix.sums(m);
        assert_eq!((rows.len(), columns.len()), (n, m), "the inner products of all vectors");
        let (mut in_row, mut in_column) = (vec![m as f64; n], vec![n as f64; m]);
        let mut columns_of: Vec<Vec<usize>> = vec![Vec::new(); examples];
        of_columns.iter().enumerate().for_each(|(column, &example)| columns_of[example].push(column));
        for (row, &example) in of_rows.iter().enumerate() {
            for &column in &columns_of[example] {
                let value = matrix.at(row, column, m);
                rows[row] -= value;
                columns[column] -= value;
                in_row[row] -= 1.0;
                in_column[column] -= 1.0;
            }
        }
        let (sum, pairs) = (rows.iter().sum::<f64>(), in_row.iter().sum::<f64>());
        Pairs { of_rows, of_columns, rows, columns, in_row, in_column, sum, pairs, mean: sum / pairs, examples }
    }

    /// By how much the mean falls when an example is left out, for each example.
    fn changes(&self) -> Vec<f64> {
        let (mut sums, mut counts) = (vec![0.0; self.examples], vec![0.0; self.examples]);
        for (of, values, pairs) in
            [(self.of_rows, &self.rows, &self.in_row), (self.of_columns, &self.columns, &self.in_column)]
        {
            for ((&example, value), pairs) in of.iter().zip(values).zip(pairs) {
                sums[example] += value;
                counts[example] += pairs;
            }
        }
        let change = |(sum, count): (f64, f64)| match count < self.pairs {
            true => self.mean - (self.sum - sum) / (self.pairs - count),
            false => 0.0,
        };
        sums.into_iter().zip(counts).map(change).collect()
    }

    /// The variance of the mean that comes from pairs rather than from single examples: with C centred in rows and columns,
    /// the sum of its squares over (pairs)^2, corrected for the centring. Of two examples that both occur in both groups
    /// the two products that they have with one another belong together.
    fn noise(&self, matrix: &Matrix, examples: &Examples) -> f64 {
        let (n, m) = (self.rows.len(), self.columns.len());
        let mean = |sums: &[f64], counts: &[f64]| -> Vec<f64> {
            sums.iter().zip(counts).map(|(sum, count)| if *count > 0.0 { sum / count } else { 0.0 }).collect()
        };
        let (rows, columns) = (mean(&self.rows, &self.in_row), mean(&self.columns, &self.in_column));
        let centred = |i: usize, j: usize| matrix.at(i, j, m) - rows[i] - columns[j] + self.mean;
        let mut columns_of: Vec<Vec<usize>> = vec![Vec::new(); self.examples];
        examples.b.iter().enumerate().for_each(|(column, &example)| columns_of[example].push(column));
        let mut sum = matrix.squares_about(&rows, &columns, self.mean);
        // Pairs of one example do not count, and those of two shared ones count with their mirror image.
        let shared: Vec<(usize, usize)> = (self.of_rows.iter().enumerate())
            .filter_map(|(row, &example)| columns_of[example].first().map(|&column| (row, column)))
            .collect();
        for (i, &example) in self.of_rows.iter().enumerate() {
            sum -= columns_of[example].iter().map(|&j| centred(i, j).powi(2)).sum::<f64>();
        }
        match matrix {
            Matrix::Held(_) => {
                for &(i, of_i) in &shared {
                    let others = shared.iter().filter(|(k, _)| self.of_rows[*k] != self.of_rows[i]);
                    sum += others.map(|&(k, of_k)| centred(i, of_k) * centred(k, of_i)).sum::<f64>();
                }
            }
            Matrix::Vectors(vectors) if !shared.is_empty() => {
                let (rows, columns, mean) = about(vectors, &rows, &columns, self.mean);
                sum += vectors.crossed(&shared, &rows, &columns, mean);
                let mut of_example: Vec<Vec<(usize, usize)>> = vec![Vec::new(); self.examples];
                shared.iter().for_each(|&(row, column)| of_example[self.of_rows[row]].push((row, column)));
                for repeats in of_example {
                    let couples = repeats.iter().flat_map(|one| repeats.iter().map(move |other| (one, other)));
                    sum -= couples.map(|(i, k)| centred(i.0, k.1) * centred(k.0, i.1)).sum::<f64>();
                }
            }
            Matrix::Vectors(_) => {}
        }
        let freedom = self.pairs - (n + m) as f64 + 1.0;
        sum.max(0.0) / (freedom * self.pairs)
    }
}

/// The variance of a U-statistic of squared length that comes from pairs: 2 tr(C^2) / (n (n - 1)), with tr(C^2) for the
/// covariance C estimated without bias from the U-centred inner products (Székely and Rizzo 2014).
fn length_variance(matrix: &Matrix, n: usize) -> f64 {
    let size = n as f64;
    let own: Vec<f64> = (0..n).map(|i| matrix.at(i, i, n)).collect();
    let sums: Vec<f64> = matrix.sums(n).0.iter().zip(&own).map(|(sum, own)| sum - own).collect();
    let total = sums.iter().sum::<f64>() / ((size - 1.0) * (size - 2.0));
    let shares: Vec<f64> = sums.iter().map(|sum| sum / (size - 2.0)).collect();
    let centred = |value: f64, i: usize, j: usize| value - shares[j] + (total - shares[i]);
    let sum = match matrix {
        Matrix::Held(matrix) => {
            let mut sum = 0.0;
            for (i, row) in matrix.chunks_exact(n).enumerate() {
                sum += row.iter().enumerate().map(|(j, value)| centred(*value, i, j).powi(2)).sum::<f64>();
                sum -= centred(row[i], i, i).powi(2);
            }
            sum
        }
        Matrix::Vectors(_) => {
            let diagonal = own.iter().enumerate().map(|(i, own)| centred(*own, i, i).powi(2));
            matrix.squares_about(&shares, &shares, total) - diagonal.sum::<f64>()
        }
    };
    2.0 * sum.max(0.0) / (size * (size - 3.0)) / (size * (size - 1.0))
}

/// The square root of the jackknife's factor (n - 1) / n for each example, n being the examples of its group.
fn jackknife_roots(examples: &Examples, sizes: [usize; 2]) -> Vec<f64> {
    let mut n = vec![usize::MAX; examples.count];
    for (group, size) in [&examples.a, &examples.b].into_iter().zip(sizes) {
        group.iter().for_each(|&example| n[example] = n[example].min(size));
    }
    n.into_iter().map(|n| ((n - 1) as f64 / n as f64).sqrt()).collect()
}

fn distinct(group: &[usize], count: usize) -> usize {
    let mut seen = vec![false; count];
    group.iter().for_each(|&example| seen[example] = true);
    seen.into_iter().filter(|seen| *seen).count()
}

/// The variance of N - t R as a function of t: constant - 2 linear t + square t^2.
#[derive(Clone, Copy)]
struct Quadratic {
    constant: f64,
    linear: f64,
    square: f64,
}

/// Fieller's interval (1954): all t for which (inner - t length)^2 <= c^2 V(t), where V(t) is the jackknife's variance
/// less half of the pairs' part, and at least the pairs' part. The whole of it would be due, but where noise lies in few
/// dimensions the intervals are then too short.
fn confidence(inner: f64, length: f64, estimate: f64, spread: Quadratic, noise: Quadratic, c: f64) -> Interval {
    let less = Quadratic {
        constant: spread.constant - 0.5 * noise.constant,
        linear: spread.linear,
        square: spread.square - 0.5 * noise.square,
    };
    let (mut low, mut high) = (estimate, estimate);
    for variance in [less, noise] {
        let square = length * length - c * c * variance.square;
        let middle = inner * length - c * c * variance.linear;
        let constant = inner * inner - c * c * variance.constant;
        if square <= 0.0 {
            (low, high) = (f64::NEG_INFINITY, f64::INFINITY);
        } else if middle * middle >= square * constant {
            let root = (middle * middle - square * constant).sqrt();
            low = low.min((middle - root) / square);
            high = high.max((middle + root) / square);
        }
    }
    Interval { low: low.max(estimate.min(-1.0)), high: high.min(estimate.max(1.0)) }
}

fn mean_diagonal(matrix: &Matrix, n: usize) -> f64 {
    (0..n).map(|i| matrix.at(i, i, n)).sum::<f64>() / n as f64
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn squares(values: &[f64]) -> f64 {
    dot(values, values)
}

#[cfg(test)]
mod tests;
