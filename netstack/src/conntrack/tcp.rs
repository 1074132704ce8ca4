//! TCP as an observer between the ends sees it: states, and windows that segments must be in.
//!
//! The window rules are those of Guido van Rooij's "Real Stateful TCP Packet Filtering in IP Filter", which Linux uses
//! as well: a segment is plausible if its data lies within what the receiver offered and its acknowledgment within what
//! the other side sent.

use std::time::Duration;

use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::{TcpFlags, TcpRepr};

use super::Direction;

/// What is known of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TcpTrack {
    state: TcpState,
    /// By direction.
    ends: [End; 2],
    /// Segments since the last acknowledged progress, for a shorter lifetime of connections that are gone.
    retransmissions: u8,
    last: Option<(Direction, SeqNum, SeqNum)>,
    /// It was picked up in the middle, and its windows are not known well enough yet to refuse anything.
    is_liberal: bool,
}

/// The states of Linux's tracker, which start where a router sees a SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TcpState {
    /// A SYN was seen.
    SynSent,
    /// Both sides sent a SYN without acknowledging one (simultaneous open).
    SynSent2,
    /// A SYN and its SYN-ACK were seen.
    SynReceived,
    /// The handshake is complete.
    Established,
    /// One side sent a FIN.
    FinWait,
    /// And it was acknowledged.
    CloseWait,
    /// Both sides sent a FIN.
    LastAck,
    /// And both were acknowledged.
    TimeWait,
    /// A reset was seen.
    Closed,
}

/// One side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct End {
    /// Behind the last byte it sent.
    end: SeqNum,
    /// Behind the last byte it may send.
    max_end: SeqNum,
    /// The largest window it offered.
    max_window: u32,
    /// The shift of its windows; only known from its SYN.
    scale: u8,
    has_scale: bool,
    /// Something of it was seen.
    is_known: bool,
}

/// What a segment does to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tracked {
    /// It is part of it.
    Valid,
    /// It makes no sense; let it pass or not, but nothing follows from it.
    Invalid,
    /// The old connection is over, and this SYN begins another one with the same tuple.
    Reopened,
    /// It refuses what was only asked for: there is nothing left to remember.
    Refused,
}

impl TcpTrack {
    /// Begins with the first segment that is seen; `None` if nothing can begin with it. A connection whose beginning was
    /// not seen is picked up by an ACK, as Linux does (`nf_conntrack_tcp_loose`).
    pub(crate) fn begin(segment: &TcpRepr, payload_len: u32) -> Option<Self> {
        let state = match Kind::of(segment.flags) {
            Kind::Syn => TcpState::SynSent,
            Kind::Ack => TcpState::Established,
            Kind::SynAck | Kind::Fin | Kind::Reset | Kind::Nonsense => return None,
        };
        let mut ends = [End::default(); 2];
        ends[0].open(segment, payload_len);
        let is_liberal = state == TcpState::Established;
        Some(Self { state, ends, retransmissions: 0, last: None, is_liberal })
    }

    pub(crate) fn state(&self) -> TcpState {
        self.state
    }

    /// A further segment.
    pub(crate) fn on_segment(
        &mut self,
        direction: Direction,
        segment: &TcpRepr,
        payload_len: u32,
    ) -> Tracked {
        let kind = Kind::of(segment.flags);
        if kind == Kind::Syn
            && direction == Direction::Original
            && matches!(self.state, TcpState::TimeWait | TcpState::Closed)
        {
            return Tracked::Reopened;
        }
        let next = match transition(self.state, direction, kind) {
            Transition::To(next) => next,
            // Plausible, but no step: it may be from an older connection, or belong to one that the ends agree on and we
            // missed. It passes, and the answer shows.
            Transition::Ignore => return Tracked::Valid,
            Transition::Invalid => return Tracked::Invalid,
        };
        if !self.note_window(direction, segment, payload_len, kind) {
            return Tracked::Invalid;
        }
        self.count_retransmissions(direction, segment, payload_len);
        self.state = next;
        Tracked::Valid
    }

    /// How long the connection is kept without a further segment.
    pub(crate) fn lifetime(&self) -> Duration {
        let seconds = match self.state {
            TcpState::SynSent | TcpState::SynSent2 => 120,
            TcpState::SynReceived => 60,
            TcpState::Established => 432_000,
            TcpState::FinWait | TcpState::TimeWait => 120,
            TcpState::CloseWait => 60,
            TcpState::LastAck => 30,
            TcpState::Closed => 10,
        };
        let lifetime = Duration::from_secs(seconds);
        match self.retransmissions >= MAX_RETRANSMISSIONS {
            true => lifetime.min(RETRANSMISSION_LIFETIME),
            false => lifetime,
        }
    }

    /// Whether it is worth more than a flow of which only the beginning was seen.
    pub(crate) fn is_assured(&self) -> bool {
        !matches!(
            self.state,
            TcpState::SynSent | TcpState::SynSent2 | TcpState::SynReceived | TcpState::Closed
        )
    }

    /// Checks a segment against the windows and learns from it; false if it is outside.
    fn note_window(&mut self, direction: Direction, segment: &TcpRepr, payload_len: u32, kind: Kind) -> bool {
        let (sender, receiver) = (direction.index(), direction.opposite().index());
        let end = end_of(segment, payload_len);
        let has_ack = segment.flags.contains(TcpFlags::ACK);
        if !self.ends[sender].is_known {
            self.ends[sender].open(segment, payload_len);
            if kind == Kind::SynAck || kind == Kind::Syn {
                self.settle_scales();
            }
            if has_ack {
                // What the other side may send is what this one offers.
                let window = self.ends[sender].window(segment);
                self.ends[receiver].offer(segment.ack, window);
            }
            return true;
        }
        if kind == Kind::Syn && direction == Direction::Original {
            // A retransmitted SYN, perhaps with another number after a restart of the sender.
            self.ends[sender] = End::default();
            self.ends[sender].open(segment, payload_len);
            return true;
        }
        let window = self.ends[sender].window(segment);
        // A segment without ACK is taken to acknowledge everything: only resets and SYNs come that way.
        let other = self.ends[receiver];
        let ack = if has_ack && other.is_known { segment.ack } else { other.end };
        let own = self.ends[sender];
        let sacked = segment.options.sack.as_slice().iter().map(|block| block.end).fold(ack, SeqNum::max);
        let reach = own.max_window.max(MIN_ACK_WINDOW);
        let is_inside = segment.seq.le(own.max_end)
            && end.ge(own.end - (other.max_window + 1))
            && (!other.is_known || sacked.le(other.end))
            && (!other.is_known || ack.ge(other.end - (reach + 1)));
        if !is_inside && !self.is_liberal && other.is_known {
            return false;
        }
        if is_inside && other.is_known {
            // Both sides of a connection that was picked up are known now.
            self.is_liberal = false;
        }
        let own = &mut self.ends[sender];
        own.max_window = own.max_window.max(window);
        own.end = own.end.max(end);
        own.max_end = own.max_end.max(end);
        if has_ack {
            self.ends[receiver].offer(ack, window);
        }
        true
    }

    /// RFC 7323 section 2.2: scaling counts only if both SYNs offered it.
    fn settle_scales(&mut self) {
        if !self.ends.iter().all(|end| end.has_scale) {
            self.ends.iter_mut().for_each(|end| end.scale = 0);
        }
    }

    fn count_retransmissions(&mut self, direction: Direction, segment: &TcpRepr, payload_len: u32) {
        let this = (direction, segment.seq, segment.ack);
        let repeats = self.last == Some(this) && (payload_len > 0 || segment.flags.intersects(SYN_OR_FIN));
        self.retransmissions = if repeats { self.retransmissions.saturating_add(1) } else { 0 };
        self.last = Some(this);
    }
}

impl End {
    /// Learns from the first segment of a side.
    fn open(&mut self, segment: &TcpRepr, payload_len: u32) {
        self.is_known = true;
        self.end = end_of(segment, payload_len);
        self.max_end = self.max_end.max(self.end);
        if segment.flags.contains(TcpFlags::SYN) {
            self.has_scale = segment.options.window_scale.is_some();
            self.scale = segment.options.window_scale.unwrap_or(0).min(MAX_SCALE);
            self.max_window = u32::from(segment.window).max(1);
        } else {
            // Picked up in the middle: the scale is not known, so anything it could be is allowed.
            self.scale = MAX_SCALE;
            self.has_scale = true;
            self.max_window = u32::from(segment.window).max(1) << MAX_SCALE;
            self.max_end = self.end + self.max_window;
        }
    }

    /// The window that a segment of this side offers. RFC 7323: that of a SYN is never scaled.
    fn window(&self, segment: &TcpRepr) -> u32 {
        let is_syn = segment.flags.contains(TcpFlags::SYN);
        u32::from(segment.window) << if is_syn { 0 } else { self.scale }
    }

    /// The other side acknowledged up to `ack` and takes `window` bytes more.
    fn offer(&mut self, ack: SeqNum, window: u32) {
        // A closed window lets one byte through, the probe.
        let limit = ack + window.max(1);
        self.max_end = if self.is_known { self.max_end.max(limit) } else { limit };
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Syn,
    SynAck,
    Fin,
    Ack,
    Reset,
    Nonsense,
}

impl Kind {
    fn of(flags: TcpFlags) -> Self {
        let has = |flag| flags.contains(flag);
        match () {
            () if has(TcpFlags::RST) => Self::Reset,
            () if has(TcpFlags::SYN) && has(TcpFlags::FIN) => Self::Nonsense,
            () if has(TcpFlags::SYN) && has(TcpFlags::ACK) => Self::SynAck,
            () if has(TcpFlags::SYN) => Self::Syn,
            () if has(TcpFlags::FIN) && has(TcpFlags::ACK) => Self::Fin,
            () if has(TcpFlags::ACK) => Self::Ack,
            () => Self::Nonsense,
        }
    }
}

enum Transition {
    To(TcpState),
    Ignore,
    Invalid,
}

/// What a segment means in a state, as Linux's table has it.
fn transition(state: TcpState, direction: Direction, kind: Kind) -> Transition {
    use TcpState::*;
    use Transition::{Ignore, Invalid, To};
    let is_original = direction == Direction::Original;
    match (kind, state) {
        (Kind::Nonsense, _) => Invalid,
        (Kind::Reset, _) => To(Closed),
        // The opener repeats its SYN, or tries again after the end.
        (Kind::Syn, SynSent | TimeWait | Closed) if is_original => To(SynSent),
        (Kind::Syn, SynSent2) => To(SynSent2),
        (Kind::Syn, _) if is_original => Ignore,
        // The other side opens too.
        (Kind::Syn, SynSent) => To(SynSent2),
        (Kind::Syn, TimeWait) => To(SynSent),
        (Kind::Syn, _) => Invalid,
        (Kind::SynAck, SynSent2) => To(SynReceived),
        (Kind::SynAck, SynReceived) if is_original => To(SynReceived),
        (Kind::SynAck, _) if is_original => Invalid,
        (Kind::SynAck, SynSent) => To(SynReceived),
        // Too late, but the ends sort it out.
        (Kind::SynAck, _) => Ignore,
        (Kind::Fin, SynSent | SynSent2) => Invalid,
        (Kind::Fin, SynReceived | Established) => To(FinWait),
        (Kind::Fin, FinWait | CloseWait | LastAck) => To(LastAck),
        (Kind::Fin, TimeWait | Closed) => To(state),
        (Kind::Ack, SynSent | SynSent2) if is_original => Invalid,
        (Kind::Ack, SynSent | SynSent2) => Ignore,
        (Kind::Ack, SynReceived) if !is_original => To(SynReceived),
        (Kind::Ack, SynReceived | Established) => To(Established),
        (Kind::Ack, FinWait | CloseWait) => To(CloseWait),
        (Kind::Ack, LastAck | TimeWait) => To(TimeWait),
        (Kind::Ack, Closed) => To(Closed),
    }
}

/// Behind the segment's last byte; SYN and FIN count as one each.
fn end_of(segment: &TcpRepr, payload_len: u32) -> SeqNum {
    let flags =
        u32::from(segment.flags.contains(TcpFlags::SYN)) + u32::from(segment.flags.contains(TcpFlags::FIN));
    segment.seq + (payload_len + flags)
}

const SYN_OR_FIN: TcpFlags = TcpFlags::SYN.union(TcpFlags::FIN);
/// RFC 7323 section 2.3.
const MAX_SCALE: u8 = 14;
/// An acknowledgment may be this much older than the last one even if windows are small: the largest unscaled window
/// and some more, as in Linux.
const MIN_ACK_WINDOW: u32 = 66_000;
/// Linux's `nf_conntrack_tcp_max_retrans` and `nf_conntrack_tcp_timeout_max_retrans`.
const MAX_RETRANSMISSIONS: u8 = 3;
const RETRANSMISSION_LIFETIME: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Original, Reply};
    use netstack_wire::tcp::TcpOptions;

    fn segment(flags: TcpFlags, seq: u32, ack: u32) -> TcpRepr {
        TcpRepr {
            src_port: 1,
            dst_port: 2,
            seq: SeqNum(seq),
            ack: SeqNum(ack),
            flags,
            window: 1000,
            urgent: 0,
            options: TcpOptions::default(),
        }
    }

    const SYN: TcpFlags = TcpFlags::SYN;
    const ACK: TcpFlags = TcpFlags::ACK;
    const FIN_ACK: TcpFlags = TcpFlags::FIN.union(TcpFlags::ACK);

    fn established() -> TcpTrack {
        let mut track = TcpTrack::begin(&segment(SYN, 100, 0), 0).unwrap();
        assert_eq!(track.on_segment(Reply, &segment(SYN | ACK, 500, 101), 0), Tracked::Valid);
        assert_eq!(track.state(), TcpState::SynReceived);
        assert_eq!(track.on_segment(Original, &segment(ACK, 101, 501), 0), Tracked::Valid);
        assert_eq!(track.state(), TcpState::Established);
        track
    }

    #[test]
    fn a_connection_from_open_to_close() {
        let mut track = established();
        assert!(track.is_assured());
        let steps = [
            (Original, segment(ACK, 101, 501), 300, TcpState::Established),
            (Reply, segment(ACK, 501, 401), 0, TcpState::Established),
            (Original, segment(FIN_ACK, 401, 501), 0, TcpState::FinWait),
            (Reply, segment(ACK, 501, 402), 0, TcpState::CloseWait),
            (Reply, segment(FIN_ACK, 501, 402), 0, TcpState::LastAck),
            (Original, segment(ACK, 402, 502), 0, TcpState::TimeWait),
        ];
        for (direction, segment, len, state) in steps {
            assert_eq!(track.on_segment(direction, &segment, len), Tracked::Valid, "{state:?}");
            assert_eq!(track.state(), state);
        }
        assert_eq!(track.lifetime(), Duration::from_secs(120));
        assert_eq!(track.on_segment(Original, &segment(SYN, 9000, 0), 0), Tracked::Reopened);
    }

    #[test]
    fn segments_outside_the_windows_are_invalid() {
        // Data beyond what the receiver offered; data long acknowledged; acknowledgment of what was never sent; an
        // acknowledgment from the distant past; a reset out of nowhere.
        for (direction, bad, len) in [
            (Original, segment(ACK, 1102, 501), 10),
            (Original, segment(ACK, 0u32.wrapping_sub(2000), 501), 10),
            (Original, segment(ACK, 101, 5000), 0),
            (Reply, segment(ACK, 501, 0u32.wrapping_sub(70_000)), 0),
            (Original, segment(TcpFlags::RST, 50_000, 0), 0),
        ] {
            let mut track = established();
            assert_eq!(track.on_segment(direction, &bad, len), Tracked::Invalid, "{bad:?}");
            assert_eq!(track.state(), TcpState::Established);
        }
        let mut track = established();
        assert_eq!(track.on_segment(Reply, &segment(TcpFlags::RST, 501, 0), 0), Tracked::Valid);
        assert_eq!((track.state(), track.lifetime()), (TcpState::Closed, Duration::from_secs(10)));
    }

    #[test]
    fn windows_are_scaled_if_both_offered_it() {
        for (theirs, fits) in [(Some(7), true), (None, false)] {
            let with = |flags, scale| {
                let mut syn = segment(flags, if flags == SYN { 100 } else { 500 }, 101);
                syn.options.window_scale = scale;
                syn
            };
            let mut track = TcpTrack::begin(&with(SYN, Some(2)), 0).unwrap();
            track.on_segment(Reply, &with(SYN | ACK, theirs), 0);
            track.on_segment(Original, &segment(ACK, 101, 501), 0);
            // The SYN-ACK's window of 1000 was not scaled; this one is.
            track.on_segment(Reply, &segment(ACK, 501, 101), 0);
            let far = track.on_segment(Original, &segment(ACK, 101 + 100_000, 501), 100);
            assert_eq!(far == Tracked::Valid, fits, "{theirs:?}");
        }
    }

    #[test]
    fn what_cannot_begin_a_connection() {
        for flags in [SYN | ACK, FIN_ACK, TcpFlags::RST, TcpFlags::empty(), SYN | TcpFlags::FIN] {
            assert_eq!(TcpTrack::begin(&segment(flags, 1, 1), 0), None, "{flags:?}");
        }
        // A connection is picked up in the middle, from either side, whatever its scale.
        let mut track = TcpTrack::begin(&segment(ACK, 5000, 9000), 100).unwrap();
        assert_eq!(track.state(), TcpState::Established);
        assert_eq!(track.on_segment(Reply, &segment(ACK, 9000, 5100), 1_000_000), Tracked::Valid);
        assert_eq!(track.on_segment(Original, &segment(ACK, 5100, 1_009_000), 100), Tracked::Valid);
    }

    #[test]
    fn simultaneous_open() {
        let mut track = TcpTrack::begin(&segment(SYN, 100, 0), 0).unwrap();
        assert_eq!(track.on_segment(Reply, &segment(SYN, 500, 0), 0), Tracked::Valid);
        assert_eq!(track.state(), TcpState::SynSent2);
        assert_eq!(track.on_segment(Reply, &segment(SYN | ACK, 500, 101), 0), Tracked::Valid);
        assert_eq!(track.on_segment(Original, &segment(ACK, 101, 501), 0), Tracked::Valid);
        assert_eq!(track.state(), TcpState::Established);
    }

    #[test]
    fn retransmissions_shorten_the_life() {
        let mut track = established();
        for _ in 0..4 {
            track.on_segment(Original, &segment(ACK, 101, 501), 10);
        }
        assert_eq!(track.lifetime(), Duration::from_secs(300));
        track.on_segment(Reply, &segment(ACK, 501, 111), 0);
        assert_eq!(track.lifetime(), Duration::from_secs(432_000));
    }
}
