//! Rotary position embeddings: their frequencies, and how they are stretched for long contexts.

use std::f32::consts::PI;

#[derive(Debug, Clone, PartialEq)]
pub struct Rotary {
    pub theta: f64,
    /// The share of a head's dimensions that are rotated.
    pub share: f64,
    pub scaling: Scaling,
}

/// How the rotary frequencies are stretched for contexts longer than those of pretraining.
#[derive(Debug, Clone, PartialEq)]
pub enum Scaling {
    None,
    /// Positions divided by a factor.
    Linear {
        factor: f64,
    },
    /// Sequences longer than those of pretraining raise theta, each as far as its own length asks.
    Dynamic {
        factor: f64,
        original_positions: usize,
    },
    /// Llama 3.1: low frequencies divided, high ones kept, those between interpolated.
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_positions: f64,
    },
    Yarn(Yarn),
    /// Phi-3 (Ding et al. 2024): each frequency divided by a number of its own, of `long` for sequences that are longer
    /// than those of pretraining.
    LongRope {
        short: Vec<f64>,
        long: Vec<f64>,
        original_positions: usize,
        attention_factor: f64,
    },
}

/// Peng et al. 2023: as in Llama 3.1, with a straight ramp over the dimensions between two numbers of rotations.
#[derive(Debug, Clone, PartialEq)]
pub struct Yarn {
    pub factor: f64,
    /// Rotations within the pretraining context, from which on a frequency is kept, and below which it is divided.
    pub beta_fast: f64,
    pub beta_slow: f64,
    /// Whether the ends of the ramp are whole dimensions.
    pub truncate: bool,
    pub original_positions: f64,
    pub attention_factor: f64,
}

impl Rotary {
    pub fn new(theta: f64) -> Rotary {
        Rotary { theta, share: 1.0, scaling: Scaling::None }
    }

    /// How many of a head's dimensions are rotated.
    pub fn dims(&self, head: usize) -> usize {
        (head as f64 * self.share) as usize
    }

    /// What cosines and sines are multiplied by.
    pub fn factor(&self) -> f32 {
        match &self.scaling {
            Scaling::Yarn(Yarn { attention_factor, .. }) | Scaling::LongRope { attention_factor, .. } => {
                *attention_factor as f32
            }
            _ => 1.0,
        }
    }

    /// Sequences for which this is the same have the same frequencies: 0 up to the length of pretraining.
    pub fn stretch(&self, positions: usize) -> usize {
        match self.scaling {
            Scaling::Dynamic { original_positions, .. } if positions > original_positions => positions,
            Scaling::LongRope { original_positions, .. } => (positions > original_positions) as usize,
            _ => 0,
        }
    }

    /// Radians a position for each pair of rotated dimensions of a `head`, in a sequence of so many positions, rounded as
    /// transformers rounds them (`modeling_rope_utils`), because an error here grows with the position.
    pub fn frequencies(&self, head: usize, positions: usize) -> Vec<f32> {
        let dims = self.dims(head);
        match &self.scaling {
            Scaling::None => plain(self.theta, dims).collect(),
            Scaling::Linear { factor } => plain(self.theta, dims).map(|f| f / *factor as f32).collect(),
            Scaling::Dynamic { factor, original_positions } => {
                let stretch = factor * positions.max(*original_positions) as f64 / *original_positions as f64;
                let raised = (stretch - (factor - 1.0)).powf(dims as f64 / (dims as f64 - 2.0));
                plain(self.theta * raised, dims).collect()
            }
            &Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions } => {
                plain(self.theta, dims)
                    .map(|f| {
                        let wavelength = 2.0 * PI / f;
                        if wavelength > (original_positions / low_freq_factor) as f32 {
                            f / factor as f32
                        } else if wavelength < (original_positions / high_freq_factor) as f32 {
                            f
                        } else {
                            let smooth = (original_positions as f32 / wavelength - low_freq_factor as f32)
                                / (high_freq_factor - low_freq_factor) as f32;
                            (1.0 - smooth) * f / factor as f32 + smooth * f
                        }
                    })
                    .collect()
            }
            Scaling::Yarn(yarn) => yarn.frequencies(self.theta, dims),
            Scaling::LongRope { short, long, .. } => {
                let divisors = if self.stretch(positions) == 0 { short } else { long };
                let powers = powers(self.theta, dims).zip(divisors);
                powers.map(|(power, divisor)| 1.0 / (*divisor as f32 * power)).collect()
            }
        }
    }
}

impl Yarn {
    fn frequencies(&self, theta: f64, dims: usize) -> Vec<f32> {
        // The dimension that turns so many times within the pretraining context.
        let dimension = |rotations: f64| {
            let wavelength = self.original_positions / (rotations * 2.0 * std::f64::consts::PI);
            dims as f64 * wavelength.ln() / (2.0 * theta.ln())
        };
        let (mut low, mut high) = (dimension(self.beta_fast), dimension(self.beta_slow));
        if self.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(dims as f64 - 1.0));
        if low == high {
            high += 0.001;
        }
        powers(theta, dims)
            .enumerate()
            .map(|(i, power)| {
                let ramp = ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
                let kept = 1.0 - ramp;
                1.0 / (self.factor as f32 * power) * (1.0 - kept) + 1.0 / power * kept
            })
            .collect()
    }
}

/// theta to the power of 2i / dims, for each pair i.
fn powers(theta: f64, dims: usize) -> impl Iterator<Item = f32> {
    (0..dims / 2).map(move |i| {
        let exponent = (2 * i) as f32 / dims as f32;
        theta.powf(exponent as f64) as f32
    })
}

fn plain(theta: f64, dims: usize) -> impl Iterator<Item = f32> {
    powers(theta, dims).map(|power| 1.0 / power)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ROPE_INIT_FUNCTIONS["llama3"]` of transformers 5.23 for theta 500000, head_dim 16 and Llama 3.1's factors.
    #[test]
    fn llama3_frequencies_are_those_of_transformers() {
        let (factor, low_freq_factor, high_freq_factor) = (8.0, 1.0, 4.0);
        let scaling = Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions: 8192.0 };
        let expected: [f32; 8] =
            [1.0, 0.19392276, 0.03760603, 0.007292665, 0.000524846, 3.4281024e-05, 6.6478697e-06, 1.2891732e-06];
        assert_eq!(Rotary { theta: 5e5, share: 1.0, scaling }.frequencies(16, 9000), expected);
    }
}
