//! The TCP flows: connecting on the guest's behalf, joining the two ends, and giving each its turn.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use netstack::TcpSocket;
use netstack::forward::{TcpRequest, Unreachable};
use netstack::pool::Pool;
use netstack::tcp::{self, State};
use netstack::wait::Readiness;
use nix::sys::epoll::EpollFlags;

use crate::addresses::Addresses;
use crate::host::{self, Interest, Poller, Token};
use crate::ready::{Mark, ReadyList, Watch};
use crate::relay::{BLOCK_LEN, Relay, Turned};
use crate::slab::{Key, Slab};

/// All TCP flows of a gateway.
#[derive(Debug)]
pub(crate) struct TcpFlows {
    flows: Slab<Flow>,
    ready: Arc<ReadyList>,
    /// Scratch for [`work`](Self::work).
    due: Vec<Key>,
    pool: Arc<Pool>,
    opened: u64,
}

#[derive(Debug)]
struct Flow {
    mark: Arc<Mark>,
    /// What epoll said before there was a relay to hear it.
    before: EpollFlags,
    stage: Stage,
}

/// How far a flow has come.
#[derive(Debug)]
enum Stage {
    /// The host connects; the guest's SYN is unanswered.
    Connecting { host: TcpStream, request: TcpRequest },
    /// Somebody connected to a forwarded port; the guest is being asked.
    Reaching { host: TcpStream, guest: TcpSocket },
    /// Both ends are there.
    Joined(Box<Relay>),
}

impl TcpFlows {
    pub(crate) fn new() -> Self {
        let pool = Pool::new(BLOCK_LEN, MAX_FREE_BLOCKS);
        Self { flows: Slab::default(), ready: Arc::default(), due: Vec::new(), pool, opened: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.flows.len()
    }

    /// How many there were.
    pub(crate) fn opened(&self) -> u64 {
        self.opened
    }

    /// Whether a flow wants a turn at once.
    pub(crate) fn has_work(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The guest opens a connection.
    pub(crate) fn open(&mut self, poller: &Poller, addresses: &Addresses, request: TcpRequest) {
        let Some(to) = addresses.behind(request.to()) else { return request.refuse() };
        let host = match host::start_connect(to) {
            Ok(host) => host,
            Err(error) => return decline(request, &error),
        };
        self.insert(poller, |host| Stage::Connecting { host, request }, host);
    }

    /// A client of the host connected to a forwarded port; `guest` is connecting.
    pub(crate) fn reach(&mut self, poller: &Poller, host: TcpStream, guest: TcpSocket) {
        if let Some(key) = self.insert(poller, |host| Stage::Reaching { host, guest }, host) {
            self.watch_guest(key);
        }
    }

    fn insert(
        &mut self,
        poller: &Poller,
        stage: impl FnOnce(TcpStream) -> Stage,
        host: TcpStream,
    ) -> Option<Key> {
        let ready = &self.ready;
        let mut added = Ok(());
        let key = self.flows.insert_with(|key| {
            added = poller.add(&host, Token::Tcp(key), Interest::Changes);
            Flow { mark: Mark::new(key, ready), before: EpollFlags::empty(), stage: stage(host) }
        });
        if added.is_err() {
            // The host is out of memory for it; a SYN comes again.
            self.flows.remove(key);
            return None;
        }
        self.opened += 1;
        Some(key)
    }

    /// Has the guest's socket put the flow on the list of those with news.
    fn watch_guest(&mut self, key: Key) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let guest = match &flow.stage {
            Stage::Connecting { .. } => return,
            Stage::Reaching { guest, .. } => guest,
            Stage::Joined(relay) => relay.guest(),
        };
        let observer = Arc::new(Watch(Arc::clone(&flow.mark)));
        guest.wait_queue().register(Readiness::IN | Readiness::OUT | Readiness::RDHUP, observer);
        // It may have changed before.
        flow.mark.set();
    }

    /// epoll has news about a host socket.
    pub(crate) fn on_host_event(&mut self, key: Key, events: EpollFlags) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        match &mut flow.stage {
            Stage::Joined(relay) => {
                relay.on_host_event(events);
                flow.mark.set();
            }
            Stage::Connecting { .. } => self.on_connected(key, events),
            Stage::Reaching { .. } => flow.before |= events,
        }
    }

    /// The host's attempt to connect has ended, well or not.
    fn on_connected(&mut self, key: Key, events: EpollFlags) {
        if !events.intersects(EpollFlags::EPOLLOUT | EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP) {
            return;
        }
        self.flows.update(key, |Flow { mark, before, stage }| {
            let Stage::Connecting { host, request } = stage else {
                return Some(Flow { mark, before, stage });
            };
            // Without an error there is none to ask for.
            let has_failed = events.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
            if has_failed && let Ok(Some(error)) | Err(error) = host.take_error() {
                decline(request, &error);
                return None;
            }
            let options = tcp::Options { no_delay: true, ..tcp::Options::default() };
            // Without a route back there is nobody to tell.
            let guest = request.accept_with(options).ok()?;
            let mut relay = Relay::new(host, guest);
            relay.on_host_event(events);
            Some(Flow { mark, before, stage: Stage::Joined(Box::new(relay)) })
        });
        self.watch_guest(key);
    }

    /// Gives each flow with news a turn.
    pub(crate) fn work(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        self.ready.take(&mut due);
        for key in due.drain(..) {
            self.turn(key);
        }
        self.due = due;
    }

    fn turn(&mut self, key: Key) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        if let Stage::Reaching { .. } = flow.stage {
            return self.on_reached(key);
        }
        let Stage::Joined(relay) = &mut flow.stage else { return };
        match relay.turn(&self.pool) {
            Turned::Idle => {}
            Turned::More => flow.mark.set(),
            Turned::Over => drop(self.flows.remove(key)),
        }
    }

    /// The guest may have answered the connection to a forwarded port.
    fn on_reached(&mut self, key: Key) {
        self.flows.update(key, |Flow { mark, before, stage }| {
            let Stage::Reaching { host, guest } = stage else {
                return Some(Flow { mark, before, stage });
            };
            match guest.state() {
                State::SynSent | State::SynReceived => {
                    Some(Flow { mark, before, stage: Stage::Reaching { host, guest } })
                }
                State::Closed => {
                    // Refused or unreachable: the client sees a reset, as its own host would have sent it.
                    host::set_reset_on_close(&host);
                    None
                }
                _ => {
                    mark.set();
                    let mut relay = Relay::new(host, guest);
                    relay.on_host_event(before);
                    Some(Flow { mark, before, stage: Stage::Joined(Box::new(relay)) })
                }
            }
        });
    }
}

/// Tells the guest why its connection could not be made.
fn decline(request: TcpRequest, error: &io::Error) {
    match error.raw_os_error() {
        Some(libc::ETIMEDOUT | libc::EHOSTUNREACH | libc::EHOSTDOWN) => request.reject(Unreachable::Host),
        // No IPv6 on the host: the address family is there and no address is.
        Some(libc::ENETUNREACH | libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT) => {
            request.reject(Unreachable::Network);
        }
        Some(libc::EACCES | libc::EPERM) => request.reject(Unreachable::Prohibited),
        // Out of descriptors or memory: ignored, and the SYN comes again.
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::EAGAIN) => {}
        _ => request.refuse(),
    }
}

/// Free blocks that are kept, 4 MiB.
const MAX_FREE_BLOCKS: usize = 64;
