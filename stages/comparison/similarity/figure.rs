//! Cosines of all pairs of examples, as a heatmap with a block for every two groups.

use std::collections::HashMap;

use anyhow::Result;

use crate::chart::{Axis, Colours, Figure, Group, Heatmaps};
use crate::comparison::subject::{Compared, GRADIENT, HIDDEN_STATE, LOSS, Subject, deepest};
use crate::contract::figures::section::{GRADIENTS, LOSS_VECTORS, SEPARATION};
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

/// The same in the figures that are shown closed: a matrix of 1000 is more than a megabyte of the page.
const FOLDED_SIDE: usize = 300;

/// Layers or modules drawn of one comparison.
const PLACES: usize = 4;

/// An example as the number of its group and its own number there.
type Member = (u16, u32);

/// Raw and centred cosines of pairs; small, since there can be millions.
type Cosines = [Vec<(Member, Member, f32)>; 2];

fn draw(tables: &Tables, subject: &'static Subject) -> Result<Drawn> {
    let mut figures = Vec::new();
    for compared in Compared::all(tables, "similarity", subject) {
        let names = compared.groups(tables);
        let mut groups: Vec<Examples> = names.iter().map(|name| Examples::new(name)).collect();
        let mut places: Vec<(String, Rows, Cosines)> = Vec::new();
        for node in &compared.nodes {
            let [a, b] =
                compared.roles().map(|role| names.iter().position(|name| *name == node.name(role)).unwrap_or_default());
            let rows = compared.rows(tables, "similarity", &[*node])?;
            for (place, (at, rows)) in deepest(&rows, PLACES).into_iter().enumerate() {
                if place == places.len() {
                    places.push((at, rows.clone(), Cosines::default()));
                }
                let cosines = &mut places[place].2;
                for row in rows.iter() {
                    let first = (a as u16, groups[a].number(row.text("example_a")));
                    let second = (b as u16, groups[b].number(row.text("example_b")));
                    cosines[usize::from(row.flag("centred"))].push((first, second, row.number("cosine") as f32));
                }
            }
        }
        for (at, rows, cosines) in &places {
            let folded = !figures.is_empty();
            let side = if folded { FOLDED_SIDE } else { SIDE };
            figures.push(figure(&compared, &groups, at, rows, cosines, side).folded(folded));
        }
    }
    Ok(figures.into())
}

/// A group's examples in the order in which they are first met.
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

fn figure(compared: &Compared, groups: &[Examples], at: &str, rows: &Rows, cosines: &Cosines, side: usize) -> Figure {
    let total: usize = groups.iter().map(|group| group.examples.len()).sum();
    let every = total.div_ceil(side).max(1);
    let shown = |group: &Examples| group.examples.len().div_ceil(every);
    let labels = |group: &Examples| -> Vec<String> {
        group.examples.iter().step_by(every).map(|example| format!("{} {example}", group.name)).collect()
    };
    let axis = Axis {
        labels: groups.iter().flat_map(labels).collect(),
        groups: groups.iter().map(|group| Group { name: group.name.clone(), len: shown(group) }).collect(),
    };
    let starts: Vec<usize> = groups
        .iter()
        .scan(0, |next, group| {
            let start = *next;
            *next += shown(group);
            Some(start)
        })
        .collect();
    let mut maps = Heatmaps::square(axis, Colours::Cosine, 480.0);
    for (title, cosines) in ["Raw", "Centred"].into_iter().zip(cosines).filter(|(_, cosines)| !cosines.is_empty()) {
        let panel = maps.panel(title);
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
    let name = compared.subject.name;
    let some = match every {
        1 => String::new(),
        2 => " Every second example is drawn; the table has all.".into(),
        _ => format!(" One example in {every} is drawn; the table has all."),
    };
    let sizes: Vec<String> = groups.iter().map(|group| format!("{} {}", group.name, group.examples.len())).collect();
    rows.figure(
        "similarity",
        format!("Whose {name} are alike {}{at}?", compared.phrase()),
        "model_a, dataset_a, example_a, model_b, dataset_b, example_b, centred, cosine",
        "model_a, dataset_a, example_a, model_b, dataset_b, example_b, centred",
    )
    .what(format!(
        "Cosine between every two examples' {name}, raw and with the mean over all of them subtracted first; lines part the \
         groups.{some}"
    ))
    .n(format!("{total} examples, {} pairs: {}.", total * total.saturating_sub(1) / 2, sizes.join(", ")))
    .interval("None: every pair is drawn; the intervals of the groups' means are in the figures of similarity_summary.")
    .null("0 for unrelated directions; the table similarity_summary holds the groups' means against shuffled groups.")
    .draw(&maps)
}
