#![forbid(unsafe_code)]
//! Benchmarks: nsbench and the ratio table.
