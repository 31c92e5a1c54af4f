//! The reverse of y = x Wᵀ + b: the input's gradient d W, the weight's dᵀ x and the bias' Σ d.

use gemmkit::{MatMut, MatRef, gemm};
use rayon::prelude::*;

use super::bf16::{keep_rounded, round};
use super::{Matrix, Precision, Values, bf16_product, fix_summation_order, threads};
use crate::processor::multiplies_bf16;

/// dx [rows, in] = d [rows, out] W, or dx += where `add`.
///
/// # Panics
/// When a slice's length does not fit the shapes; so do the others.
pub fn linear_backward(d: &[f32], weight: Matrix, add: bool, dx: &mut [f32]) {
    let Matrix { out, inputs, .. } = weight;
    let rows = d.len() / out;
    assert_eq!((d.len(), dx.len()), (rows * out, rows * inputs), "linear_backward: lengths");
    if weight.precision == Precision::Bf16 {
        return match multiplies_bf16() {
            true => bf16_product::backward(d, weight, add, dx),
            false => rounded_backward(&mut d.to_vec(), weight, add, dx),
        };
    }
    fix_summation_order();
    let mut call = |weight: &[f32], first: usize, count: usize, add: bool| {
        gemm(
            1.0,
            MatRef::new(&d[first..], rows, count, out as isize, 1),
            MatRef::from_row_major(weight, count, inputs),
            if add { 1.0 } else { 0.0 },
            MatMut::from_row_major(dx, rows, inputs),
            threads(),
        );
    };
    match weight.values {
        Values::F32(values) if !weight.rounded => call(values, 0, out, add),
        _ => weight.each_widened(WIDENED, |weights, first| {
            call(weights, first, weights.len() / inputs, add || first > 0);
        }),
    }
}

/// [`linear_backward`] that may round `d` where it lies.
pub fn linear_backward_rounding(d: &mut [f32], weight: Matrix, add: bool, dx: &mut [f32]) {
    match weight.precision == Precision::Bf16 && !multiplies_bf16() {
        true => rounded_backward(d, weight, add, dx),
        false => linear_backward(d, weight, add, dx),
    }
}

/// Weights that are widened at a time. Sums run over these, so another number is another rounding.
const WIDENED: usize = 1 << 20;

/// Rows of which rounded products are made at a time.
const ROWS: usize = 2048;

/// [`linear_backward`] in bf16 by way of f32; `d` is rounded where it lies.
fn rounded_backward(d: &mut [f32], weight: Matrix, add: bool, dx: &mut [f32]) {
    let Matrix { out, inputs, .. } = weight;
    round(d);
    for (d, dx) in d.chunks(ROWS * out).zip(dx.chunks_mut(ROWS * inputs)) {
        let mut part = vec![0.0; dx.len()];
        linear_backward(d, weight.rounded(), false, &mut part);
        let rows = dx.par_chunks_mut(inputs).zip(part.par_chunks_mut(inputs));
        rows.for_each(|(dx, part)| keep_rounded(part, add, dx));
    }
}

/// dw [out, in] += d [rows, out]ᵀ x [rows, in].
pub fn weight_gradient_add(x: &[f32], d: &[f32], out: usize, inputs: usize, dw: &mut [f32]) {
    let rows = x.len() / inputs;
    assert_eq!((x.len(), d.len()), (rows * inputs, rows * out), "weight_gradient_add: lengths");
    fix_summation_order();
    gemm(
        1.0,
        MatRef::new(d, out, rows, 1, out as isize),
        MatRef::from_row_major(x, rows, inputs),
        1.0,
        MatMut::from_row_major(dw, out, inputs),
        threads(),
    );
}

/// db [out] += the sum of the rows of d, in their order.
pub fn bias_gradient_add(d: &[f32], db: &mut [f32]) {
    for row in d.chunks_exact(db.len()) {
        db.iter_mut().zip(row).for_each(|(db, d)| *db += d);
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;
    use crate::model::ops::test_values::{reference, values, worst_relative};

    #[test]
    fn agree_with_f64_over_shapes_and_dtypes() {
        for (rows, inputs, out) in [(1, 8, 8), (3, 70, 5), (65, 160, 64), (200, 300, 130), (2, 9, 130_000)] {
            let (x, d, w) = (values(rows * inputs, 1), values(rows * out, 2), values(out * inputs, 3));
            let input_gradient = |w: &[f32]| {
                reference(rows, inputs, |r, i| (0..out).map(|o| d[r * out + o] as f64 * w[o * inputs + i] as f64).sum())
            };
            let scale = (out as f64).sqrt();
            let mut dx = vec![f32::NAN; x.len()];
            linear_backward(&d, Matrix::of(&w, out, inputs), false, &mut dx);
            assert!(worst_relative(&dx, &input_gradient(&w), scale) < 3e-6, "{rows}x{inputs}x{out}");

            let bytes: Vec<u8> = w.iter().flat_map(|w| bf16::from_f32(*w).to_le_bytes()).collect();
            let narrow = Values::Bf16(&bytes);
            let mut dx = vec![1.0; x.len()];
            linear_backward(&d, Matrix::new(narrow, out, inputs), true, &mut dx);
            let expected: Vec<f64> = input_gradient(&narrow.to_f32()).iter().map(|dx| dx + 1.0).collect();
            assert!(worst_relative(&dx, &expected, scale) < 3e-6, "bf16 {rows}x{inputs}x{out}");

            let expected = reference(out, inputs, |o, i| {
                1.0 + (0..rows).map(|r| d[r * out + o] as f64 * x[r * inputs + i] as f64).sum::<f64>()
            });
            let mut dw = vec![1.0; w.len()];
            weight_gradient_add(&x, &d, out, inputs, &mut dw);
            assert!(worst_relative(&dw, &expected, (rows as f64).sqrt()) < 3e-6, "{rows}x{inputs}x{out}");

            let expected = reference(1, out, |_, o| (0..rows).map(|r| d[r * out + o] as f64).sum());
            let mut db = vec![0.0; out];
            bias_gradient_add(&d, &mut db);
            assert!(worst_relative(&db, &expected, (rows as f64).sqrt()) < 1e-6);
        }
    }

    #[test]
    fn one_thread_and_three_give_the_same_bits() {
        let (rows, inputs, out) = (700, 128, 384);
        let (x, d, w) = (values(rows * inputs, 1), values(rows * out, 2), values(out * inputs, 3));
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
                linear_backward(&d, Matrix::of(&w, out, inputs), false, &mut dx);
                weight_gradient_add(&x, &d, out, inputs, &mut dw);
                (dx, dw)
            })
        };
        assert_eq!(run(1), run(3));
    }
}
