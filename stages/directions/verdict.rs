//! What a test says, as part of a sentence.

use crate::chart::fixed;
use crate::contract::figures::Rows;

/// The level at which verdicts are given.
pub const LEVEL: f64 = 0.05;

/// `p = 0.012`.
pub fn p_phrase(p: f64) -> String {
    let decimals = match p {
        p if p < 0.001 => 4,
        p if p < 0.1 => 3,
        _ => 2,
    };
    format!("p = {}", fixed(p, decimals))
}

/// How the direction was found that the rows' examples lie along, a sentence. The rows have the columns `folds` and `fitted`.
pub fn fit(rows: &Rows) -> String {
    let Some(row) = rows.iter().next() else { return String::new() };
    match (row.flag("fitted"), row.number("folds")) {
        (true, _) => {
            "Fitted: the direction was found from these same examples, which lie along it further than others would."
                .into()
        }
        (false, folds) if folds > 0.0 => {
            format!("Cross-fitted in {folds} folds: no example helped to find the direction that it is projected on.")
        }
        _ => "On the direction from all examples of another dataset.".into(),
    }
}

/// Whether the direction was found from the examples that are projected on it.
pub fn fitted(rows: &Rows) -> bool {
    rows.iter().any(|row| row.flag("fitted"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_values_have_the_digits_that_matter() {
        assert_eq!([0.0005, 0.0125, 0.6].map(p_phrase), ["p = 0.0005", "p = 0.013", "p = 0.60"]);
    }
}
