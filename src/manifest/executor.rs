//! `[executor.slurm]`: what a job of `strata run --executor slurm` asks Slurm for.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use strata_stages::contract::toml_path::{TomlPath, at};
use strata_stages::{PlanError, STAGES};

use super::check_keys;

/// What a job asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// Slurm's own choice without.
    pub partition: Option<String>,
    pub account: Option<String>,
    pub gpus: u32,
    /// For the whole job, in MiB; Slurm's own choice without.
    pub memory: Option<u64>,
    /// Minutes; the partition's limit without.
    pub time: Option<u64>,
    pub cpus: u32,
    /// Further arguments of sbatch, as they are.
    pub args: Vec<String>,
    /// Shell lines before the program: `module load …`.
    pub setup: String,
    /// The greatest number of jobs that a stage's tasks are shared between.
    pub jobs: usize,
    /// How often a job that ran out of memory or time is tried again, each time with so many times more.
    pub retries: u32,
    pub memory_factor: f64,
    pub time_factor: f64,
}

impl Default for Resources {
    fn default() -> Resources {
        Resources {
            partition: None,
            account: None,
            gpus: 0,
            memory: None,
            time: None,
            cpus: 1,
            args: Vec::new(),
            setup: String::new(),
            jobs: 8,
            retries: 2,
            memory_factor: 2.0,
            time_factor: 2.0,
        }
    }
}

/// The section `[executor]`.
#[derive(Debug, Default)]
pub struct Executor {
    usual: Resources,
    /// By stage, where it asks for something else.
    stages: Vec<(String, Resources)>,
}

impl Executor {
    /// What a stage's jobs ask for.
    pub fn resources(&self, stage: &str) -> &Resources {
        self.stages.iter().find(|(name, _)| name == stage).map_or(&self.usual, |(_, resources)| resources)
    }
}

const KEYS: [&str; 12] = [
    "partition",
    "account",
    "gpus",
    "memory",
    "time",
    "cpus",
    "args",
    "setup",
    "jobs",
    "retries",
    "memory_factor",
    "time_factor",
];
const STAGE_SECTIONS: &str = "stages";
/// No cluster has more of anything; a product of it fits in a number.
const MOST: i64 = 1_000_000;
/// Slurm's own greatest index of an array is 1000 where nobody changed it.
const MOST_JOBS: i64 = 1000;

/// The entries of `[executor]`.
///
/// # Errors
/// When a key or a stage is unknown, or a value cannot be what its key means.
pub fn of(entries: &[(String, Value)]) -> Result<Executor, PlanError> {
    let mut executor = Executor::default();
    for (name, value) in entries {
        let root = at("executor").key(name);
        if name != "slurm" {
            return Err(PlanError::unknown(root, "executor", name, ["slurm"]));
        }
        check_keys(&root, value, KEYS.into_iter().chain([STAGE_SECTIONS]))?;
        executor.usual = resources(Resources::default(), &root, value)?;
        let Some(sections) = value.get(STAGE_SECTIONS) else { continue };
        let root = root.key(STAGE_SECTIONS);
        let Some(sections) = sections.as_object() else {
            return Err(PlanError::new(root, format!("expected a table for each stage, found {sections}")));
        };
        for (stage, value) in sections {
            let root = root.key(stage);
            if !STAGES.iter().any(|known| known.name == stage) {
                return Err(PlanError::unknown(root, "stage", stage, STAGES.iter().map(|stage| stage.name)));
            }
            if !value.is_object() {
                return Err(PlanError::new(root, format!("expected a table, found {value}")));
            }
            check_keys(&root, value, KEYS)?;
            executor.stages.push((stage.clone(), resources(executor.usual.clone(), &root, value)?));
        }
    }
    Ok(executor)
}

fn resources(mut to: Resources, root: &TomlPath, section: &Value) -> Result<Resources, PlanError> {
    for (key, value) in section.as_object().into_iter().flatten() {
        let at = root.key(key);
        match key.as_str() {
            "partition" => to.partition = Some(word(&at, value)?),
            "account" => to.account = Some(word(&at, value)?),
            "gpus" => to.gpus = count(&at, value, 0, MOST)? as u32,
            "memory" => to.memory = Some(memory(&at, value)?),
            "time" => to.time = Some(time(&at, value)?),
            "cpus" => to.cpus = count(&at, value, 1, MOST)? as u32,
            "args" => to.args = arguments(&at, value)?,
            "setup" => to.setup = text(&at, value)?.to_string(),
            "jobs" => to.jobs = count(&at, value, 1, MOST_JOBS)? as usize,
            "retries" => to.retries = count(&at, value, 0, 20)? as u32,
            "memory_factor" => to.memory_factor = factor(&at, value)?,
            "time_factor" => to.time_factor = factor(&at, value)?,
            // `check_keys` has seen the others.
            _ => {}
        }
    }
    Ok(to)
}

fn text<'a>(at: &TomlPath, value: &'a Value) -> Result<&'a str, PlanError> {
    value.as_str().ok_or_else(|| PlanError::new(at.clone(), format!("expected a text in quotes, found {value}")))
}

/// A name that is one argument of sbatch.
fn word(at: &TomlPath, value: &Value) -> Result<String, PlanError> {
    let text = text(at, value)?;
    if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(PlanError::new(at.clone(), format!("expected a name without spaces, found {text:?}")));
    }
    Ok(text.to_string())
}

fn arguments(at: &TomlPath, value: &Value) -> Result<Vec<String>, PlanError> {
    let expected = || PlanError::new(at.clone(), format!("expected a list of texts in quotes, found {value}"));
    let help = "for example args = [\"--constraint=a100\", \"--qos=long\"]";
    let items = value.as_array().ok_or_else(|| expected().help(help))?;
    let mut found = Vec::new();
    for item in items {
        let item = item.as_str().filter(|item| item.starts_with('-')).ok_or_else(|| expected().help(help))?;
        // What the program itself gives sbatch and reads again.
        let own = ["--array", "--dependency", "--job-name", "--output", "--error", "--parsable", "--wrap", "--wait"];
        if let Some(own) = own.iter().find(|own| item.split('=').next() == Some(own)) {
            return Err(PlanError::new(at.clone(), format!("{own} cannot be given: strata sets it itself")));
        }
        found.push(item.to_string());
    }
    Ok(found)
}

fn count(at: &TomlPath, value: &Value, least: i64, most: i64) -> Result<i64, PlanError> {
    let found = value.as_i64().filter(|found| (least..=most).contains(found));
    found.ok_or_else(|| {
        PlanError::new(at.clone(), format!("expected a whole number from {least} to {most}, found {value}"))
    })
}

fn factor(at: &TomlPath, value: &Value) -> Result<f64, PlanError> {
    let found = value.as_f64().filter(|found| (1.0..=100.0).contains(found));
    found.ok_or_else(|| PlanError::new(at.clone(), format!("expected a number from 1 to 100, found {value}")))
}

/// MiB of `"500M"`, `"16G"` or `"1T"`.
fn memory(at: &TomlPath, value: &Value) -> Result<u64, PlanError> {
    let parsed = value.as_str().and_then(|text| {
        let number = text.strip_suffix(['M', 'G', 'T'])?;
        let unit = match &text[number.len()..] {
            "M" => 1,
            "G" => 1024,
            _ => 1024 * 1024,
        };
        number.parse::<u32>().ok().filter(|number| *number > 0).map(|number| u64::from(number) * unit)
    });
    parsed.ok_or_else(|| {
        PlanError::new(at.clone(), format!("expected a memory such as \"500M\", \"16G\" or \"1T\", found {value}"))
    })
}

/// Minutes of `90`, `"2:30:00"` (hours, minutes, seconds) or `"1-12"` (days and hours), as sbatch reads them but for
/// `"2:30"`, which is minutes and seconds to sbatch and hours and minutes to most people.
fn time(at: &TomlPath, value: &Value) -> Result<u64, PlanError> {
    let parsed = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => minutes(text),
        _ => None,
    };
    parsed.filter(|minutes| (1..=5_000_000).contains(minutes)).ok_or_else(|| {
        let message =
            format!("expected a time such as 90 (minutes), \"2:30:00\" or \"1-12\" (days-hours), found {value}");
        PlanError::new(at.clone(), message)
    })
}

fn minutes(text: &str) -> Option<u64> {
    let number = |text: &str| text.parse::<u32>().ok().map(u64::from);
    if let Some((days, rest)) = text.split_once('-') {
        let (hours, minutes) = match rest.split(':').collect::<Vec<_>>()[..] {
            [hours] => (number(hours)?, 0),
            [hours, minutes] => (number(hours)?, number(minutes)?),
            [hours, minutes, seconds] => (number(hours)?, number(minutes)? + number(seconds)?.div_ceil(60)),
            _ => return None,
        };
        return Some(number(days)? * 1440 + hours * 60 + minutes);
    }
    match text.split(':').collect::<Vec<_>>()[..] {
        [minutes] => number(minutes),
        [hours, minutes, seconds] => Some(number(hours)? * 60 + number(minutes)? + number(seconds)?.div_ceil(60)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::manifest::tests::load;

    fn error(text: &str) -> String {
        load(text).err().unwrap_or_default()
    }

    #[test]
    fn a_stage_has_what_it_asks_for_and_else_what_all_have() {
        let text = "[executor.slurm]\npartition = \"long\"\nmemory = \"16G\"\ntime = \"2:30:00\"\n\
            [executor.slurm.stages.train]\ngpus = 1\nmemory = \"2T\"\ntime = \"1-12\"\nargs = [\"--qos=high\"]\n";
        let executor = load(text).expect("a pipeline").executor;
        let usual = executor.resources("tokens");
        assert_eq!((usual.gpus, usual.memory, usual.time), (0, Some(16 * 1024), Some(150)));
        let train = executor.resources("train");
        assert_eq!((train.gpus, train.memory, train.time), (1, Some(2 * 1024 * 1024), Some(36 * 60)));
        assert_eq!((train.partition.as_deref(), &train.args[..]), (Some("long"), &["--qos=high".to_string()][..]));
    }

    #[test]
    fn what_is_not_known_is_named_with_its_line_and_the_nearest() {
        let cases = [
            ("[executor.slrum]\n", ":1:", "did you mean \"slurm\"?"),
            ("[executor.slurm]\nmemroy = \"1G\"\n", ":2:", "did you mean \"memory\"?"),
            ("[executor.slurm]\n[executor.slurm.stages.trian]\ngpus = 1\n", ":2:", "did you mean \"train\"?"),
            ("[executor.slurm.stages.train]\ngpu = 1\n", ":2:", "did you mean \"gpus\"?"),
            ("[executor]\nslurm = 3\n", ":2:", "expected a table"),
            ("[executor.slurm]\nstages = 3\n", ":2:", "expected a table for each stage"),
        ];
        for (text, line, expected) in cases {
            let found = error(text);
            assert!(found.contains(&format!("pipeline.toml{line}")) && found.contains(expected), "{text}: {found}");
        }
    }

    #[test]
    fn a_value_that_cannot_be_is_refused_with_its_line() {
        let bad = [
            "memory = 16",
            "memory = \"16\"",
            "memory = \"16GB\"",
            "memory = \"0G\"",
            "memory = \"99999999999T\"",
            "time = \"2:30\"",
            "time = \"soon\"",
            "time = 0",
            "time = -5",
            "time = \"1-2-3\"",
            "time = 1e3",
            "gpus = -1",
            "gpus = 1.5",
            "cpus = 0",
            "cpus = 4294967297",
            "jobs = 0",
            "jobs = 100000",
            "retries = 1000",
            "memory_factor = 0.5",
            "time_factor = inf",
            "partition = \"\"",
            "partition = \"a b\"",
            "account = 7",
            "args = \"--qos=x\"",
            "args = [\"qos\"]",
            "args = [\"--array=0-3\"]",
            "setup = []",
        ];
        for line in bad {
            let found = error(&format!("[executor.slurm]\n{line}\n"));
            assert!(found.contains("pipeline.toml:2:"), "{line}: {found}");
        }
    }
}
