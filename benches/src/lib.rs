//! Benchmarks: nsbench and the ratio table.
