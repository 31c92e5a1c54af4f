//! Do the intervals and the p-values of the tables hold? Simulates data of which the truth is known, lets the stages'
//! own `plan` and `run` make their tables of it, and counts:
//!
//!     cargo run --release -p strata-stages --example calibration -- [STAGE ...]
//!         [--simulations 300] [--n 16,64,400] [--widths 64,2048]
//!
//! - `rejects`: the share of simulations under a null hypothesis whose p-value is at most 0.05 (should be 0.03 to 0.07),
//! - `any layer`: the share in which a corrected p-value is at most 0.05 at any layer, or for any pair (at most 0.07),
//! - `covers`: the share in which the 95 % interval holds the true value (should be 0.92 to 0.97),
//! - `bias`: mean estimate minus the true value, in standard deviations of the estimate,
//! - `power`: the share of p-values at most 0.05 under an alternative.
//!
//! A row is a measure and a column a size, n examples and vectors of D numbers. What is further from where it should be than
//! two standard errors of the simulation is in bold. The seed of simulation i is i: a run is repeated by its arguments alone.

mod bench;
mod cases;
mod population;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use rayon::prelude::*;

use cases::{CASES, Case, Measure, Seen, Size};

struct Arguments {
    stages: Vec<String>,
    simulations: u64,
    n: Vec<usize>,
    widths: Vec<usize>,
}

impl Arguments {
    fn read() -> Result<Arguments> {
        let mut read = Arguments { stages: Vec::new(), simulations: 300, n: vec![16, 64, 400], widths: vec![64, 2048] };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{argument} wants a value"));
            let list =
                |text: String| -> Result<Vec<usize>> { Ok(text.split(',').map(str::parse).collect::<Result<_, _>>()?) };
            match argument.as_str() {
                "--simulations" => read.simulations = value()?.parse()?,
                "--n" => read.n = list(value()?)?,
                "--widths" => read.widths = list(value()?)?,
                stage if CASES.iter().any(|case| case.stage == stage) => read.stages.push(argument),
                other => {
                    let known: std::collections::BTreeSet<&str> = CASES.iter().map(|case| case.stage).collect();
                    bail!("\"{other}\" is no stage with a case here; there are {}", Vec::from_iter(known).join(", "))
                }
            }
        }
        Ok(read)
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::read()?;
    let sizes: Vec<Size> =
        arguments.widths.iter().flat_map(|&width| arguments.n.iter().map(move |&n| Size { n, width })).collect();
    let heads = sizes.iter().map(|size| format!(" n {}, D {} |", size.n, size.width)).collect::<String>();
    println!("{} simulations of each size\n", arguments.simulations);
    println!("| stage | data | measure | should be |{heads}");
    println!("| --- | --- | --- | --- |{}", " --- |".repeat(sizes.len()));
    let asked = |case: &&Case| arguments.stages.is_empty() || arguments.stages.iter().any(|name| name == case.stage);
    for case in CASES.iter().filter(asked).filter(|case| strata_stages::stage(case.stage).is_some()) {
        show(case, &sizes, arguments.simulations)?;
    }
    Ok(())
}

/// Runs a case and prints a line for each thing that was measured.
fn show(case: &Case, sizes: &[Size], simulations: u64) -> Result<()> {
    let mut measured: BTreeMap<(Measure, String), BTreeMap<usize, Vec<f64>>> = BTreeMap::new();
    for (column, size) in sizes.iter().enumerate() {
        if !case.has_width && sizes[..column].iter().any(|before| before.n == size.n) {
            continue;
        }
        let seen: Vec<Vec<Seen>> =
            (0..simulations).into_par_iter().map(|seed| (case.simulate)(*size, seed)).collect::<Result<_>>()?;
        for Seen { measure, what, value } in seen.into_iter().flatten() {
            measured.entry((measure, what)).or_default().entry(column).or_default().push(value);
        }
    }
    for ((measure, what), columns) in measured {
        let cell = |column: usize| match columns.get(&column) {
            Some(values) => format!(" {} |", shown(measure, values)),
            None => " |".into(),
        };
        let cells: String = (0..sizes.len()).map(cell).collect();
        println!("| {} | {} | {}{what} | {} |{cells}", case.stage, case.data, measure.name(), measure.should());
    }
    Ok(())
}

fn shown(measure: Measure, values: &[f64]) -> String {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let found = match measure {
        Measure::Bias => {
            let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
            mean / variance.sqrt()
        }
        _ => mean,
    };
    match measure.holds(found, values.len()) {
        true => format!("{found:.3}"),
        false => format!("**{found:.3}**"),
    }
}
