//! The command line.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use netstack::IpCidr;
use netstack::tcp::Algorithm;

/// One end of a network benchmark on our stack.
#[derive(Debug, Clone, Parser)]
pub(crate) struct Cli {
    /// What to do.
    pub(crate) mode: Mode,
    /// The device: tap:NAME, tun:NAME, packet:NAME, or xdp:NAME for a veth device whose peer is this host.
    #[arg(long)]
    pub(crate) link: LinkSpec,
    /// Our address and the length of its prefix.
    #[arg(long)]
    pub(crate) ip: IpCidr,
    /// The default gateway.
    #[arg(long)]
    pub(crate) gw: Option<IpAddr>,
    /// The other end.
    #[arg(long, required_if_eq_any = [("mode", "tx"), ("mode", "rx"), ("mode", "rr"), ("mode", "crr"),
        ("mode", "idle"), ("mode", "udptx"), ("mode", "udprr")])]
    pub(crate) peer: Option<IpAddr>,
    /// The first port of the peer's services.
    #[arg(long, default_value_t = 7000)]
    pub(crate) port: u16,
    /// Connections at once.
    #[arg(long, default_value_t = 1)]
    pub(crate) streams: usize,
    /// Bytes of a request, response or datagram.
    #[arg(long, default_value_t = 1)]
    pub(crate) size: usize,
    /// Bytes of one read or write of a stream.
    #[arg(long, default_value_t = 131_072)]
    pub(crate) buffer: usize,
    /// How long; a server runs forever unless told.
    #[arg(long)]
    pub(crate) secs: Option<f64>,
    /// Congestion control.
    #[arg(long, value_enum, default_value_t = CongestionControl::Cubic)]
    pub(crate) cc: CongestionControl,
    /// Super-segments and checksum offload through virtio-net headers.
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub(crate) gso: Switch,
    /// The kernel polls the tap (IFF_NAPI).
    #[arg(long)]
    pub(crate) napi: bool,
    /// Microseconds to look for frames before sleeping.
    #[arg(long, default_value_t = 0)]
    pub(crate) busy_poll: u64,
    /// Give up the processor after each MiB (sched_yield(2)): for an other end that shares it, and has to read before more
    /// of what is on its way has left the cache.
    #[arg(long = "yield")]
    pub(crate) yields: bool,
    /// Queues of the device, with a thread and its share of the streams each (tx and rx).
    #[arg(long, default_value_t = 1)]
    pub(crate) queues: usize,
    /// Frames of a packet socket go past the queue discipline (PACKET_QDISC_BYPASS).
    #[arg(long)]
    pub(crate) qdisc_bypass: bool,
    /// The limit of each socket's send and receive buffer, in bytes.
    #[arg(long)]
    pub(crate) socket_buffer: Option<u32>,
    /// One JSON object instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Cli {
    /// How long to measure.
    pub(crate) fn duration(&self) -> Duration {
        Duration::try_from_secs_f64(self.secs.unwrap_or(5.0)).unwrap_or(Duration::ZERO)
    }
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Serve all services.
    Server,
    /// Send streams.
    Tx,
    /// Receive streams.
    Rx,
    /// Request and response on open connections.
    Rr,
    /// A connection each for an answer of nothing.
    Crr,
    /// Open connections and hold them.
    Idle,
    /// Send datagrams.
    Udptx,
    /// Request and response in datagrams.
    Udprr,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Tx => "tx",
            Self::Rx => "rx",
            Self::Rr => "rr",
            Self::Crr => "crr",
            Self::Idle => "idle",
            Self::Udptx => "udptx",
            Self::Udprr => "udprr",
        }
    }
}

/// Congestion controls by the names that Linux gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CongestionControl {
    Cubic,
    Reno,
    Bbr,
}

impl From<CongestionControl> for Algorithm {
    fn from(cc: CongestionControl) -> Self {
        match cc {
            CongestionControl::Cubic => Self::Cubic,
            CongestionControl::Reno => Self::NewReno,
            CongestionControl::Bbr => Self::Bbr,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

/// A device of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinkSpec {
    Tap(String),
    Tun(String),
    Packet(String),
    Xdp(String),
}

impl FromStr for LinkSpec {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("tap", name)) => Ok(Self::Tap(name.into())),
            Some(("tun", name)) => Ok(Self::Tun(name.into())),
            Some(("packet", name)) => Ok(Self::Packet(name.into())),
            Some(("xdp", name)) => Ok(Self::Xdp(name.into())),
            _ => Err("expected tap:NAME, tun:NAME, packet:NAME or xdp:NAME"),
        }
    }
}
