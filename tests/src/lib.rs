//! Host-level tests: namespaces, real programs, containers.
