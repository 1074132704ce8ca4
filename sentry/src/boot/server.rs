//! Answering the requests of commands, one thread per connection.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sentry_hostio::channel::Channel;

use crate::boot::guest::Guest;
use crate::boot::keys::CommandKeys;
use crate::boot::run::failed;
use crate::boot::{
    Addressed, CaptureEnd, ControlError, ExitStatus, Reply, Request, join, receive_request, send_reply,
};
use crate::fs::host::KeySignals;

/// Stack of a thread that only decodes and passes on; the default of 2 MiB is for other work.
const STACK_BYTES: usize = 128 << 10;

/// Serves until the guest's first process has ended, and gives its status.
///
/// The calling thread waits; it must not end before, because stubs die with the thread that started their template.
pub(super) fn serve(guest: &Arc<Guest>, channel: Channel, listener: UnixListener) -> ExitStatus {
    let first = guest.clone();
    start("control", move || converse(&first, channel));
    let all = guest.clone();
    start("control-accept", move || accept(&all, &listener));
    guest.wait_for_end()
}

/// Takes connections, and looks after the gofer beside: both are rare.
fn accept(guest: &Arc<Guest>, listener: &UnixListener) {
    let mut gofer = guest.first().gofer();
    loop {
        // No events: an end that hangs up is told of anyway.
        let mut fds = vec![PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        fds.extend(gofer.iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::empty())));
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::Error::EINTR) => continue,
            Err(error) => return tracing::error!("wait for connections: {error}"),
            Ok(_) => {}
        }
        let has_news: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        if has_news.iter().skip(1).any(|&is_gone| is_gone) {
            tracing::error!("the gofer has ended: the sandbox ends, too");
            gofer = &[];
            guest.first().abandon();
        }
        if has_news[0] {
            let Ok((stream, _)) = listener.accept() else { return };
            let guest = guest.clone();
            start("control", move || converse(&guest, Channel::new(stream)));
        }
    }
}

/// Without a thread the connection is dropped, and the command sees that it was.
pub(super) fn start(name: &str, work: impl FnOnce() + Send + 'static) {
    let builder = thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
    if let Err(error) = builder.spawn(work) {
        tracing::error!("no thread for a control connection: {error}");
    }
}

fn converse(guest: &Arc<Guest>, channel: Channel) {
    let Ok(second) = channel.try_clone() else { return };
    let keys = CommandKeys::new(second);
    // Whoever starts a process gets the time to ask for its end, however soon that of the sandbox comes.
    let mut starter = None;
    // Ends what the connection began.
    let mut recording = None;
    while let Ok((Addressed { container, request }, fds)) = receive_request(&channel) {
        if let Request::Start(_) | Request::Exec(_) = &request {
            drop(starter.replace(guest.farewell()));
        }
        // The sandbox ends with its first process; who waits for that has to be told before.
        let sent = match request {
            // Too late.
            Request::KeysPassedOn { .. } => Ok(()),
            Request::Wait { process } => {
                let _farewell = guest.farewell();
                let ended = guest
                    .container(&container)
                    .and_then(|container| keys.while_waiting(|| container.wait(process)));
                let sent = send_reply(&channel, &ended.map_or_else(Reply::Failed, Reply::Exited));
                drop(starter.take());
                sent
            }
            Request::Attend => {
                let command: Arc<dyn KeySignals> = keys.clone();
                let attended = attend(guest, &container, &channel, &command);
                send_reply(&channel, &attended.map_or_else(Reply::Failed, |()| Reply::Done))
            }
            Request::Capture { snap_len, outlives_connection } => {
                let begun = guest.capture(fds, snap_len);
                if begun.is_ok() && !outlives_connection {
                    recording = Some(Recording(guest));
                }
                send_reply(&channel, &begun.map_or_else(Reply::Failed, |()| Reply::Done))
            }
            Request::EndCapture => {
                let end = recording.take().map(Recording::end);
                let refused =
                    || ControlError::NotNow { request: "end a recording of another command".to_owned() };
                send_reply(&channel, &end.ok_or_else(refused).map_or_else(Reply::Failed, Reply::Captured))
            }
            request => {
                // The signal that ends the first process is answered, too.
                let _farewell = guest.farewell();
                send_reply(
                    &channel,
                    &answer(guest, &container, request, fds, &keys).unwrap_or_else(Reply::Failed),
                )
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Makes the connection stand for a container.
fn attend(
    guest: &Guest,
    name: &str,
    channel: &Channel,
    command: &Arc<dyn KeySignals>,
) -> Result<(), ControlError> {
    let container = guest.container(name)?;
    let connection = channel.as_fd().try_clone_to_owned();
    container.set_keys(command);
    join::end_without(container, connection.map_err(|error| failed("copy the connection", &error))?);
    Ok(())
}

/// A recording that ends with its connection.
struct Recording<'a>(&'a Guest);

impl Recording<'_> {
    fn end(self) -> CaptureEnd {
        // Not twice: somebody else may have begun one by then.
        ManuallyDrop::new(self).0.end_capture()
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        self.0.end_capture();
    }
}

fn answer(
    guest: &Arc<Guest>,
    name: &str,
    request: Request,
    fds: Vec<OwnedFd>,
    keys: &Arc<CommandKeys>,
) -> Result<Reply, ControlError> {
    let command = || -> Arc<dyn KeySignals> { keys.clone() };
    match request {
        Request::Join(config) => join::join(guest, name, *config, fds).map(|()| Reply::Done),
        Request::Remove => {
            join::remove(guest, name);
            Ok(Reply::Done)
        }
        Request::Counters => Ok(Reply::Counters(guest.counters())),
        Request::Start(network) => {
            let pid = guest.start(&guest.container(name)?, network, fds, &command())?;
            Ok(Reply::Started { pid })
        }
        Request::Stats => Ok(Reply::Stats(guest.stats(&*guest.container(name)?))),
        Request::Exec(process) => {
            let pid = guest.container(name)?.exec(&process, fds, &command())?;
            Ok(Reply::Started { pid })
        }
        Request::Signal { target, signal } => {
            let reached_init = guest.container(name)?.signal(target, signal)?;
            Ok(Reply::Signalled { reached_init })
        }
        Request::Processes => Ok(Reply::Processes(guest.container(name)?.processes())),
        Request::Pause => guest.container(name)?.pause().map(|()| Reply::Done),
        Request::Resume => {
            guest.container(name)?.resume();
            Ok(Reply::Done)
        }
        // All but the first are answered before.
        Request::Ready
        | Request::KeysPassedOn { .. }
        | Request::Wait { .. }
        | Request::Attend
        | Request::Capture { .. }
        | Request::EndCapture => Ok(Reply::Done),
    }
}
