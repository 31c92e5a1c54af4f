//! What a run shows while it works: a bar per stage and one for all on a terminal, plain lines elsewhere. Always on
//! standard error.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

/// How much the program says of what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// Errors alone.
    Quiet,
    Usual,
    /// A line for each task that ran, on a terminal too.
    Verbose,
}

pub struct Progress {
    kind: Kind,
    verbosity: Verbosity,
    pace: Arc<Mutex<Pace>>,
}

enum Kind {
    Bars { all: MultiProgress, total: ProgressBar, stages: Mutex<BTreeMap<&'static str, ProgressBar>> },
    Lines,
    Quiet,
}

impl Progress {
    pub fn new(verbosity: Verbosity) -> Progress {
        let pace = Arc::new(Mutex::new(Pace::new()));
        let kind = if verbosity == Verbosity::Quiet {
            Kind::Quiet
        } else if std::io::stderr().is_terminal() {
            let all = MultiProgress::new();
            let total =
                all.add(ProgressBar::new(0).with_message("all tasks known").with_style(total_style(pace.clone())));
            Kind::Bars { all, total, stages: Mutex::default() }
        } else {
            Kind::Lines
        };
        Progress { kind, verbosity, pace }
    }

    /// More tasks of a stage are known to be stale.
    pub fn planned(&self, stage: &'static str, tasks: u64) {
        self.count(|pace| pace.planned(stage, tasks));
        if let Kind::Bars { all, total, stages, .. } = &self.kind
            && let Ok(mut stages) = stages.lock()
        {
            let bar = stages.entry(stage).or_insert_with(|| {
                let bar = all.insert_before(total, ProgressBar::new(0).with_message(stage).with_style(stage_style()));
                bar.enable_steady_tick(TICK);
                bar
            });
            bar.inc_length(tasks);
            total.inc_length(tasks);
            total.enable_steady_tick(TICK);
        }
    }

    /// A task finished, after `seconds` of its own.
    pub fn done(&self, stage: &'static str, label: &str, seconds: f64) {
        let (done, known, left) = self.count(|pace| pace.done(stage, seconds)).unwrap_or_default();
        match &self.kind {
            Kind::Bars { all, total, .. } => {
                if self.verbosity == Verbosity::Verbose {
                    drop(all.println(format!("{label}  {seconds:.2} s")));
                }
                self.with_bar(stage, |bar| {
                    bar.inc(1);
                    if bar.length() == Some(bar.position()) {
                        bar.set_message(stage);
                        bar.abandon();
                    }
                });
                total.inc(1);
            }
            Kind::Lines => {
                let left = left.map_or(String::new(), |left| format!(", {} left", duration(left)));
                eprintln!("{label}  {seconds:.2} s  ({done}/{known}{left})");
            }
            Kind::Quiet => {}
        }
    }

    /// Another run did a task.
    pub fn done_elsewhere(&self, stage: &'static str) {
        self.count(|pace| pace.not_needed(stage));
        if let Kind::Bars { total, .. } = &self.kind {
            self.with_bar(stage, |bar| bar.inc(1));
            total.inc(1);
        }
    }

    /// Nothing is left to do but what another run is doing.
    pub fn waits(&self, tasks: usize, label: &str) {
        let others = if tasks > 1 { format!(" and {} more", tasks - 1) } else { String::new() };
        let text = format!("waiting for another run, which computes {label}{others}");
        match &self.kind {
            Kind::Bars { all, .. } => drop(all.println(text)),
            Kind::Lines => eprintln!("{text}"),
            Kind::Quiet => {}
        }
    }

    /// A task's objects came from a remote.
    pub fn fetched(&self, label: &str, bytes: u64) {
        let text = format!("{label}  {:.1} MB", bytes as f64 / 1e6);
        match &self.kind {
            Kind::Bars { all, .. } if self.verbosity == Verbosity::Verbose => drop(all.println(text)),
            Kind::Lines => eprintln!("{text}"),
            Kind::Bars { .. } | Kind::Quiet => {}
        }
    }

    /// How far a task is within itself.
    pub fn within(&self, label: &str, done: u64, total: u64) {
        if let Some(stage) = label.split(['[', ' ']).next() {
            self.with_bar(stage, |bar| bar.set_message(format!("{label} {done}/{total}")));
        }
    }

    /// A task failed; why is said again when the run ends, below everything else.
    pub fn failed(&self, label: &str, error: &anyhow::Error) {
        let text = match self.verbosity {
            Verbosity::Verbose => format!("failed: {label}: {error:#}"),
            _ => format!("failed: {label}"),
        };
        match &self.kind {
            Kind::Bars { all, .. } => drop(all.println(text)),
            Kind::Lines => eprintln!("{text}"),
            Kind::Quiet => {}
        }
    }

    /// Something that the user should know and that is no failure.
    pub fn note(&self, text: &str) {
        match &self.kind {
            Kind::Bars { all, .. } => drop(all.println(text)),
            Kind::Lines => eprintln!("{text}"),
            Kind::Quiet => {}
        }
    }

    /// Nothing more will come: what is shown stays as it is, and the line for all goes.
    pub fn finish(&self) {
        if let Kind::Bars { total, stages, .. } = &self.kind {
            stages.lock().iter().flat_map(|stages| stages.values()).for_each(ProgressBar::abandon);
            total.finish_and_clear();
        }
    }

    fn count<T>(&self, act: impl FnOnce(&mut Pace) -> T) -> Option<T> {
        self.pace.lock().ok().map(|mut pace| act(&mut pace))
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

const TICK: Duration = Duration::from_millis(200);

fn stage_style() -> ProgressStyle {
    style("{msg:40!} {bar:24} {pos:>5}/{len:<5} {rate:>9}")
        .with_key("rate", |state: &ProgressState, out: &mut dyn Write| put(out, &rate(state.per_sec())))
}

fn total_style(pace: Arc<Mutex<Pace>>) -> ProgressStyle {
    style("{msg:40!} {bar:24} {pos:>5}/{len:<5} {left}").with_key(
        "left",
        move |_: &ProgressState, out: &mut dyn Write| {
            let left = pace.lock().ok().and_then(|pace| pace.left());
            put(out, &left.map_or(String::new(), |left| format!("{} left", duration(left))));
        },
    )
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Of a bar that cannot be drawn there is no one to tell.
fn put(out: &mut dyn Write, text: &str) {
    let _ = out.write_str(text);
}

/// Tasks a second, or how long one takes.
fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate >= 100.0 => format!("{rate:.0}/s"),
        rate if rate >= 1.0 => format!("{rate:.1}/s"),
        rate if rate > 0.0 => format!("{:.1} s each", 1.0 / rate),
        _ => String::new(),
    }
}

/// `45 s`, `3 min 20 s`, `2 h 5 min`
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// How fast the tasks of each stage go.
struct Pace {
    started: Instant,
    stages: BTreeMap<&'static str, Counted>,
}

#[derive(Default)]
struct Counted {
    planned: u64,
    done: u64,
    /// That its finished tasks took, each by itself.
    seconds: f64,
}

impl Pace {
    fn new() -> Pace {
        Pace { started: Instant::now(), stages: BTreeMap::new() }
    }

    fn planned(&mut self, stage: &'static str, tasks: u64) {
        self.stages.entry(stage).or_default().planned += tasks;
    }

    fn not_needed(&mut self, stage: &'static str) {
        let counted = self.stages.entry(stage).or_default();
        counted.planned = counted.planned.saturating_sub(1);
    }

    /// Tasks done, tasks known, and the seconds that the rest will take.
    fn done(&mut self, stage: &'static str, seconds: f64) -> (u64, u64, Option<f64>) {
        let counted = self.stages.entry(stage).or_default();
        counted.done += 1;
        counted.seconds += seconds;
        let sum = |of: fn(&Counted) -> u64| self.stages.values().map(of).sum();
        (sum(|counted| counted.done), sum(|counted| counted.planned), self.left())
    }

    fn left(&self) -> Option<f64> {
        self.left_after(self.started.elapsed().as_secs_f64())
    }

    /// The time that the tasks known to be left take at the mean of their stage's finished ones, or of all finished ones
    /// where there are none, with as much going on at once as so far.
    fn left_after(&self, elapsed: f64) -> Option<f64> {
        let done: u64 = self.stages.values().map(|counted| counted.done).sum();
        let seconds: f64 = self.stages.values().map(|counted| counted.seconds).sum();
        if done == 0 || seconds <= 0.0 {
            return None;
        }
        let left = self.stages.values().map(|counted| {
            let mean = if counted.done > 0 { counted.seconds / counted.done as f64 } else { seconds / done as f64 };
            counted.planned.saturating_sub(counted.done) as f64 * mean
        });
        Some(left.sum::<f64>() * elapsed / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_durations_are_rounded() {
        assert_eq!([2311.94, 12.345, 1.0, 0.03].map(rate), ["2312/s", "12.3/s", "1.0/s", "33.3 s each"]);
        assert_eq!(rate(0.0), "");
        assert_eq!([0.2, 59.6, 200.0, 7500.0].map(duration), ["0 s", "1 min 0 s", "3 min 20 s", "2 h 5 min"]);
    }

    #[test]
    fn the_time_left_is_that_of_each_stages_tasks() {
        let mut pace = Pace::new();
        pace.planned("slow", 3);
        pace.planned("fast", 10);
        assert_eq!(pace.left_after(1.0), None);
        pace.done("slow", 10.0);
        pace.done("fast", 1.0);
        pace.done("fast", 1.0);
        // Two slow ones of 10 s and eight fast ones of 1 s are left; 12 s of tasks went by in 6.
        assert_eq!(pace.left_after(6.0), Some(14.0));
        pace.planned("new", 2);
        // Of a stage that has not run: the mean of all, 4 s.
        assert_eq!(pace.left_after(6.0), Some(18.0));
    }
}
