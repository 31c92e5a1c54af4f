//! `strata`: reads pipeline.toml, runs what is stale, and shows what there is.
//!
//! Exit codes: 0 done; 1 a task failed or the store could not be used; 2 bad usage or a bad pipeline.toml;
//! 130 stopped by Ctrl-C.

mod cli;
mod cluster;
mod diagnostic;
mod freed_memory;
mod graph;
mod hub;
mod key;
mod latest;
mod lock;
mod manifest;
mod notices;
mod outputs;
mod plan;
mod progress;
mod provenance;
mod remote;
mod row_sql;
mod run;
#[cfg(test)]
mod source_rules;
mod staleness;
mod store;
#[cfg(test)]
mod testing;
mod unchanged;

use std::process::ExitCode;

fn main() -> ExitCode {
    freed_memory::keep();
    strata_stages::contract::row_sql::provide(row_sql::ENGINE);
    cli::main()
}
