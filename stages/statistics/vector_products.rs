//! Sums over the inner products of all vectors of two groups, without the products: of many examples they are too many to be held, and to
//! be gone through.
//!
//! With d_i what vector i of the one group has beside its mean x, and f_j and y those of the other, their inner product is
//! x·y + d_i·y + x·f_j + d_i·f_j. The last, P_ij, adds up to 0 over each row and each column, and Σ P_ij² is the inner product of the matrices
//! Σ d dᵀ and Σ f fᵀ.

use crate::linear_algebra::{centre, combinations, dot, products, transpose};

/// Rows whose inner products are held, whatever their width: 32 MB.
const HELD: usize = 2048;

/// Whether the inner products of so many vectors are more numbers than may be held: more than a bound, and than the vectors are.
pub fn are_too_many(vectors: usize, width: usize) -> bool {
    vectors > HELD.max(width)
}

/// A group's vectors, and what they are beside their mean. Row-major.
pub struct Centred<'a> {
    rows: &'a [f64],
    width: usize,
    mean: Vec<f64>,
    rest: Vec<f64>,
}

impl<'a> Centred<'a> {
    pub fn new(rows: &'a [f64], width: usize) -> Centred<'a> {
        let mut rest = rows.to_vec();
        let mean = centre(&mut rest, width);
        Centred { rows, width, mean, rest }
    }

    fn len(&self) -> usize {
        self.rows.len() / self.width
    }

    fn row(&self, row: usize) -> &[f64] {
        &self.rows[row * self.width..(row + 1) * self.width]
    }

    /// Σ d dᵀ, [width, width].
    fn scatter(&self) -> Vec<f64> {
        combinations(&transpose(&self.rest, self.width), &self.rest, self.width)
    }

    /// The squared length of every vector.
    pub fn squares(&self) -> Vec<f64> {
        self.rows.chunks_exact(self.width).map(|row| dot(row, row)).collect()
    }
}

/// The inner products of two groups' vectors, [vectors of a, vectors of b].
pub struct VectorProducts<'a> {
    a: &'a Centred<'a>,
    b: &'a Centred<'a>,
    /// x·y
    pub level: f64,
    /// d_i·y
    pub rows: Vec<f64>,
    /// x·f_j
    pub columns: Vec<f64>,
}

impl<'a> VectorProducts<'a> {
    pub fn new(a: &'a Centred<'a>, b: &'a Centred<'a>) -> VectorProducts<'a> {
        let rows = products(&a.rest, &b.mean, a.width);
        let columns = products(&b.rest, &a.mean, a.width);
        VectorProducts { a, b, level: dot(&a.mean, &b.mean), rows, columns }
    }

    pub fn at(&self, row: usize, column: usize) -> f64 {
        dot(self.a.row(row), self.b.row(column))
    }

    /// The sum of all.
    pub fn total(&self) -> f64 {
        self.a.len() as f64 * self.b.len() as f64 * self.level
    }

    /// The sums of each row and of each column.
    pub fn sums(&self) -> (Vec<f64>, Vec<f64>) {
        let of = |along: &[f64], n: usize| along.iter().map(|along| n as f64 * (self.level + along)).collect();
        (of(&self.rows, self.b.len()), of(&self.columns, self.a.len()))
    }

    /// Σ (P_ij + rows_i + columns_j + all)².
    pub fn squares_with(&self, rows: &[f64], columns: &[f64], all: f64) -> f64 {
        let (n, m) = (self.a.len() as f64, self.b.len() as f64);
        let (of_rows, of_columns) = (rows.iter().sum::<f64>(), columns.iter().sum::<f64>());
        dot(&self.a.scatter(), &self.b.scatter())
            + m * dot(rows, rows)
            + n * dot(columns, columns)
            + 2.0 * of_rows * of_columns
            + 2.0 * all * (m * of_rows + n * of_columns)
            + n * m * all * all
    }

    /// With C_ij = P_ij + rows_i + columns_j + all, and i' the column that goes with a row i, Σ C_ik' C_ki' over all couples of those rows,
    /// i = k among them.
    pub fn crossed(&self, paired: &[(usize, usize)], rows: &[f64], columns: &[f64], all: f64) -> f64 {
        let width = self.a.width;
        let part = |of: &[f64], row: usize| of[row * width..(row + 1) * width].to_vec();
        let d: Vec<f64> = paired.iter().flat_map(|&(i, _)| part(&self.a.rest, i)).collect();
        let f: Vec<f64> = paired.iter().flat_map(|&(_, j)| part(&self.b.rest, j)).collect();
        let of_rows: Vec<f64> = paired.iter().map(|&(i, _)| rows[i]).collect();
        let of_columns: Vec<f64> = paired.iter().map(|&(_, j)| columns[j]).collect();
        let (count, ones) = (paired.len() as f64, vec![1.0; paired.len()]);
        let (sum_rows, sum_columns) = (of_rows.iter().sum::<f64>(), of_columns.iter().sum::<f64>());
        let levels = sum_rows * sum_rows
            + sum_columns * sum_columns
            + 2.0 * count * dot(&of_rows, &of_columns)
            + 2.0 * count * all * (sum_rows + sum_columns)
            + count * count * all * all;
        let sum = |vectors: &[f64], weights: &[f64]| combinations(weights, vectors, width);
        let (sum_d, sum_f) = (sum(&d, &ones), sum(&f, &ones));
        let mixed = dot(&sum_d, &sum(&f, &of_rows)) + dot(&sum(&d, &of_columns), &sum_f) + all * dot(&sum_d, &sum_f);
        // Σ (d_i·f_k)(d_k·f_i) is the trace of the square of Σ d_i f_iᵀ.
        let outer = combinations(&transpose(&d, width), &f, width);
        levels + 2.0 * mixed + dot(&outer, &transpose(&outer, width))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::random::Random;

    #[test]
    fn sums_over_vectors_are_those_over_their_products() {
        const WIDTH: usize = 4;
        let mut random = Random::new(5, 0);
        let mut draw = |count: usize| (0..count).map(|_| 0.7 + random.normal()).collect::<Vec<f64>>();
        let (a, b) = (draw(6 * WIDTH), draw(9 * WIDTH));
        let (rows, columns, all) = (draw(6), draw(9), 0.3);
        let (of_a, of_b) = (Centred::new(&a, WIDTH), Centred::new(&b, WIDTH));
        let found = VectorProducts::new(&of_a, &of_b);
        let held = products(&a, &b, WIDTH);
        let value = |i: usize, j: usize| held[i * 9 + j];
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-10, "{found} for {expected}");
        close(found.at(3, 7), value(3, 7));
        close(found.total(), held.iter().sum());
        close(found.sums().0[2], (0..9).map(|j| value(2, j)).sum());
        close(found.sums().1[8], (0..6).map(|i| value(i, 8)).sum());
        let beside = |i: usize, j: usize| value(i, j) - found.level - found.rows[i] - found.columns[j];
        let c = |i: usize, j: usize| beside(i, j) + rows[i] + columns[j] + all;
        let each = || (0..6).flat_map(|i| (0..9).map(move |j| (i, j)));
        close(found.squares_with(&rows, &columns, all), each().map(|(i, j)| c(i, j).powi(2)).sum());
        let paired = [(0, 3), (2, 8), (5, 1)];
        let couples = paired.iter().flat_map(|one| paired.iter().map(move |other| (one, other)));
        let expected = couples.map(|(one, other)| c(one.0, other.1) * c(other.0, one.1)).sum();
        close(found.crossed(&paired, &rows, &columns, all), expected);
    }
}
