//! The sandbox process: from a [`BootConfig`] to a running kernel, and the protocol that controls it.

mod capture;
mod config;
mod filter;
mod guest;
mod isolate;
mod keys;
mod mounts;
mod network;
mod process;
mod protocol;
mod run;
mod server;

pub use config::{
    BootConfig, CapabilitySets, DonatedFd, FilterConfig, FilterInstruction, HostSettings, IpAddress,
    LinkConfig, MountConfig, MountFlags, MountKind, NetworkConfig, NetworkKind, PlatformChoice,
    ProcessConfig, ResourceLimit, RootConfig, RouteConfig, StraceConfig, UserConfig,
};
pub use protocol::{
    CaptureEnd, ControlError, ExitStatus, ProcessInfo, ProtocolError, Reply, Request, SignalTarget, Stats,
    receive_reply, receive_request, send_reply, send_request,
};
pub use run::run;
