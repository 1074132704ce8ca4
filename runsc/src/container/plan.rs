//! What the flags and a bundle ask for.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sentry::boot::{MountFlags, NetworkKind, PlatformChoice, StraceConfig};
use sentry_hostio::spawn::Lifetime;

use crate::bundle::{self, Bundle, Choices};
use crate::cli::{Create, Global, Network, NetworkLink, Overlay, Platform};
use crate::log;
use crate::relay;
use crate::sandbox::{self, Console, ContainerPlan, MemberPlan, NetNamespace, SandboxPlan};

/// What to start for a bundle.
pub(super) enum Plan {
    /// A sandbox.
    Sandbox(SandboxPlan),
    /// A container in the sandbox of another.
    Member(MemberPlan),
}

/// What to start for the bundle; `is_member` for one that shares the sandbox of another container.
pub(super) fn from_bundle(
    global: &Global,
    args: &Create,
    bundle: &Bundle,
    lifetime: Lifetime,
    is_member: bool,
) -> Result<Plan> {
    let container = for_container(global, args, bundle, lifetime)?;
    Ok(match is_member {
        true => Plan::Member(MemberPlan { container, own_namespaces: bundle.own_namespaces() }),
        false => Plan::Sandbox(for_sandbox(global, args, bundle, container)?),
    })
}

fn for_sandbox(
    global: &Global,
    args: &Create,
    bundle: &Bundle,
    container: ContainerPlan,
) -> Result<SandboxPlan> {
    Ok(SandboxPlan {
        container,
        platform: platform(global),
        network: network_kind(global),
        net_namespace: net_namespace(network_kind(global), Some(bundle)),
        network_settings: network_settings(global, bundle),
        strace: strace(global),
        capture: capture(global, &args.id)?,
        debug: global.debug,
    })
}

/// What is the container's own, in whatever sandbox it is.
fn for_container(
    global: &Global,
    args: &Create,
    bundle: &Bundle,
    lifetime: Lifetime,
) -> Result<ContainerPlan> {
    let spec = &bundle.spec;
    let init = bundle::process_from_spec(&bundle.process, bundle.seccomp(), Choices::of(global))?;
    let mut stdio = stdio(args, bundle, init.has_terminal, lifetime)?;
    stdio.extend(args.preserve.copies().context("copy preserved descriptors")?);
    let linux = spec.linux().as_ref();
    let paths = |paths: Option<&Vec<String>>| paths.cloned().unwrap_or_default();
    Ok(ContainerPlan {
        id: args.id.clone(),
        hostname: spec.hostname().clone().unwrap_or_default(),
        domainname: spec.domainname().clone().unwrap_or_default(),
        root: bundle.rootfs.clone(),
        root_readonly: spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly).unwrap_or(false),
        memory_overlay: global.overlay2 == Overlay::Memory,
        mounts: bundle::mounts_from_spec(spec, &bundle.dir),
        root_propagation: linux
            .and_then(|linux| linux.rootfs_propagation().as_deref())
            .map_or(MountFlags::empty(), bundle::propagation),
        masked_paths: paths(linux.and_then(|linux| linux.masked_paths().as_ref())),
        readonly_paths: paths(linux.and_then(|linux| linux.readonly_paths().as_ref())),
        init,
        stdio,
        lifetime,
    })
}

/// What `linux.sysctl` says of the network. Other settings have no effect in the sandbox, and the host's are not the
/// container's.
fn network_settings(global: &Global, bundle: &Bundle) -> Vec<(String, String)> {
    let linux = bundle.spec.linux().as_ref();
    let settings = linux.and_then(|linux| linux.sysctl().clone()).unwrap_or_default();
    let is_own = network_kind(global) != NetworkKind::Host;
    let (known, other): (Vec<_>, Vec<_>) =
        settings.into_iter().partition(|(name, _)| is_own && name.starts_with("net."));
    for (name, _) in other {
        log::warning(&format!("linux.sysctl: {name} is not supported and left out"));
    }
    known
}

/// Descriptors 0, 1 and 2 of the first process.
fn stdio(args: &Create, bundle: &Bundle, has_terminal: bool, lifetime: Lifetime) -> Result<Vec<OwnedFd>> {
    let socket = args.console_socket.clone().map(Console::Socket);
    if socket.is_some() && !has_terminal {
        bail!("--console-socket is for processes with process.terminal");
    }
    if has_terminal && socket.is_none() && lifetime == Lifetime::Detached {
        bail!("process.terminal: a container that is not waited for needs --console-socket");
    }
    let console = match socket {
        None if has_terminal => relay::console()?.map(Console::Relay),
        socket => socket,
    };
    let Some(console) = console else {
        return Ok(sandbox::own_stdio()?);
    };
    let size = bundle.process.console_size();
    let cells = |cells: u64| u16::try_from(cells).unwrap_or(u16::MAX);
    let keys = match lifetime {
        Lifetime::Bound => sandbox::Keys::ToUs,
        Lifetime::Detached => sandbox::Keys::ToSandbox,
    };
    Ok(sandbox::terminal(&console, size.map(|size| (cells(size.height()), cells(size.width()))), keys)?)
}

/// The way of running guest code that the flags name.
pub(crate) fn platform(global: &Global) -> PlatformChoice {
    match global.platform {
        Platform::Systrap => PlatformChoice::Systrap,
        Platform::Ptrace => PlatformChoice::Ptrace,
    }
}

/// The kind of network that the flags name.
pub(crate) fn network_kind(global: &Global) -> NetworkKind {
    match global.network {
        Network::Sandbox => NetworkKind::Sandbox,
        Network::Host => NetworkKind::Host,
        Network::None => NetworkKind::None,
    }
}

/// Where the sandbox process is. Only with the host's sockets does it matter to the guest: then it is the namespace
/// that the bundle asks for, without a bundle the caller's.
pub(crate) fn net_namespace(kind: NetworkKind, bundle: Option<&Bundle>) -> NetNamespace {
    if kind != NetworkKind::Host {
        return NetNamespace::New;
    }
    let named = bundle.and_then(Bundle::network_namespace).filter(|path| !path.as_os_str().is_empty());
    match named {
        Some(path) => NetNamespace::At(path.to_owned()),
        None if bundle.is_some_and(Bundle::has_network_namespace) => NetNamespace::New,
        None => NetNamespace::Caller,
    }
}

/// What carries the network: as the flags say, or as the caller may.
pub(crate) fn network_link(global: &Global) -> NetworkLink {
    let is_root = nix::unistd::geteuid().is_root();
    let usual = if is_root { NetworkLink::Interface } else { NetworkLink::Usernet };
    global.network_link.unwrap_or(usual)
}

/// The system calls to log that the flags name.
pub(crate) fn strace(global: &Global) -> Option<StraceConfig> {
    global.strace.then(|| StraceConfig { syscalls: global.strace_syscalls.clone() })
}

/// The file for the packets of container `id` that the flags name.
pub(crate) fn capture(global: &Global, id: &str) -> Result<Option<OwnedFd>> {
    let Some(path) = &global.pcap_log else { return Ok(None) };
    if global.network == Network::Host {
        bail!("--pcap-log: the packets of --network=host are the host's; record them there");
    }
    let path = PathBuf::from(path.to_string_lossy().replace("%ID%", id));
    open_capture(&path).map(Some).with_context(|| format!("--pcap-log {}", path.display()))
}

/// A file for packets, "-" for standard output.
pub(crate) fn open_capture(path: &Path) -> io::Result<OwnedFd> {
    if path == Path::new("-") {
        return io::stdout().as_fd().try_clone_to_owned();
    }
    fs::File::create(path).map(OwnedFd::from)
}
