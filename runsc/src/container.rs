//! A container's way through its life: made, started, destroyed.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context, Result, bail};
use netstack_usernet::HostLoopback;
use oci_spec::runtime::Hook;
use sentry::boot::{MountFlags, NetworkKind, PlatformChoice, Reply, Request, StraceConfig};
use sentry_hostio::spawn::Lifetime;

use crate::bundle::{self, Bundle, Choices, MountPlan, PlannedKind, run_hooks};
use crate::cgroup::Cgroup;
use crate::cli::{Create, Global, Network, NetworkLink, Overlay, Platform};
use crate::log;
use crate::network::{self, TakenOver};
use crate::relay;
use crate::sandbox::{self, Client, Console, GatewayPlan, Launched, NetNamespace, NetworkPlan, SandboxPlan};
use crate::state::{Entry, Event, HostTraces, ProcessRef, Record, Status, Store, now_secs};
use crate::sweep::sweep;

/// The store that the flags name.
pub(crate) fn store(global: &Global) -> Store {
    let root = global.root.clone().unwrap_or_else(default_root);
    Store::new(root)
}

fn default_root() -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return "/var/run/runsc".into();
    }
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) => Path::new(&dir).join("runsc"),
        None => std::env::temp_dir().join(format!("runsc-{}", nix::unistd::geteuid())),
    }
}

/// Makes the container of a bundle, up to where its program could be started.
pub(crate) fn create(global: &Global, args: &Create, lifetime: Lifetime) -> Result<(Entry, Launched)> {
    let bundle = Bundle::load(&args.bundle)?;
    let plan = plan(global, args, &bundle, lifetime)?;
    let store = store(global);
    sweep(&store);
    let mut entry = store.create(record(&args.id, &bundle, lifetime))?;
    let launched = match bring_up(global, &bundle, plan, &mut entry) {
        Ok(launched) => launched,
        Err(error) => {
            destroy(entry, Hooks::Skip)?;
            return Err(error);
        }
    };
    let finished = (|| -> Result<()> {
        let state = oci_state(&entry.record).to_string();
        let hooks = bundle.spec.hooks().as_ref();
        run_hooks("prestart", hooks.and_then(prestart), &state)?;
        run_hooks("createRuntime", hooks.and_then(|hooks| hooks.create_runtime().as_ref()), &state)?;
        run_hooks("createContainer", hooks.and_then(|hooks| hooks.create_container().as_ref()), &state)?;
        if let Some(path) = &args.pid_file {
            fs::write(path, launched.sandbox.pid.to_string()).with_context(|| path.display().to_string())?;
        }
        entry.record.apply(Event::Made)?;
        Ok(entry.save()?)
    })();
    if let Err(error) = finished {
        launched.kill();
        destroy(entry, Hooks::Skip)?;
        return Err(error);
    }
    Ok((entry, launched))
}

/// Deprecated, and what Docker's network set-up hangs on.
fn prestart(hooks: &oci_spec::runtime::Hooks) -> Option<&Vec<Hook>> {
    hooks.prestart().as_ref()
}

fn record(id: &str, bundle: &Bundle, lifetime: Lifetime) -> Record {
    let annotations = bundle.spec.annotations().clone().unwrap_or_default();
    Record {
        id: id.to_owned(),
        status: Status::Creating,
        bundle: bundle.dir.clone(),
        rootfs: bundle.rootfs.clone(),
        annotations: annotations.into_iter().collect::<BTreeMap<_, _>>(),
        created_secs: now_secs(),
        owner_uid: nix::unistd::geteuid().as_raw(),
        sandbox: None,
        gofer: None,
        caller: ProcessRef::own().filter(|_| lifetime == Lifetime::Bound),
        init_pid: None,
        host: HostTraces::default(),
    }
}

fn plan(global: &Global, args: &Create, bundle: &Bundle, lifetime: Lifetime) -> Result<SandboxPlan> {
    let spec = &bundle.spec;
    let init = bundle::process_from_spec(&bundle.process, bundle.seccomp(), Choices::of(global))?;
    let mut stdio = stdio(args, bundle, init.has_terminal, lifetime)?;
    stdio.extend(args.preserve.copies().context("copy preserved descriptors")?);
    let linux = spec.linux().as_ref();
    let paths = |paths: Option<&Vec<String>>| paths.cloned().unwrap_or_default();
    Ok(SandboxPlan {
        id: args.id.clone(),
        platform: platform(global),
        hostname: spec.hostname().clone().unwrap_or_default(),
        domainname: spec.domainname().clone().unwrap_or_default(),
        network: network_kind(global),
        net_namespace: net_namespace(network_kind(global), Some(bundle)),
        network_settings: network_settings(global, bundle),
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
        strace: strace(global),
        capture: capture(global, &args.id)?,
        debug: global.debug,
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

/// A resolv.conf(5) for a sandbox behind a gateway, to be mounted.
pub(crate) fn resolver_mount(dir: &Path) -> Result<Option<MountPlan>> {
    let file = sandbox::resolver_file(dir).context("write resolv.conf")?;
    Ok(file.map(|source| MountPlan {
        destination: RESOLV_CONF.to_owned(),
        kind: PlannedKind::Bind(source),
        flags: MountFlags::READ_ONLY,
    }))
}

/// Where names are resolved, for containers behind a gateway whose engine did not mount a file of its own.
fn add_resolver(plan: &mut SandboxPlan, dir: &Path) -> Result<()> {
    let is_mounted = plan.mounts.iter().any(|mount| mount.destination == RESOLV_CONF);
    let place = plan.root.join(RESOLV_CONF.trim_start_matches('/'));
    // Where the file is missing it cannot be made in a root that nobody may change.
    let has_place = place.is_file() || !place.is_symlink() && !plan.root_readonly;
    if is_mounted || !has_place {
        return Ok(());
    }
    plan.mounts.extend(resolver_mount(dir)?);
    Ok(())
}

/// resolv.conf(5).
const RESOLV_CONF: &str = "/etc/resolv.conf";

fn bring_up(global: &Global, bundle: &Bundle, mut plan: SandboxPlan, entry: &mut Entry) -> Result<Launched> {
    if plan.network == NetworkKind::Sandbox && network_link(global) == NetworkLink::Usernet {
        add_resolver(&mut plan, entry.dir())?;
    }
    let linux = bundle.spec.linux().as_ref();
    let cgroup = linux
        .and_then(|linux| linux.cgroups_path().as_ref())
        .filter(|_| !global.ignore_cgroups)
        .and_then(|path| Cgroup::create(path, linux.and_then(|linux| linux.resources().as_ref())));
    entry.record.host.cgroup.clone_from(&cgroup);
    entry.save()?;
    let launched = sandbox::launch(plan, entry.dir(), |pid| {
        if let Some(cgroup) = &cgroup {
            cgroup.add(pid);
        }
    })?;
    entry.record.sandbox = ProcessRef::of(launched.sandbox.pid);
    entry.record.gofer = ProcessRef::of(launched.gofer.pid);
    entry.save()?;
    if network_kind(global) == NetworkKind::Host
        && net_namespace(NetworkKind::Host, Some(bundle)) == NetNamespace::New
    {
        // Made for the sandbox, with its loopback down.
        let path = PathBuf::from(format!("/proc/{}/ns/net", launched.sandbox.pid));
        network::bring_loopback_up(&path).context("bring the loopback up")?;
    }
    Ok(launched)
}

/// Starts the program of a created container. `client` talks to its sandbox.
pub(crate) fn start(global: &Global, entry: &mut Entry, client: &Client) -> Result<i32> {
    // The transition is checked before anything happens, and written when it has happened.
    let after = entry.record.status.apply(Event::Started)?;
    let bundle = Bundle::load(&entry.record.bundle)?;
    let hooks = bundle.spec.hooks().as_ref();
    let state = oci_state(&entry.record).to_string();
    run_hooks("startContainer", hooks.and_then(|hooks| hooks.start_container().as_ref()), &state)?;
    let network = match network_kind(global) {
        NetworkKind::Sandbox => match network_link(global) {
            NetworkLink::Interface => take_network(&bundle, entry)?,
            NetworkLink::Usernet => start_gateway(entry)?,
        },
        NetworkKind::Host | NetworkKind::None => NetworkPlan::default(),
    };
    let pid = start_init(client, network)?;
    entry.record.status = after;
    entry.record.init_pid = Some(pid);
    entry.save()?;
    let state = oci_state(&entry.record).to_string();
    run_hooks("poststart", hooks.and_then(|hooks| hooks.poststart().as_ref()), &state)?;
    Ok(pid)
}

/// Starts the first process and gives its guest id.
pub(crate) fn start_init(client: &Client, network: NetworkPlan) -> Result<i32> {
    let (request, sockets) = network.into_request();
    let sockets: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
    client.send(&request, &sockets)?;
    match client.receive()? {
        Reply::Started { pid } => Ok(pid),
        other => bail!("unexpected reply of the sandbox: {other:?}"),
    }
}

/// Starts the gateway of a container, which ends when the sandbox does.
fn start_gateway(entry: &Entry) -> Result<NetworkPlan> {
    let plan = GatewayPlan { forwards: Vec::new(), host_loopback: HostLoopback::Denied };
    let (gateway, network) = sandbox::start_gateway(&plan, Lifetime::Detached)?;
    if let Some(cgroup) = &entry.record.host.cgroup {
        cgroup.add(gateway.pid);
    }
    Ok(network)
}

/// Takes the interfaces of the container's network namespace: the named one, or the sandbox's own, into which an
/// engine may have put some since it was created.
fn take_network(bundle: &Bundle, entry: &mut Entry) -> Result<NetworkPlan> {
    let named = bundle.network_namespace().filter(|path| !path.as_os_str().is_empty());
    let path = match named {
        Some(path) => path.to_owned(),
        None if !bundle.has_network_namespace() => {
            // The specification then means the host's interfaces, which must not lose their addresses.
            log::warning("config.json has no network namespace: the sandbox gets a loopback only");
            return Ok(NetworkPlan::default());
        }
        None => PathBuf::from(format!("/proc/{}/ns/net", entry.record.pid())),
    };
    let in_namespace = || format!("network namespace {}", path.display());
    let taken = network::take_over(&path).with_context(in_namespace)?;
    if taken.links.is_empty() && named.is_some() {
        let line = format!(
            "network namespace {} has no interface that is up: the sandbox gets a loopback only",
            path.display()
        );
        log::warning(&line);
        eprintln!("runsc: {line}");
    }
    if named.is_some() && !taken.links.is_empty() {
        // Before it is done: without this note nobody could give the addresses back.
        entry.record.host.taken = Some(taken.to_restore.clone());
        entry.save()?;
    }
    taken.take_addresses().with_context(in_namespace)?;
    let TakenOver { links, routes, .. } = taken;
    Ok(NetworkPlan { links, routes })
}

/// Whether the hooks for the end of a container run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hooks {
    /// They run.
    Run,
    /// They do not: the container was never made.
    Skip,
}

/// Ends what still runs of a container and removes every trace of it.
pub(crate) fn destroy(entry: Entry, hooks: Hooks) -> Result<()> {
    let record = &entry.record;
    for process in [record.sandbox, record.gofer].into_iter().flatten() {
        if let Some(pidfd) = process.open() {
            pidfd.signal(Some(nix::sys::signal::SIGKILL)).or_else(|error| match error.raw_os_error() {
                Some(libc::ESRCH) => Ok(()),
                _ => Err(error),
            })?;
            if !pidfd.wait_ended(END_TIMEOUT_MS.into())? {
                bail!("process {} does not end", process.pid);
            }
        }
    }
    remove_host_traces(&record.host);
    if hooks == Hooks::Run {
        run_poststop(record);
    }
    Ok(entry.remove()?)
}

/// A killed process ends at once unless it waits for a device.
const END_TIMEOUT_MS: u16 = 10_000;

fn remove_host_traces(traces: &HostTraces) {
    let HostTraces { veth, nat, taken, cgroup } = traces;
    if let Some(nat) = nat {
        nat.close();
    }
    if let Some(name) = veth
        && let Err(error) = network::remove_by_name(name)
    {
        log::warning(&format!("remove {name}: {error}"));
    }
    if let Some(taken) = taken {
        taken.restore();
    }
    if let Some(cgroup) = cgroup {
        cgroup.remove();
    }
}

/// runtime.md: a failing poststop hook is logged, "but continue as if the hook had succeeded".
fn run_poststop(record: &Record) {
    let Ok(bundle) = Bundle::load(&record.bundle) else {
        return;
    };
    let hooks = bundle.spec.hooks().as_ref();
    let mut stopped = record.clone();
    stopped.status = Status::Stopped;
    let state = oci_state(&stopped).to_string();
    if let Err(error) = run_hooks("poststop", hooks.and_then(|hooks| hooks.poststop().as_ref()), &state) {
        log::warning(&error.to_string());
    }
}

/// A container's state in the form of the specification.
pub(crate) fn oci_state(record: &Record) -> serde_json::Value {
    serde_json::json!({
        "ociVersion": "1.0.2",
        "id": record.id,
        "status": record.status,
        "pid": record.pid(),
        "bundle": record.bundle,
        "annotations": record.annotations,
    })
}

/// Waits for a process of the sandbox to end.
pub(crate) fn wait(client: &Client, pid: i32) -> Result<sentry::boot::ExitStatus> {
    match client.call(&Request::Wait { pid })? {
        Reply::Exited(status) => Ok(status),
        other => bail!("unexpected reply of the sandbox: {other:?}"),
    }
}
