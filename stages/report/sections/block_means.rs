//! The mean similarity of each two groups, its interval, and what shuffled groups give.

use std::collections::BTreeMap;

use anyhow::Result;

use super::super::shelf::{Shelf, spread};
use super::count_range;
use super::similarity::{Comparison, Subject, Where, comparisons, where_condition, where_phrase, wheres};
use crate::chart::bars::Dots;
use crate::chart::figure::{Figure, Key, slug};
use crate::chart::lines::Point;

const WHERES: usize = 4;

/// A block's mean with its interval, its null and its p-value.
struct Block {
    name: String,
    place: (usize, usize),
    mean: Point,
    null: f64,
    p: f64,
    pairs: u32,
}

pub fn figures(shelf: &Shelf, subject: &Subject) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for comparison in comparisons(shelf, "similarity_summary", subject.of) {
        let found = blocks(shelf, &comparison)?;
        let places: Vec<&Where> = found.keys().collect();
        for place in spread(&places, WHERES).into_iter().rev() {
            let folded = !figures.is_empty();
            figures.push(Figure { folded, ..figure(subject, &comparison, place, &found[place]) });
        }
    }
    Ok(figures)
}

/// Raw and centred blocks for each place.
fn blocks(shelf: &Shelf, comparison: &Comparison) -> Result<BTreeMap<Where, [Vec<Block>; 2]>> {
    let names = comparison.names(shelf);
    let index = |name: &str| names.iter().position(|known| known == name).unwrap_or(0);
    let mut found: BTreeMap<Where, [Vec<Block>; 2]> = BTreeMap::new();
    for entry in &comparison.entries {
        let (a, b) = comparison.groups(entry);
        let name = if a == b { format!("within {a}") } else { format!("{a} · {b}") };
        let rows = entry.rows()?;
        let (means, lows, highs) = (rows.numbers("mean")?, rows.numbers("ci_low")?, rows.numbers("ci_high")?);
        let (nulls, ps, pairs) = (rows.numbers("null_mean")?, rows.numbers("p_value")?, rows.counts("n_pairs")?);
        let centred = rows.flags("centred")?;
        for (i, place) in wheres(&rows)?.into_iter().enumerate() {
            let block = Block {
                name: name.clone(),
                // Groups with themselves first, then the pairs.
                place: if index(a) == index(b) { (0, index(a)) } else { (1 + index(a), index(b)) },
                mean: Point { value: means[i], low: lows[i], high: highs[i] },
                null: nulls[i],
                p: ps[i],
                pairs: pairs[i],
            };
            found.entry(place).or_default()[centred[i] as usize].push(block);
        }
    }
    for blocks in found.values_mut().flatten() {
        blocks.sort_by_key(|block| block.place);
    }
    Ok(found)
}

fn figure(subject: &Subject, comparison: &Comparison, place: &Where, blocks: &[Vec<Block>; 2]) -> Figure {
    let panels =
        ["Raw", "Centred"].into_iter().zip(blocks).filter(|(_, blocks)| !blocks.is_empty()).map(|(title, blocks)| {
            let points = blocks.iter().map(|block| block.mean).collect();
            let nulls = blocks.iter().map(|block| Point::bare(block.null)).collect();
            let dots = Dots {
                title: title.into(),
                x_label: "mean cosine".into(),
                rows: blocks.iter().map(|block| block.name.clone()).collect(),
                series: vec![("groups".into(), "s0".into(), points), ("shuffled groups".into(), "null".into(), nulls)],
                domain: None,
            };
            dots.panel()
        });
    let panels = panels.collect();
    let at = where_phrase(place);
    let tested: Vec<&Block> = blocks[1].iter().chain(&blocks[0]).filter(|block| block.p.is_finite()).collect();
    let small = tested.iter().filter(|block| block.p < 0.05).count();
    Figure {
        name: slug(&format!("blocks {} {} {at}", subject.of, comparison.fixed.1)),
        question: match at.is_empty() {
            true => format!("Which groups have {} more alike than chance, {}?", subject.name, comparison.phrase()),
            false => {
                format!("Which groups have {} more alike than chance, {}, at {at}?", subject.name, comparison.phrase())
            }
        },
        what: format!(
            "Mean cosine over the pairs of examples of two groups, of their {}, raw and centred.",
            subject.name
        ),
        n: format!("{} pairs of examples in a block.", count_range(blocks.iter().flatten().map(|block| block.pairs))),
        interval: "95 % bootstrap interval over examples (seeded).".into(),
        null: "The mean with the examples' group labels shuffled (the grey marks); p-values in the table.".into(),
        finding: match tested.is_empty() {
            true => String::new(),
            false => format!("{small} of {} block means differ from shuffled groups at p < 0.05.", tested.len()),
        },
        query: format!(
            "SELECT dataset_a, dataset_b, model_a, model_b, centred, n_pairs, mean, ci_low, ci_high, null_mean, p_value FROM \
             similarity_summary WHERE \"of\" = '{}' AND {}{}",
            subject.of,
            comparison.condition(),
            where_condition(place)
        ),
        table: "similarity_summary",
        legend: vec![
            Key { name: "groups".into(), class: "s0".into() },
            Key { name: "shuffled groups".into(), class: "null".into() },
        ],
        panels,
        ..Figure::default()
    }
}
