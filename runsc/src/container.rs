//! A container's way through its life: made, started, destroyed.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use netstack_usernet::HostLoopback;
use oci_spec::runtime::Hook;
use sentry::boot::{MountFlags, NetworkKind, ProcessName, Reply, Request};
use sentry_hostio::spawn::Lifetime;

use crate::bundle::{Bundle, MountPlan, Placement, PlannedKind, run_hooks};
use crate::cgroup::Cgroup;
use crate::cli::{Create, Global, NetworkLink};
use crate::log;
use crate::network::{self, TakenOver};
use crate::sandbox::{
    self, Client, ClientError, ContainerPlan, GatewayPlan, Launched, NetNamespace, NetworkPlan,
};
use crate::state::{Entry, Event, HostTraces, ProcessRef, Record, Status, Store, now_secs};
use crate::sweep::sweep;

mod plan;

use plan::Plan;
pub(crate) use plan::{capture, net_namespace, network_kind, network_link, open_capture, platform, strace};

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
    let store = store(global);
    let sandbox_of = sandbox_of(&store, &bundle, &args.id)?;
    let plan = plan::from_bundle(global, args, &bundle, lifetime, sandbox_of.is_some())?;
    sweep(&store);
    let mut entry = store.create(Record { sandbox_of, ..record(&args.id, &bundle, lifetime) })?;
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

/// The container whose sandbox the bundle's annotations name, where it is not to have one of its own.
fn sandbox_of(store: &Store, bundle: &Bundle, id: &str) -> Result<Option<String>> {
    let Placement::Member { sandbox } = bundle.placement()? else { return Ok(None) };
    if sandbox == id {
        return Ok(None);
    }
    let named =
        || format!("the sandbox that the annotations of {} name", bundle.dir.join("config.json").display());
    let other = store.peek(&sandbox).with_context(named)?;
    if !matches!(other.status, Status::Running | Status::Paused) {
        bail!("{}: container {sandbox:?} is {}, it has to run first", named(), other.status);
    }
    Ok(Some(other.sandbox_of.unwrap_or(sandbox)))
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
        sandbox_of: None,
        caller: ProcessRef::own().filter(|_| lifetime == Lifetime::Bound),
        init_pid: None,
        host: HostTraces::default(),
    }
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
fn add_resolver(plan: &mut ContainerPlan, dir: &Path) -> Result<()> {
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

fn bring_up(global: &Global, bundle: &Bundle, plan: Plan, entry: &mut Entry) -> Result<Launched> {
    let linux = bundle.spec.linux().as_ref();
    let cgroup = linux
        .and_then(|linux| linux.cgroups_path().as_ref())
        .filter(|_| !global.ignore_cgroups)
        .and_then(|path| Cgroup::create(path, linux.and_then(|linux| linux.resources().as_ref())));
    entry.record.host.cgroup.clone_from(&cgroup);
    entry.save()?;
    let placed = |pid| {
        if let Some(cgroup) = &cgroup {
            cgroup.add(pid);
        }
    };
    let launched = match plan {
        Plan::Sandbox(mut plan) => {
            if plan.network == NetworkKind::Sandbox && network_link(global) == NetworkLink::Usernet {
                add_resolver(&mut plan.container, entry.dir())?;
            }
            sandbox::launch(plan, entry.dir(), placed)?
        }
        Plan::Member(plan) => sandbox::join(plan, &entry.address(), entry.dir(), placed)?,
    };
    entry.record.sandbox = ProcessRef::of(launched.sandbox.pid);
    entry.record.gofer = ProcessRef::of(launched.gofer.pid);
    entry.save()?;
    if entry.record.sandbox_of.is_none()
        && network_kind(global) == NetworkKind::Host
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
        // The sandbox has it already.
        _ if entry.record.sandbox_of.is_some() => NetworkPlan::default(),
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
    client.send(request, &sockets)?;
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
    if record.sandbox_of.is_some() {
        leave_sandbox(&entry);
    }
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

/// Ends a container in the sandbox of another one. A sandbox that is gone has ended it.
fn leave_sandbox(entry: &Entry) {
    let left = Client::connect(&entry.address()).and_then(|client| client.command(Request::Remove, &[]));
    match left {
        Ok(()) | Err(ClientError::Connect(_) | ClientError::Died) => {}
        Err(error) => log::warning(&format!("remove {} from its sandbox: {error}", entry.record.id)),
    }
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

/// Waits for a container's first process to end.
pub(crate) fn wait(client: &Client) -> Result<sentry::boot::ExitStatus> {
    match client.call(Request::Wait { process: ProcessName::First })? {
        Reply::Exited(status) => Ok(status),
        other => bail!("unexpected reply of the sandbox: {other:?}"),
    }
}
