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
use crate::host::{self, Interest, Poller, Progress, Token};
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
    /// Of the guests' ends, one for all.
    options: Arc<tcp::Options>,
    opened: u64,
    refused: u64,
}

#[derive(Debug)]
struct Flow {
    mark: Arc<Mark>,
    /// What epoll said before there was a relay to hear it.
    before: EpollFlags,
    /// Whether epoll tells when there is room to write again.
    watches_room: bool,
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
        // The host's end has decided already what goes in which segment.
        let options = Arc::new(tcp::Options { no_delay: true, ..tcp::Options::default() });
        let (opened, refused) = (0, 0);
        Self {
            flows: Slab::default(),
            ready: Arc::default(),
            due: Vec::new(),
            pool,
            options,
            opened,
            refused,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.flows.len()
    }

    /// How many there were.
    pub(crate) fn opened(&self) -> u64 {
        self.opened
    }

    /// How many were refused because descriptors or memory had run out.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether a flow wants a turn at once.
    pub(crate) fn has_work(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The guest opens a connection.
    pub(crate) fn open(&mut self, poller: &Poller, addresses: &Addresses, request: TcpRequest) {
        let Some(to) = addresses.behind(request.to()) else { return request.refuse() };
        match host::start_connect(to) {
            Ok((host, Progress::Connected)) => self.join(poller, host, request),
            Ok((host, Progress::Connecting)) => {
                let stage = |host| Stage::Connecting { host, request };
                self.insert(poller, Interest::Changes, stage, host);
            }
            Err(error) => self.decline(request, &error),
        }
    }

    /// The host is connected at once: the guest is told before anything else is done.
    fn join(&mut self, poller: &Poller, host: TcpStream, request: TcpRequest) {
        // Without a route back there is nobody to tell.
        let Ok(guest) = request.accept_with(Arc::clone(&self.options)) else { return };
        let stage = |host| Stage::Joined(Box::new(Relay::new(host, guest)));
        if let Some(key) = self.insert(poller, Interest::Arrivals, stage, host) {
            self.watch_guest(key);
        }
    }

    /// A client of the host connected to a forwarded port; `guest` is connecting.
    pub(crate) fn reach(&mut self, poller: &Poller, host: TcpStream, guest: TcpSocket) {
        let stage = |host| Stage::Reaching { host, guest };
        if let Some(key) = self.insert(poller, Interest::Changes, stage, host) {
            self.watch_guest(key);
        }
    }

    fn insert(
        &mut self,
        poller: &Poller,
        interest: Interest,
        stage: impl FnOnce(TcpStream) -> Stage,
        host: TcpStream,
    ) -> Option<Key> {
        let ready = &self.ready;
        let mut added = Ok(());
        let key = self.flows.insert_with(|key| {
            added = poller.add(&host, Token::Tcp(key), interest);
            let (mark, watches_room) = (Mark::new(key, ready), interest == Interest::Changes);
            Flow { mark, before: EpollFlags::empty(), watches_room, stage: stage(host) }
        });
        if added.is_err() {
            // The host is out of memory for it. A guest that was told already is reset.
            self.refused += 1;
            if let Some(Flow { stage: Stage::Joined(relay), .. }) = self.flows.remove(key) {
                relay.give_up();
            }
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
        let mut failure = None;
        let options = &self.options;
        self.flows.update(key, |Flow { mark, before, watches_room, stage }| {
            let Stage::Connecting { host, request } = stage else {
                return Some(Flow { mark, before, watches_room, stage });
            };
            // Without an error there is none to ask for.
            let has_failed = events.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
            if has_failed && let Ok(Some(error)) | Err(error) = host.take_error() {
                failure = Some((request, error));
                return None;
            }
            // Without a route back there is nobody to tell.
            let guest = request.accept_with(Arc::clone(options)).ok()?;
            let mut relay = Relay::new(host, guest);
            relay.on_host_event(events);
            Some(Flow { mark, before, watches_room, stage: Stage::Joined(Box::new(relay)) })
        });
        match failure {
            Some((request, error)) => self.decline(request, &error),
            None => self.watch_guest(key),
        }
    }

    /// Tells the guest why its connection could not be made.
    fn decline(&mut self, request: TcpRequest, error: &io::Error) {
        if host::is_exhaustion(error) {
            // At once, rather than to let a full gateway look like a lost packet; what ends makes room for the next.
            self.refused += 1;
            return request.refuse();
        }
        match error.raw_os_error() {
            Some(libc::ETIMEDOUT | libc::EHOSTUNREACH | libc::EHOSTDOWN) => request.reject(Unreachable::Host),
            // No IPv6 on the host: the address family is there and no address is.
            Some(libc::ENETUNREACH | libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT) => {
                request.reject(Unreachable::Network);
            }
            Some(libc::EACCES | libc::EPERM) => request.reject(Unreachable::Prohibited),
            // No local port is free: ignored, and the SYN comes again.
            Some(libc::EAGAIN) => {}
            _ => request.refuse(),
        }
    }

    /// Gives each flow with news a turn.
    pub(crate) fn work(&mut self, poller: &Poller) {
        let mut due = std::mem::take(&mut self.due);
        self.ready.take(&mut due);
        for key in due.drain(..) {
            self.turn(poller, key);
        }
        self.due = due;
    }

    fn turn(&mut self, poller: &Poller, key: Key) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        if let Stage::Reaching { .. } = flow.stage {
            return self.on_reached(key);
        }
        let Stage::Joined(relay) = &mut flow.stage else { return };
        let mut turned = relay.turn(&self.pool);
        if relay.waits_for_room() && !flow.watches_room && turned != Turned::Over {
            // From the first time on it is told each time: who fills the buffer once does it again.
            flow.watches_room = true;
            if poller.change(relay.host(), Token::Tcp(key), Interest::Changes).is_err() {
                // It would never go on.
                relay.give_up();
                turned = Turned::Over;
            }
        }
        match turned {
            Turned::Idle => {}
            Turned::More => flow.mark.set(),
            Turned::Over => drop(self.flows.remove(key)),
        }
    }

    /// The guest may have answered the connection to a forwarded port.
    fn on_reached(&mut self, key: Key) {
        self.flows.update(key, |Flow { mark, before, watches_room, stage }| {
            let Stage::Reaching { host, guest } = stage else {
                return Some(Flow { mark, before, watches_room, stage });
            };
            match guest.state() {
                State::SynSent | State::SynReceived => {
                    Some(Flow { mark, before, watches_room, stage: Stage::Reaching { host, guest } })
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
                    Some(Flow { mark, before, watches_room, stage: Stage::Joined(Box::new(relay)) })
                }
            }
        });
    }
}

/// Free blocks that are kept, 4 MiB.
const MAX_FREE_BLOCKS: usize = 64;
