//! `runsc do`: one command of the host in a sandbox, with the host's files under a layer in memory.

use std::io::{IsTerminal, stderr};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use netstack_usernet::{HostLoopback, bind_forwards};
use nix::sys::resource::{Resource, getrlimit};
use sentry::boot::{
    CapabilitySets, ExitStatus, IpAddress, MountFlags, NetworkKind, ProcessConfig, ProcessName,
    ResourceLimit, RouteConfig, UserConfig,
};
use sentry_hostio::caps::CapSet;
use sentry_hostio::spawn::{Child, Lifetime};
use sentry_hostio::tty;

use crate::bundle::{MountPlan, PlannedKind, default_mounts};
use crate::cli::{Do, Global, NetworkLink};
use crate::container::{self, Hooks};
use crate::foreground::{Foreground, Signals};
use crate::network::{self, Nat, NatOutcome, Pair, Publisher, Veth, VethRequest};
use crate::sandbox::{self, ContainerPlan, GatewayPlan, Launched, NetworkPlan, SandboxPlan};
use crate::state::{Entry, Event, HostTraces, ProcessRef, Record, StateError, Status, Store, now_secs};
use crate::sweep::sweep;

pub(super) fn run(global: &Global, args: Do) -> Result<ExitCode> {
    // Signals are held back from the first process on, so that none is lost and none ends us half-way.
    let foreground = Foreground::new()?;
    let store = container::store(global);
    sweep(&store);
    let root = args.root.canonicalize().with_context(|| format!("root {}", args.root.display()))?;
    let mut entry = create_entry(&store, &root)?;
    let outcome = run_in(global, &args, root, &mut entry, &foreground);
    container::destroy(entry, Hooks::Skip)?;
    Ok(super::exit_code(outcome?))
}

/// A name that no living `do` has: our pid, with a number behind where another pid namespace shares the directory.
fn create_entry(store: &Store, root: &Path) -> Result<Entry> {
    for attempt in 0.. {
        let pid = std::process::id();
        let id = if attempt == 0 { format!("runsc-{pid}") } else { format!("runsc-{pid}-{attempt}") };
        let record = Record {
            id,
            status: Status::Creating,
            bundle: PathBuf::new(),
            rootfs: root.to_owned(),
            annotations: Default::default(),
            created_secs: now_secs(),
            owner_uid: nix::unistd::geteuid().as_raw(),
            sandbox: None,
            sandbox_of: None,
            gofer: None,
            caller: ProcessRef::own(),
            init_pid: None,
            host: HostTraces::default(),
        };
        match store.create(record) {
            Err(StateError::Exists(_)) if attempt < 100 => {}
            outcome => return Ok(outcome?),
        }
    }
    bail!("no free container id")
}

fn run_in(
    global: &Global,
    args: &Do,
    root: PathBuf,
    entry: &mut Entry,
    foreground: &Foreground,
) -> Result<ExitStatus> {
    let kind = container::network_kind(global);
    if kind != NetworkKind::Sandbox && (!args.publish.is_empty() || args.host_loopback) {
        bail!("--publish and --host-loopback need --network=sandbox");
    }
    if container::network_link(global) != NetworkLink::Usernet && args.host_loopback {
        bail!("--host-loopback needs --network-link=usernet: over an interface the host is its other end");
    }
    let mut plan = plan(global, args, root, &entry.record.id, kind)?;
    let network = match kind {
        NetworkKind::Sandbox => match container::network_link(global) {
            NetworkLink::Interface => network(args, entry)?,
            NetworkLink::Usernet => Some(usernet(args, entry, &mut plan)?),
        },
        NetworkKind::Host | NetworkKind::None => None,
    };
    let launched = sandbox::launch(plan, entry.dir(), |_| {})?;
    let outcome = attend(&launched, entry, network, foreground);
    launched.kill();
    outcome
}

fn attend(
    launched: &Launched,
    entry: &mut Entry,
    network: Option<Network>,
    foreground: &Foreground,
) -> Result<ExitStatus> {
    entry.record.sandbox = ProcessRef::of(launched.sandbox.pid);
    entry.record.gofer = ProcessRef::of(launched.gofer.pid);
    entry.record.apply(Event::Made)?;
    let Network { plan, carrier, publisher } = network.unwrap_or_default();
    let pid = container::start_init(&launched.client, plan)?;
    entry.record.init_pid = Some(pid);
    entry.record.apply(Event::Started)?;
    entry.save()?;
    entry.unlock();
    if let Some(publisher) = publisher {
        publisher.start();
    }
    let mut signals = Signals::To(entry.address());
    let status = foreground.attend(&launched.client, &mut signals, ProcessName::First);
    entry.relock()?;
    drop(carrier);
    status
}

fn plan(global: &Global, args: &Do, root: PathBuf, id: &str, network: NetworkKind) -> Result<SandboxPlan> {
    let cwd = match &args.cwd {
        Some(cwd) => cwd.clone(),
        None => std::env::current_dir().context("working directory")?,
    };
    let mut mounts = default_mounts();
    for volume in &args.volume {
        mounts.push(volume_mount(volume)?);
    }
    let hostname = nix::unistd::gethostname().context("host name")?;
    let container = ContainerPlan {
        id: id.to_owned(),
        hostname: hostname.to_string_lossy().into_owned(),
        domainname: String::new(),
        root,
        root_readonly: false,
        root_propagation: MountFlags::empty(),
        memory_overlay: args.overlay,
        mounts,
        masked_paths: Vec::new(),
        readonly_paths: Vec::new(),
        init: process(args, &cwd)?,
        stdio: sandbox::own_stdio()?,
        lifetime: Lifetime::Bound,
    };
    Ok(SandboxPlan {
        container,
        platform: container::platform(global),
        network,
        net_namespace: container::net_namespace(network, None),
        network_settings: Vec::new(),
        strace: container::strace(global),
        capture: container::capture(global, id)?,
        debug: global.debug,
    })
}

fn process(args: &Do, cwd: &Path) -> Result<ProcessConfig> {
    let all = CapSet::ALL.bits();
    let env = std::env::vars_os()
        .map(|(name, value)| format!("{}={}", name.to_string_lossy(), value.to_string_lossy()));
    Ok(ProcessConfig {
        args: args.command.clone(),
        env: env.collect(),
        cwd: cwd.to_str().context("the working directory is not valid UTF-8")?.to_owned(),
        user: user()?,
        capabilities: CapabilitySets {
            bounding: all,
            effective: all,
            permitted: all,
            inheritable: 0,
            ambient: 0,
        },
        limits: limits()?,
        no_new_privileges: false,
        // The user's command ends as it would without a sandbox.
        filter: None,
        is_ordinary: true,
        oom_score_adj: 0,
        // The guest's /dev/tty is the caller's, wherever its input comes from.
        has_terminal: tty::is_terminal(std::io::stdin())
            || tty::is_terminal(std::io::stdout())
            || tty::is_terminal(stderr()),
    })
}

/// The caller's ids. A caller who is not root is root in the sandbox, and in it owns what is the caller's outside.
fn user() -> Result<UserConfig> {
    // Reading the mask means setting it.
    let mask = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    nix::sys::stat::umask(mask);
    let umask = mask.bits();
    if !nix::unistd::geteuid().is_root() {
        return Ok(UserConfig { umask, ..UserConfig::default() });
    }
    let groups = nix::unistd::getgroups().context("supplementary groups")?;
    Ok(UserConfig {
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
        additional_gids: groups.into_iter().map(nix::unistd::Gid::as_raw).collect(),
        umask,
    })
}

/// The caller's limits, as a child would inherit them.
fn limits() -> Result<Vec<ResourceLimit>> {
    const RESOURCES: [Resource; 16] = [
        Resource::RLIMIT_CPU,
        Resource::RLIMIT_FSIZE,
        Resource::RLIMIT_DATA,
        Resource::RLIMIT_STACK,
        Resource::RLIMIT_CORE,
        Resource::RLIMIT_RSS,
        Resource::RLIMIT_NPROC,
        Resource::RLIMIT_NOFILE,
        Resource::RLIMIT_MEMLOCK,
        Resource::RLIMIT_AS,
        Resource::RLIMIT_LOCKS,
        Resource::RLIMIT_SIGPENDING,
        Resource::RLIMIT_MSGQUEUE,
        Resource::RLIMIT_NICE,
        Resource::RLIMIT_RTPRIO,
        Resource::RLIMIT_RTTIME,
    ];
    RESOURCES
        .into_iter()
        .map(|resource| {
            let (soft, hard) = getrlimit(resource).context("resource limits")?;
            Ok(ResourceLimit { resource: resource as u32, soft, hard })
        })
        .collect()
}

fn volume_mount(volume: &str) -> Result<MountPlan> {
    let (source, destination) = volume.split_once(':').unwrap_or((volume, volume));
    let source = Path::new(source).canonicalize().with_context(|| format!("volume {source}"))?;
    if !destination.starts_with('/') {
        bail!("volume {volume}: {destination:?} is not an absolute path");
    }
    Ok(MountPlan {
        destination: destination.to_owned(),
        kind: PlannedKind::Bind(source),
        flags: MountFlags::empty(),
    })
}

/// The sandbox's network and what holds it on the host.
#[derive(Default)]
struct Network {
    plan: NetworkPlan,
    carrier: Option<Carrier>,
    /// The host's ends of published ports, where nothing else carries them.
    publisher: Option<Publisher>,
}

/// What has to exist on the host for as long as the sandbox does.
enum Carrier {
    Veth { _pair: Veth },
    Gateway(Child),
}

impl Drop for Carrier {
    fn drop(&mut self) {
        if let Self::Gateway(child) = self {
            // It has ended by itself if the sandbox did.
            let _ = child.pidfd.signal(Some(nix::sys::signal::SIGKILL));
            let _ = child.pidfd.reap();
        }
    }
}

fn network(args: &Do, entry: &mut Entry) -> Result<Option<Network>> {
    let sockets = bind_forwards(&args.publish).context("bind a published port")?;
    let pair = match args.ip {
        Some(guest) => Pair::with_guest(guest),
        None => Pair::choose().context("choose a network")?,
    };
    let (guest, host) = (IpAddr::V4(pair.guest), IpAddr::V4(pair.host));
    let name = format!("ve-{}", std::process::id());
    // Written before it exists: a name too many is harmless to the sweep, one too few is not.
    entry.record.host.veth = Some(name.clone());
    entry.save()?;
    let request = VethRequest {
        name,
        host: (host, network::PREFIX_LEN),
        guest: (guest, network::PREFIX_LEN),
        // Ethernet's (RFC 894) where there is nothing to fit in with.
        mtu: network::default_mtu()?.unwrap_or(1500),
    };
    let mut veth = Veth::create(&request)?;
    let Some(link) = veth.donated.take() else {
        return Ok(None);
    };
    let root = entry.store_root();
    let way_out = Nat::open(&root, &request.name, guest, |nat| {
        entry.record.host.nat = Some(nat.clone());
        entry.save().map_err(anyhow::Error::from)
    })?;
    if !args.quiet && stderr().is_terminal() {
        announce(guest, host, &way_out);
    }
    let everywhere = IpAddress { address: IpAddr::from([0; 4]), prefix_len: 0 };
    let default = RouteConfig { destination: everywhere, gateway: Some(host), link: link.index };
    let plan = NetworkPlan { links: vec![link], routes: vec![default] };
    let publisher = Publisher::new(&args.publish, sockets, guest);
    Ok(Some(Network { plan, carrier: Some(Carrier::Veth { _pair: veth }), publisher: Some(publisher) }))
}

/// A network over sockets of the host, by a gateway process.
fn usernet(args: &Do, entry: &Entry, sandbox: &mut SandboxPlan) -> Result<Network> {
    let host_loopback = if args.host_loopback { HostLoopback::Gateway } else { HostLoopback::Denied };
    let plan = GatewayPlan { forwards: args.publish.clone(), host_loopback };
    let (gateway, plan) = sandbox::start_gateway(&plan, Lifetime::Bound)?;
    let carrier = Carrier::Gateway(gateway);
    if sandbox::hosts_resolver_file_misleads() {
        sandbox.container.mounts.extend(container::resolver_mount(entry.dir())?);
    }
    Ok(Network { plan, carrier: Some(carrier), publisher: None })
}

fn announce(guest: IpAddr, host: IpAddr, way_out: &NatOutcome) {
    let reach = match way_out {
        NatOutcome::Open => "",
        NatOutcome::NoDefaultRoute => ", not connected to the outside: the host has no default route",
        NatOutcome::NoTool => ", not connected to the outside: neither nft nor iptables works",
    };
    eprintln!("runsc: sandbox {guest}, host {host}{reach}");
}
