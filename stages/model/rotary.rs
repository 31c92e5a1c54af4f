//! Rotary position embeddings: their frequencies, and how they are stretched for long contexts.

#[derive(Debug, Clone, PartialEq)]
pub struct Rotary {
    pub theta: f64,
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
    /// Llama 3.1: low frequencies divided, high ones kept, those between interpolated.
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_positions: f64,
    },
}

impl Rotary {
    /// Radians a position for each of the `dim / 2` pairs of dimensions, rounded as transformers rounds them
    /// (`modeling_rope_utils`), because an error here grows with the position.
    pub fn frequencies(&self, dim: usize) -> Vec<f32> {
        let base = (0..dim / 2).map(|i| {
            let exponent = (2 * i) as f32 / dim as f32;
            1.0 / self.theta.powf(exponent as f64) as f32
        });
        match self.scaling {
            Scaling::None => base.collect(),
            Scaling::Linear { factor } => base.map(|f| f / factor as f32).collect(),
            Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions } => base
                .map(|f| {
                    let wavelength = 2.0 * std::f32::consts::PI / f;
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
                .collect(),
        }
    }
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
        assert_eq!(Rotary { theta: 5e5, scaling }.frequencies(16), expected);
    }
}
