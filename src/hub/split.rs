//! Which file of a dataset's repository is a split: what its card says, else what the names of its files do.

mod pattern;

use std::collections::BTreeMap;

use serde_json::Value;
use strata_stages::contract::pipeline::nearest;

use super::Use;
use super::failure::Failure;
use super::listing::Listing;
use super::names::FileName;
use pattern::Pattern;

/// The branch on which the hub keeps datasets of other formats as Parquet.
pub const CONVERTED: &str = "refs/convert/parquet";

/// Endings of files that are read, in order of preference.
const READ: [&str; 4] = ["parquet", "jsonl", "json", "csv"];
/// Files that describe a dataset and are none of its data.
const BESIDE: [&str; 5] = ["config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"];

/// What a split is called in the names of folders and files.
const KEYWORDS: [(&str, &[&str]); 3] = [
    ("train", &["train", "training"]),
    ("validation", &["validation", "valid", "dev", "val"]),
    ("test", &["test", "testing", "eval", "evaluation"]),
];

type Splits = BTreeMap<String, Vec<FileName>>;

/// The file of a split of a repository; `None` where none of its files can be read.
///
/// # Errors
/// When it has no such configuration or split, or one in several files.
pub fn file(
    asked: &Use,
    listing: &Listing,
    config: Option<&str>,
    split: Option<&str>,
) -> Result<Option<FileName>, Failure> {
    let configs = by_card(listing);
    let splits = if configs.is_empty() {
        match config {
            None | Some("default") => by_names(listing, ""),
            Some(_) => return Ok(None),
        }
    } else {
        let names = configs.iter().map(|config| config.name.as_str());
        let chosen = chosen(asked, "config", config, names, || {
            let default = configs.iter().position(|config| config.default);
            default.or(configs.iter().position(|config| config.name == "default"))
        })?;
        configs[chosen].splits(listing)
    };
    if splits.is_empty() {
        return Ok(None);
    }
    one(asked, splits, split).map(Some)
}

/// The file of a split of the branch [`CONVERTED`], where a configuration is a folder and so is a split in it.
///
/// # Errors
/// As for [`file`].
pub fn converted(
    asked: &Use,
    listing: &Listing,
    config: Option<&str>,
    split: Option<&str>,
) -> Result<FileName, Failure> {
    let mut configs: BTreeMap<String, Splits> = BTreeMap::new();
    for file in listing.files.keys().filter(|file| file.has_ending(&["parquet"])) {
        if let [config, split, _] = file.as_str().split('/').collect::<Vec<_>>()[..] {
            let splits = configs.entry(config.to_string()).or_default();
            splits.entry(split.to_string()).or_default().push(file.clone());
        }
    }
    let default = || configs.keys().position(|name| name == "default");
    let chosen = chosen(asked, "config", config, configs.keys().map(String::as_str), default)?;
    one(asked, configs.into_values().nth(chosen).unwrap_or_default(), split)
}

fn one(asked: &Use, splits: Splits, split: Option<&str>) -> Result<FileName, Failure> {
    let train = || splits.keys().position(|name| name == "train");
    let chosen = chosen(asked, "split", split, splits.keys().map(String::as_str), train)?;
    let Some((name, mut files)) = splits.into_iter().nth(chosen) else {
        return Err(Failure::wrong(format!("{} has no split", asked.name())));
    };
    if files.len() > 1 {
        let message =
            format!("the split \"{name}\" of {} is in {} files, and a dataset is one", asked.name(), files.len());
        return Err(Failure::wrong(message).help(format!("name one of them: file = \"{}\"", files[0].as_str())));
    }
    files.pop().ok_or_else(|| Failure::wrong(format!("the split \"{name}\" of {} has no file", asked.name())))
}

/// Which of some names is asked for; without one the only one there is, or the usual one.
fn chosen<'a>(
    asked: &Use,
    what: &'static str,
    wanted: Option<&str>,
    names: impl Iterator<Item = &'a str>,
    usual: impl Fn() -> Option<usize>,
) -> Result<usize, Failure> {
    let names: Vec<&str> = names.collect();
    let all = super::listing::some(&names);
    match wanted {
        Some(wanted) => names.iter().position(|name| *name == wanted).ok_or_else(|| {
            let error = Failure::wrong(format!("{} has no {what} \"{wanted}\"", asked.name())).at(what);
            match nearest(wanted, names.iter().copied()) {
                Some(near) => error.help(format!("did you mean \"{near}\"?")),
                None => error.help(format!("it has {all}")),
            }
        }),
        None if names.len() == 1 => Ok(0),
        None => usual().ok_or_else(|| {
            let error = Failure::wrong(format!("{} has several {what}s", asked.name()));
            error.help(format!("name one: {what} = \"…\", of {all}"))
        }),
    }
}

/// A configuration of a dataset's card.
struct Config {
    name: String,
    default: bool,
    folder: String,
    /// Patterns by split; of files whose names say their split, none.
    files: Vec<(Option<String>, Vec<String>)>,
}

fn by_card(listing: &Listing) -> Vec<Config> {
    let configs = listing.card.get("configs").and_then(Value::as_array);
    configs.into_iter().flatten().filter_map(Config::parse).collect()
}

impl Config {
    fn parse(value: &Value) -> Option<Config> {
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        let patterns = |value: &Value| -> Vec<String> {
            let one = value.as_str().map(str::to_string);
            let many = value.as_array().into_iter().flatten().filter_map(|each| Some(each.as_str()?.to_string()));
            one.into_iter().chain(many).collect()
        };
        let files = match value.get("data_files") {
            Some(Value::Array(all)) if all.iter().any(Value::is_object) => {
                let each = |entry: &Value| {
                    let split = entry.get("split").and_then(Value::as_str).map(str::to_string);
                    Some((split, patterns(entry.get("path")?)))
                };
                all.iter().filter_map(each).collect()
            }
            Some(Value::Object(splits)) => {
                splits.iter().map(|(split, paths)| (Some(split.clone()), patterns(paths))).collect()
            }
            Some(other) => vec![(None, patterns(other))],
            None => Vec::new(),
        };
        Some(Config {
            name: text("config_name").unwrap_or("default").to_string(),
            default: value.get("default").and_then(Value::as_bool).unwrap_or(false),
            folder: text("data_dir").unwrap_or_default().trim_matches('/').to_string(),
            files,
        })
    }

    fn splits(&self, listing: &Listing) -> Splits {
        if self.files.is_empty() {
            return by_names(listing, &self.folder);
        }
        let mut splits = Splits::new();
        for (split, patterns) in &self.files {
            let below = |pattern: &String| match self.folder.as_str() {
                "" => Pattern::new(pattern),
                folder => Pattern::new(&format!("{folder}/{pattern}")),
            };
            let patterns: Vec<Pattern> = patterns.iter().map(below).collect();
            let matched = listing
                .files
                .keys()
                .filter(|file| file.has_ending(&READ) && patterns.iter().any(|pattern| pattern.matches(file.as_str())));
            match split {
                Some(split) => splits.entry(split.clone()).or_default().extend(matched.cloned()),
                None => splits.extend(by_their_names(matched.cloned().collect())),
            }
        }
        splits.retain(|_, files| !files.is_empty());
        splits
    }
}

/// The splits of the files below a folder, by their names, as `datasets` finds them.
fn by_names(listing: &Listing, folder: &str) -> Splits {
    let hidden = |file: &FileName| file.as_str().split('/').any(|part| part.starts_with(['.', '_']));
    let data = listing.files.keys().filter(|file| {
        let below = folder.is_empty() || file.as_str().strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        let last = file.as_str().rsplit('/').next().unwrap_or_default();
        below && file.has_ending(&READ) && !BESIDE.contains(&last) && !hidden(file)
    });
    let data: Vec<FileName> = data.cloned().collect();
    // Of several formats the one that most files have.
    let of = |ending: &&str| data.iter().filter(|file| file.has_ending(&[ending])).count();
    let Some(ending) = READ.into_iter().rev().max_by_key(of) else { return Splits::new() };
    by_their_names(data.into_iter().filter(|file| file.has_ending(&[ending])).collect())
}

fn by_their_names(files: Vec<FileName>) -> Splits {
    let ways: [fn(&str) -> Option<String>; 3] = [by_shard, by_folder, by_file];
    for way in ways {
        let mut splits = Splits::new();
        for file in &files {
            if let Some(split) = way(file.as_str()) {
                splits.entry(split).or_default().push(file.clone());
            }
        }
        if !splits.is_empty() {
            return splits;
        }
    }
    if files.is_empty() { Splits::new() } else { Splits::from([("train".to_string(), files)]) }
}

/// `data/train-00000-of-00002.parquet`, or with a hash after it.
fn by_shard(name: &str) -> Option<String> {
    let (rest, _) = name.strip_prefix("data/")?.split_once('.')?;
    let words: Vec<&str> = rest.split('-').collect();
    let number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let at = words.windows(3).position(|three| number(three[0]) && three[1] == "of" && number(three[2]))?;
    (at > 0).then(|| words[..at].join("-"))
}

fn by_folder(name: &str) -> Option<String> {
    let (folders, _) = name.rsplit_once('/')?;
    folders.split('/').find_map(keyword)
}

fn by_file(name: &str) -> Option<String> {
    keyword(name.rsplit('/').next()?)
}

/// The split whose keyword stands in a name, between signs that are no letters.
fn keyword(name: &str) -> Option<String> {
    let mut words = name.split(|c: char| matches!(c, '-' | '.' | '_' | ' ') || c.is_ascii_digit());
    words.find_map(|word| {
        let found = KEYWORDS.iter().find(|(_, keywords)| keywords.contains(&word.to_lowercase().as_str()));
        found.map(|(split, _)| split.to_string())
    })
}

#[cfg(test)]
mod tests;
