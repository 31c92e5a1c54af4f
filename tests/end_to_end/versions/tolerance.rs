//! How far floats may lie from those listed, on a processor that rounds in another way.

use super::outputs::Floats;

/// How a column is compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum How {
    /// Value by value, in units of the largest stored one.
    Values,
    /// Row by row, each up to its sign.
    Lines,
    /// The inner products of the rows instead of the rows.
    Products,
    /// The root of the mean square of the differences, in units of that of the values.
    MeanSquare,
}

/// A column's tolerance and what it allows for.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    pub how: How,
    pub tolerance: f64,
}

/// The rule of a stage's column.
pub fn rule(stage: &str, column: &str) -> Rule {
    let (how, tolerance) = match (stage, column) {
        // A singular vector is a line: its sign is that of its projection on the mean difference, which can be rounding.
        ("directions" | "null_directions", "vector") => (How::Lines, 1e-3),
        // Coordinates in the space of the gradients, which any rotation of that space leaves as good.
        ("gradient_space" | "gradient_vectors", "vector") => (How::Products, 1e-4),
        // 1 + how many tokens were likelier: two of them can be equally likely but for rounding.
        ("token_losses", "rank") => (How::Values, 0.02),
        // What lies along those directions inherits their error; so do the cosines of two of them.
        ("projections" | "projection_summary" | "separation" | "direction_similarity" | "subspace_similarity", _)
            if !column.starts_with("p_") =>
        {
            (How::Values, 1e-3)
        }
        // A share of 39 or 99 draws: one more or less at a tie is 1/40.
        ("direction_similarity" | "subspace_similarity", name) if name.starts_with("p_") => (How::Values, 0.06),
        // A share of 2,000 permutations: one more or less at a tie is 1/2001.
        (_, name) if name.starts_with("p_") || name.contains("_p_") => (How::Values, 0.02),
        // Adam divides by the gradient's size, so that entries whose gradient is nearly 0 move by as much as others, and
        // the bias of the keys, whose gradient is 0 but for rounding, moves at random.
        ("train", name) if name.ends_with("k_proj.bias") => (How::MeanSquare, f64::INFINITY),
        ("train", _) => (How::MeanSquare, 1e-3),
        // Sums of f32 in another order: 1e-6 of the largest value after a pass, in two ways of multiplying that were tried.
        _ => (How::Values, 1e-4),
    };
    Rule { how, tolerance }
}

/// The largest deviation of what was found from what is listed, in units of the rule's tolerance; an error says why the
/// two cannot be compared.
pub fn deviation(rule: Rule, listed: &Floats, found: &Floats) -> Result<f64, String> {
    if (listed.width, listed.values.len()) != (found.width, found.values.len()) && rule.how != How::Products {
        return Err(format!("{} values instead of {}", found.values.len(), listed.values.len()));
    }
    let deviation = match rule.how {
        How::Values => largest(&listed.values, &found.values)?,
        How::Lines => {
            let pairs = listed.values.chunks(listed.width.max(1)).zip(found.values.chunks(found.width.max(1)));
            let either = pairs.map(|(listed, found)| {
                let turned: Vec<f32> = found.iter().map(|x| -x).collect();
                Ok(largest(listed, found)?.min(largest(listed, &turned)?))
            });
            either.collect::<Result<Vec<f64>, String>>()?.into_iter().fold(0.0, f64::max)
        }
        How::Products => {
            let (listed, found) = (products(listed), products(found));
            if listed.len() != found.len() {
                return Err(format!("products of {} pairs of rows instead of {}", found.len(), listed.len()));
            }
            largest(&listed, &found)?
        }
        How::MeanSquare => {
            let square = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
            let pairs = listed.values.iter().zip(&found.values);
            let apart = square(&mut pairs.map(|(a, b)| f64::from(*a) - f64::from(*b)));
            let size = square(&mut listed.values.iter().map(|x| f64::from(*x)));
            if apart == 0.0 { 0.0 } else { (apart / size).sqrt() }
        }
    };
    Ok(deviation / rule.tolerance)
}

/// The largest difference, in units of the largest listed value.
fn largest(listed: &[f32], found: &[f32]) -> Result<f64, String> {
    let scale = listed.iter().filter(|x| !x.is_nan()).fold(0f32, |scale, x| scale.max(x.abs()));
    let mut largest = 0.0f64;
    for (i, (a, b)) in listed.iter().zip(found).enumerate() {
        if a.is_nan() != b.is_nan() {
            return Err(format!("value {i} was {a} and is {b} (NaN stands for null)"));
        }
        if a != b && !a.is_nan() {
            largest = largest.max(f64::from((a - b).abs()) / f64::from(scale));
        }
    }
    Ok(largest)
}

fn products(floats: &Floats) -> Vec<f32> {
    let rows: Vec<&[f32]> = floats.values.chunks_exact(floats.width.max(1)).collect();
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32;
    rows.iter().flat_map(|a| rows.iter().map(|b| dot(a, b)).collect::<Vec<_>>()).collect()
}

#[test]
fn what_may_differ_may_differ_and_nothing_else() {
    let floats =
        |width, values: &[f32]| Floats { file: String::new(), column: String::new(), width, values: values.to_vec() };
    let apart = |how, listed: &Floats, found: &Floats| deviation(Rule { how, tolerance: 1e-3 }, listed, found);
    let listed = floats(2, &[3.0, 4.0, 0.0, 1.0]);
    let nearly = floats(2, &[3.003, 4.0, 0.0, 1.0]);
    assert!(apart(How::Values, &listed, &nearly).unwrap() < 1.0);
    assert!(apart(How::Values, &listed, &floats(2, &[3.005, 4.0, 0.0, 1.0])).unwrap() > 1.0);
    let turned = floats(2, &[-3.0, -4.0, 0.0, 1.0]);
    assert_eq!(apart(How::Lines, &listed, &turned).unwrap(), 0.0);
    assert!(apart(How::Values, &listed, &turned).unwrap() > 1.0);
    // The rows turned by a quarter, in a space with one dimension more.
    let rotated = floats(3, &[-4.0, 3.0, 0.0, -1.0, 0.0, 0.0]);
    assert!(apart(How::Products, &listed, &rotated).unwrap() < 1.0);
    assert!(apart(How::Products, &listed, &floats(2, &[3.0, 4.0, 1.0, 0.0])).unwrap() > 1.0);
    assert!(apart(How::MeanSquare, &listed, &nearly).unwrap() < 1.0);
    assert!(apart(How::MeanSquare, &listed, &turned).unwrap() > 1.0);
    assert!(apart(How::Values, &listed, &floats(2, &[3.0, 4.0])).is_err());
    assert!(apart(How::Values, &listed, &floats(2, &[3.0, 4.0, 0.0, f32::NAN])).is_err());
    assert_eq!(apart(How::Values, &floats(1, &[f32::NAN]), &floats(1, &[f32::NAN])), Ok(0.0));
}
