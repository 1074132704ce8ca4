#![forbid(unsafe_code)]
//! An OCI runtime that runs containers on the sentry: a program, of which this is all but `main`.

mod bundle;
mod cgroup;
mod cli;
mod command;
mod compat;
mod container;
mod failure;
mod flag;
mod foreground;
mod log;
mod network;
mod relay;
mod run;
mod sandbox;
mod state;
mod sweep;

pub use bundle::check_config;
pub use run::run;
