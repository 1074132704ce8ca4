#![forbid(unsafe_code)]
//! Host-level tests: namespaces, real programs, containers.
