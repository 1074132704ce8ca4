//! `TCP_ZEROCOPY_RECEIVE`, as it is where nothing can be mapped: it says how much to read, and copies what is little.
//!
//! Streams cannot be mapped here (`mmap(2)` fails on them), so what a program with a mapping would be given is refused as
//! Linux refuses addresses without one.

use netstack::TcpSocket;
use netstack::options::RecvFlags;
use netstack::tcp::State;
use sentry_abi::inet::TCP_ZEROCOPY_RECEIVE;
use sentry_abi::socket::SOL_TCP;

use crate::errno::Errno;
use crate::mm::{PAGE_SIZE, UserAddr};
use crate::socket::inet::{Discard, ToErrno};
use crate::socket::option::tcp::tcp;
use crate::socket::option::value::saturate;
use crate::socket::option::{Context, Effect, OptionRow, Value, option};

pub(super) const ROWS: &[OptionRow] = &[option!(
    SOL_TCP,
    TCP_ZEROCOPY_RECEIVE,
    receive,
    -,
    Effect::Partial("nothing is mapped: it only tells how much to read, and copies into the buffer")
)];

/// `struct tcp_zerocopy_receive`: where its fields are.
mod field {
    pub(super) const ADDRESS: usize = 0;
    pub(super) const LENGTH: usize = 8;
    pub(super) const SKIP_HINT: usize = 12;
    pub(super) const IN_QUEUE: usize = 16;
    pub(super) const ERROR: usize = 20;
    pub(super) const COPY_ADDRESS: usize = 24;
    pub(super) const COPY_LEN: usize = 32;
    pub(super) const MESSAGE_FLAGS: usize = 56;
    pub(super) const RESERVED: usize = 60;
    pub(super) const END: usize = 64;
}

/// The flags that the struct may come with (`TCP_VALID_ZC_MSG_FLAGS`): none of them is needed here.
const VALID_FLAGS: u32 = 1;

fn word(of: &[u8; field::END], at: usize) -> u32 {
    u32::from_ne_bytes([of[at], of[at + 1], of[at + 2], of[at + 3]])
}

fn long(of: &[u8; field::END], at: usize) -> u64 {
    u64::from(word(of, at)) | u64::from(word(of, at + 4)) << 32
}

fn put(to: &mut [u8; field::END], at: usize, value: usize) {
    to[at..at + 4].copy_from_slice(&saturate(value).to_ne_bytes());
}

fn receive(context: &Context<'_>) -> Result<Value, Errno> {
    let tcp = tcp(context)?;
    let room = context.buffer.1;
    if room < field::SKIP_HINT {
        return Err(Errno::EINVAL);
    }
    // A struct of a later Linux has to have nothing in what is unknown here.
    let given = context.read_buffer(room.min(MOST))?;
    if given.iter().skip(field::END).any(|byte| *byte != 0) {
        return Err(Errno::EINVAL);
    }
    let len = given.len().min(field::END);
    let mut request = [0; field::END];
    request[..len].copy_from_slice(&given[..len]);
    if word(&request, field::RESERVED) != 0 || word(&request, field::MESSAGE_FLAGS) & !VALID_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    answer(context, tcp, &mut request)?;
    put(&mut request, field::IN_QUEUE, tcp.recv_queue_len());
    // What has gone wrong is taken only by who has a field for it.
    if len > field::ERROR {
        let error = context.socket.take_error().map_or(0, |error| i32::from(error.code()));
        request[field::ERROR..field::ERROR + 4].copy_from_slice(&error.to_ne_bytes());
    }
    Ok(Value::from_slice(&request[..len]))
}

/// `tcp_zerocopy_receive`.
fn answer(context: &Context<'_>, tcp: &TcpSocket, request: &mut [u8; field::END]) -> Result<(), Errno> {
    let address = long(request, field::ADDRESS);
    if !address.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    if tcp.state() == State::Listen {
        return Err(Errno::ENOTCONN);
    }
    let waiting = tcp.recv_queue_len();
    let copy_room = usize::try_from(word(request, field::COPY_LEN).cast_signed()).unwrap_or(0);
    if waiting > 0 && waiting <= copy_room {
        let copied = copy(context, tcp, UserAddr(long(request, field::COPY_ADDRESS)), waiting)?;
        put(request, field::LENGTH, 0);
        put(request, field::SKIP_HINT, 0);
        put(request, field::COPY_LEN, copied);
        return Ok(());
    }
    if u64::try_from(waiting).unwrap_or(u64::MAX) >= PAGE_SIZE {
        // Only what is mapped there from this socket would do.
        return Err(Errno::EINVAL);
    }
    put(request, field::LENGTH, 0);
    put(request, field::SKIP_HINT, waiting);
    let is_at_end = !matches!(tcp.state(), State::Established | State::FinWait1 | State::FinWait2);
    if waiting == 0 && is_at_end && tcp.peer_addr().is_some() { Err(Errno::EIO) } else { Ok(()) }
}

/// Reads what waits. It is taken off the queue only once the guest has it.
fn copy(context: &Context<'_>, tcp: &TcpSocket, to: UserAddr, len: usize) -> Result<usize, Errno> {
    let mut bytes = vec![0; len];
    let peek = RecvFlags::PEEK;
    let count = tcp.try_recv(&mut &mut bytes[..], peek).map_err(|error| error.to_errno())?;
    context.task.mm().write_bytes(to, &bytes[..count])?;
    let taken = tcp.try_recv(&mut Discard(count), RecvFlags::default());
    taken.map_err(|error| error.to_errno())
}

/// More than the struct will ever have; what is behind is not looked at.
const MOST: usize = 4096;
