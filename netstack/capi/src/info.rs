//! What a connection knows about itself.

use std::time::Duration;

use libc::c_int;

use crate::errno::{Errno, answer};
use crate::socket::lookup;
use crate::stack::ns_stack;

/// The figures of a connection. Times are in microseconds, the rest in bytes or segments.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct ns_tcp_info {
    /// The state, by Linux's number (`TCP_ESTABLISHED` is 1).
    pub state: u8,
    /// The retransmission timeout.
    pub rto_us: u64,
    /// The smoothed round-trip time; zero before the first measurement.
    pub srtt_us: u64,
    /// Its variation.
    pub rttvar_us: u64,
    /// The least round-trip time seen.
    pub min_rtt_us: u64,
    /// The segment size that is sent.
    pub snd_mss: u32,
    /// The segment size that is seen.
    pub rcv_mss: u32,
    /// The congestion window in bytes.
    pub cwnd: u32,
    /// The slow-start threshold in bytes; `UINT32_MAX` before the first loss.
    pub ssthresh: u32,
    /// The window that the peer offers.
    pub snd_wnd: u32,
    /// The window that this side offers.
    pub rcv_wnd: u32,
    /// Bytes sent and not acknowledged.
    pub unacked: u32,
    /// Bytes that were never sent.
    pub not_sent: u32,
    /// Bytes acknowledged so far.
    pub bytes_acked: u64,
    /// Payload bytes received in order so far.
    pub bytes_received: u64,
    /// Segments sent.
    pub segments_out: u64,
    /// Segments received.
    pub segments_in: u64,
    /// Segments retransmitted.
    pub total_retransmits: u64,
}

/// Reads the figures of a connection. `-ENOTCONN` if the socket has none, `-EOPNOTSUPP` if it is not a stream.
///
/// # Safety
/// `stack` is a valid stack and `out` points to the room for the figures.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_tcp_get_info(
    stack: *const ns_stack,
    socket: c_int,
    out: *mut ns_tcp_info,
) -> c_int {
    // SAFETY: as required of the caller.
    let found = unsafe { lookup(stack, socket) };
    answer(found.and_then(|(_, socket)| {
        if out.is_null() {
            return Err(Errno(libc::EFAULT));
        }
        let tcp = socket.tcp().ok_or(Errno(libc::EOPNOTSUPP))?;
        let info = tcp.info().ok_or(Errno(libc::ENOTCONN))?;
        let figures = ns_tcp_info {
            state: state_number(info.state),
            rto_us: microseconds(info.rto),
            srtt_us: microseconds(info.srtt),
            rttvar_us: microseconds(info.rttvar),
            min_rtt_us: microseconds(info.min_rtt),
            snd_mss: info.snd_mss,
            rcv_mss: info.rcv_mss,
            cwnd: info.cwnd,
            ssthresh: info.ssthresh,
            snd_wnd: info.snd_wnd,
            rcv_wnd: info.rcv_wnd,
            unacked: info.unacked,
            not_sent: info.not_sent,
            bytes_acked: info.bytes_acked,
            bytes_received: info.bytes_received,
            segments_out: info.segments_out,
            segments_in: info.segments_in,
            total_retransmits: info.total_retransmits,
        };
        // SAFETY: it is not null, and valid as required of the caller.
        unsafe { out.write(figures) };
        Ok(0)
    }))
}

fn microseconds(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// `enum` of Linux's net/tcp_states.h.
fn state_number(state: netstack::tcp::State) -> u8 {
    use netstack::tcp::State;
    match state {
        State::Established => 1,
        State::SynSent => 2,
        State::SynReceived => 3,
        State::FinWait1 => 4,
        State::FinWait2 => 5,
        State::TimeWait => 6,
        State::Closed => 7,
        State::CloseWait => 8,
        State::LastAck => 9,
        State::Listen => 10,
        State::Closing => 11,
    }
}
