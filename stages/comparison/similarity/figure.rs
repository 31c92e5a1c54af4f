//! Cosines of all pairs of examples, as a heatmap with a block for every two groups.

use std::collections::HashMap;

use anyhow::Result;

use crate::chart::{Axis, Colours, Figure, Group, Heatmaps};
use crate::comparison::subject::{Compared, GRADIENT, HIDDEN_STATE, LOSS, Labels, Subject, deepest};
use crate::contract::figures::section::{GRADIENTS, LOSS_VECTORS, SEPARATION};
use crate::contract::figures::tables::NodeTable;
use crate::contract::figures::words::capital;
use crate::contract::figures::{Drawn, Figures, Level, Reads, Rows, Tables};

const READS: &[Reads] = &[Reads {
    stage: "similarity",
    columns: &["position", "layer", "site", "module", "example_a", "example_b", "centred", "cosine"],
}];

pub const FIGURES: &[Figures] = &[
    Figures { section: &LOSS_VECTORS, level: Level::Overview, reads: READS, draw: |tables| draw(tables, &LOSS) },
    Figures { section: &GRADIENTS, level: Level::Overview, reads: READS, draw: |tables| draw(tables, &GRADIENT) },
    Figures { section: &SEPARATION, level: Level::Overview, reads: READS, draw: |tables| draw(tables, &HIDDEN_STATE) },
];

/// Examples along a side of a drawn matrix; of more, every so many-th is drawn.
const SIDE: usize = 1000;

/// The same where there are several matrices side by side, or in the figures that are shown closed: a matrix of 1000 is
/// more than a megabyte of the page.
const SMALL_SIDE: usize = 300;

/// Layers or modules drawn of one comparison.
const PLACES: usize = 4;

/// An example as the number of its group and its own number there.
type Member = (u16, u32);

/// Raw and centred cosines of pairs; small, since there can be millions.
type Cosines = [Vec<(Member, Member, f32)>; 2];

/// What is compared under one model, or on one dataset.
struct Block<'a> {
    shared: &'a str,
    groups: Vec<Examples>,
    cosines: Cosines,
}

fn draw(tables: &Tables, subject: &'static Subject) -> Result<Drawn> {
    let mut figures = Vec::new();
    for compared in Compared::all(tables, "similarity", subject) {
        let mut places: Vec<(String, Rows, Vec<Block>)> = Vec::new();
        let all: Vec<&NodeTable> = compared.shared.iter().flat_map(|(_, nodes)| nodes.iter().copied()).collect();
        let labels = Labels::of_nodes(&all);
        for (shared, nodes) in &compared.shared {
            let shared = *shared;
            let ends = |node: &NodeTable, end: &str| {
                labels.label(node.name(&format!("model_{end}")), node.name(&format!("dataset_{end}")))
            };
            let mut names: Vec<String> = Vec::new();
            for node in nodes {
                for name in ["a", "b"].map(|end| ends(node, end)) {
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
            }
            let mut groups: Vec<Examples> = names.iter().map(|name| Examples::new(name)).collect();
            let mut cosines: Vec<Cosines> = Vec::new();
            for node in nodes {
                let [a, b] =
                    ["a", "b"].map(|end| names.iter().position(|name| *name == ends(node, end)).unwrap_or_default());
                let rows = compared.rows_of(tables, "similarity", &[*node])?;
                for (place, (at, rows)) in deepest(&rows, PLACES).into_iter().enumerate() {
                    if place == places.len() {
                        places.push((at, rows.clone(), Vec::new()));
                    }
                    if place == cosines.len() {
                        cosines.push(Cosines::default());
                    }
                    let (of_a, codes_a) = rows.texts("example_a");
                    let (of_b, codes_b) = rows.texts("example_b");
                    // The numbers of examples that were met, so that each is looked up once.
                    let (mut known_a, mut known_b) = (vec![None; of_a.len()], vec![None; of_b.len()]);
                    let values = rows.numbers("cosine").zip(rows.numbers("centred"));
                    for ((code_a, code_b), (cosine, centred)) in codes_a.zip(codes_b).zip(values) {
                        if !cosine.is_finite() {
                            continue;
                        }
                        let number_a = *known_a[code_a].get_or_insert_with(|| groups[a].number(of_a[code_a]));
                        let number_b = *known_b[code_b].get_or_insert_with(|| groups[b].number(of_b[code_b]));
                        let pair = ((a as u16, number_a), (b as u16, number_b), cosine as f32);
                        cosines[place][usize::from(centred == 1.0)].push(pair);
                    }
                }
            }
            for (place, cosines) in cosines.into_iter().enumerate() {
                places[place].2.push(Block { shared, groups: groups.clone(), cosines });
            }
        }
        for (at, rows, blocks) in &places {
            let folded = !figures.is_empty();
            let side = if folded || blocks.len() > 1 { SMALL_SIDE } else { SIDE };
            figures.push(figure(&compared, labels, at, rows, blocks, side).folded(folded));
        }
    }
    Ok(figures.into())
}

/// A group's examples in the order in which they are first met.
#[derive(Clone)]
struct Examples {
    name: String,
    examples: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl Examples {
    fn new(name: &str) -> Examples {
        Examples { name: name.into(), examples: Vec::new(), numbers: HashMap::new() }
    }

    fn number(&mut self, example: &str) -> u32 {
        if let Some(number) = self.numbers.get(example) {
            return *number;
        }
        let number = self.examples.len() as u32;
        self.numbers.insert(example.to_string(), number);
        self.examples.push(example.to_string());
        number
    }
}

fn figure(compared: &Compared, labels: Labels, at: &str, rows: &Rows, blocks: &[Block], side: usize) -> Figure {
    let size = |block: &Block| block.groups.iter().map(|group| group.examples.len()).sum::<usize>();
    let most = blocks.iter().map(size).max().unwrap_or_default();
    let every = most.div_ceil(side).max(1);
    let name = compared.subject.name;
    let some = match every {
        1 => String::new(),
        2 => " Every second example is drawn; the table has all.".into(),
        _ => format!(" One example in {every} is drawn; the table has all."),
    };
    let sizes: Vec<String> = blocks
        .first()
        .into_iter()
        .flat_map(|block| &block.groups)
        .map(|group| format!("{} {}", group.name, group.examples.len()))
        .collect();
    let figure = rows
        .figure(
            "similarity",
            format!("Whose {name} are alike {}{at}?", compared.phrase(&labels)),
            "shared, model_a, dataset_a, example_a, model_b, dataset_b, example_b, same_example, centred, cosine",
            "shared, model_a, dataset_a, example_a, model_b, dataset_b, example_b, centred",
        )
        .what(format!(
            "Cosine between every two examples' {name}, raw and centred side by side; lines part the groups. Centring takes \
             what all have in common, so that groups that agree can come out opposed: read the two together, and \
             mean_similarity for the test.{some}"
        ))
        .n(format!("{most} examples, {} pairs: {}.", most * most.saturating_sub(1) / 2, sizes.join(", ")))
        .interval("None: every pair is drawn; the intervals of the groups' means are in the figures of similarity_summary.")
        .null("0 for unrelated directions; the table similarity_summary tests every two groups.");
    blocks.iter().fold(figure, |figure, block| figure.draw(&maps(block, blocks.len() > 1, every)))
}

/// The matrices of one block; `named` puts what its groups share into the titles.
fn maps(block: &Block, named: bool, every: usize) -> Heatmaps {
    let shown = |group: &Examples| group.examples.len().div_ceil(every);
    let labels = |group: &Examples| -> Vec<String> {
        group.examples.iter().step_by(every).map(|example| format!("{} {example}", group.name)).collect()
    };
    let axis = Axis {
        labels: block.groups.iter().flat_map(labels).collect(),
        groups: block.groups.iter().map(|group| Group { name: group.name.clone(), len: shown(group) }).collect(),
    };
    let starts: Vec<usize> = block
        .groups
        .iter()
        .scan(0, |next, group| {
            let start = *next;
            *next += shown(group);
            Some(start)
        })
        .collect();
    let mut maps = Heatmaps::square(axis, Colours::Cosine, if named { 320.0 } else { 480.0 });
    let titled = ["raw", "centred"].into_iter().zip(&block.cosines);
    for (title, cosines) in titled.filter(|(_, cosines)| !cosines.is_empty()) {
        let title = if named { format!("{}, {title}", block.shared) } else { capital(title) };
        let panel = maps.panel(title.as_str());
        let cell = |(group, number): &Member| {
            let number = *number as usize;
            number.is_multiple_of(every).then(|| starts[usize::from(*group)] + number / every)
        };
        for (a, b, cosine) in cosines {
            if let (Some(a), Some(b)) = (cell(a), cell(b)) {
                panel.set(a, b, *cosine);
            }
        }
    }
    maps
}
