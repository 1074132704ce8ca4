//! Starting the processes of a sandbox and talking to them.

mod attendant;
mod client;
pub(crate) mod exit_status;
mod filter;
mod gofer;
mod join;
mod launch;
mod plan;
mod stdio;
mod usernet;

pub(crate) use attendant::serve as serve_attendant;
pub(crate) use client::{Address, Client, ClientError};
pub(crate) use gofer::serve as serve_files;
pub(crate) use join::join;
pub(crate) use launch::{CHANNEL_FD, CONFIG_FD, LISTENER_FD, Launched, launch};
pub(crate) use plan::{ContainerPlan, MemberPlan, NetNamespace, NetworkPlan, SandboxPlan};
pub(crate) use stdio::{Console, Keys, own as own_stdio, terminal};
pub(crate) use usernet::{
    GatewayPlan, hosts_resolver_file_misleads, resolver_file, serve as serve_network, start as start_gateway,
};
