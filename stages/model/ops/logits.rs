//! What becomes of the products of the output head before the softmax.

use rayon::prelude::*;

use super::{tanh, vectorized};

/// Logits x become cap * tanh(factor x / cap), or factor x without a cap.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Logits {
    pub factor: f32,
    /// Gemma 2's.
    pub soft_cap: Option<f32>,
}

impl Logits {
    pub const PLAIN: Logits = Logits { factor: 1.0, soft_cap: None };

    /// In place.
    pub fn apply(self, logits: &mut [f32]) {
        if self == Logits::PLAIN {
            return;
        }
        logits.par_chunks_mut(1 << 13).for_each(|part| match self.soft_cap {
            Some(cap) => soften(part, self.factor / cap, cap),
            None => part.iter_mut().for_each(|x| *x *= self.factor),
        });
    }

    /// [`Logits::apply`], and the derivatives of the results by the products where they are not the same for all.
    pub fn apply_with_slopes(self, logits: &mut [f32]) -> Option<Vec<f32>> {
        self.apply(logits);
        let cap = self.soft_cap?;
        let slope = |x: &f32| self.factor * (1.0 - (x / cap) * (x / cap));
        Some(logits.par_iter().map(slope).collect())
    }

    /// From the gradient at the logits to that at the products; `slopes` are those of [`Logits::apply_with_slopes`].
    pub fn reverse(self, d: &mut [f32], slopes: Option<&[f32]>) {
        match slopes {
            Some(slopes) => d.par_iter_mut().zip(slopes).for_each(|(d, slope)| *d *= slope),
            None if self.factor == 1.0 => {}
            None => d.par_iter_mut().for_each(|d| *d *= self.factor),
        }
    }
}

vectorized! {
    avx512:
    /// x becomes cap * tanh(factor x).
    pub fn soften(x: &mut [f32], factor: f32, cap: f32) {
        x.iter_mut().for_each(|x| *x = cap * tanh(*x * factor));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::test_values::{derivative, values, worst_relative};

    #[test]
    fn agree_with_differences_in_f64() {
        for (factor, soft_cap) in [(1.0, None), (0.125, None), (1.0, Some(3.0)), (2.0, Some(1.5))] {
            let of = Logits { factor, soft_cap };
            let (products, mut d) = (values(91, 1), values(91, 2));
            let wide = |x: f64| {
                let x = x * factor as f64;
                soft_cap.map_or(x, |cap| cap as f64 * (x / cap as f64).tanh())
            };
            let weights = d.clone();
            let loss = |x: &[f64]| x.iter().zip(&weights).map(|(x, d)| wide(*x) * *d as f64).sum::<f64>();
            let mut found = products.clone();
            let slopes = of.apply_with_slopes(&mut found);
            let expected: Vec<f64> = products.iter().map(|x| wide(*x as f64)).collect();
            assert!(worst_relative(&found, &expected, 1.0) < 1e-6, "{of:?}");
            of.reverse(&mut d, slopes.as_deref());
            assert!(worst_relative(&d, &derivative(&products, loss), 1.0) < 1e-6, "{of:?}");
        }
    }
}
