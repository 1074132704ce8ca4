#![forbid(unsafe_code)]
//! Numbers and structures of the x86-64 Linux ABI, data only.
