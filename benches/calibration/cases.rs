//! What is simulated for each stage: data under a null hypothesis, or under a known alternative, and what is counted.

use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, BooleanArray, Float32Array, StringArray, UInt32Array};
use serde_json::{Value, json};
use strata_stages::statistics::random::Random;

use crate::bench::{Bench, Rows};
use crate::population::{Population, give_states, identities};

#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub n: usize,
    /// D, the width of the vectors; 0 where a case has none.
    pub width: usize,
}

pub struct Case {
    pub stage: &'static str,
    pub data: &'static str,
    /// Whether it has vectors, and so is run for each width.
    pub has_width: bool,
    pub simulate: fn(Size, u64) -> Result<Vec<Seen>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    Rejects,
    AnyLayer,
    Covers,
    Bias,
    Power,
}

impl Measure {
    pub fn name(self) -> &'static str {
        match self {
            Measure::Rejects => "rejects",
            Measure::AnyLayer => "rejects anywhere",
            Measure::Covers => "covers",
            Measure::Bias => "bias",
            Measure::Power => "power",
        }
    }

    pub fn should(self) -> &'static str {
        match self {
            Measure::Rejects => "0.03 to 0.07",
            Measure::AnyLayer => "at most 0.07",
            Measure::Covers => "0.92 to 0.97",
            Measure::Bias | Measure::Power => "",
        }
    }

    /// Whether what was found is within two standard errors of what should be.
    pub fn holds(self, found: f64, simulations: usize) -> bool {
        let slack = |share: f64| 2.0 * (share * (1.0 - share) / simulations as f64).sqrt();
        match self {
            Measure::Rejects => (0.03 - slack(0.03)..=0.07 + slack(0.07)).contains(&found),
            Measure::AnyLayer => found <= 0.07 + slack(0.07),
            Measure::Covers => (0.92 - slack(0.92)..=0.97 + slack(0.97)).contains(&found),
            Measure::Bias | Measure::Power => true,
        }
    }
}

/// One thing that a simulation showed.
pub struct Seen {
    pub measure: Measure,
    pub what: String,
    pub value: f64,
}

#[derive(Default)]
struct Counts(Vec<Seen>);

impl Counts {
    fn add(&mut self, measure: Measure, what: &str, value: f64) {
        if !value.is_nan() {
            let what = if what.is_empty() { String::new() } else { format!(": {what}") };
            self.0.push(Seen { measure, what, value });
        }
    }

    fn share(&mut self, measure: Measure, what: &str, holds: bool) {
        self.add(measure, what, f64::from(u8::from(holds)));
    }

    /// Whether a p-value is at most 0.05; nothing where there is none.
    fn small(&mut self, measure: Measure, what: &str, p: f64) {
        if !p.is_nan() {
            self.share(measure, what, p <= 0.05);
        }
    }

    /// Whether the interval `ci_low` to `ci_high` holds the truth.
    fn covers(&mut self, what: &str, low: f64, high: f64, truth: f64) {
        if !low.is_nan() {
            self.share(Measure::Covers, what, (low..=high).contains(&truth));
        }
    }
}

pub static CASES: &[Case] = &[
    Case { stage: "separation", data: "three models of one distribution", has_width: true, simulate: separation_none },
    Case {
        stage: "separation",
        data: "the target shifted, the third like the source",
        has_width: true,
        simulate: separation_target,
    },
    Case {
        stage: "separation",
        data: "target shifted by 1, third by half of it",
        has_width: true,
        simulate: separation_both,
    },
    Case {
        stage: "direction_similarity",
        data: "no shift in either dataset",
        has_width: true,
        simulate: similarity_none,
    },
    Case { stage: "direction_similarity", data: "a shift in one dataset", has_width: true, simulate: similarity_one },
    Case { stage: "direction_similarity", data: "unrelated shifts", has_width: true, simulate: similarity_unrelated },
    Case {
        stage: "direction_similarity",
        data: "differences vary along unrelated axes",
        has_width: true,
        simulate: similarity_varied,
    },
    Case { stage: "direction_similarity", data: "the same shift", has_width: true, simulate: similarity_same },
    Case { stage: "distance", data: "one mean", has_width: true, simulate: distance_none },
    Case { stage: "distance", data: "two means", has_width: true, simulate: distance_two },
    Case {
        stage: "similarity_summary",
        data: "two like groups beside a third",
        has_width: true,
        simulate: groups_alike,
    },
    Case { stage: "similarity_summary", data: "two groups apart", has_width: true, simulate: groups_apart },
    Case {
        stage: "similarity_summary",
        data: "one dataset under two like models",
        has_width: true,
        simulate: groups_paired,
    },
    Case {
        stage: "similarity_summary",
        data: "loss vectors, one group's answers short",
        has_width: false,
        simulate: short_answers,
    },
    Case { stage: "permanova", data: "three like groups", has_width: true, simulate: permanova_alike },
    Case { stage: "permanova", data: "two like groups and one apart", has_width: true, simulate: permanova_apart },
    Case {
        stage: "permanova",
        data: "one dataset under three like models",
        has_width: true,
        simulate: permanova_paired,
    },
    Case { stage: "mean_similarity", data: "means of zero", has_width: true, simulate: means_none },
    Case { stage: "mean_similarity", data: "orthogonal means", has_width: true, simulate: means_orthogonal },
    Case { stage: "mean_similarity", data: "opposed means", has_width: true, simulate: means_opposed },
    Case { stage: "projection_summary", data: "a fixed direction", has_width: true, simulate: projection_mean },
    Case { stage: "loss_summary", data: "skewed losses", has_width: false, simulate: loss_mean },
    Case { stage: "loss_difference", data: "two like models", has_width: false, simulate: loss_alike },
    Case { stage: "loss_difference", data: "two models 0.1 nats apart", has_width: false, simulate: loss_apart },
    Case { stage: "patching_summary", data: "skewed changes and effects", has_width: false, simulate: patching },
];

/// Permutations, fewer than a pipeline's: the level of a test does not depend on them.
const COUNT: usize = 399;

const LAYERS: usize = 3;

/// The settings of the stages, with these beside them.
fn sections(more: Value) -> Value {
    let mut sections = json!({
        "separation": { "permutations": COUNT },
        "distance": { "permutations": COUNT },
        "similarity_summary": { "permutations": COUNT },
        "permanova": { "permutations": COUNT },
        "mean_similarity": { "draws": COUNT },
        "loss_difference": { "permutations": COUNT },
        "directions": { "components": 2 },
    });
    if let (Some(sections), Value::Object(more)) = (sections.as_object_mut(), more) {
        sections.extend(more);
    }
    sections
}

/// Gives one dataset's states under models with these shifts, the same at every layer.
fn give(
    bench: &mut Bench,
    population: &Population,
    dataset: &str,
    n: usize,
    shifts: &[(&str, Vec<f64>)],
    random: &mut Random,
    seed: u64,
) -> Result<()> {
    let number = dataset.bytes().map(u64::from).sum();
    let names = identities(n, seed, number);
    let mut layers: Vec<Vec<Vec<f32>>> = vec![Vec::new(); shifts.len()];
    let below = population.examples(n, random);
    for _ in 0..LAYERS {
        // Layers are alike, as they are in a residual stream.
        let examples: Vec<f64> =
            below.iter().zip(population.examples(n, random)).map(|(below, own)| 0.8 * below + 0.6 * own).collect();
        for (states, (_, shift)) in layers.iter_mut().zip(shifts) {
            states.push(population.states(&examples, shift, random));
        }
    }
    for ((model, _), states) in shifts.iter().zip(&layers) {
        give_states(bench, model, dataset, &names, states)?;
    }
    Ok(())
}

fn times(vector: &[f64], factor: f64) -> Vec<f64> {
    vector.iter().map(|value| value * factor).collect()
}

fn zero(size: Size) -> Vec<f64> {
    vec![0.0; size.width]
}

/// A shift that paired examples show with fair power: the length of a model's own variation over the root of n, times 3.
fn visible(population: &Population, size: Size) -> f64 {
    3.0 * crate::population::OWN.sqrt() * (population.width() as f64 / size.n as f64).sqrt()
}

// separation and departure

fn separation_none(size: Size, seed: u64) -> Result<Vec<Seen>> {
    separation(size, seed, 0.0, 0.0)
}

fn separation_target(size: Size, seed: u64) -> Result<Vec<Seen>> {
    separation(size, seed, 1.0, 0.0)
}

fn separation_both(size: Size, seed: u64) -> Result<Vec<Seen>> {
    separation(size, seed, 1.0, 0.5)
}

/// `target` and `third` in units of [`visible`].
fn separation(size: Size, seed: u64, target: f64, third: f64) -> Result<Vec<Seen>> {
    let mut random = Random::new(seed, 77);
    let population = Population::new(size.width);
    let axis = population.axis(&mut random);
    let unit = visible(&population, size);
    let shifts = [0.0, target * unit, third * unit];
    let models = ["base", "instruct", "third"];
    let mut bench = Bench::new(&models, &["a"], sections(json!({})))?;
    let given: Vec<(&str, Vec<f64>)> = models.iter().copied().zip(shifts.map(|shift| times(&axis, shift))).collect();
    give(&mut bench, &population, "a", size.n, &given, &mut random, seed)?;
    let mut counts = Counts::default();
    for kind in ["mean_difference", "svd"] {
        let chosen = [("kind", kind), ("component", "1")];
        let directions = bench.table("directions", &[])?.keep(&chosen);
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            let what = format!("{kind}, {} and {}", models[a], models[b]);
            let pair = [("model_a", models[a]), ("model_b", models[b])];
            let rows = bench.table("separation", &pair)?.keep(&chosen);
            let null = shifts[a] == shifts[b];
            let Some(first) = rows.0.first() else { continue };
            let measure = if null { Measure::Rejects } else { Measure::Power };
            counts.small(measure, &what, first.number("p_value"));
            if null {
                counts.small(Measure::AnyLayer, &format!("{what}, p_holm"), rows.least("p_holm"));
                counts.small(Measure::AnyLayer, &format!("{what}, p_max"), rows.least("p_max"));
                let departs = bench.table("departure", &pair)?.keep(&chosen);
                if let Some(row) = departs.0.first() {
                    counts.share(Measure::AnyLayer, &format!("{what}, departure"), !row.number("layer").is_nan());
                }
            }
            // The true score along the directions that were fitted, an equal share of the examples on each.
            let layer = directions.keep(&[("layer", "0")]);
            let crossed = Rows(layer.0.iter().filter(|row| row.number("fold") > 0.0).cloned().collect());
            let fitted = if crossed.0.is_empty() { layer } else { crossed };
            let scores = fitted.0.iter().map(|row| {
                let u = row.vector("vector");
                let along: f64 = u.iter().zip(&axis).map(|(u, axis)| f64::from(*u) * axis).sum();
                (along * (shifts[b] - shifts[a]), 2.0 * population.along(u))
            });
            let (shift, spread) = scores.fold((0.0, 0.0), |sum, (shift, spread)| (sum.0 + shift, sum.1 + spread));
            counts.covers(&format!("{what}, score"), first.number("ci_low"), first.number("ci_high"), shift / spread);
            let difference = shift / fitted.0.len() as f64;
            counts.add(Measure::Bias, &format!("{what}, difference"), first.number("difference") - difference);
        }
    }
    Ok(counts.0)
}

// direction_similarity

fn similarity_none(size: Size, seed: u64) -> Result<Vec<Seen>> {
    direction_similarity(size, seed, Measure::Rejects, |_| [0.0, 0.0, 0.0])
}

fn similarity_one(size: Size, seed: u64) -> Result<Vec<Seen>> {
    direction_similarity(size, seed, Measure::Rejects, |unit| [unit, 0.0, 0.0])
}

fn similarity_unrelated(size: Size, seed: u64) -> Result<Vec<Seen>> {
    direction_similarity(size, seed, Measure::Rejects, |unit| [unit, unit, 0.0])
}

fn similarity_same(size: Size, seed: u64) -> Result<Vec<Seen>> {
    direction_similarity(size, seed, Measure::Power, |unit| [0.0, 0.0, unit])
}

/// `shifts`: of the first dataset alone, of the second alone, of both.
fn direction_similarity(size: Size, seed: u64, measure: Measure, shifts: fn(f64) -> [f64; 3]) -> Result<Vec<Seen>> {
    let mut random = Random::new(seed, 78);
    let population = Population::new(size.width);
    let [first, mut second, both] = [(); 3].map(|()| population.axis(&mut random));
    // Unrelated is orthogonal: two random axes of a small width are not quite.
    let along: f64 = first.iter().zip(&second).map(|(a, b)| a * b).sum();
    second.iter_mut().zip(&first).for_each(|(b, a)| *b -= along * a);
    let [only_first, only_second, common] = shifts(visible(&population, size));
    let sum = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(b).map(|(a, b)| a + b).collect::<Vec<f64>>();
    let mut bench = Bench::new(&["base", "instruct"], &["a", "b"], sections(json!({})))?;
    for (dataset, axis, shift) in [("a", &first, only_first), ("b", &second, only_second)] {
        let moved = sum(times(axis, shift), times(&both, common));
        give(
            &mut bench,
            &population,
            dataset,
            size.n,
            &[("base", zero(size)), ("instruct", moved)],
            &mut random,
            seed,
        )?;
    }
    let rows = bench.table("direction_similarity", &[])?;
    let mut counts = Counts::default();
    for kind in ["mean_difference", "svd"] {
        let cells = rows.keep(&[("kind", kind), ("layer", "0")]);
        let Some(first) = cells.keep(&[("component_a", "1"), ("component_b", "1")]).0.first().cloned() else {
            continue;
        };
        // Two datasets' differences vary along the same axes here, so their singular vectors are alike without a shift:
        // what is compared is not under a null hypothesis, and only shown.
        let measure = if kind == "svd" { Measure::Power } else { measure };
        let p = first.number("p_value");
        if p.is_nan() {
            counts.share(
                measure,
                &format!("{kind}, above null_high"),
                first.number("cosine").abs() > first.number("null_high"),
            );
        } else {
            counts.small(measure, kind, p);
        }
        counts.small(Measure::Power, &format!("{kind}, the largest"), cells.least("p_largest"));
    }
    Ok(counts.0)
}

/// The target moves each example by a normal amount along an axis that is its dataset's own.
fn similarity_varied(size: Size, seed: u64) -> Result<Vec<Seen>> {
    let mut random = Random::new(seed, 89);
    let population = Population::new(size.width);
    let mut bench = Bench::new(&["base", "instruct"], &["a", "b"], sections(json!({})))?;
    let first = population.axis(&mut random);
    let mut second = population.axis(&mut random);
    let along: f64 = first.iter().zip(&second).map(|(a, b)| a * b).sum();
    second.iter_mut().zip(&first).for_each(|(b, a)| *b -= along * a);
    for (dataset, axis) in [("a", &first), ("b", &second)] {
        let names = identities(size.n, seed, u64::from(dataset.as_bytes()[0]));
        let examples = population.examples(size.n, &mut random);
        let base = population.states(&examples, &zero(size), &mut random);
        let mut target = population.states(&examples, &zero(size), &mut random);
        for row in target.chunks_exact_mut(size.width) {
            let amount = (size.width as f64).sqrt() * random.normal();
            row.iter_mut().zip(axis).for_each(|(value, axis)| *value += (amount * axis) as f32);
        }
        give_states(&mut bench, "base", dataset, &names, std::slice::from_ref(&base))?;
        give_states(&mut bench, "instruct", dataset, &names, std::slice::from_ref(&target))?;
    }
    let cells = bench.table("direction_similarity", &[])?.keep(&[("kind", "svd")]);
    let mut counts = Counts::default();
    if let Some(first) = cells.keep(&[("component_a", "1"), ("component_b", "1")]).0.first() {
        let p = first.number("p_value");
        let above = first.number("cosine").abs() > first.number("null_high");
        counts.share(Measure::AnyLayer, "svd", if p.is_nan() { above } else { p <= 0.05 });
    }
    Ok(counts.0)
}

// distance

fn distance_none(size: Size, seed: u64) -> Result<Vec<Seen>> {
    distance(size, seed, 0.0)
}

fn distance_two(size: Size, seed: u64) -> Result<Vec<Seen>> {
    distance(size, seed, 1.0)
}

/// The means are a common vector, plus `apart` in units of [`visible`] times an axis for the second dataset.
fn distance(size: Size, seed: u64, apart: f64) -> Result<Vec<Seen>> {
    let mut random = Random::new(seed, 79);
    let population = Population::new(size.width);
    let (common, axis) = (population.axis(&mut random), population.axis(&mut random));
    let mean = times(&common, (size.width as f64).sqrt());
    let other: Vec<f64> = mean
        .iter()
        .zip(times(&axis, 2.0 * apart * visible(&population, size)))
        .map(|(mean, more)| mean + more)
        .collect();
    let truth = 1.0 - cosine(&mean, &other);
    let mut bench = Bench::new(&["base"], &["a", "b"], sections(json!({})))?;
    give(&mut bench, &population, "a", size.n, &[("base", mean)], &mut random, seed)?;
    give(&mut bench, &population, "b", size.n, &[("base", other)], &mut random, seed)?;
    let rows = bench.table("distance", &[])?;
    let mut counts = Counts::default();
    let Some(first) = rows.0.first() else { return Ok(counts.0) };
    let measure = if apart == 0.0 { Measure::Rejects } else { Measure::Power };
    counts.small(measure, "", first.number("p_value"));
    if apart == 0.0 {
        counts.small(Measure::AnyLayer, "p_max", rows.least("p_max"));
        counts.small(Measure::AnyLayer, "p_holm", rows.least("p_holm"));
    } else {
        counts.covers("", first.number("ci_low"), first.number("ci_high"), truth);
    }
    for column in ["cosine_distance", "plain_distance"] {
        counts.add(Measure::Bias, column, first.number(column) - truth);
    }
    Ok(counts.0)
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

// similarity_summary and permanova

fn of_states(across: &str) -> Value {
    json!({ "similarity": { "of": ["hidden_state"], "across": across, "layers": [0, 1, 2] } })
}

fn groups_alike(size: Size, seed: u64) -> Result<Vec<Seen>> {
    groups(size, seed, 0.0)
}

fn groups_apart(size: Size, seed: u64) -> Result<Vec<Seen>> {
    groups(size, seed, 1.0)
}

/// Datasets a and b, `apart` in units of [`visible`], and a third far from both.
fn groups(size: Size, seed: u64, apart: f64) -> Result<Vec<Seen>> {
    let mut random = Random::new(seed, 80);
    let population = Population::new(size.width);
    let mut bench = Bench::new(&["base"], &["a", "b", "c"], sections(of_states("datasets")))?;
    let unit = 2.0 * visible(&population, size);
    for (dataset, shift) in [("a", 0.0), ("b", apart * unit), ("c", 3.0 * unit)] {
        let axis = population.axis(&mut random);
        give(&mut bench, &population, dataset, size.n, &[("base", times(&axis, shift))], &mut random, seed)?;
    }
    let mut counts = Counts::default();
    let rows = bench.table("similarity_summary", &[("dataset_a", "a"), ("dataset_b", "b")])?;
    let measure = if apart == 0.0 { Measure::Rejects } else { Measure::Power };
    pairs(&mut counts, measure, &rows);
    if apart == 0.0 && size.width > 0 {
        // The mean cosine of two independent examples of like groups without a mean is 0.
        let raw = rows.keep(&[("layer", "0"), ("centred", "false")]);
        if let Some(row) = raw.0.first() {
            counts.covers("raw mean cosine between", row.number("ci_low"), row.number("ci_high"), 0.0);
        }
        let within = bench.table("similarity_summary", &[("dataset_a", "a"), ("dataset_b", "a")])?;
        if let Some(row) = within.keep(&[("layer", "0"), ("centred", "false")]).0.first() {
            counts.covers("raw mean cosine within", row.number("ci_low"), row.number("ci_high"), 0.0);
        }
    }
    Ok(counts.0)
}

fn pairs(counts: &mut Counts, measure: Measure, rows: &Rows) {
    for centred in ["false", "true"] {
        let what = if centred == "true" { "centred" } else { "raw" };
        let rows = rows.keep(&[("centred", centred)]);
        let Some(first) = rows.0.first() else { continue };
        counts.small(measure, what, first.number("p_value"));
        counts.small(measure, &format!("{what}, within"), first.number("within_p_value"));
        if measure == Measure::Rejects {
            counts.small(Measure::AnyLayer, &format!("{what}, p_max"), rows.least("p_max"));
        }
    }
}

fn groups_paired(size: Size, seed: u64) -> Result<Vec<Seen>> {
    let mut random = Random::new(seed, 81);
    let population = Population::new(size.width);
    let mut bench = Bench::new(&["base", "third"], &["a"], sections(of_states("models")))?;
    give(&mut bench, &population, "a", size.n, &[("base", zero(size)), ("third", zero(size))], &mut random, seed)?;
    let rows = bench.table("similarity_summary", &[("model_a", "base"), ("model_b", "third")])?;
    let mut counts = Counts::default();
    pairs(&mut counts, Measure::Rejects, &rows);
    Ok(counts.0)
}

fn permanova_alike(size: Size, seed: u64) -> Result<Vec<Seen>> {
    three_groups(size, seed, 0.0)
}

fn permanova_apart(size: Size, seed: u64) -> Result<Vec<Seen>> {
    three_groups(size, seed, 1.0)
}

/// Datasets a and b, and c `apart` from them in units of [`visible`].
fn three_groups(size: Size, seed: u64, apart: f64) -> Result<Vec<Seen>> {
    let mut random = Random::new(seed, 82);
    let population = Population::new(size.width);
    let mut bench = Bench::new(&["base"], &["a", "b", "c"], sections(of_states("datasets")))?;
    let shift = times(&population.axis(&mut Random::new(seed, 84)), apart * visible(&population, size));
    for (dataset, shift) in [("a", zero(size)), ("b", zero(size)), ("c", shift)] {
        give(&mut bench, &population, dataset, size.n, &[("base", shift)], &mut random, seed)?;
    }
    permanova(&mut bench, if apart == 0.0 { Measure::Rejects } else { Measure::Power })
}

fn permanova_paired(size: Size, seed: u64) -> Result<Vec<Seen>> {
    let mut random = Random::new(seed, 83);
    let population = Population::new(size.width);
    let models = ["base", "instruct", "third"];
    let mut bench = Bench::new(&models, &["a"], sections(of_states("models")))?;
    let given: Vec<(&str, Vec<f64>)> = models.iter().map(|model| (*model, zero(size))).collect();
    give(&mut bench, &population, "a", size.n, &given, &mut random, seed)?;
    permanova(&mut bench, Measure::Rejects)
}

fn permanova(bench: &mut Bench, measure: Measure) -> Result<Vec<Seen>> {
    let mut counts = Counts::default();
    let rows = bench.table("permanova", &[])?;
    if let Some(first) = rows.0.first() {
        counts.small(measure, "", first.number("p_value"));
        if measure == Measure::Rejects {
            counts.small(Measure::AnyLayer, "p_max", rows.least("p_max"));
        }
    }
    Ok(counts.0)
}

/// Token losses and where the assistant's turn begins, for loss vectors and summaries.
struct Losses {
    /// For each example the losses of its tokens.
    of: Vec<Vec<f64>>,
}

impl Losses {
    fn give(&self, bench: &mut Bench, model: &str, dataset: &str, names: &[String]) -> Result<()> {
        let tokens = |i: usize| std::iter::repeat_n(i, self.of[i].len());
        let rows: Vec<usize> = (0..names.len()).flat_map(tokens).collect();
        let losses: Vec<f32> = self.of.iter().flatten().map(|loss| *loss as f32).collect();
        let numbers: Vec<u32> = self.of.iter().flat_map(|losses| 1..=losses.len() as u32).collect();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("example", Arc::new(StringArray::from_iter_values(rows.iter().map(|i| &names[*i])))),
            ("token", Arc::new(UInt32Array::from(numbers))),
            ("in_response", Arc::new(BooleanArray::from(vec![true; rows.len()]))),
            ("logprob", Arc::new(losses.iter().map(|loss| Some(-loss)).collect::<Float32Array>())),
            ("entropy", Arc::new(losses.iter().map(|loss| Some(0.5 * loss)).collect::<Float32Array>())),
        ];
        bench.give("token_losses", model, dataset, columns)?;
        let ones = vec![1; names.len()];
        let ends = self.of.iter().map(|losses| losses.len() as u32 + 1).collect::<Vec<_>>();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("example", Arc::new(StringArray::from_iter_values(names))),
            ("turn_start", Arc::new(UInt32Array::from(ones.clone()))),
            ("response_start", Arc::new(UInt32Array::from(ones))),
            ("response_end", Arc::new(UInt32Array::from(ends))),
        ];
        bench.give("tokens", model, dataset, columns)
    }
}

/// An example's losses: log-normal, with a part that all its tokens share.
fn losses(tokens: usize, random: &mut Random) -> Vec<f64> {
    let shared = 0.5 * random.normal();
    (0..tokens).map(|_| (shared + 0.8 * random.normal()).exp()).collect()
}

fn short_answers(size: Size, seed: u64) -> Result<Vec<Seen>> {
    let mut random = Random::new(seed, 84);
    let mut bench = Bench::new(&["base"], &["a", "b"], sections(json!({ "similarity": { "of": ["loss"] } })))?;
    for (number, (dataset, least, most)) in [("a", 60, 80), ("b", 14, 40)].into_iter().enumerate() {
        let names = identities(size.n, seed, 50 + number as u64);
        let of = names.iter().map(|_| losses(least + random.below(most - least), &mut random)).collect();
        Losses { of }.give(&mut bench, "base", dataset, &names)?;
    }
    let mut counts = Counts::default();
    let rows = bench.table("similarity_summary", &[("dataset_a", "a"), ("dataset_b", "b")])?;
    pairs(&mut counts, Measure::Rejects, &rows);
    Ok(counts.0)
}

// mean_similarity

fn means_none(size: Size, seed: u64) -> Result<Vec<Seen>> {
    means(size, seed, 0.0, None)
}

fn means_orthogonal(size: Size, seed: u64) -> Result<Vec<Seen>> {
    means(size, seed, 1.0, None)
}

fn means_opposed(size: Size, seed: u64) -> Result<Vec<Seen>> {
    means(size, seed, 1.0, Some(-0.5))
}

/// Two datasets whose means have this length, in units of what is visible, and this cosine; without one, 0.
fn means(size: Size, seed: u64, length: f64, wanted: Option<f64>) -> Result<Vec<Seen>> {
    let mut random = Random::new(seed, 85);
    let population = Population::new(size.width);
    let mut bench = Bench::new(&["base"], &["a", "b"], sections(of_states("datasets")))?;
    let (first, other) = (population.axis(&mut random), population.axis(&mut random));
    let along: f64 = first.iter().zip(&other).map(|(a, b)| a * b).sum();
    let mut orthogonal: Vec<f64> = other.iter().zip(&first).map(|(b, a)| b - along * a).collect();
    let norm = orthogonal.iter().map(|value| value * value).sum::<f64>().sqrt();
    orthogonal.iter_mut().for_each(|value| *value /= norm);
    let truth = wanted.unwrap_or(0.0);
    let second: Vec<f64> =
        first.iter().zip(&orthogonal).map(|(a, b)| truth * a + (1.0 - truth * truth).sqrt() * b).collect();
    let unit = 2.0 * length * visible(&population, size);
    for (dataset, axis) in [("a", &first), ("b", &second)] {
        give(&mut bench, &population, dataset, size.n, &[("base", times(axis, unit))], &mut random, seed)?;
    }
    let rows = bench.table("mean_similarity", &[])?;
    let mut counts = Counts::default();
    let Some(row) = rows.0.first() else { return Ok(counts.0) };
    let measure = if wanted.is_none() { Measure::Rejects } else { Measure::Power };
    counts.small(measure, "", row.number("p_value"));
    if length > 0.0 {
        counts.covers("", row.number("ci_low"), row.number("ci_high"), truth);
        for column in ["cosine", "plain"] {
            counts.add(Measure::Bias, column, row.number(column) - truth);
        }
    }
    Ok(counts.0)
}

// intervals of means

fn projection_mean(size: Size, seed: u64) -> Result<Vec<Seen>> {
    let mut random = Random::new(seed, 86);
    let population = Population::new(size.width);
    let mut bench = Bench::new(
        &["base", "instruct"],
        &["a", "b"],
        sections(
            json!({ "directions": { "datasets": ["a"], "kinds": ["mean_difference"] }, "projections": { "directions": ["a"] } }),
        ),
    )?;
    let axis = population.axis(&mut random);
    let shift = times(&axis, visible(&population, size));
    for dataset in ["a", "b"] {
        let given = [("base", zero(size)), ("instruct", shift.clone())];
        give(&mut bench, &population, dataset, size.n, &given, &mut random, seed)?;
    }
    let rows = bench.table("projection_summary", &[("dataset", "b"), ("model", "base")])?;
    let mut counts = Counts::default();
    if let Some(row) = rows.0.first() {
        counts.covers("", row.number("ci_low"), row.number("ci_high"), 0.0);
    }
    Ok(counts.0)
}

fn loss_mean(size: Size, seed: u64) -> Result<Vec<Seen>> {
    let mut random = Random::new(seed, 87);
    let mut bench = Bench::new(&["base"], &["a"], sections(json!({})))?;
    let names = identities(size.n, seed, 60);
    let of = names.iter().map(|_| losses(20 + random.below(40), &mut random)).collect();
    Losses { of }.give(&mut bench, "base", "a", &names)?;
    let mut counts = Counts::default();
    if let Some(row) = bench.table("loss_summary", &[])?.keep(&[("measure", "logprob")]).0.first() {
        // The mean of a log-normal with variances 0.25 and 0.64 of its logarithm.
        let truth = -(0.5f64 * (0.25 + 0.64)).exp();
        counts.covers("mean log-probability", row.number("ci_low"), row.number("ci_high"), truth);
    }
    Ok(counts.0)
}

fn loss_alike(size: Size, seed: u64) -> Result<Vec<Seen>> {
    loss_difference(size, seed, 0.0)
}

fn loss_apart(size: Size, seed: u64) -> Result<Vec<Seen>> {
    loss_difference(size, seed, 0.1)
}

fn loss_difference(size: Size, seed: u64, apart: f64) -> Result<Vec<Seen>> {
    let mut random = Random::new(seed, 88);
    let mut bench = Bench::new(&["base", "third"], &["a"], sections(json!({})))?;
    let names = identities(size.n, seed, 61);
    let shared: Vec<Vec<f64>> = names.iter().map(|_| losses(20 + random.below(40), &mut random)).collect();
    for (model, more) in [("base", 0.0), ("third", apart)] {
        let own = |loss: &f64, random: &mut Random| loss * (0.3 * random.normal() - 0.045).exp() + more;
        let of = shared.iter().map(|losses| losses.iter().map(|loss| own(loss, &mut random)).collect()).collect();
        Losses { of }.give(&mut bench, model, "a", &names)?;
    }
    let mut counts = Counts::default();
    let rows = bench.table("loss_difference", &[])?.keep(&[("measure", "logprob")]);
    if let Some(row) = rows.0.first() {
        let measure = if apart == 0.0 { Measure::Rejects } else { Measure::Power };
        counts.small(measure, "", row.number("p_value"));
        counts.covers("difference", row.number("ci_low"), row.number("ci_high"), -apart);
    }
    Ok(counts.0)
}

/// Patches whose change is log-normal and whose effect is half of it and noise: the effect is 0.5 exp(0.125) nats in the mean, and 0.5
/// for each unit of change.
fn patching(size: Size, seed: u64) -> Result<Vec<Seen>> {
    let mut random = Random::new(seed, 90);
    let mut bench = Bench::new(&["base", "third"], &["a"], sections(json!({})))?;
    let changes: Vec<f64> = (0..size.n).map(|_| (0.5 * random.normal()).exp()).collect();
    let clean: Vec<f64> = (0..size.n).map(|_| 2.0 + random.normal()).collect();
    let patched: Vec<f64> =
        changes.iter().zip(&clean).map(|(change, clean)| clean + 0.5 * change + 0.5 * random.normal()).collect();
    let numbers = |values: &[f64]| -> ArrayRef {
        Arc::new(values.iter().map(|value| Some(*value as f32)).collect::<Float32Array>())
    };
    let source: Vec<f64> = clean.iter().map(|clean| clean + 1.0).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("layer", Arc::new(UInt32Array::from(vec![1; size.n]))),
        ("last_layer", Arc::new(BooleanArray::from(vec![false; size.n]))),
        ("metric", Arc::new(StringArray::from(vec!["loss"; size.n]))),
        ("value", numbers(&patched)),
        ("clean_source", numbers(&source)),
        ("clean_target", numbers(&clean)),
        ("change", numbers(&changes)),
    ];
    let bindings = [("source", "base"), ("target", "third"), ("dataset", "a")];
    bench.give_bound("patching", &bindings.map(|(role, name)| (role, name.to_string())), columns)?;
    let mut counts = Counts::default();
    if let Some(row) = bench.table("patching_summary", &[])?.0.first() {
        counts.covers("effect", row.number("effect_low"), row.number("effect_high"), 0.5 * 0.125f64.exp());
        counts.covers("effect for its change", row.number("per_change_low"), row.number("per_change_high"), 0.5);
    }
    Ok(counts.0)
}
