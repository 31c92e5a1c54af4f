//! What is said while files come: a bar on a terminal, lines elsewhere. Always on standard error.

use std::cell::{Cell, RefCell};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::download::Told;
use super::names::FileName;
use crate::progress::Verbosity;

/// How often it is said elsewhere how far things are.
const TELL: Duration = Duration::from_secs(10);

/// All files of one command.
pub struct Shown {
    bar: Option<ProgressBar>,
    quiet: bool,
    here: Cell<i64>,
    total: Cell<u64>,
    told: RefCell<Instant>,
}

impl Shown {
    pub fn new(verbosity: Verbosity) -> Shown {
        let quiet = verbosity == Verbosity::Quiet;
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template(
                "{msg:40!} {bar:24} {decimal_bytes:>10} of {decimal_total_bytes} {decimal_bytes_per_sec:>12}  {eta} left",
            );
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())).with_message("the hub")
        });
        let told = RefCell::new(Instant::now());
        Shown { bar, quiet, here: Cell::new(0), total: Cell::new(0), told }
    }

    /// Files that are to come.
    pub fn expect(&self, what: &str, files: usize, bytes: u64) {
        self.total.set(self.total.get() + bytes);
        if let Some(bar) = &self.bar {
            bar.set_length(self.total.get());
            // How fast kilobytes came says nothing of gigabytes.
            bar.reset_eta();
        }
        let plural = if files == 1 { "" } else { "s" };
        self.told.replace(Instant::now());
        self.note(&format!("{what}: {files} file{plural}, {}", size(bytes)));
    }

    /// A file is here.
    pub fn came(&self, repository: &str, name: &FileName, bytes: u64) {
        match &self.bar {
            Some(bar) => bar.set_message(format!("{repository} {}", name.as_str())),
            None if self.quiet => {}
            None => eprintln!("{repository} {}  {}", name.as_str(), size(bytes)),
        }
    }

    pub fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None if self.quiet => {}
            None => eprintln!("{text}"),
        }
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Told for Shown {
    fn moved(&self, bytes: i64) {
        self.here.set(self.here.get() + bytes);
        let here = self.here.get().max(0) as u64;
        if let Some(bar) = &self.bar {
            bar.set_position(here);
        } else if self.told.borrow().elapsed() > TELL {
            self.told.replace(Instant::now());
            self.note(&format!("the hub: {} of {}", size(here), size(self.total.get())));
        }
    }

    fn waits(&self, name: &FileName) {
        self.note(&format!("waiting for {}, which is being fetched already", name.as_str()));
    }
}

/// `988.1 MB`
pub fn size(bytes: u64) -> String {
    match bytes {
        bytes if bytes >= 1_000_000_000 => format!("{:.1} GB", bytes as f64 / 1e9),
        bytes if bytes >= 100_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        bytes => format!("{:.1} kB", bytes as f64 / 1e3),
    }
}
