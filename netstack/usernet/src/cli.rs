//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Parser};
use netstack_usernet::{Config, HostLoopback, PortForward, host_resolvers};

/// Give a network namespace, or a program that speaks Ethernet over a socket, the host's network without privilege.
#[derive(Debug, Parser)]
#[command(version, group = ArgGroup::new("guest").args(["tap", "fd"]).required(true))]
pub(crate) struct Cli {
    /// Make this tap device in the namespace and be the gateway at its other end
    #[arg(long, value_name = "NAME")]
    pub(crate) tap: Option<String>,
    /// The network namespace, as a file
    #[arg(long, value_name = "FILE", conflicts_with = "pid")]
    pub(crate) netns: Option<PathBuf>,
    /// The namespaces (user and network) of this process
    #[arg(long, value_name = "PID")]
    pub(crate) pid: Option<u32>,
    /// Set the device up in the namespace: addresses, default routes and loopback
    #[arg(long, requires = "tap")]
    pub(crate) configure: bool,
    /// Instead of a tap: an inherited Unix socket (SOCK_SEQPACKET) that carries Ethernet frames behind virtio-net headers
    #[arg(long, value_name = "NUMBER")]
    pub(crate) fd: Option<i32>,
    /// The largest IP packet on the link
    #[arg(long, value_parser = clap::value_parser!(u32).range(1280..=65_520))]
    mtu: Option<u32>,
    /// Lead a port of the host into the guest; the address is 127.0.0.1 if it is left out
    #[arg(short, long = "publish", value_name = "[ADDRESS:]HOSTPORT:GUESTPORT[/udp]")]
    publish: Vec<PortForward>,
    /// The name server behind the gateway's; the first of /etc/resolv.conf by default
    #[arg(long, value_name = "ADDRESS")]
    dns: Option<IpAddr>,
    /// Let the guest reach the host's 127.0.0.1 and ::1 as the gateway's addresses
    #[arg(long)]
    host_loopback: bool,
    /// No IPv4 for the guest
    #[arg(long)]
    no_ipv4: bool,
    /// No IPv6 for the guest
    #[arg(long)]
    no_ipv6: bool,
    /// Do not restrict the process's own system calls
    #[arg(long)]
    pub(crate) no_filter: bool,
    /// Open the device and pass it to standard input, which is a socket
    #[arg(long, hide = true)]
    pub(crate) opener: bool,
}

impl Cli {
    /// The gateway's configuration.
    pub(crate) fn config(&self) -> Config {
        let usual = Config::default();
        Config {
            v4: usual.v4.filter(|_| !self.no_ipv4),
            v6: usual.v6.filter(|_| !self.no_ipv6),
            mtu: self.mtu.unwrap_or(usual.mtu),
            resolvers: self.dns.map_or_else(host_resolvers, |dns| vec![dns]),
            host_loopback: if self.host_loopback { HostLoopback::Gateway } else { HostLoopback::Denied },
            forwards: self.publish.clone(),
            mac: usual.mac,
        }
    }
}
