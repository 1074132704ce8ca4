//! The stack against the host's kernel.

mod common;
mod crew;
mod peer;
mod router;
