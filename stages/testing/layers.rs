//! Holds the imports between the files of stages/ against the order of its folders.
//!
//! The files are those that lib.rs reaches through `mod`, without what is declared under `#[cfg(test)]`. The import of a
//! re-export counts as an import of the file that has the item.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::source::{Import, Source};

/// The folders from the bottom up. A file may import from its own folder and from lower layers.
const LAYERS: [&[&str]; 8] = [
    &["table", "processor"],
    &["linear_algebra", "chart"],
    &["statistics"],
    &["contract"],
    &["model"],
    &["text"],
    &["organism", "states", "directions", "losses", "gradients", "comparison", "interventions"],
    &["report", "estimate"],
];

/// What a folder may import from a folder beside it in the same layer: what the two share, and never a stage's own file.
const BESIDE: [(&str, &str); 4] =
    [("directions", "states"), ("comparison", "states"), ("comparison", "losses"), ("gradients", "organism")];

/// Folders whose files are one thing in several files, which may read each other: a step runs within the frame of its
/// program, and the program is its steps.
const TOGETHER: [&str; 1] = ["model::block"];

/// A module's path from the crate's root; empty for lib.rs.
type Module = Vec<String>;

/// One file's import of another.
struct Edge {
    from: Module,
    to: Module,
    import: String,
}

struct Crate {
    files: BTreeMap<Module, (PathBuf, Source)>,
    edges: Vec<Edge>,
}

impl Crate {
    fn read() -> Crate {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = BTreeMap::new();
        let mut waiting = vec![(Module::new(), PathBuf::from("lib.rs"))];
        while let Some((module, file)) = waiting.pop() {
            let source = Source::parse(&std::fs::read_to_string(root.join(&file)).unwrap());
            let folder = match file.file_stem().and_then(|stem| stem.to_str()) {
                Some("mod" | "lib") => file.parent().unwrap().to_path_buf(),
                _ => file.with_extension(""),
            };
            for child in &source.modules {
                let flat = folder.join(format!("{child}.rs"));
                let path = if root.join(&flat).exists() { flat } else { folder.join(child).join("mod.rs") };
                waiting.push(([module.as_slice(), std::slice::from_ref(child)].concat(), path));
            }
            files.insert(module, (file, source));
        }
        let mut found = Crate { files, edges: Vec::new() };
        found.edges = found.find_edges();
        found
    }

    fn file(&self, module: &Module) -> String {
        self.files[module].0.display().to_string()
    }

    /// The path from the crate's root of a path as a file writes it; `None` for another crate's.
    fn absolute(&self, from: &Module, import: &Import) -> Option<Module> {
        let source = &self.files[from].1;
        let mut path = import.path.as_slice();
        let mut base = from.clone();
        let mut inline = import.inline;
        match path[0].as_str() {
            "crate" => return Some(path[1..].to_vec()),
            "self" | "super" => {
                while let Some(first @ ("self" | "super")) = path.first().map(String::as_str) {
                    match (first, inline) {
                        ("super", 0) => drop(base.pop()),
                        ("super", _) => inline -= 1,
                        _ => {}
                    }
                    path = &path[1..];
                }
            }
            child if source.modules.contains(child) => {}
            name => {
                let import = source.imports.iter().find(|import| import.name == name && import.path[0] != name)?;
                base = self.absolute(from, import)?;
                path = &path[1..];
            }
        }
        Some([&base, path].concat())
    }

    /// The file that has the item of this path.
    fn home(&self, path: &[String]) -> Module {
        let mut module = Module::new();
        for (i, name) in path.iter().enumerate() {
            let child = [module.as_slice(), std::slice::from_ref(name)].concat();
            if self.files.contains_key(&child) {
                module = child;
                continue;
            }
            let exported = self.files[&module].1.imports.iter().find(|import| import.public && import.name == *name);
            return match exported.and_then(|import| self.absolute(&module, import)) {
                Some(target) => self.home(&[&target, &path[i + 1..]].concat()),
                None => module,
            };
        }
        module
    }

    fn find_edges(&self) -> Vec<Edge> {
        let mut edges = Vec::new();
        for (from, (_, source)) in &self.files {
            for import in source.imports.iter().chain(&source.paths) {
                let Some(path) = self.absolute(from, import) else { continue };
                let to = self.home(&path);
                if to != *from && !(import.public && to.starts_with(from)) {
                    edges.push(Edge { from: from.clone(), to, import: import.path.join("::") });
                }
            }
        }
        edges
    }

    /// A shortest way from a file back to itself.
    fn circle(&self, start: &Module) -> Option<Vec<&Edge>> {
        let mut before: BTreeMap<&Module, &Edge> = BTreeMap::new();
        let mut waiting = VecDeque::from([start]);
        while let Some(module) = waiting.pop_front() {
            for edge in self.edges.iter().filter(|edge| edge.from == *module) {
                if before.contains_key(&edge.to) {
                    continue;
                }
                before.insert(&edge.to, edge);
                if edge.to == *start {
                    let mut circle = vec![edge];
                    while circle[circle.len() - 1].from != *start {
                        circle.push(before[&circle[circle.len() - 1].from]);
                    }
                    circle.reverse();
                    return Some(circle);
                }
                waiting.push_back(&edge.to);
            }
        }
        None
    }
}

#[test]
fn imports_go_down_the_layers() {
    let files = Crate::read();
    let layer = |module: &Module| match module.first() {
        None => LAYERS.len(),
        Some(folder) => LAYERS
            .iter()
            .position(|layer| layer.contains(&folder.as_str()))
            .unwrap_or_else(|| panic!("stages/{folder} has no layer: add it to LAYERS")),
    };
    let mut wrong = BTreeSet::new();
    for edge in &files.edges {
        let (from, to) = (edge.from.first(), edge.to.first());
        let beside = match (from, to) {
            (Some(from), Some(to)) => from == to || BESIDE.contains(&(from.as_str(), to.as_str())),
            _ => false,
        };
        if layer(&edge.to) >= layer(&edge.from) && !beside {
            wrong.insert(format!("{} imports {} ({})", files.file(&edge.from), edge.import, files.file(&edge.to)));
        }
    }
    assert!(wrong.is_empty(), "imports against the order of the folders:\n{}", lines(&wrong));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let files = Crate::read();
    let mut circles: BTreeMap<BTreeSet<&Module>, String> = BTreeMap::new();
    for module in files.files.keys() {
        let Some(circle) = files.circle(module) else { continue };
        let mut text = String::new();
        if TOGETHER.iter().any(|folder| circle.iter().all(|edge| edge.from.join("::").starts_with(folder))) {
            continue;
        }
        for edge in &circle {
            let _ = write!(text, "{} -> ({}) ", files.file(&edge.from), edge.import);
        }
        circles.entry(circle.iter().map(|edge| &edge.from).collect()).or_insert(text);
    }
    let circles: BTreeSet<String> = circles.into_values().collect();
    assert!(circles.is_empty(), "files that import each other in a circle:\n{}", lines(&circles));
}

#[test]
fn a_stages_file_is_imported_by_the_registry_alone() {
    let files = Crate::read();
    let mut wrong = BTreeSet::new();
    for edge in &files.edges {
        if files.files[&edge.to].1.stage && !edge.from.is_empty() && !edge.from.starts_with(&edge.to) {
            wrong.insert(format!("{} imports {} ({})", files.file(&edge.from), edge.import, files.file(&edge.to)));
        }
    }
    assert!(wrong.is_empty(), "imports from a stage's own file; move what is shared:\n{}", lines(&wrong));
}

fn lines(found: &BTreeSet<String>) -> String {
    found.iter().map(|line| format!("  {line}\n")).collect()
}
