//! What a run shows while it works: a bar per stage on a terminal, plain lines elsewhere. Always on standard error.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Mutex;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

pub struct Progress {
    kind: Kind,
}

enum Kind {
    Bars { all: MultiProgress, stages: Mutex<BTreeMap<&'static str, ProgressBar>> },
    Lines,
    Quiet,
}

impl Progress {
    pub fn new(quiet: bool) -> Progress {
        let kind = if quiet {
            Kind::Quiet
        } else if std::io::stderr().is_terminal() {
            Kind::Bars { all: MultiProgress::new(), stages: Mutex::default() }
        } else {
            Kind::Lines
        };
        Progress { kind }
    }

    /// More tasks of a stage are known to be stale.
    pub fn planned(&self, stage: &'static str, tasks: u64) {
        if let Kind::Bars { all, stages } = &self.kind
            && let Ok(mut stages) = stages.lock()
        {
            let bar = stages.entry(stage).or_insert_with(|| {
                let bar = all.add(ProgressBar::new(0).with_message(stage).with_style(style()));
                bar.enable_steady_tick(std::time::Duration::from_millis(200));
                bar
            });
            bar.inc_length(tasks);
        }
    }

    /// A task finished, after `seconds` of its own.
    pub fn done(&self, stage: &'static str, label: &str, seconds: f64) {
        match &self.kind {
            Kind::Bars { .. } => self.with_bar(stage, |bar| {
                bar.inc(1);
                if bar.length() == Some(bar.position()) {
                    bar.abandon();
                }
            }),
            Kind::Lines => eprintln!("{label}  {seconds:.2} s"),
            Kind::Quiet => {}
        }
    }

    /// How far a task is within itself.
    pub fn within(&self, label: &str, done: u64, total: u64) {
        if let Some(stage) = label.split(['[', ' ']).next() {
            self.with_bar(stage, |bar| bar.set_message(format!("{label} {done}/{total}")));
        }
    }

    pub fn failed(&self, label: &str, error: &anyhow::Error) {
        let text = format!("error: {label}: {error:#}");
        match &self.kind {
            Kind::Bars { all, .. } => drop(all.println(text)),
            Kind::Lines | Kind::Quiet => eprintln!("{text}"),
        }
    }

    fn with_bar(&self, stage: &str, act: impl FnOnce(&ProgressBar)) {
        if let Kind::Bars { stages, .. } = &self.kind
            && let Ok(stages) = stages.lock()
            && let Some(bar) = stages.get(stage)
        {
            act(bar);
        }
    }
}

fn style() -> ProgressStyle {
    let template = "{msg:40!} {bar:24} {pos:>5}/{len:<5} {per_sec:>10} {eta:>5} left";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
