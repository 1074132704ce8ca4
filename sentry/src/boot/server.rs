//! Answering the requests of commands, one thread per connection.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread;

use sentry_hostio::channel::Channel;

use crate::boot::guest::Guest;
use crate::boot::{ControlError, ExitStatus, Reply, Request, receive_request, send_reply};

/// Stack of a thread that only decodes and passes on; the default of 2 MiB is for other work.
const STACK_BYTES: usize = 128 << 10;

/// Serves until the guest's first process has ended, and gives its status.
///
/// The calling thread waits; it must not end before, because stubs die with the thread that started their template.
pub(super) fn serve(guest: &Arc<Guest>, channel: Channel, listener: UnixListener) -> ExitStatus {
    let first = guest.clone();
    start("control", move || converse(&first, &channel));
    let all = guest.clone();
    start("control-accept", move || accept(&all, &listener));
    guest.wait_for_end()
}

fn accept(guest: &Arc<Guest>, listener: &UnixListener) {
    while let Ok((stream, _)) = listener.accept() {
        let guest = guest.clone();
        start("control", move || converse(&guest, &Channel::new(stream)));
    }
}

/// Without a thread the connection is dropped, and the command sees that it was.
fn start(name: &str, work: impl FnOnce() + Send + 'static) {
    let builder = thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
    if let Err(error) = builder.spawn(work) {
        tracing::error!("no thread for a control connection: {error}");
    }
}

fn converse(guest: &Arc<Guest>, channel: &Channel) {
    // Whoever starts a process gets the time to ask for its end, however soon that of the sandbox comes.
    let mut starter = None;
    while let Ok((request, fds)) = receive_request(channel) {
        if let Request::Start(_) | Request::Exec(_) = &request {
            drop(starter.replace(guest.farewell()));
        }
        // The sandbox ends with its first process; who waits for that has to be told before.
        let sent = match request {
            Request::Wait { pid } => match guest.wait(pid) {
                Ok((status, _farewell)) => {
                    let sent = send_reply(channel, &Reply::Exited(status));
                    drop(starter.take());
                    sent
                }
                Err(error) => send_reply(channel, &Reply::Failed(error)),
            },
            request => {
                // The signal that ends the first process is answered, too.
                let _farewell = guest.farewell();
                send_reply(channel, &answer(guest, request, fds).unwrap_or_else(Reply::Failed))
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

fn answer(guest: &Arc<Guest>, request: Request, fds: Vec<OwnedFd>) -> Result<Reply, ControlError> {
    match request {
        Request::Ready => Ok(Reply::Done),
        Request::Start(network) => guest.start(network, fds).map(|pid| Reply::Started { pid }),
        Request::Exec(process) => guest.exec(&process, fds).map(|pid| Reply::Started { pid }),
        Request::Wait { pid } => guest.wait(pid).map(|(status, _)| Reply::Exited(status)),
        Request::Signal { target, signal } => {
            guest.signal(target, signal).map(|reached_init| Reply::Signalled { reached_init })
        }
        Request::Processes => Ok(Reply::Processes(guest.processes())),
        Request::Stats => Ok(Reply::Stats(guest.stats())),
        Request::Pause => guest.pause().map(|()| Reply::Done),
        Request::Resume => {
            guest.resume();
            Ok(Reply::Done)
        }
    }
}
