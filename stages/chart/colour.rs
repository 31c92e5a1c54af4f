//! Colour maps that people with any colour vision can read: blue to orange through near-white for values with
//! a meaningful zero (cosines), cividis for the rest (Nuñez, Anderton & Renslow 2018, PLOS ONE 13(7): e0199239).
//!
//! Series colours are in `figure.css`, where the theme is: eight that any colour vision tells apart.

/// What the values are, and so how they are coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    /// Cosines: -1 is blue, 0 near-white, 1 orange.
    Cosine,
    /// Amounts: from dark blue at 0 to yellow, or at the least value where it is negative.
    Amount,
    /// Differences: 0 is near-white, and blue and orange end at the largest size of any.
    Difference,
}

impl Colours {
    /// The value of anything with itself.
    pub fn diagonal(self) -> f32 {
        if self == Colours::Cosine { 1.0 } else { 0.0 }
    }
}

/// How values become colours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    colours: Colours,
    pub domain: (f64, f64),
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

impl Scale {
    /// A scale that holds the finite values.
    pub fn over(colours: Colours, values: impl IntoIterator<Item = f64>) -> Scale {
        if colours == Colours::Cosine {
            return Scale { colours, domain: (-1.0, 1.0) };
        }
        let values = values.into_iter().filter(|value| value.is_finite());
        let (lo, hi) = values.fold((0.0, 0.0), |(lo, hi): (f64, f64), value| (lo.min(value), hi.max(value)));
        if colours == Colours::Difference {
            let most = if hi > lo { hi.max(-lo) } else { 1.0 };
            return Scale { colours, domain: (-most, most) };
        }
        Scale { colours, domain: (lo, if hi > lo { hi } else { lo + 1.0 }) }
    }

    /// The palette's index of a value; [`LEVELS`] where it is missing.
    pub fn index(self, value: f64) -> u8 {
        if !value.is_finite() {
            return LEVELS as u8;
        }
        let (lo, hi) = self.domain;
        let share = ((value - lo) / (hi - lo)).clamp(0.0, 1.0);
        (share * (LEVELS - 1) as f64).round() as u8
    }

    /// The colours of all indices, from the lowest value to the highest.
    pub fn palette(self) -> Vec<Rgb> {
        (0..LEVELS).map(|index| self.colour(index)).collect()
    }

    fn colour(self, index: usize) -> Rgb {
        let stops: &[Rgb] = match self.colours {
            Colours::Cosine | Colours::Difference => &DIVERGING,
            Colours::Amount => &CIVIDIS,
        };
        blend(stops, index as f64 / (LEVELS - 1) as f64)
    }

    /// True where dark text is easier to read on this value's colour than light text.
    pub fn is_light(self, value: f64) -> bool {
        let [r, g, b] = self.colour(self.index(value) as usize);
        // Relative luminance by ITU-R BT.709, without the gamma that a threshold does not need.
        0.2126 * f64::from(r) + 0.7152 * f64::from(g) + 0.0722 * f64::from(b) > 135.0
    }

    /// Diverging maps are turned over in the dark theme, where zero should be dark.
    pub fn class(self) -> &'static str {
        match self.colours {
            Colours::Cosine | Colours::Difference => "diverging",
            Colours::Amount => "sequential",
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
        let scale = Scale::over(Colours::Cosine, []);
        let palette = scale.palette();
        assert_eq!(palette.len(), LEVELS);
        assert_eq!(palette[scale.index(0.0) as usize], DIVERGING[3]);
        assert_eq!(palette[scale.index(-1.0) as usize], DIVERGING[0]);
        assert_eq!(palette[scale.index(9.0) as usize], DIVERGING[6]);
        assert_eq!(scale.index(f64::NAN) as usize, LEVELS);
        let scale = Scale::over(Colours::Difference, [0.5, -3.0, f64::NAN]);
        assert_eq!((scale.domain, palette[scale.index(0.0) as usize]), ((-3.0, 3.0), DIVERGING[3]));
        assert_eq!(Scale::over(Colours::Difference, []).domain, (-1.0, 1.0));
    }

    /// CIELAB of an sRGB colour (D65) as it is seen through a matrix on linear light.
    fn seen(colour: &str, through: &[[f64; 3]; 3]) -> [f64; 3] {
        const XYZ: [[f64; 3]; 3] = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]];
        const WHITE: [f64; 3] = [0.9505, 1.0, 1.089];
        let apply = |m: &[[f64; 3]; 3], v: [f64; 3]| m.map(|row| row.iter().zip(v).map(|(a, b)| a * b).sum::<f64>());
        let linear: [f64; 3] = std::array::from_fn(|i| {
            let value = u8::from_str_radix(&colour[1 + 2 * i..3 + 2 * i], 16).unwrap() as f64 / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        });
        let xyz = apply(&XYZ, apply(through, linear));
        let f: [f64; 3] = std::array::from_fn(|i| {
            let share = xyz[i].max(0.0) / WHITE[i];
            if share > 0.008856 { share.cbrt() } else { 7.787 * share + 16.0 / 116.0 }
        });
        [116.0 * f[1] - 16.0, 500.0 * (f[0] - f[1]), 200.0 * (f[1] - f[2])]
    }

    #[test]
    fn any_colour_vision_tells_the_series_apart() {
        // Machado, Oliveira & Fernandes 2009 (IEEE TVCG 15(6)), severity 1.
        let visions = [
            ("normal", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
            (
                "protanopia",
                [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
            ),
            (
                "deuteranopia",
                [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
            ),
            (
                "tritanopia",
                [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
            ),
        ];
        let style = super::super::figure::STYLE;
        for theme in 0..2 {
            let colour = |series: usize| style.split(&format!("--s{series}:")).nth(theme + 1).unwrap();
            for (vision, through) in &visions {
                let lab: Vec<[f64; 3]> = (0..8).map(|series| seen(colour(series), through)).collect();
                for (a, b) in (0..8).flat_map(|a| (0..a).map(move |b| (a, b))) {
                    let distance = lab[a].iter().zip(lab[b]).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt();
                    assert!(distance > 20.0, "{vision}, theme {theme}: series {b} and {a} are {distance:.1} apart");
                }
            }
        }
    }

    #[test]
    fn text_contrasts_with_its_cell() {
        let scale = Scale::over(Colours::Cosine, []);
        assert!(scale.is_light(0.0) && !scale.is_light(1.0) && !scale.is_light(-1.0));
        let scale = Scale::over(Colours::Amount, [0.5, 1.0, f64::NAN]);
        assert!(!scale.is_light(0.0) && scale.is_light(1.0));
    }
}
