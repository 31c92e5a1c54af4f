//! Colour maps that people with any colour vision can read: blue to orange through near-white for values with
//! a meaningful zero (cosines), cividis for the rest (Nuñez, Anderton & Renslow 2018, PLOS ONE 13(7): e0199239).
//!
//! Series colours (Okabe & Ito) are in `figure.css`, where the theme is.

/// How values become colours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ColourScale {
    /// -limit is blue, 0 near-white, limit orange.
    Diverging { limit: f64 },
    /// From dark blue to yellow.
    Sequential { lo: f64, hi: f64 },
}

type Rgb = [u8; 3];

const DIVERGING: [Rgb; 7] = [
    [0x0a, 0x3d, 0x7a],
    [0x2f, 0x78, 0xbd],
    [0x9a, 0xc4, 0xe6],
    [0xf6, 0xf5, 0xf2],
    [0xf6, 0xc1, 0x86],
    [0xd9, 0x7a, 0x1c],
    [0x85, 0x3c, 0x00],
];

const CIVIDIS: [Rgb; 9] = [
    [0x00, 0x22, 0x4e],
    [0x12, 0x35, 0x70],
    [0x3b, 0x49, 0x6c],
    [0x57, 0x5d, 0x6d],
    [0x70, 0x71, 0x73],
    [0x8a, 0x86, 0x78],
    [0xa5, 0x9c, 0x74],
    [0xc3, 0xb3, 0x69],
    [0xfe, 0xe8, 0x38],
];

/// Colours in a heatmap's palette; the index after the last stands for a missing value.
pub const LEVELS: usize = 255;

impl ColourScale {
    pub fn domain(self) -> (f64, f64) {
        match self {
            ColourScale::Diverging { limit } => (-limit, limit),
            ColourScale::Sequential { lo, hi } => (lo, hi),
        }
    }

    /// The palette's index of a value; [`LEVELS`] where it is missing.
    pub fn index(self, value: f64) -> u8 {
        if !value.is_finite() {
            return LEVELS as u8;
        }
        let (lo, hi) = self.domain();
        let share = ((value - lo) / (hi - lo)).clamp(0.0, 1.0);
        (share * (LEVELS - 1) as f64).round() as u8
    }

    /// The colours of all indices, from the lowest value to the highest.
    pub fn palette(self) -> Vec<Rgb> {
        let stops: &[Rgb] = match self {
            ColourScale::Diverging { .. } => &DIVERGING,
            ColourScale::Sequential { .. } => &CIVIDIS,
        };
        (0..LEVELS).map(|i| blend(stops, i as f64 / (LEVELS - 1) as f64)).collect()
    }

    /// True where dark text is easier to read on this value's colour than light text.
    pub fn is_light(self, value: f64) -> bool {
        match self.palette().get(self.index(value) as usize) {
            // Relative luminance by ITU-R BT.709, without the gamma that a threshold does not need.
            Some([r, g, b]) => 0.2126 * *r as f64 + 0.7152 * *g as f64 + 0.0722 * *b as f64 > 135.0,
            None => true,
        }
    }

    /// Diverging maps are turned over in the dark theme, where zero should be dark.
    pub fn class(self) -> &'static str {
        match self {
            ColourScale::Diverging { .. } => "diverging",
            ColourScale::Sequential { .. } => "sequential",
        }
    }
}

fn blend(stops: &[Rgb], share: f64) -> Rgb {
    let place = share * (stops.len() - 1) as f64;
    let left = (place.floor() as usize).min(stops.len() - 2);
    let part = place - left as f64;
    std::array::from_fn(|c| {
        let (a, b) = (stops[left][c] as f64, stops[left + 1][c] as f64);
        (a + (b - a) * part).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_the_middle_of_a_diverging_map() {
        let scale = ColourScale::Diverging { limit: 0.5 };
        let palette = scale.palette();
        assert_eq!(palette.len(), LEVELS);
        assert_eq!(palette[scale.index(0.0) as usize], DIVERGING[3]);
        assert_eq!(palette[scale.index(-0.5) as usize], DIVERGING[0]);
        assert_eq!(palette[scale.index(9.0) as usize], DIVERGING[6]);
        assert_eq!(scale.index(f64::NAN) as usize, LEVELS);
    }

    #[test]
    fn text_contrasts_with_its_cell() {
        let scale = ColourScale::Diverging { limit: 1.0 };
        assert!(scale.is_light(0.0) && !scale.is_light(1.0) && !scale.is_light(-1.0));
        let scale = ColourScale::Sequential { lo: 0.0, hi: 1.0 };
        assert!(!scale.is_light(0.0) && scale.is_light(1.0));
    }
}
