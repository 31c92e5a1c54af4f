//! Tests of the built program, as a user runs it: each makes a workspace of its own in a temporary folder.

mod adapters;
mod bad_input;
mod chat_templates;
mod command_line;
mod concurrent;
mod datasets;
mod doctor;
mod estimate;
mod faulty_disk;
mod hostile_input;
mod hub;
mod incremental;
mod paper;
mod pipelines;
mod precision;
mod provenance;
mod queries;
mod readme;
mod remotes;
mod sharing;
mod signing;
mod slurm;
mod versions;
mod workers;
mod workspace;
