//! OCI bundles: reading config.json and turning it into what the sandbox understands.

mod check;
mod hook;
mod load;
mod mount;
mod placement;
mod process;
mod seccomp;
mod template;

pub use check::check_config;
pub(crate) use hook::run_hooks;
pub(crate) use load::{Bundle, read_process};
pub(crate) use mount::{
    MountPlan, PlannedKind, defaults as default_mounts, from_spec as mounts_from_spec, propagation,
};
pub(crate) use placement::Placement;
pub(crate) use process::{Choices, from_spec as process_from_spec};
pub(crate) use template::template;
