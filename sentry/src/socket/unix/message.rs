//! What lies in an inbox, and what it costs its sender.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use sentry_abi::socket::Ucred;

use crate::socket::FlightCharge;
use crate::socket::unix::Name;
use crate::socket::unix::graveyard;
use crate::vfs::File;
use crate::wait::{Readiness, WaitQueue};

/// A datagram, a packet, or a piece of a stream.
#[derive(Debug)]
pub(super) struct Message {
    /// The bytes; the front of a stream's piece is cut off as it is read.
    pub data: Bytes,
    /// The files that come with the first byte.
    pub files: Arc<Parcel>,
    /// Who sent it.
    pub sender: Ucred,
    /// The sender's name.
    pub from: Option<Name>,
    /// Gives the memory back when dropped; never read.
    pub charge: Charge,
    /// Somebody has seen it, and left it.
    pub is_peeked: bool,
}

/// Files under way. Dropping them may close further sockets, so it is done iteratively.
#[derive(Debug, Default)]
pub(super) struct Parcel {
    pub files: Vec<Arc<File>>,
    /// Counts them for their sender.
    pub _charge: Option<Arc<FlightCharge>>,
}

impl Drop for Parcel {
    fn drop(&mut self) {
        graveyard::bury(std::mem::take(&mut self.files));
    }
}

/// How much a socket has under way, and how much it may have (`SO_SNDBUF`).
#[derive(Debug)]
pub(super) struct SendAccount {
    used: AtomicUsize,
    limit: AtomicUsize,
    /// The socket's queue, told when room appears.
    queue: Arc<WaitQueue>,
}

impl SendAccount {
    pub(super) fn new(queue: Arc<WaitQueue>) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit: AtomicUsize::new(DEFAULT_BUFFER), queue })
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    pub(super) fn set_limit(&self, bytes: usize) {
        self.limit.store(bytes, Ordering::Relaxed);
        self.queue.notify(Readiness::OUT);
    }

    /// Bytes under way, at their true size.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    /// True where another message may be sent: Linux's `sock_alloc_send_pskb` lets the last one exceed the limit.
    pub(super) fn has_room(&self) -> bool {
        self.used() < self.limit()
    }

    /// True where `poll(2)` reports the socket writable (`unix_writable`): a quarter of the limit is used at most.
    pub(super) fn is_writable(&self) -> bool {
        self.used().saturating_mul(4) <= self.limit()
    }

    pub(super) fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        self.used.fetch_add(bytes, Ordering::SeqCst);
        Charge { account: self.clone(), bytes }
    }
}

/// Memory charged to a sender.
#[derive(Debug)]
pub(super) struct Charge {
    account: Arc<SendAccount>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        // SeqCst pairs with the check of a sender that registered and tries again.
        self.account.used.fetch_sub(self.bytes, Ordering::SeqCst);
        self.account.queue.notify(Readiness::OUT);
    }
}

/// `net.core.wmem_default` and `rmem_default` of 64-bit Linux.
pub(super) const DEFAULT_BUFFER: usize = 212_992;
/// `sizeof(struct sk_buff)` rounded as Linux charges it.
const SKB: usize = 256;
/// What follows the linear data of an skb.
const SHARED_INFO: usize = 320;
/// The most linear data of a stream's skb: one page (`SKB_MAX_HEAD(0)`).
const STREAM_HEAD: usize = 4096 - SHARED_INFO;
/// The most linear data of a datagram's skb (`SKB_MAX_ALLOC`): four pages.
const DATAGRAM_HEAD: usize = 4 * 4096 - SHARED_INFO;

/// What Linux would charge for a message (`skb->truesize`), so that buffers hold as many messages as there.
pub(super) fn true_size(len: usize, is_stream: bool) -> usize {
    let head_max = if is_stream { STREAM_HEAD } else { DATAGRAM_HEAD };
    let paged = if len > head_max { len.min((len - head_max).next_multiple_of(4096)) } else { 0 };
    let head = (len - paged + SHARED_INFO).next_power_of_two().max(512);
    SKB + head + paged.next_multiple_of(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Observed on Linux 6.18: messages that fit 212992 bytes until `EAGAIN` (the last one may exceed).
    #[test]
    fn buffers_hold_as_many_messages_as_on_linux() {
        for (len, stream, datagrams) in [(1, 278, 278), (100, 278, 278), (1000, 93, 93), (4096, 44, 26)] {
            assert_eq!(DEFAULT_BUFFER.div_ceil(true_size(len, true)), stream, "stream of {len}");
            assert_eq!(DEFAULT_BUFFER.div_ceil(true_size(len, false)), datagrams, "datagrams of {len}");
        }
        for (len, datagrams) in [(65536, 4), (200_000, 2)] {
            assert_eq!(DEFAULT_BUFFER.div_ceil(true_size(len, false)), datagrams, "datagrams of {len}");
        }
    }

    #[test]
    fn room_comes_back_when_the_message_goes() {
        let account = SendAccount::new(Arc::default());
        let charge = account.charge(DEFAULT_BUFFER);
        assert!(!account.has_room() && !account.is_writable());
        drop(charge);
        assert!(account.has_room() && account.is_writable());
    }
}
