//! What a handshake has agreed on: the input of a synchronised connection, whoever opened it.

use super::config::{Config, EcnMode};
use super::isn::Seed;
use super::num::sat_u16;
use super::options::Options;
use super::path::PathInfo;
use super::sender::MAX_ECHO_AGE_MS;
use super::syn_sent::timestamp;
use crate::time::Instant;
use core::time::Duration;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::{TcpFlags, TcpOptions};

/// The result of a handshake.
#[derive(Clone, Copy, Debug)]
pub(super) struct Negotiated {
    pub(super) now: Instant,
    /// Our and the peer's initial sequence numbers.
    pub(super) iss: SeqNum,
    pub(super) irs: SeqNum,
    /// The peer's window, scaled, and the shift of those to come.
    pub(super) snd_wnd: u32,
    pub(super) snd_wnd_shift: u8,
    /// The window that our SYN or SYN-ACK offered and the shift of those to come; `None` without window scaling.
    pub(super) rcv_wnd: u32,
    pub(super) rcv_wnd_shift: u8,
    pub(super) has_window_scaling: bool,
    /// What we may send at most, options not subtracted.
    pub(super) send_mss: u16,
    /// What the peer said it takes.
    pub(super) peer_mss: u16,
    /// What we said.
    pub(super) advertised_mss: u16,
    pub(super) has_sack: bool,
    /// TS.Recent, when timestamps are in use.
    pub(super) timestamps: Option<u32>,
    pub(super) timestamp_offset: u32,
    pub(super) has_ecn: bool,
    /// The round trip of the handshake, unless a retransmission makes it ambiguous (Karn).
    pub(super) rtt: Option<Duration>,
    /// The SYN or SYN-ACK had to be sent more than twice, so start with one segment.
    pub(super) is_path_lossy: bool,
}

/// What the answer to a SYN or SYN-ACK of ours says about the path.
#[derive(Clone, Copy, Debug)]
pub(super) struct HandshakeAnswer {
    /// When it was first sent; not known of a cookie.
    pub(super) sent_at: Option<Instant>,
    pub(super) retransmits: u32,
    /// The timestamp that the answer echoes.
    pub(super) echo: Option<u32>,
}

impl HandshakeAnswer {
    /// The round trip: exact if it was sent once, otherwise to the millisecond if a timestamp says which one is answered.
    pub(super) fn rtt(&self, now: Instant, seed: Seed) -> Option<Duration> {
        if let (Some(at), 0) = (self.sent_at, self.retransmits) {
            return Some(now - at);
        }
        let elapsed = timestamp(now, seed).wrapping_sub(self.echo?);
        (elapsed < MAX_ECHO_AGE_MS).then(|| Duration::from_millis(u64::from(elapsed.max(1))))
    }

    /// Whether losses in the handshake call for an initial window of one segment. RFC 5681 section 3.1 says so after one;
    /// Linux waits for two, as the timeout came down to a second (RFC 6298), and not even then if the answer is to the
    /// first, so that the others were needless.
    pub(super) fn is_path_lossy(&self, seed: Seed) -> bool {
        let is_answer_to_first =
            self.sent_at.zip(self.echo).is_some_and(|(at, echo)| timestamp(at, seed) == echo);
        self.retransmits > 1 && !is_answer_to_first
    }
}

/// What our SYN or SYN-ACK offers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Offer {
    pub(super) mss: u16,
    /// The window field of the SYN, which is never scaled (RFC 7323 section 2.2).
    pub(super) window: u16,
    pub(super) window_shift: Option<u8>,
    pub(super) sack: bool,
    pub(super) timestamps: bool,
    pub(super) ecn: bool,
}

/// The peer's SYN or SYN-ACK options after the rules of RFC 7323 have been applied to them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PeerOffer {
    pub(super) mss: u16,
    pub(super) window_shift: Option<u8>,
    pub(super) sack: bool,
    /// The peer's TSval.
    pub(super) timestamps: Option<u32>,
}

impl Offer {
    /// What an active opener offers.
    pub(super) fn active(config: &Config, options: &Options, path: PathInfo) -> Self {
        let mss = advertised_mss(options, path);
        let space = window_space(
            options.receive_buffer.unwrap_or(config.receive_buffer.default),
            options.window_clamp.unwrap_or(u32::MAX),
        );
        let shift = config.window_scaling.then(|| window_shift(config, options));
        Self {
            mss,
            window: sat_u16(initial_window(space, mss)),
            window_shift: shift,
            sack: config.sack,
            timestamps: config.timestamps,
            ecn: config.ecn == EcnMode::On,
        }
    }

    /// What a passive opener answers: only what the peer offered too.
    pub(super) fn passive(
        config: &Config,
        options: &Options,
        path: PathInfo,
        peer: &PeerOffer,
        flags: TcpFlags,
    ) -> Self {
        let active = Self::active(config, options, path);
        let timestamps = active.timestamps && peer.timestamps.is_some();
        let space = window_space(
            options.receive_buffer.unwrap_or(config.receive_buffer.default),
            options.window_clamp.unwrap_or(u32::MAX),
        );
        // Linux (`tcp_openreq_init_rwin`): of segments as long as they are with the timestamps that are in use by now.
        let room = if timestamps { active.mss.saturating_sub(TIMESTAMPS_LEN) } else { active.mss };
        Self {
            window: sat_u16(initial_window(space, room)),
            window_shift: active.window_shift.filter(|_| peer.window_shift.is_some()),
            sack: active.sack && peer.sack,
            timestamps,
            // RFC 3168 section 6.1.1: an ECN-setup SYN has both ECE and CWR.
            ecn: config.ecn != EcnMode::Off && flags.contains(TcpFlags::ECE | TcpFlags::CWR),
            ..active
        }
    }
}

impl PeerOffer {
    /// Reads the options of a SYN or SYN-ACK.
    pub(super) fn new(options: &TcpOptions) -> Self {
        Self {
            // RFC 9293 section 3.7.1 (MUST-15): 536 when the option is missing. A zero means the same to Linux.
            mss: options.mss.filter(|&mss| mss != 0).unwrap_or(DEFAULT_MSS),
            // RFC 7323 section 2.3: larger shifts count as 14.
            window_shift: options.window_scale.map(|shift| shift.min(MAX_WINDOW_SHIFT)),
            sack: options.sack_permitted,
            timestamps: options.timestamps.map(|timestamps| timestamps.value),
        }
    }
}

/// What we may send: the least of what the peer takes, the path carries and the user wants.
pub(super) fn send_mss(config: &Config, options: &Options, path: PathInfo, peer_mss: u16) -> u16 {
    let user = options.max_segment.unwrap_or(u16::MAX);
    peer_mss.min(path.path_mss).min(user).saturating_sub(options.header_overhead).max(config.min_mss)
}

/// The part of a receive buffer of `bytes` that is offered as window. Half, as in Linux (`tcp_adv_win_scale` 1): the other
/// half pays for the memory around the payload.
pub(super) fn window_space(bytes: u32, clamp: u32) -> u32 {
    (bytes / 2).min(clamp).min(MAX_WINDOW)
}

fn advertised_mss(options: &Options, path: PathInfo) -> u16 {
    path.link_mss.min(options.max_segment.unwrap_or(u16::MAX))
}

/// The smallest shift that can express the largest buffer that auto-tuning may reach.
fn window_shift(config: &Config, options: &Options) -> u8 {
    let most = options.receive_buffer.unwrap_or(config.receive_buffer.max.max(config.receive_buffer.default));
    // What is left has to fit the 16 bits of the field.
    let excess = (u32::BITS - most.leading_zeros()).saturating_sub(u16::BITS);
    // At most 16.
    (excess as u8).min(MAX_WINDOW_SHIFT)
}

/// The window of a SYN: whole segments if the buffer holds several.
fn initial_window(space: u32, mss: u16) -> u32 {
    let mss = u32::from(mss).max(1);
    if space > mss { space / mss * mss } else { space }
}

/// Timestamps with their padding (RFC 7323 appendix A).
const TIMESTAMPS_LEN: u16 = 12;
/// RFC 9293 section 3.7.1: the MSS to assume for IPv4 when none is given (Linux uses it for IPv6 as well).
pub(super) const DEFAULT_MSS: u16 = 536;
/// RFC 7323 section 2.3.
pub(super) const MAX_WINDOW_SHIFT: u8 = 14;
/// 2^30: the largest window that scaling can express.
const MAX_WINDOW: u32 = 1 << 30;
