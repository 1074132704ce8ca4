//! Starting the two processes of a sandbox: the gofer, which has the files, and the sentry, which has nothing.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use sentry::boot::Request;
use sentry_hostio::channel::Channel;
use sentry_hostio::memfd;
use sentry_hostio::namespace::{self, Namespaces};
use sentry_hostio::spawn::{Child, IdMaps, Lifetime, Spawn};
use thiserror::Error;

use crate::cli::MAX_SNAP_LEN;
use crate::log;
use crate::sandbox::client::{Client, ClientError, short_path};
use crate::sandbox::exit_status;
use crate::sandbox::gofer::GoferConfig;
use crate::sandbox::plan::{ContainerPlan, Donations, Export, NetNamespace, SandboxPlan};

/// Where the children of this program find their configuration.
pub(crate) const CONFIG_FD: i32 = 3;
/// Where the sentry finds its connection to the caller.
pub(crate) const CHANNEL_FD: i32 = 4;
/// Where the sentry finds the socket on which later commands connect.
pub(crate) const LISTENER_FD: i32 = 5;

/// Requests to the gofer that can be under way at a time. Most are for names that are not known yet, and those come
/// from one task at a time.
const GOFER_CONNECTIONS: usize = 4;

/// User and group "nobody" of every distribution (`fs.overflowuid`).
const NOBODY: u32 = 65_534;

/// Why a sandbox could not be started.
#[derive(Debug, Error)]
pub(crate) enum LaunchError {
    /// A step failed.
    #[error("{step}: {source}")]
    Step {
        /// What was being done.
        step: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A file or directory that the guest shall see is not there.
    #[error("{path}: {source}")]
    Export {
        /// Its name on the host.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The sandbox came up and failed, or did not come up.
    #[error("start the sandbox: {0}")]
    Sandbox(#[from] ClientError),
}

/// The processes of a container that waits to be told to start.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) client: Client,
    /// The sandbox, or what attends the container in that of another one.
    pub(crate) sandbox: Child,
    pub(crate) gofer: Child,
}

impl Launched {
    /// Ends both processes and reaps them.
    pub(crate) fn kill(&self) {
        end(&self.sandbox);
        end(&self.gofer);
    }
}

/// Ends a process, which may have ended by itself, and reaps it.
pub(super) fn end(child: &Child) {
    let _ = child.pidfd.signal(Some(nix::sys::signal::SIGKILL));
    let _ = child.pidfd.reap();
}

pub(super) fn step(step: &'static str) -> impl FnOnce(io::Error) -> LaunchError {
    move |source| LaunchError::Step { step, source }
}

/// Starts the processes for `plan`. `placed` is called with each pid before the process can do much, to put it into a
/// control group; `dir` gets the control socket.
///
/// When it returns, the sandbox is ready for [`Request::Start`].
pub(crate) fn launch(
    mut plan: SandboxPlan,
    dir: &Path,
    mut placed: impl FnMut(i32),
) -> Result<Launched, LaunchError> {
    let program = own_program().map_err(step("open the program's own file"))?;
    let (gofer, sentry_ends) = start_gofer(&plan.container, &program, &mut placed)?;
    let capture = plan.capture.take();
    let launched = start_sentry(plan, dir, sentry_ends, &program).inspect_err(|_| end(&gofer))?;
    let (client, sandbox) = launched;
    placed(sandbox.pid);
    let launched = Launched { client, sandbox, gofer };
    let ready = launched.client.command(Request::Ready, &[]);
    let begun = ready.and_then(|()| {
        let Some(file) = capture else { return Ok(()) };
        let request = Request::Capture { snap_len: MAX_SNAP_LEN, outlives_connection: true };
        launched.client.command(request, &[file.as_fd()])
    });
    if let Err(error) = begun {
        launched.kill();
        return Err(error.into());
    }
    log::debug(&format!("sandbox {} is ready", launched.sandbox.pid));
    Ok(launched)
}

/// Starts the file server of a container; gives it and the connections to it.
pub(super) fn start_gofer(
    plan: &ContainerPlan,
    program: &OwnedFd,
    placed: &mut impl FnMut(i32),
) -> Result<(Child, Vec<OwnedFd>), LaunchError> {
    let exports = plan.exports();
    // Here, where it can be said; the gofer has only its own end to show for it.
    for Export { path, .. } in &exports {
        fs::metadata(path).map_err(|source| LaunchError::Export { path: path.clone(), source })?;
    }
    let (sentry_ends, gofer_ends) = connections().map_err(step("connect sentry and gofer"))?;
    let mut fds = Donations::new(standard(plan.lifetime).map_err(step("open /dev/null"))?);
    // The place of the configuration, which can be written only when all numbers are known.
    fds.add(placeholder().map_err(step("open /dev/null"))?);
    let config = GoferConfig::new(exports, gofer_ends, plan.lifetime, &mut fds);
    let config = config.to_fd().map_err(step("write the gofer's configuration"))?;
    let gofer = spawn(program, "gofer", with_config(fds, config), gofer_identity(), plan.lifetime)
        .map_err(step("start the gofer"))?;
    placed(gofer.pid);
    Ok((gofer, sentry_ends))
}

fn start_sentry(
    plan: SandboxPlan,
    dir: &Path,
    connections: Vec<OwnedFd>,
    program: &OwnedFd,
) -> Result<(Client, Child), LaunchError> {
    let lifetime = plan.container.lifetime;
    let id = plan.container.id.clone();
    let identity = sentry_identity(&plan.net_namespace);
    let net_namespace = plan.net_namespace.clone();
    let (ours, theirs) = Channel::pair().map_err(step("connect to the sandbox"))?;
    let listener = listen(dir).map_err(step("listen on the control socket"))?;
    let mut fds = Donations::new(standard(lifetime).map_err(step("open /dev/null"))?);
    fds.add(placeholder().map_err(step("open /dev/null"))?);
    fds.add(theirs.into());
    fds.add(listener);
    let exit_status = exit_status::create(dir).map_err(step("make the file for the exit status"))?;
    let config = plan.into_config(connections, exit_status, &mut fds);
    let config = serde_json::to_vec(&config)
        .map_err(io::Error::from)
        .and_then(|text| memfd::sealed_with(c"boot-config", &text))
        .map_err(step("write the sandbox's configuration"))?;
    let fds = with_config(fds, config);
    let start = || spawn(program, "boot", fds, identity, lifetime);
    let sandbox = match net_namespace {
        NetNamespace::New | NetNamespace::Caller => start(),
        NetNamespace::At(path) => namespace::while_in_net_namespace(&path, start),
    };
    let sandbox = sandbox.map_err(step("start the sandbox process"))?;
    Ok((Client::new(ours, &id), sandbox))
}

/// Which namespaces a process gets, and who it is in them.
pub(super) struct Identity {
    namespaces: Namespaces,
    id_maps: Option<IdMaps>,
}

/// The sentry is nobody, with privilege over its own empty namespaces at most.
fn sentry_identity(net_namespace: &NetNamespace) -> Identity {
    let maps = if nix::unistd::geteuid().is_root() { IdMaps::single(NOBODY, NOBODY) } else { caller_maps() };
    let mut namespaces = Namespaces::ALL_BUT_USER | Namespaces::USER;
    if *net_namespace != NetNamespace::New {
        namespaces.remove(Namespaces::NET);
    }
    Identity { namespaces, id_maps: Some(maps) }
}

/// The gateway is nobody, too, with nothing but the host's network.
pub(super) fn gateway_identity() -> Identity {
    sentry_identity(&NetNamespace::Caller)
}

/// What stands for a container is nobody as well.
pub(super) fn attendant_identity() -> Identity {
    sentry_identity(&NetNamespace::New)
}

/// The gofer needs the host's ids to give guests their files. Without root there is only one id to have.
fn gofer_identity() -> Identity {
    if nix::unistd::geteuid().is_root() {
        return Identity { namespaces: Namespaces::ALL_BUT_USER, id_maps: None };
    }
    Identity { namespaces: Namespaces::ALL_BUT_USER | Namespaces::USER, id_maps: Some(caller_maps()) }
}

fn caller_maps() -> IdMaps {
    IdMaps::single(nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
}

pub(super) fn spawn(
    program: &OwnedFd,
    verb: &str,
    fds: Vec<OwnedFd>,
    identity: Identity,
    lifetime: Lifetime,
) -> io::Result<Child> {
    let string = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::other);
    let program = program.try_clone()?;
    // RUST_BACKTRACE and the like; the guest's environment is in the configuration.
    let env = std::env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"RUST_"));
    let env = env
        .map(|(name, value)| string(&[name.as_os_str(), value.as_os_str()].join(OsStr::new("="))))
        .collect::<io::Result<_>>()?;
    let args = vec![string(OsStr::new(&format!("runsc-{verb}")))?, string(OsStr::new(verb))?];
    let Identity { namespaces, id_maps } = identity;
    Spawn { program, args, env, fds, namespaces, id_maps, lifetime }.start()
}

/// Descriptors 0, 1 and 2 of our processes. One that outlives the caller must not keep the caller's pipes open: an
/// engine waits for their end.
pub(super) fn standard(lifetime: Lifetime) -> io::Result<Vec<OwnedFd>> {
    let null = OwnedFd::from(File::options().read(true).write(true).open("/dev/null")?);
    let error = match (lifetime, log::debug_file()) {
        (_, Some(file)) => file.into(),
        (Lifetime::Bound, None) => io::stderr().as_fd().try_clone_to_owned()?,
        (Lifetime::Detached, None) => null.try_clone()?,
    };
    Ok(vec![null.try_clone()?, null, error])
}

pub(super) fn placeholder() -> io::Result<OwnedFd> {
    Ok(File::open("/dev/null")?.into())
}

pub(super) fn with_config(fds: Donations, config: OwnedFd) -> Vec<OwnedFd> {
    let mut fds = fds.into_fds();
    if let Some(place) = usize::try_from(CONFIG_FD).ok().and_then(|at| fds.get_mut(at)) {
        *place = config;
    }
    fds
}

fn connections() -> io::Result<(Vec<OwnedFd>, Vec<OwnedFd>)> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    let pairs = (0..GOFER_CONNECTIONS)
        .map(|_| Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?))
        .collect::<io::Result<Vec<_>>>()?;
    Ok(pairs.into_iter().unzip())
}

fn listen(dir: &Path) -> io::Result<OwnedFd> {
    let path = short_path(dir)?;
    Ok(UnixListener::bind(path.as_path())?.into())
}

/// The file of this program, executable for everyone: the sentry runs as nobody.
pub(super) fn own_program() -> io::Result<OwnedFd> {
    let mut file = File::open("/proc/self/exe")?;
    if file.metadata()?.permissions().mode() & 0o001 != 0 || !nix::unistd::geteuid().is_root() {
        return Ok(file.into());
    }
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    memfd::sealed_with(c"runsc", &content)
}
