//! The endpoint of a socket's local address, which may listen.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use crate::sync::BriefMutex;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::TcpFlags;

use crate::bpf;
use crate::ip::Egress;
use crate::ip::flow_label::ConnectionLabel;
use crate::options::SocketOptions;
use crate::outbox::Outbox;
use crate::port_users::PortUse;
use crate::stack::Core;
use crate::tcp::{Flow, ListenOutcome, Listener, Options, SegmentIn, State, SynHeaders};
use crate::tcp_endpoint::connection::min_ttl_of;
use crate::tcp_endpoint::transmit::{facts_of, path_of, resolve, resolve_with, send_labelled, send_segment};
use crate::tcp_endpoint::{TcpEndpoint, ip_options, send_bare};
use crate::time::Instant;
use crate::timer::{TimerSlot, TimerTarget};
use crate::wait::{Readiness, WaitQueue};

/// A claim on a local address and port; while it listens, the listener with its accept queue.
pub(crate) struct ListenEndpoint {
    pub(crate) address: Option<IpAddr>,
    pub(crate) waiters: Arc<WaitQueue>,
    /// What the user wants of what arrives, and of what arrives for the connections.
    pub(crate) filter: bpf::Slot,
    slot: TimerSlot,
    listening: BriefMutex<Option<Listening>>,
}

struct Listening {
    machine: Listener,
    /// Established connections, oldest first.
    queue: VecDeque<Arc<TcpEndpoint>>,
    socket_options: Arc<SocketOptions>,
    port_use: PortUse,
    /// A SYN has come with options of IPv4.
    answers_options: bool,
    /// Connections that Fast Open has opened and whose handshake may not be complete.
    fast_opening: Vec<Weak<TcpEndpoint>>,
}

impl ListenEndpoint {
    pub(crate) fn new(
        address: Option<IpAddr>,
        waiters: Arc<WaitQueue>,
        filter: Option<bpf::Program>,
    ) -> Arc<Self> {
        Arc::new(Self {
            address,
            waiters,
            filter: bpf::Slot::new(filter),
            slot: TimerSlot::default(),
            listening: BriefMutex::default(),
        })
    }

    /// Starts to listen, or changes the backlog.
    pub(crate) fn listen(
        &self,
        core: &Core,
        backlog: u32,
        options: Options,
        socket_options: Arc<SocketOptions>,
        port_use: PortUse,
    ) {
        let config = Arc::clone(&core.tcp_config.lock());
        let secret = core.secrets.secret();
        let mut listening = self.listening.lock();
        match &mut *listening {
            Some(listening) => listening.machine.set_backlog(backlog),
            None => {
                let machine = Listener::new(&config, options, backlog, secret, core.seeds.clone());
                let (queue, fast_opening) = (VecDeque::new(), Vec::new());
                *listening = Some(Listening {
                    machine,
                    queue,
                    socket_options,
                    port_use,
                    answers_options: false,
                    fast_opening,
                });
            }
        }
    }

    /// Takes the oldest connection, with the headers of its SYN if they were kept.
    pub(crate) fn accept(&self) -> Option<(Arc<TcpEndpoint>, Option<Vec<u8>>)> {
        let mut listening = self.listening.lock();
        let listening = listening.as_mut()?;
        let endpoint = listening.queue.pop_front()?;
        listening.machine.on_accepted();
        let saved_syn = listening.machine.take_saved_syn(&endpoint.flow);
        Some((endpoint, saved_syn))
    }

    pub(crate) fn readiness(&self) -> Readiness {
        let has_some = self.listening.lock().as_ref().is_some_and(|listening| !listening.queue.is_empty());
        if has_some { Readiness::IN } else { Readiness::empty() }
    }

    /// How many connections wait, and how many handshakes are under way.
    pub(crate) fn queue_lens(&self) -> (usize, usize) {
        let listening = self.listening.lock();
        listening.as_ref().map_or((0, 0), |listening| (listening.queue.len(), listening.machine.half_open()))
    }

    /// Whether it is in the middle of the handshake of a flow.
    pub(crate) fn knows(&self, flow: &Flow) -> bool {
        self.listening.lock().as_ref().is_some_and(|listening| listening.machine.is_half_open(flow))
    }

    pub(crate) fn set_options(&self, change: impl FnOnce(&mut Options)) {
        if let Some(listening) = &mut *self.listening.lock() {
            let mut options = *listening.machine.options();
            change(&mut options);
            listening.machine.set_options(options);
        }
    }

    /// Looks at the socket's options, if it listens.
    pub(crate) fn look_at_options<T>(&self, look: impl FnOnce(&SocketOptions) -> T) -> Option<T> {
        self.listening.lock().as_ref().map(|listening| look(&listening.socket_options))
    }

    pub(crate) fn set_socket_options(&self, options: Arc<SocketOptions>) {
        if let Some(listening) = &mut *self.listening.lock() {
            listening.socket_options = options;
        }
    }

    /// The lowest TTL or hop limit that segments of a flow may arrive with.
    pub(super) fn min_ttl(&self, flow: &Flow) -> u8 {
        let listening = self.listening.lock();
        listening.as_ref().map_or(0, |listening| min_ttl_of(&listening.socket_options, flow))
    }

    /// Takes a segment for which there is no connection.
    pub(super) fn on_segment(
        self: &Arc<Self>,
        core: &Arc<Core>,
        flow: &Flow,
        segment: SegmentIn,
        isn_above: Option<SeqNum>,
        outbox: &mut Outbox,
    ) {
        let facts = || self.look_at_options(|options| facts_of(flow, options)).unwrap_or_default();
        let Ok(egress) = resolve(core, flow, outbox.now(core), facts) else {
            return core.counters.ip_out_no_routes.increment();
        };
        let label = ConnectionLabel::of_reflected(core, segment.headers.as_deref());
        let (outcome, deadline) = {
            let mut guard = self.listening.lock();
            let Some(listening) = guard.as_mut() else { return };
            let now = outbox.now(core);
            let is_syn = segment.repr.flags.contains(TcpFlags::SYN);
            // A connection that another thread has made since this one looked for it. A SYN of it, too: it would begin a half-open
            // record that nobody completes. One that takes a connection's place comes from there.
            if isn_above.is_none()
                && !listening.machine.is_half_open(flow)
                && let Some(endpoint) = core.tcp.get(&core.secrets, flow)
            {
                drop(guard);
                return endpoint.on_segment(core, segment, outbox);
            }
            // Without cookies the data alone opens a connection.
            if is_syn && (segment.repr.options.fast_open.is_some() || !segment.payload.is_empty()) {
                listening.count_fast_opening();
            }
            let options = listening.options_for(flow, &segment);
            let machine = &mut listening.machine;
            let outcome = machine.on_segment_above(now, flow, path_of(&egress), segment, isn_above);
            let deadline = machine.next_deadline();
            // Under the lock: the next segment of the flow must find the connection or the half-open record.
            let outcome = match outcome {
                ListenOutcome::Ready(machine) | ListenOutcome::FastOpen(machine) => {
                    let is_unconfirmed = machine.state() == State::SynReceived;
                    let is_settled = !machine.has_output() && machine.next_deadline().is_none();
                    let endpoint = TcpEndpoint::new(
                        *flow,
                        machine,
                        Some(egress),
                        options,
                        Arc::default(),
                        self.filter.get(),
                        listening.port_use,
                    );
                    if label != ConnectionLabel::OfFlow {
                        endpoint.set_label(label);
                    }
                    if endpoint.register(core) {
                        if is_unconfirmed {
                            listening.fast_opening.push(Arc::downgrade(&endpoint));
                            core.counters.tcp_fast_open_passive.increment();
                        }
                        if !is_settled {
                            endpoint.touch(outbox);
                        }
                        listening.queue.push_back(endpoint);
                        Handled::Accepted
                    } else {
                        listening.machine.on_accepted();
                        Handled::Nothing
                    }
                }
                ListenOutcome::Reply(transmit) => Handled::Send(transmit, egress, options),
                ListenOutcome::Cookie(transmit) => {
                    core.counters.tcp_cookies_sent.increment();
                    Handled::Send(transmit, egress, options)
                }
                ListenOutcome::Challenge(transmit, reason) | ListenOutcome::Reset(transmit, reason) => {
                    core.counters.count_tcp_drop(reason);
                    Handled::Send(transmit, egress, options)
                }
                ListenOutcome::Drop(reason) => {
                    core.counters.count_tcp_drop(reason);
                    Handled::Nothing
                }
            };
            (outcome, deadline)
        };
        core.timers.arm(self, deadline);
        match outcome {
            Handled::Accepted => {
                core.counters.tcp_passive_opens.increment();
                // Those who wait look at the queue under the lock.
                self.waiters.notify_next_synchronised(Readiness::IN);
            }
            Handled::Send(transmit, egress, options) => {
                let egress = if options.extensions.is_some() {
                    resolve_with(core, flow, &options).ok()
                } else {
                    Some(egress)
                };
                if let Some(mut egress) = egress {
                    // Lost like any segment, if at all.
                    let _ = send_segment(core, flow, &mut egress, &options, label, transmit, outbox);
                }
            }
            Handled::Nothing => {}
        }
    }

    /// Stops listening: resets what waits for being accepted and what is half open.
    pub(crate) fn close(&self, core: &Arc<Core>, outbox: &mut Outbox) {
        let Some(mut listening) = self.listening.lock().take() else { return };
        let options = ip_options::with(&listening.socket_options, None);
        for (flow, reset) in listening.machine.close() {
            send_bare(core, &flow, &options, reset, outbox);
        }
        for endpoint in listening.queue {
            endpoint.with(core, outbox, |inner| {
                let outcome = inner.machine.abort(core.clock.now());
                inner.note(outcome);
            });
        }
    }
}

impl Listening {
    /// The options of what answers a segment, and of the connection that it opens: those of the listener, but with what
    /// answers the IPv4 options of the SYN (Linux's `tcp_v4_send_synack` and `tcp_v4_syn_recv_sock`).
    fn options_for(&mut self, flow: &Flow, segment: &SegmentIn) -> Arc<SocketOptions> {
        let has_options = segment.headers.is_some() && flow.remote_addr.is_ipv4();
        self.answers_options |= has_options;
        if !self.answers_options && self.socket_options.ip_options.is_none() {
            return Arc::clone(&self.socket_options);
        }
        let of_syn = self.machine.syn_headers(flow).map(ip_options::answering);
        ip_options::with(&self.socket_options, of_syn.unwrap_or_else(|| ip_options::of_answer(segment)))
    }

    /// The options of a SYN-ACK that is sent again.
    fn options_of_half_open(&self, headers: Option<&SynHeaders>) -> Arc<SocketOptions> {
        ip_options::with(&self.socket_options, headers.and_then(ip_options::answering))
    }

    /// Forgets the connections whose handshake has ended, and tells the machine how many are left. At most as many as the
    /// queue's limit are looked at, and only for a SYN that wants to be one more.
    fn count_fast_opening(&mut self) {
        self.fast_opening.retain(|endpoint| {
            let state = endpoint.upgrade().map(|endpoint| endpoint.inspect(|inner| inner.machine.state()));
            state == Some(State::SynReceived)
        });
        self.machine.set_fast_opening(u32::try_from(self.fast_opening.len()).unwrap_or(u32::MAX));
    }
}

#[expect(clippy::large_enum_variant, reason = "made once per segment, and taken apart at once")]
enum Handled {
    Accepted,
    Send(crate::tcp::Transmit, Egress, Arc<SocketOptions>),
    Nothing,
}

impl TimerTarget for ListenEndpoint {
    fn slot(&self) -> &TimerSlot {
        &self.slot
    }

    fn on_timer(self: Arc<Self>, core: &Arc<Core>, now: Instant, outbox: &mut Outbox) {
        loop {
            let (due, options, label, deadline) = {
                let mut guard = self.listening.lock();
                let Some(listening) = guard.as_mut() else { return };
                let due = listening.machine.on_timer(now);
                let headers = due.as_ref().and_then(|(flow, _)| listening.machine.syn_headers(flow));
                let label = ConnectionLabel::of_reflected(core, headers);
                let options = listening.options_of_half_open(headers);
                (due, options, label, listening.machine.next_deadline())
            };
            let Some((flow, transmit)) = due else {
                return core.timers.arm(&self, deadline);
            };
            send_labelled(core, &flow, &options, label, transmit, outbox);
        }
    }
}

impl std::fmt::Debug for ListenEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ListenEndpoint").field("address", &self.address).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "listener_tests.rs"]
mod tests;
