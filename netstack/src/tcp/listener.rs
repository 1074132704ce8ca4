//! A listener: half-open connections, SYN cookies and the length of the accept queue.
//!
//! The rules by name: [`ListenRules::Linux`] and [`ListenRules::Seed2019`]. What was dropped by which rule is in the
//! [`DropReason`]; all gauges are lengths of the tables themselves.

use super::closed::reset_reply;
use super::common::{Common, bare};
use super::config::{Config, ListenRules, SynCookies};
use super::connection::Connection;
use super::cookie::{CookieJar, decode_timestamp, encode_timestamp};
use super::fast_open::{FastOpenModes, fast_open_cookie};
use super::flow::Flow;
use super::half_open::{HalfOpen, HalfOpenTable};
use super::isn::{Secret, Seed, SeedGenerator};
use super::negotiated::{HandshakeAnswer, Negotiated, Offer, PeerOffer, send_mss};
use super::options::{Options, SaveSyn};
use super::outcome::DropReason;
use super::path::PathInfo;
use super::segment::{SegmentIn, SynHeaders, Transmit};
use super::syn_sent::{backed_off, timestamp};
use super::unconfirmed::Unconfirmed;
use crate::time::Instant;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::{FastOpenCookie, TcpFlags, Timestamps};
use std::collections::HashMap;
use std::sync::Arc;

/// A listening socket's machine.
///
/// Half-open connections live in here as small records. A [`Connection`] exists only after its handshake is complete;
/// it is handed to the shell at once ([`ListenOutcome::Ready`]), which makes an endpoint of it, puts that into the demux
/// table and its accept queue, and tells the listener when it has left the queue again ([`Listener::on_accepted`]).
#[derive(Debug)]
pub struct Listener {
    /// What connections begin with, and the ports of the flow that was looked at last.
    common: Common,
    backlog: u32,
    seeds: SeedGenerator,
    cookies: CookieJar,
    half_open: HalfOpenTable,
    /// Connections handed out and not yet taken from the accept queue.
    queued: u32,
    /// What the user wants of the SYNs of connections handed out (`TCP_SAVE_SYN`), until they leave the accept queue.
    saved_syns: HashMap<Flow, Vec<u8>>,
    /// Connections that Fast Open has opened and whose handshake is not complete, as the shell last counted them.
    fast_opening: u32,
}

/// What the shell has to do with a segment for a listener.
#[derive(Debug)]
pub enum ListenOutcome {
    /// Send this: a SYN-ACK that leaves a half-open connection behind, or repeats one.
    Reply(Transmit),
    /// Send this: a SYN-ACK with a cookie; nothing is remembered.
    Cookie(Transmit),
    /// Send this challenge ACK; the segment was dropped.
    Challenge(Transmit, DropReason),
    /// The handshake is complete: enter the connection into the demux table and into the accept queue.
    Ready(Connection),
    /// The same for a connection that Fast Open has opened: its SYN-ACK is still to be sent and acknowledged.
    FastOpen(Connection),
    /// Send this RST; the segment was dropped.
    Reset(Transmit, DropReason),
    /// Nothing to send.
    Drop(DropReason),
}

impl Listener {
    /// Starts to listen. `secret` keys this listener's cookies and tables; `seeds` is the stack's generator.
    #[must_use]
    pub fn new(
        config: &Arc<Config>,
        options: Options,
        backlog: u32,
        secret: Secret,
        seeds: SeedGenerator,
    ) -> Self {
        Self {
            common: Common::without_flow(config, Arc::new(options)),
            backlog,
            seeds,
            cookies: CookieJar::new(secret),
            half_open: HalfOpenTable::new(secret),
            queued: 0,
            saved_syns: HashMap::new(),
            fast_opening: 0,
        }
    }

    /// Processes a segment for this listener for which there is no connection. `path` is the way back.
    pub fn on_segment(
        &mut self,
        now: Instant,
        flow: &Flow,
        path: PathInfo,
        segment: SegmentIn,
    ) -> ListenOutcome {
        self.on_segment_above(now, flow, path, segment, None)
    }

    /// The same for a SYN that replaces a TIME-WAIT connection: its initial sequence number is to be beyond `isn_above`
    /// (see [`Verdict::Reincarnate`](super::Verdict::Reincarnate)).
    pub fn on_segment_above(
        &mut self,
        now: Instant,
        flow: &Flow,
        path: PathInfo,
        segment: SegmentIn,
        isn_above: Option<SeqNum>,
    ) -> ListenOutcome {
        let flags = segment.repr.flags & (TcpFlags::SYN | TcpFlags::ACK | TcpFlags::RST | TcpFlags::FIN);
        if flags.contains(TcpFlags::RST) {
            return self.on_reset(now, flow, &segment);
        }
        if flags.contains(TcpFlags::SYN | TcpFlags::ACK) {
            // RFC 9293 section 3.10.7.2: any acknowledgment is bad in LISTEN.
            return refuse(&segment, DropReason::ListenUnexpected);
        }
        if flags.contains(TcpFlags::ACK) {
            return self.on_ack(now, flow, path, segment);
        }
        if flags == TcpFlags::SYN {
            return self.on_syn(now, flow, path, &segment, isn_above);
        }
        if let Some(half) = self.half_open.get_mut(flow)
            && let Some(reason) = unacceptable(now, half, &segment)
        {
            // RFC 9293 section 3.10.7.4: the first check of a state, before the one for an ACK.
            self.common.set_flow(flow);
            return challenge(&self.common, now, half, reason);
        }
        ListenOutcome::Drop(DropReason::ListenUnexpected)
    }

    /// Runs what is due: call until it returns `None`. Gives SYN-ACKs to retransmit with the flow they go to.
    pub fn on_timer(&mut self, now: Instant) -> Option<(Flow, Transmit)> {
        while let Some((flow, mut half)) = self.half_open.pop_due(now) {
            if half.retransmits >= self.common.config.synack_retries {
                continue;
            }
            half.retransmits += 1;
            let common = self.common(&flow);
            let reply = syn_ack(common, now, &half);
            let deadline = now + backed_off(common, u32::from(half.retransmits));
            self.half_open.insert(flow, half, deadline);
            return Some((flow, reply));
        }
        None
    }

    /// When `on_timer` wants to be called next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.half_open.next_deadline()
    }

    /// A connection has left the accept queue: the user took it, or it was destroyed before.
    pub fn on_accepted(&mut self) {
        self.queued = self.queued.saturating_sub(1);
    }

    /// Takes the headers of the SYN with which a connection that has left the accept queue began, if they were kept.
    pub fn take_saved_syn(&mut self, flow: &Flow) -> Option<Vec<u8>> {
        // A flow is not even hashed where nobody wants them.
        if self.saved_syns.is_empty() { None } else { self.saved_syns.remove(flow) }
    }

    /// The headers of the SYN of a handshake under way, if it had any to remember.
    pub fn syn_headers(&self, flow: &Flow) -> Option<&SynHeaders> {
        self.half_open.get(flow)?.saved_syn.as_deref()
    }

    /// Keeps what the user wants of a SYN whose connection is handed out.
    fn save_syn(&mut self, flow: &Flow, half: &HalfOpen) {
        let Some(headers) = &half.saved_syn else { return };
        let from = match self.common.options.save_syn {
            SaveSyn::Off => return,
            SaveSyn::Network => headers.network_offset,
            SaveSyn::Link => 0,
        };
        self.saved_syns.insert(*flow, headers.bytes[from..].to_vec());
    }

    /// Tells how many connections of [`ListenOutcome::FastOpen`] wait for the end of their handshake.
    pub fn set_fast_opening(&mut self, count: u32) {
        self.fast_opening = count;
    }

    /// Changes the backlog (`listen` called again).
    pub fn set_backlog(&mut self, backlog: u32) {
        self.backlog = backlog;
    }

    /// The options that accepted connections inherit.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.common.options
    }

    /// Changes the options for connections to come.
    pub fn set_options(&mut self, options: Options) {
        self.common.set_options(options);
    }

    /// How many handshakes are half open.
    #[must_use]
    pub fn half_open(&self) -> usize {
        self.half_open.len()
    }

    /// Whether the handshake of a flow is under way.
    pub fn is_half_open(&self, flow: &Flow) -> bool {
        self.half_open.contains(flow)
    }

    /// How many connections wait in the accept queue.
    #[must_use]
    pub fn queued(&self) -> usize {
        super::num::usize_of(self.queued)
    }

    /// Stops listening: forgets the half-open connections and gives the RSTs for them. Those in the accept queue are the
    /// shell's to abort.
    pub fn close(&mut self) -> Vec<(Flow, Transmit)> {
        let records: Vec<_> = self.half_open.drain().collect();
        let reset = |(flow, half): (Flow, HalfOpen)| {
            let reset = self.common(&flow).reset(half.seed.iss + 1, Some(half.irs + 1), None);
            (flow, reset)
        };
        records.into_iter().map(reset).collect()
    }

    /// RFC 5961 section 3.2 for SYN-RECEIVED: only the exact number ends it, others in the window are challenged.
    fn on_reset(&mut self, now: Instant, flow: &Flow, segment: &SegmentIn) -> ListenOutcome {
        self.common.set_flow(flow);
        let Some(half) = self.half_open.get_mut(flow) else {
            return ListenOutcome::Drop(DropReason::ListenUnexpected);
        };
        let rcv_nxt = half.irs + 1;
        if segment.repr.seq == rcv_nxt {
            self.half_open.remove(flow);
        } else if segment.repr.seq.is_within(rcv_nxt, u32::from(half.offer.window).max(1)) {
            return challenge(&self.common, now, half, DropReason::InexactReset);
        }
        ListenOutcome::Drop(DropReason::ListenUnexpected)
    }

    fn on_syn(
        &mut self,
        now: Instant,
        flow: &Flow,
        path: PathInfo,
        segment: &SegmentIn,
        isn_above: Option<SeqNum>,
    ) -> ListenOutcome {
        self.common.set_flow(flow);
        let common = &self.common;
        if let Some(half) = self.half_open.get_mut(flow) {
            if segment.repr.seq == half.irs {
                // The SYN again: our SYN-ACK was lost. Linux's tcp_check_req limits the answers like other ones to what is
                // not acceptable.
                if !half.challenge.allows(now, self.common.config.challenge_ack_interval) {
                    return ListenOutcome::Drop(DropReason::Duplicate);
                }
                let reply = syn_ack(common, now, half);
                let deadline = now + backed_off(common, u32::from(half.retransmits));
                if let Some(half) = self.half_open.remove(flow) {
                    self.half_open.insert(*flow, half, deadline);
                }
                return ListenOutcome::Reply(reply);
            }
            return challenge(common, now, half, DropReason::UnexpectedSyn);
        }
        let wants_cookie = match self.admit() {
            Ok(wants_cookie) => wants_cookie,
            Err(reason) => return ListenOutcome::Drop(reason),
        };
        let repr = &segment.repr;
        let peer = PeerOffer::new(&repr.options);
        let offer =
            Offer::passive(&self.common.config, &self.common.options, path, &peer, segment.syn_flags());
        let mut seed = self.seeds.seed(now, flow);
        if wants_cookie {
            seed.iss = self.cookies.bake(now, flow, repr.seq, peer.mss);
            return ListenOutcome::Cookie(cookie_syn_ack(common, now, seed, repr.seq, &peer, offer));
        }
        if let Some(above) = isn_above {
            seed.iss = seed.iss.max(above);
        }
        let mut half = HalfOpen::new(now, seed, repr.seq, peer, offer, path);
        // Where nobody wants them, they are there only if they say how to answer.
        half.saved_syn.clone_from(&segment.headers);
        let mut reply = syn_ack(common, now, &half);
        match self.judge_fast_open(flow, segment) {
            FastOpenVerdict::Accept(cookie) => {
                return self.open_fast((common.clone(), flow), now, &half, segment.clone(), cookie);
            }
            FastOpenVerdict::Grant(cookie) => reply.repr.options.fast_open = Some(cookie),
            FastOpenVerdict::Ignore => {}
        }
        self.half_open.insert(*flow, half, now + backed_off(common, 0));
        ListenOutcome::Reply(reply)
    }

    /// RFC 7413 section 4.2.2.
    fn judge_fast_open(&self, flow: &Flow, segment: &SegmentIn) -> FastOpenVerdict {
        let limit = self.common.options.fast_open_queue.unwrap_or(0);
        if limit == 0 || !self.common.config.fast_open.contains(FastOpenModes::SERVER) {
            return FastOpenVerdict::Ignore;
        }
        let is_open_to_all = self.common.options.fast_open_without_cookie
            || self.common.config.fast_open.contains(FastOpenModes::SERVER_WITHOUT_COOKIE);
        let has_room = self.fast_opening < limit;
        match segment.repr.options.fast_open {
            _ if is_open_to_all && !segment.payload.is_empty() => {
                if has_room {
                    FastOpenVerdict::Accept(None)
                } else {
                    FastOpenVerdict::Ignore
                }
            }
            None => FastOpenVerdict::Ignore,
            Some(cookie) => {
                let keys = self.common.options.fast_open_keys.or(self.common.config.fast_open_keys);
                let keys = keys.unwrap_or_else(|| self.seeds.fast_open_keys());
                let right = fast_open_cookie(keys.primary, flow);
                let is_of_backup = || keys.backup.is_some_and(|key| fast_open_cookie(key, flow) == cookie);
                match cookie == right {
                    true if has_room => FastOpenVerdict::Accept(None),
                    false if has_room && is_of_backup() => FastOpenVerdict::Accept(Some(right)),
                    true => FastOpenVerdict::Ignore,
                    false => FastOpenVerdict::Grant(right),
                }
            }
        }
    }

    /// Makes the connection before its handshake is complete, and gives it what the SYN brought.
    fn open_fast(
        &mut self,
        (common, flow): (Common, &Flow),
        now: Instant,
        half: &HalfOpen,
        syn: SegmentIn,
        cookie: Option<FastOpenCookie>,
    ) -> ListenOutcome {
        let mut negotiated = completed(&common, now, half, &syn);
        // RFC 7323 section 2.2: the window of a SYN is never scaled.
        negotiated.snd_wnd = u32::from(syn.repr.window);
        negotiated.rtt = None;
        let unconfirmed = Unconfirmed::new(&common, now, half.seed, half.irs, half.offer).with_cookie(cookie);
        self.queued += 1;
        self.save_syn(flow, half);
        let connection = Connection::fast_opened(common, now, &negotiated, unconfirmed, syn);
        ListenOutcome::FastOpen(connection)
    }

    /// Whether a new SYN is answered, and whether with a cookie.
    fn admit(&self) -> Result<bool, DropReason> {
        let half_open = u32::try_from(self.half_open.len()).unwrap_or(u32::MAX);
        let is_syn_queue_full = match self.common.config.listen_rules {
            ListenRules::Linux => {
                if self.is_accept_queue_full() {
                    return Err(DropReason::ListenOverflowSyn);
                }
                // inet_csk_reqsk_queue_is_full compares with "greater", too.
                half_open > self.backlog
            }
            ListenRules::Seed2019 => {
                if self.is_accept_queue_full() && half_open >= self.backlog {
                    return Err(DropReason::ListenOverflowSyn);
                }
                half_open >= SEED_COOKIE_THRESHOLD
            }
        };
        match (self.common.config.syn_cookies, is_syn_queue_full) {
            (SynCookies::Always, _) | (SynCookies::WhenNeeded, true) => Ok(true),
            (SynCookies::WhenNeeded | SynCookies::Off, false) => Ok(false),
            (SynCookies::Off, true) => Err(DropReason::ListenQueueFull),
        }
    }

    /// Linux's `sk_acceptq_is_full` compares with "greater", so its queue holds one more than the backlog.
    fn is_accept_queue_full(&self) -> bool {
        match self.common.config.listen_rules {
            ListenRules::Linux => self.queued > self.backlog,
            ListenRules::Seed2019 => self.queued >= self.backlog,
        }
    }

    /// An ACK: of a half-open connection, of a cookie, or of nothing.
    fn on_ack(&mut self, now: Instant, flow: &Flow, path: PathInfo, segment: SegmentIn) -> ListenOutcome {
        self.common.set_flow(flow);
        let is_full = self.is_accept_queue_full();
        let Some(half) = self.half_open.get_mut(flow) else {
            return self.on_cookie_ack(now, flow, path, segment);
        };
        let repr = &segment.repr;
        if repr.ack != half.seed.iss + 1 {
            // Perhaps a cookie given out before this half-open connection began.
            return self.on_cookie_ack(now, flow, path, segment);
        }
        if let Some(reason) = unacceptable(now, half, &segment) {
            return challenge(&self.common, now, half, reason);
        }
        let was_acked = std::mem::replace(&mut half.is_acked, true);
        if is_full {
            if !self.common.config.abort_on_overflow {
                return ListenOutcome::Drop(DropReason::ListenOverflowAck);
            }
            self.half_open.remove(flow);
            return refuse(&segment, DropReason::ListenOverflowAck);
        }
        let is_bare = segment.payload.is_empty() && !repr.flags.contains(TcpFlags::FIN);
        if is_bare && self.common.options.defer_accept.is_some_and(|limit| now - half.sent_at < limit) {
            return ListenOutcome::Drop(DropReason::DeferAccept);
        }
        let mut negotiated = completed(&self.common, now, half, &segment);
        // A held-back handshake says nothing of the path.
        negotiated.rtt = negotiated.rtt.filter(|_| !was_acked);
        if let Some(half) = self.half_open.remove(flow) {
            self.save_syn(flow, &half);
        }
        self.ready(now, &negotiated, segment)
    }

    /// An ACK without a half-open connection: valid if it carries a cookie of ours.
    fn on_cookie_ack(
        &mut self,
        now: Instant,
        flow: &Flow,
        path: PathInfo,
        segment: SegmentIn,
    ) -> ListenOutcome {
        if !self.cookies.is_recent(now) {
            // RFC 9293 section 3.10.7.2: any acknowledgment is bad in LISTEN; this one is no failed cookie.
            return refuse(&segment, DropReason::ListenUnexpected);
        }
        let repr = &segment.repr;
        let (irs, iss) = (repr.seq - 1, repr.ack - 1);
        let Some(peer_mss) = self.cookies.check(now, flow, irs, iss) else {
            return refuse(&segment, DropReason::BadCookie);
        };
        if self.is_accept_queue_full() {
            // The ACK can be used again, for as long as the cookie lives.
            return ListenOutcome::Drop(DropReason::ListenOverflowAck);
        }
        self.common.set_flow(flow);
        let timestamps = repr.options.timestamps;
        let echoed = timestamps.map(|timestamps| decode_timestamp(timestamps.echo));
        let (window_shift, sack, ecn) = echoed.unwrap_or((None, false, false));
        let peer = PeerOffer { mss: peer_mss, window_shift, sack, timestamps: timestamps.map(|t| t.value) };
        let flags = if ecn { TcpFlags::ECE | TcpFlags::CWR } else { TcpFlags::empty() };
        let offer = Offer::passive(&self.common.config, &self.common.options, path, &peer, flags);
        let Seed { timestamp_offset, .. } = self.seeds.seed(now, flow);
        let seed = Seed { iss, timestamp_offset };
        let half = HalfOpen::new(now, seed, irs, peer, offer, path);
        let mut negotiated = completed(&self.common, now, &half, &segment);
        let echo = timestamps.map(|timestamps| timestamps.echo);
        // Too long by the bits that hold the options, some 60 ms, which is better than the initial timeout (as on Linux).
        negotiated.rtt = HandshakeAnswer { sent_at: None, retransmits: 0, echo }.rtt(now, half.seed);
        self.half_open.remove(flow);
        self.ready(now, &negotiated, segment)
    }

    fn ready(&mut self, now: Instant, negotiated: &Negotiated, segment: SegmentIn) -> ListenOutcome {
        self.queued += 1;
        ListenOutcome::Ready(Connection::accepted(self.common.clone(), now, negotiated, segment))
    }

    /// What a connection with the flow begins with.
    fn common(&mut self, flow: &Flow) -> &Common {
        self.common.set_flow(flow);
        &self.common
    }
}

/// What a listener does about the Fast Open option of a SYN.
enum FastOpenVerdict {
    /// An ordinary handshake.
    Ignore,
    /// An ordinary handshake, and a cookie for the next time.
    Grant(FastOpenCookie),
    /// The connection is open at once; the client may need another cookie for the next time.
    Accept(Option<FastOpenCookie>),
}

/// What a finished handshake has agreed on.
fn completed(common: &Common, now: Instant, half: &HalfOpen, segment: &SegmentIn) -> Negotiated {
    let repr = &segment.repr;
    let scaling = half.offer.window_shift.zip(half.peer.window_shift);
    let (rcv_shift, snd_shift) = scaling.unwrap_or((0, 0));
    let timestamps = repr.options.timestamps.filter(|_| half.offer.timestamps);
    let recent = timestamps.map(|timestamps| timestamps.value).or(half.peer.timestamps);
    let answer = HandshakeAnswer {
        sent_at: Some(half.sent_at),
        retransmits: half.retransmits.into(),
        echo: timestamps.map(|timestamps| timestamps.echo),
    };
    Negotiated {
        now,
        iss: half.seed.iss,
        irs: half.irs,
        snd_wnd: u32::from(repr.window) << snd_shift,
        snd_wnd_shift: snd_shift,
        rcv_wnd: u32::from(half.offer.window),
        rcv_wnd_shift: rcv_shift,
        has_window_scaling: scaling.is_some(),
        send_mss: send_mss(&common.config, &common.options, half.path, half.peer.mss),
        peer_mss: half.peer.mss,
        advertised_mss: half.offer.mss,
        has_sack: half.offer.sack,
        timestamps: recent.filter(|_| half.offer.timestamps),
        timestamp_offset: half.seed.timestamp_offset,
        has_ecn: half.offer.ecn,
        rtt: answer.rtt(now, half.seed),
        is_path_lossy: answer.is_path_lossy(half.seed),
    }
}

/// The SYN-ACK of a half-open connection.
fn syn_ack(common: &Common, now: Instant, half: &HalfOpen) -> Transmit {
    let echo = half.peer.timestamps.unwrap_or(0);
    let timestamps = Timestamps { value: timestamp(now, half.seed), echo };
    let mut repr = common.header(half.seed.iss, half.irs + 1, TcpFlags::SYN | TcpFlags::ACK);
    repr.flags.set(TcpFlags::ECE, half.offer.ecn);
    half.offer.write(&mut repr, timestamps);
    bare(repr)
}

/// A SYN-ACK that remembers the SYN for us.
fn cookie_syn_ack(
    common: &Common,
    now: Instant,
    seed: Seed,
    irs: SeqNum,
    peer: &PeerOffer,
    mut offer: Offer,
) -> Transmit {
    let value = encode_timestamp(timestamp(now, seed), peer, offer.ecn);
    let timestamps = Timestamps { value, echo: peer.timestamps.unwrap_or(0) };
    if !offer.timestamps {
        // Nowhere to keep them.
        offer = Offer { window_shift: None, sack: false, ecn: false, ..offer };
    }
    let mut repr = common.header(seed.iss, irs + 1, TcpFlags::SYN | TcpFlags::ACK);
    repr.flags.set(TcpFlags::ECE, offer.ecn);
    offer.write(&mut repr, timestamps);
    bare(repr)
}

/// Why a segment is nothing for a half-open connection (Linux's `tcp_check_req`).
fn unacceptable(now: Instant, half: &HalfOpen, segment: &SegmentIn) -> Option<DropReason> {
    let repr = &segment.repr;
    if half.offer.timestamps
        && let Some(recent) = half.peer.timestamps
        && let Some(Timestamps { value, echo }) = repr.options.timestamps
    {
        let is_old = value.wrapping_sub(recent).cast_signed() < 0;
        // RFC 7323 section 3.2: an echo is of what was sent. Who did not see our SYN-ACK has to guess that, too.
        let first = timestamp(half.sent_at, half.seed);
        let is_foreign =
            echo != 0 && echo.wrapping_sub(first) > timestamp(now, half.seed).wrapping_sub(first);
        if is_old || is_foreign {
            return Some(DropReason::PawsOld);
        }
    }
    // What overlaps the window is in it, wherever it begins.
    let rcv_nxt = half.irs + 1;
    let window = u32::from(half.offer.window).max(1);
    let end = repr.seq + segment.sequence_len();
    let is_within = repr.seq.is_within(rcv_nxt, window) || repr.seq.lt(rcv_nxt) && end.gt(rcv_nxt);
    (!is_within).then_some(DropReason::OutOfWindow)
}

/// The ACK that an unacceptable segment draws from a half-open connection, within its rate.
fn challenge(common: &Common, now: Instant, half: &mut HalfOpen, reason: DropReason) -> ListenOutcome {
    if !half.challenge.allows(now, common.config.challenge_ack_interval) {
        return ListenOutcome::Drop(reason);
    }
    let mut repr = common.header(half.seed.iss + 1, half.irs + 1, TcpFlags::ACK);
    repr.window = half.offer.window >> half.offer.window_shift.unwrap_or(0);
    let echo = half.peer.timestamps.unwrap_or(0);
    let timestamps = Timestamps { value: timestamp(now, half.seed), echo };
    repr.options.timestamps = half.offer.timestamps.then_some(timestamps);
    ListenOutcome::Challenge(bare(repr), reason)
}

/// Answers with RST.
fn refuse(segment: &SegmentIn, reason: DropReason) -> ListenOutcome {
    match reset_reply(segment) {
        Some(reset) => ListenOutcome::Reset(reset, reason),
        None => ListenOutcome::Drop(reason),
    }
}

/// The process-wide threshold of the 2019 rules, here per listener.
const SEED_COOKIE_THRESHOLD: u32 = 1000;
