//! Starting the processes of a sandbox and talking to them.

mod client;
pub(crate) mod exit_status;
mod gofer;
mod gofer_filter;
mod launch;
mod plan;
mod stdio;
mod usernet;

pub(crate) use client::{Client, ClientError};
pub(crate) use gofer::serve as serve_files;
pub(crate) use launch::{CHANNEL_FD, CONFIG_FD, LISTENER_FD, Launched, launch};
pub(crate) use plan::{NetNamespace, NetworkPlan, SandboxPlan};
pub(crate) use stdio::{Console, Keys, own as own_stdio, terminal};
pub(crate) use usernet::{
    GatewayPlan, hosts_resolver_file_misleads, resolver_file, serve as serve_network, start as start_gateway,
};
