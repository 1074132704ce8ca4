//! Multicast memberships: which sources of which groups are wanted, and when routers are told (IGMP and MLD).
//!
//! [`SourceFilter`] says what one member wants, `GroupMachine` decides what a NIC reports; the shell in
//! `ip/group.rs` collects the members and sends the reports.

mod machine;
mod source_filter;

pub(crate) use machine::GroupMachine;
pub use source_filter::{FilterMode, SourceFilter};
