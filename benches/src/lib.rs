//! Benchmarks: the sandbox against native execution.
//!
//! Every row is measured natively and in the sandbox in turns within one run, because the machines that this runs
//! on are shared: ratios repeat where absolute figures do not.
#![forbid(unsafe_code)]

pub mod guest;
pub mod row;
pub mod rows;
