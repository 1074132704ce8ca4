//! Starting a container in the sandbox of another one: a gofer of its own, and a process that stands for it on the host.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use sentry::boot::{JoinConfig, Request};
use sentry_hostio::spawn::Lifetime;

use crate::sandbox::attendant;
use crate::sandbox::client::{Address, Client};
use crate::sandbox::exit_status;
use crate::sandbox::launch::{LaunchError, Launched, end, own_program, start_gofer, step};
use crate::sandbox::plan::MemberPlan;

/// Starts the processes for `plan` and makes the container in the sandbox at `address`. `placed` is as of
/// [`launch`](crate::sandbox::launch()); `dir` gets the exit status.
///
/// When it returns, the container is ready for [`Request::Start`].
pub(crate) fn join(
    plan: MemberPlan,
    address: &Address,
    dir: &Path,
    mut placed: impl FnMut(i32),
) -> Result<Launched, LaunchError> {
    let program = own_program().map_err(step("open the program's own file"))?;
    let client = Client::connect(address)?;
    let (gofer, connections) = start_gofer(&plan.container, &program, &mut placed)?;
    let attended = enter(plan, &client, connections, dir)
        .and_then(|terminal| attendant::start(terminal, address, &program))
        .inspect_err(|_| {
            end(&gofer);
            // Nothing, where it did not get that far; and without a sandbox there is nothing to leave.
            let _ = client.command(Request::Remove, &[]);
        })?;
    placed(attended.pid);
    Ok(Launched { client, sandbox: attended, gofer })
}

/// What the attendant has to know of the container.
pub(super) struct Attended {
    pub(super) lifetime: Lifetime,
    /// The terminal whose keys it passes on.
    pub(super) terminal: Option<OwnedFd>,
}

/// Makes the container in its sandbox.
fn enter(
    plan: MemberPlan,
    client: &Client,
    connections: Vec<OwnedFd>,
    dir: &Path,
) -> Result<Attended, LaunchError> {
    let MemberPlan { container, own_namespaces } = plan;
    let lifetime = container.lifetime;
    let has_terminal = container.init.has_terminal && lifetime == Lifetime::Detached;
    let exit_status = exit_status::create(dir).map_err(step("make the file for the exit status"))?;
    let gofer_connections = connections.len();
    let (container, stdio) = container.into_config();
    let terminal = stdio.first().filter(|_| has_terminal).map(OwnedFd::try_clone).transpose();
    let terminal = terminal.map_err(step("copy the terminal"))?;
    let fds: Vec<_> =
        std::iter::once(&exit_status).chain(&connections).chain(&stdio).map(AsFd::as_fd).collect();
    let config = JoinConfig { container, own_namespaces, gofer_connections };
    client.command(Request::Join(Box::new(config)), &fds)?;
    Ok(Attended { lifetime, terminal })
}
