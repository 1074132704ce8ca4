//! The gateway process of `--network-link=usernet`: carries the sandbox's traffic over sockets of the host.
//!
//! The sentry's stack and the gateway's talk over a socket pair: Ethernet frames behind virtio-net headers, so that a
//! super-segment goes over whole. For the sentry that is a link like a packet socket. The gateway ends when the sentry
//! has closed its end.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use netstack_host_links::{PacketLink, PacketLinkParams, VnetHeaders};
use netstack_usernet::{
    Config, FilterError, Gateway, GatewayError, HostLoopback, PortForward, bind_forwards, host_resolvers,
};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};
use sentry::boot::{DonatedFd, IpAddress, RouteConfig};
use sentry_hostio::caps::{self, CapSet};
use sentry_hostio::spawn::{Child, Lifetime};
use sentry_hostio::{empty_root, inherited, memfd, privilege};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::network::Donated;
use crate::sandbox::NetworkPlan;
use crate::sandbox::launch::{
    CONFIG_FD, LaunchError, gateway_identity, own_program, placeholder, spawn, standard, with_config,
};
use crate::sandbox::plan::Donations;

/// What the gateway of a sandbox opens of the host, beyond its network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GatewayPlan {
    pub(crate) forwards: Vec<PortForward>,
    pub(crate) host_loopback: HostLoopback,
}

/// What the gateway process is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct GatewayConfig {
    link: DonatedFd,
    /// Each as [`PortForward`] writes it, with its bound socket.
    forwards: Vec<(String, DonatedFd)>,
    resolvers: Vec<IpAddr>,
    reaches_host_loopback: bool,
    dies_with_parent: bool,
}

/// Why the gateway could not come up, or had to end.
#[derive(Debug, Error)]
pub(crate) enum ServeError {
    /// A step failed.
    #[error("usernet: {step}: {source}")]
    Step {
        /// What was being done.
        step: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The gateway itself.
    #[error("usernet: {0}")]
    Gateway(#[from] GatewayError),
    /// The filter of system calls could not be put in force.
    #[error("usernet: {0}")]
    Filter(#[from] FilterError),
}

/// Starts the gateway of a sandbox; gives its process and the sandbox's interface and routes.
pub(crate) fn start(plan: &GatewayPlan, lifetime: Lifetime) -> Result<(Child, NetworkPlan), LaunchError> {
    let step = |step| move |source| LaunchError::Step { step, source };
    let (ours, theirs) = frame_sockets().map_err(step("connect sentry and gateway"))?;
    // Here, as ports below 1024 may need the caller's privilege.
    let sockets = bind_forwards(&plan.forwards).map_err(step("bind a published port"))?;
    let program = own_program().map_err(step("open the program's own file"))?;
    let mut fds = Donations::new(standard(lifetime).map_err(step("open /dev/null"))?);
    fds.add(placeholder().map_err(step("open /dev/null"))?);
    let link = fds.add(theirs);
    let forwards = plan.forwards.iter().zip(sockets);
    let forwards = forwards.map(|(forward, socket)| (forward.to_string(), fds.add(socket))).collect();
    let config = GatewayConfig {
        link,
        forwards,
        resolvers: host_resolvers(),
        reaches_host_loopback: plan.host_loopback == HostLoopback::Gateway,
        dies_with_parent: lifetime == Lifetime::Bound,
    };
    let config = serde_json::to_vec(&config)
        .map_err(io::Error::from)
        .and_then(|text| memfd::sealed_with(c"usernet-config", &text))
        .map_err(step("write the gateway's configuration"))?;
    let child = spawn(&program, "usernet", with_config(fds, config), gateway_identity(), lifetime)
        .map_err(step("start the gateway"))?;
    Ok((child, network_plan(ours)))
}

/// Whether the host's resolv.conf(5), shown to a sandbox, would name servers that the sandbox cannot reach.
pub(crate) fn hosts_resolver_file_misleads() -> bool {
    host_resolvers().iter().any(IpAddr::is_loopback) && Path::new("/etc/resolv.conf").exists()
}

/// Writes a resolv.conf(5) that names the gateway's name server into `dir`.
pub(crate) fn resolver_file(dir: &Path) -> io::Result<Option<PathBuf>> {
    let Some(net) = Config::default().v4 else { return Ok(None) };
    let path = dir.join("resolv.conf");
    fs::write(&path, format!("nameserver {}\n", net.dns))?;
    Ok(Some(path))
}

fn frame_sockets() -> io::Result<(OwnedFd, OwnedFd)> {
    let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    for end in [&a, &b] {
        // The default holds two super-segments. Without privilege the kernel gives as much as net.core.wmem_max says.
        setsockopt(end, sockopt::SndBufForce, &BUFFER_BYTES)
            .or_else(|_| setsockopt(end, sockopt::SndBuf, &BUFFER_BYTES))?;
    }
    Ok((a, b))
}

/// The guest's side of the network that the gateway has by default.
fn network_plan(socket: OwnedFd) -> NetworkPlan {
    let config = Config::default();
    let mut addresses = vec![IpAddress { address: LINK_LOCAL.into(), prefix_len: 64 }];
    let mut routes = Vec::new();
    let default = |everywhere: IpAddr, gateway: IpAddr| RouteConfig {
        destination: IpAddress { address: everywhere, prefix_len: 0 },
        gateway: Some(gateway),
        link: LINK_INDEX,
    };
    if let Some(net) = config.v4 {
        addresses.push(IpAddress { address: net.guest.into(), prefix_len: net.prefix_len });
        routes.push(default(Ipv4Addr::UNSPECIFIED.into(), net.gateway.into()));
    }
    if let Some(net) = config.v6 {
        addresses.push(IpAddress { address: net.guest.into(), prefix_len: 64 });
        routes.push(default(Ipv6Addr::UNSPECIFIED.into(), net.gateway.into()));
    }
    let link = Donated {
        name: "eth0".to_owned(),
        index: LINK_INDEX,
        mac: GUEST_MAC,
        mtu: config.mtu,
        addresses,
        socket,
        has_vnet_header: true,
    };
    NetworkPlan { links: vec![link], routes }
}

/// The gateway's `main`: isolates itself and works until the sandbox is gone.
pub(crate) fn serve() -> Result<(), ServeError> {
    let step = |step| move |source| ServeError::Step { step, source };
    let config: GatewayConfig = inherited::take(CONFIG_FD)
        .and_then(|fd| Ok(serde_json::from_reader(File::from(fd))?))
        .map_err(step("read the configuration"))?;
    let link = inherited::take(config.link.0).map_err(step("take the link"))?;
    let sockets = config.forwards.iter().map(|(_, socket)| inherited::take(socket.0));
    let sockets = sockets.collect::<io::Result<Vec<_>>>().map_err(step("take a published port"))?;
    isolate(config.dies_with_parent)?;
    let forwards = config.forwards.iter().map(|(text, _)| text.parse().map_err(io::Error::other));
    let host_loopback =
        if config.reaches_host_loopback { HostLoopback::Gateway } else { HostLoopback::Denied };
    let config = Config {
        forwards: forwards.collect::<io::Result<_>>().map_err(step("read a published port"))?,
        resolvers: config.resolvers,
        host_loopback,
        ..Config::default()
    };
    let params = PacketLinkParams {
        mac: config.mac,
        mtu: usize::try_from(config.mtu).unwrap_or(usize::MAX),
        vnet_headers: VnetHeaders::Present,
        udp_segmentation: false,
    };
    let mut gateway = Gateway::with_sockets(PacketLink::from_fd(link, params), &config, sockets)?;
    netstack_usernet::confine()?;
    Ok(gateway.run()?)
}

/// Leaves the process nothing of the host but its network.
fn isolate(dies_with_parent: bool) -> Result<(), ServeError> {
    let step = |step| move |source| ServeError::Step { step, source };
    empty_root::enter_empty().map_err(step("enter an empty root"))?;
    privilege::new_session().map_err(step("leave the session"))?;
    privilege::raise_open_files().map_err(step("raise the limit of open files"))?;
    privilege::forbid_dumps().map_err(step("forbid core dumps"))?;
    privilege::set_no_new_privs().map_err(step("set no_new_privs"))?;
    caps::restrict_to(CapSet::from_iter([])).map_err(step("drop capabilities"))?;
    if dies_with_parent {
        privilege::die_with_parent().map_err(step("bind to the caller"))?;
    }
    Ok(())
}

/// Behind the loopback.
const LINK_INDEX: u32 = 2;
/// Locally administered; the two stations of the link only have to differ.
const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xf);
/// A full window of super-segments, at the kernel's true size.
const BUFFER_BYTES: usize = 4 << 20;
