#![forbid(unsafe_code)]
//! `usernet`: a gateway for a network namespace or for a program that speaks frames over a socket.

mod cli;
mod opener;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Parser;
use netstack_host_links::{
    HostLink, PacketLink, PacketLinkParams, TapLink, TapLinkParams, TapMode, VnetHeaders, take_inherited,
};
use netstack_usernet::{Config, Gateway};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::cli::Cli;

fn main() -> Result<()> {
    let cli = Cli::parse();
    if cli.opener {
        return opener::serve(&cli);
    }
    let config = cli.config();
    let link = link(&cli, &config)?;
    raise_open_files()?;
    let mut gateway = Gateway::new(link, &config)?;
    if !cli.no_filter {
        nix::sys::prctl::set_no_new_privs().context("no_new_privs")?;
        netstack_usernet::confine()?;
    }
    Ok(gateway.run()?)
}

fn link(cli: &Cli, config: &Config) -> Result<Arc<dyn HostLink>> {
    let mtu = usize::try_from(config.mtu).unwrap_or(usize::MAX);
    let vnet_headers = VnetHeaders::Present;
    if let Some(number) = cli.fd {
        let fd = take_inherited(number).context("the descriptor of --fd")?;
        let params = PacketLinkParams { mac: config.mac, mtu, vnet_headers, udp_segmentation: false };
        return Ok(PacketLink::from_fd(fd, params));
    }
    let fd: OwnedFd = opener::open_tap()?;
    let params = TapLinkParams { mode: TapMode::Tap(config.mac), mtu, vnet_headers, udp_segmentation: false };
    Ok(TapLink::from_fd(fd, params))
}

/// Each flow has a descriptor.
fn raise_open_files() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("limit of open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("limit of open files")
}
