//! What is simulated for each stage: data under a null hypothesis, or under a known alternative, and what is counted.

mod direction_similarity;
mod distance;
mod groups;
mod mean_similarity;
mod patching_summary;
mod projection_summary;
mod separation;
mod states;
mod token_losses;

use anyhow::Result;
use serde_json::{Value, json};

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
    Case {
        stage: "separation",
        data: "three models of one distribution",
        has_width: true,
        simulate: separation::separation_none,
    },
    Case {
        stage: "separation",
        data: "the target shifted, the third like the source",
        has_width: true,
        simulate: separation::separation_target,
    },
    Case {
        stage: "separation",
        data: "target shifted by 1, third by half of it",
        has_width: true,
        simulate: separation::separation_both,
    },
    Case {
        stage: "direction_similarity",
        data: "no shift in either dataset",
        has_width: true,
        simulate: direction_similarity::similarity_none,
    },
    Case {
        stage: "direction_similarity",
        data: "a shift in one dataset",
        has_width: true,
        simulate: direction_similarity::similarity_one,
    },
    Case {
        stage: "direction_similarity",
        data: "unrelated shifts",
        has_width: true,
        simulate: direction_similarity::similarity_unrelated,
    },
    Case {
        stage: "direction_similarity",
        data: "differences vary along unrelated axes",
        has_width: true,
        simulate: direction_similarity::similarity_varied,
    },
    Case {
        stage: "direction_similarity",
        data: "the same shift",
        has_width: true,
        simulate: direction_similarity::similarity_same,
    },
    Case { stage: "distance", data: "one mean", has_width: true, simulate: distance::distance_none },
    Case { stage: "distance", data: "two means", has_width: true, simulate: distance::distance_two },
    Case {
        stage: "similarity_summary",
        data: "two like groups beside a third",
        has_width: true,
        simulate: groups::groups_alike,
    },
    Case { stage: "similarity_summary", data: "two groups apart", has_width: true, simulate: groups::groups_apart },
    Case {
        stage: "similarity_summary",
        data: "one dataset under two like models",
        has_width: true,
        simulate: groups::groups_paired,
    },
    Case {
        stage: "similarity_summary",
        data: "loss vectors, one group's answers short",
        has_width: false,
        simulate: groups::short_answers,
    },
    Case { stage: "permanova", data: "three like groups", has_width: true, simulate: groups::permanova_alike },
    Case {
        stage: "permanova",
        data: "two like groups and one apart",
        has_width: true,
        simulate: groups::permanova_apart,
    },
    Case {
        stage: "permanova",
        data: "one dataset under three like models",
        has_width: true,
        simulate: groups::permanova_paired,
    },
    Case { stage: "mean_similarity", data: "means of zero", has_width: true, simulate: mean_similarity::means_none },
    Case {
        stage: "mean_similarity",
        data: "orthogonal means",
        has_width: true,
        simulate: mean_similarity::means_orthogonal,
    },
    Case { stage: "mean_similarity", data: "opposed means", has_width: true, simulate: mean_similarity::means_opposed },
    Case {
        stage: "projection_summary",
        data: "a fixed direction",
        has_width: true,
        simulate: projection_summary::projection_mean,
    },
    Case { stage: "loss_summary", data: "skewed losses", has_width: false, simulate: token_losses::loss_mean },
    Case { stage: "loss_difference", data: "two like models", has_width: false, simulate: token_losses::loss_alike },
    Case {
        stage: "loss_difference",
        data: "two models 0.1 nats apart",
        has_width: false,
        simulate: token_losses::loss_apart,
    },
    Case {
        stage: "patching_summary",
        data: "skewed changes and effects",
        has_width: false,
        simulate: patching_summary::patching,
    },
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
