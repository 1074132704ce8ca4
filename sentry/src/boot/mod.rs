//! The sandbox process: from a [`BootConfig`] to a running kernel, and the protocol that controls it.

mod capture;
mod config;
mod container;
mod filter;
mod guest;
mod isolate;
mod join;
mod keys;
mod mounts;
mod network;
mod process;
mod protocol;
mod run;
mod server;

pub use config::{
    BootConfig, CapabilitySets, ContainerConfig, DonatedFd, FilterConfig, FilterInstruction, HostSettings,
    IpAddress, JoinConfig, LinkConfig, MountConfig, MountFlags, MountKind, NetworkConfig, NetworkKind,
    OwnNamespaces, PlatformChoice, ProcessConfig, ResourceLimit, RootConfig, RouteConfig, StraceConfig,
    UserConfig,
};
pub use protocol::{
    Addressed, CaptureEnd, ControlError, ExitStatus, ProcessInfo, ProcessName, ProtocolError, Reply, Request,
    SignalTarget, Stats, receive_reply, receive_request, send_reply, send_request,
};
pub use run::run;
