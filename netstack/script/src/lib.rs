#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![doc = include_str!("../README.md")]

pub mod backend;
pub mod call;
mod compare;
mod compose;
mod diagnostic;
pub mod evaluate;
mod flow;
mod linux;
mod netstack;
pub mod packet;
mod plan;
pub mod run;
mod suite;
pub mod syntax;
mod value;

pub use diagnostic::Diagnostic;
pub use evaluate::Variables;
pub use linux::LinuxBackend;
pub use netstack::NetstackBackend;
pub use run::deviations;
pub use suite::{Case, Verdict, cases, find, run_all};
pub use value::Value;
