#![forbid(unsafe_code)]
//! A user-space kernel that implements Linux for unmodified x86-64 programs.
