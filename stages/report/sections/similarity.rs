//! Pairwise similarities of examples, whatever is compared (loss vectors, gradients, hidden states): the block
//! heatmap, the blocks' means against their null, and the examples in the plane.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;

use super::super::shelf::{Depth, Entry, Rows, Shelf, spread};
use super::{block_means, plane, position_phrase};
use crate::chart::colour::ColourScale;
use crate::chart::figure::{Figure, slug, sql};
use crate::chart::heatmap::{Axis, Group, Heatmap};

/// Examples along a side of a drawn matrix; of more, every so many-th is drawn.
const SIDE: usize = 1000;

/// The same in the figures that are shown closed: a matrix of 1000 is more than a megabyte of the page.
const FOLDED_SIDE: usize = 300;

/// Layers or modules drawn of one comparison.
const WHERES: usize = 4;

/// What is compared, as in the column `of`.
pub struct Subject {
    pub of: &'static str,
    /// In the middle of a sentence.
    pub name: &'static str,
}

pub fn figures(shelf: &Shelf, subject: &Subject) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for comparison in comparisons(shelf, "similarity", subject.of) {
        let first = figures.is_empty();
        figures.extend(heatmaps(shelf, subject, &comparison, first)?);
    }
    figures.extend(block_means::figures(shelf, subject)?);
    figures.extend(plane::figures(shelf, subject)?);
    Ok(figures)
}

/// Groups compared with each other: all datasets under one model, or all models on one dataset.
pub struct Comparison<'a> {
    /// `model` or `dataset`: the role that all groups share, and its name.
    pub fixed: (&'static str, &'a str),
    pub entries: Vec<&'a Entry>,
}

impl<'a> Comparison<'a> {
    /// The names of the groups that an entry compares.
    pub fn groups(&self, entry: &'a Entry) -> (&'a str, &'a str) {
        match self.fixed.0 {
            "model" => (entry.name("dataset_a"), entry.name("dataset_b")),
            _ => (entry.name("model_a"), entry.name("model_b")),
        }
    }

    /// All groups in the pipeline's order.
    pub fn names(&self, shelf: &Shelf) -> Vec<String> {
        let mut names: Vec<&str> = Vec::new();
        for entry in &self.entries {
            let (a, b) = self.groups(entry);
            names.extend([a, b]);
        }
        let place = |name: &&str| match self.fixed.0 {
            "model" => shelf.dataset_index(name),
            _ => shelf.model_index(name),
        };
        names.sort_by_key(|name| (place(name), *name));
        names.dedup();
        names.into_iter().map(String::from).collect()
    }

    /// `under instruct`, or `on insecure`.
    pub fn phrase(&self) -> String {
        match self.fixed {
            ("model", name) => format!("under {name}"),
            (_, name) => format!("on {name}"),
        }
    }

    /// The condition that picks this comparison's rows.
    pub fn condition(&self) -> String {
        let (role, name) = (self.fixed.0, sql(self.fixed.1));
        format!("{role}_a = {name} AND {role}_b = {name}")
    }
}

pub fn comparisons<'a>(shelf: &'a Shelf, stage: &'a str, of: &str) -> Vec<Comparison<'a>> {
    let mut found: Vec<Comparison> = Vec::new();
    let mut add = |fixed: (&'static str, &'a str), entry: &'a Entry| match found
        .iter_mut()
        .find(|comparison| comparison.fixed == fixed)
    {
        Some(comparison) => comparison.entries.push(entry),
        None => found.push(Comparison { fixed, entries: vec![entry] }),
    };
    let entries = || shelf.of(stage).filter(|entry| entry.name("of") == of);
    for entry in entries().filter(|entry| entry.name("model_a") == entry.name("model_b")) {
        add(("model", entry.name("model_a")), entry);
    }
    for entry in entries().filter(|entry| entry.name("dataset_a") == entry.name("dataset_b")) {
        if entry.name("model_a") != entry.name("model_b") {
            add(("dataset", entry.name("dataset_a")), entry);
        }
    }
    found
}

/// Where in a network a row was measured: a module, a position and layer, or nowhere in particular.
pub type Where = (String, u32, bool, String);

pub fn wheres(rows: &Rows) -> Result<Vec<Where>> {
    let (positions, sites) = (rows.text("position")?, rows.text("site")?);
    let (layers, modules) = (rows.counts("layer")?, rows.text("module")?);
    let of = |i: usize| (positions[i].to_string(), layers[i], sites[i] == "final_norm", modules[i].to_string());
    Ok((0..rows.len()).map(of).collect())
}

pub fn where_phrase((position, layer, normed, module): &Where) -> String {
    match (module.is_empty(), position.is_empty()) {
        (false, _) => module.clone(),
        (true, true) => String::new(),
        (true, false) => {
            let depth = Depth { layer: *layer, normed: *normed };
            format!("{}, {}", depth.phrase(), position_phrase(position))
        }
    }
}

/// The SQL condition of one place.
pub fn where_condition((position, layer, normed, module): &Where) -> String {
    match (module.is_empty(), position.is_empty()) {
        (false, _) => format!(" AND module = {}", sql(module)),
        (true, true) => String::new(),
        (true, false) => {
            let site = if *normed { "final_norm" } else { "residual" };
            format!(" AND position = {} AND layer = {layer} AND site = '{site}'", sql(position))
        }
    }
}

/// A cosine between two examples, each as (group, index in the group); small, since there can be millions.
type Cosines = Vec<((u16, u32), (u16, u32), f32)>;

/// A heatmap for each place, the deepest first, which is open if `open` says so.
fn heatmaps(shelf: &Shelf, subject: &Subject, comparison: &Comparison, open: bool) -> Result<Vec<Figure>> {
    let names = comparison.names(shelf);
    let index = |name: &str| names.iter().position(|known| known == name).unwrap_or(0);
    let mut members: Vec<Members> = names.iter().map(|_| Members::default()).collect();
    let mut found: BTreeMap<Where, [Cosines; 2]> = BTreeMap::new();
    for entry in &comparison.entries {
        let (a, b) = comparison.groups(entry);
        let (a, b) = (index(a), index(b));
        let rows = entry.rows()?;
        let (first, second) = (rows.text("example_a")?, rows.text("example_b")?);
        let (centred, cosines) = (rows.flags("centred")?, rows.numbers("cosine")?);
        for (i, place) in wheres(&rows)?.into_iter().enumerate() {
            let (i_a, i_b) = (members[a].index(first[i]) as u32, members[b].index(second[i]) as u32);
            let pair = ((a as u16, i_a), (b as u16, i_b));
            let both = found.entry(place).or_default();
            both[centred[i] as usize].push((pair.0, pair.1, cosines[i] as f32));
        }
    }
    let places: Vec<&Where> = found.keys().collect();
    let mut figures = Vec::new();
    // The deepest layer is the one that speaks; it comes first.
    for (i, place) in spread(&places, WHERES).into_iter().rev().enumerate() {
        let matrices = Matrices { subject, comparison, names: &names, members: &members };
        figures.push(matrices.figure(place, &found[place], places.len(), !open || i > 0)?);
    }
    Ok(figures)
}

/// A group's examples in the order in which they are first met.
#[derive(Default)]
struct Members {
    names: Vec<String>,
    places: HashMap<String, usize>,
}

impl Members {
    fn index(&mut self, name: &str) -> usize {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        self.places.insert(name.to_string(), self.names.len());
        self.names.push(name.to_string());
        self.names.len() - 1
    }
}

struct Matrices<'a> {
    subject: &'a Subject,
    comparison: &'a Comparison<'a>,
    names: &'a [String],
    members: &'a [Members],
}

impl Matrices<'_> {
    fn figure(&self, place: &Where, cosines: &[Cosines; 2], places: usize, folded: bool) -> Result<Figure> {
        let total: usize = self.members.iter().map(|group| group.names.len()).sum();
        let every = total.div_ceil(if folded { FOLDED_SIDE } else { SIDE }).max(1);
        let axis = Axis {
            labels: self
                .names
                .iter()
                .zip(self.members)
                .flat_map(|(name, group)| group.names.iter().step_by(every).map(move |e| format!("{name} {e}")))
                .collect(),
            groups: self
                .names
                .iter()
                .zip(self.members)
                .map(|(name, group)| Group { name: name.clone(), len: group.names.len().div_ceil(every) })
                .collect(),
        };
        let side = axis.labels.len();
        let starts: Vec<usize> = axis
            .groups
            .iter()
            .scan(0, |sum, group| {
                let start = *sum;
                *sum += group.len;
                Some(start)
            })
            .collect();
        let mut panels = Vec::new();
        for (title, cosines) in ["Raw", "Centred"].into_iter().zip(cosines) {
            if cosines.is_empty() {
                continue;
            }
            let mut values = vec![f32::NAN; side * side];
            (0..side).for_each(|i| values[i * side + i] = 1.0);
            for ((group_a, a), (group_b, b), cosine) in cosines {
                let (a, b) = (*a as usize, *b as usize);
                if a % every == 0 && b % every == 0 {
                    let (row, column) = (starts[*group_a as usize] + a / every, starts[*group_b as usize] + b / every);
                    values[row * side + column] = *cosine;
                    values[column * side + row] = *cosine;
                }
            }
            let scale = ColourScale::Diverging { limit: 1.0 };
            let (rows, columns) = (axis.clone(), axis.clone());
            panels.push(Heatmap { title: title.into(), rows, columns, values, scale, width: 480.0 }.panel()?);
        }
        let (phrase, at) = (self.comparison.phrase(), where_phrase(place));
        let thinned = match every {
            1 => String::new(),
            2 => " Every second example is drawn; the table has all.".into(),
            _ => format!(" One example in {every} is drawn; the table has all."),
        };
        let of_places = if places > WHERES { format!(" ({WHERES} of {places} are drawn)") } else { String::new() };
        Ok(Figure {
            name: slug(&format!("similarity {} {} {at}", self.subject.of, self.comparison.fixed.1)),
            question: match at.is_empty() {
                true => format!("Whose {} are alike {phrase}?", self.subject.name),
                false => format!("Whose {} are alike {phrase}, at {at}?", self.subject.name),
            },
            what: format!(
                "Cosine between every two examples' {}{of_places}, raw and with the mean over all of them subtracted first; \
                 lines part the groups.{thinned}",
                self.subject.name
            ),
            n: self.sizes(total),
            interval: "None: every pair is drawn; intervals of the blocks' means are in the next figures.".into(),
            null: "0 for unrelated directions; the next figures hold the blocks' means against shuffled groups.".into(),
            query: format!(
                "SELECT model_a, dataset_a, example_a, model_b, dataset_b, example_b, centred, cosine FROM similarity WHERE \"of\" = '{}' AND \
                 {}{}",
                self.subject.of,
                self.comparison.condition(),
                where_condition(place)
            ),
            table: "similarity",
            panels,
            folded,
            ..Figure::default()
        })
    }

    fn sizes(&self, total: usize) -> String {
        let groups: Vec<String> =
            self.names.iter().zip(self.members).map(|(name, group)| format!("{name} {}", group.names.len())).collect();
        format!("{total} examples, {} pairs: {}.", total * total.saturating_sub(1) / 2, groups.join(", "))
    }
}
