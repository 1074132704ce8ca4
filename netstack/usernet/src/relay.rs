//! One TCP connection of the guest and one of the host, joined.
//!
//! Bytes go by reference from the guest's receive queue into a gather write, and from a scatter read into the guest's
//! send queue. Neither side is read before the other has room, so a slow reader closes the window of the sender at the
//! far end.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use netstack::TcpSocket;
use netstack::error::{RecvError, SendError};
use netstack::options::Shutdown;
use netstack::pool::Pool;
use netstack::wait::Readiness;
use nix::sys::epoll::EpollFlags;
use smallvec::SmallVec;

use crate::host;

/// The two ends and what is known about them.
#[derive(Debug)]
pub(crate) struct Relay {
    host: TcpStream,
    guest: TcpSocket,
    /// Taken from the guest, not yet taken by the host: less than one round.
    pending: VecDeque<Bytes>,
    /// From the guest to the host.
    up: Direction,
    /// From the host to the guest.
    down: Direction,
    /// Cleared when the host has said that it would block; epoll sets them again.
    host_readable: bool,
    host_writable: bool,
    /// The end of the host's stream is near: a short read does not mean that nothing is left.
    host_ending: bool,
    /// epoll told of an error, which nothing has returned yet.
    host_failed: bool,
}

/// Whether a direction still carries data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Open,
    /// Its end was passed on.
    Ended,
}

/// What a turn has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turned {
    /// Nothing to do until either end tells of a change.
    Idle,
    /// More, after others had their turn.
    More,
    /// Both directions ended, or the connection was reset: drop it.
    Over,
}

/// One end has failed: the other is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Host,
    Guest,
}

impl Relay {
    pub(crate) fn new(host: TcpStream, guest: TcpSocket) -> Self {
        Self {
            host,
            guest,
            pending: VecDeque::new(),
            up: Direction::Open,
            down: Direction::Open,
            host_readable: false,
            host_writable: true,
            host_ending: false,
            host_failed: false,
        }
    }

    /// The guest's end.
    pub(crate) fn guest(&self) -> &TcpSocket {
        &self.guest
    }

    /// The host's end.
    pub(crate) fn host(&self) -> &TcpStream {
        &self.host
    }

    /// Whether a write has found the host's buffer full since the last word of room.
    pub(crate) fn waits_for_room(&self) -> bool {
        !self.host_writable
    }

    /// Resets both ends.
    pub(crate) fn give_up(&self) {
        self.guest.abort();
        host::set_reset_on_close(&self.host);
    }

    /// Notes what epoll said about the host's end.
    pub(crate) fn on_host_event(&mut self, events: EpollFlags) {
        let is_over = events.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
        self.host_readable |= is_over || events.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP);
        self.host_writable |= is_over || events.contains(EpollFlags::EPOLLOUT);
        self.host_ending |= is_over || events.contains(EpollFlags::EPOLLRDHUP);
        self.host_failed |= events.contains(EpollFlags::EPOLLERR);
    }

    /// Carries what can be carried now, up to a budget.
    pub(crate) fn turn(&mut self, pool: &Arc<Pool>) -> Turned {
        match self.carry(pool) {
            Ok(turned) => turned,
            Err(Broken::Host) => {
                self.guest.abort();
                Turned::Over
            }
            Err(Broken::Guest) => {
                // Ends with a reset when the relay is dropped.
                host::set_reset_on_close(&self.host);
                Turned::Over
            }
        }
    }

    fn carry(&mut self, pool: &Arc<Pool>) -> Result<Turned, Broken> {
        if self.guest.readiness().contains(Readiness::ERR) {
            return Err(Broken::Guest);
        }
        let has_more_up = self.carry_up()?;
        let has_more_down = self.carry_down(pool)?;
        Ok(match (self.up, self.down) {
            (Direction::Ended, Direction::Ended) => Turned::Over,
            _ if has_more_up || has_more_down => Turned::More,
            _ => {
                self.check_host()?;
                Turned::Idle
            }
        })
    }

    /// A host connection that was reset after its stream had ended is not read any more, so it is asked.
    fn check_host(&mut self) -> Result<(), Broken> {
        let is_asked = std::mem::take(&mut self.host_failed) && self.down == Direction::Ended;
        if is_asked && matches!(self.host.take_error(), Ok(Some(_))) { Err(Broken::Host) } else { Ok(()) }
    }

    /// From the guest to the host; true if the budget ended it.
    fn carry_up(&mut self) -> Result<bool, Broken> {
        if self.up == Direction::Ended {
            return Ok(false);
        }
        let mut budget = BUDGET;
        loop {
            if !self.pending.is_empty() {
                if !self.host_writable {
                    return Ok(false);
                }
                if !self.write_pending()? {
                    return Ok(false);
                }
            }
            if budget == 0 {
                return Ok(true);
            }
            match self.guest.try_recv_bytes(ROUND, &mut self.pending) {
                Ok(0) => {
                    self.up = Direction::Ended;
                    // With the other direction over, closing the socket says the same. A host connection that is gone
                    // already is reset by the next thing that happens to it.
                    if self.down == Direction::Open {
                        let _ = self.host.shutdown(std::net::Shutdown::Write);
                    }
                    return Ok(false);
                }
                Ok(count) => budget = budget.saturating_sub(count),
                Err(RecvError::WouldBlock) => return Ok(false),
                Err(RecvError::NotConnected | RecvError::Fault(_) | RecvError::Pending(_)) => {
                    return Err(Broken::Guest);
                }
            }
        }
    }

    /// Writes what is pending; false if the host took only a part.
    fn write_pending(&mut self) -> Result<bool, Broken> {
        while !self.pending.is_empty() {
            match write_pieces(&self.host, &self.pending) {
                Ok(count) => drop_front(&mut self.pending, count),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        self.host_writable = false;
                        return Ok(false);
                    }
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(Broken::Host),
                },
            }
        }
        Ok(true)
    }

    /// From the host to the guest; true if the budget ended it.
    fn carry_down(&mut self, pool: &Arc<Pool>) -> Result<bool, Broken> {
        if self.down == Direction::Ended {
            return Ok(false);
        }
        let mut budget = BUDGET;
        while self.host_readable {
            if budget == 0 {
                return Ok(true);
            }
            // A few bytes of room are not worth a system call: the observer tells when a third is free.
            let room = self.guest.send_room();
            if room == 0 || (room < LOW_ROOM && !self.guest.readiness().contains(Readiness::OUT)) {
                return Ok(false);
            }
            let Some((count, asked)) = self.read_down(pool, room.min(ROUND))? else { return Ok(false) };
            if count == 0 {
                self.down = Direction::Ended;
                // A guest connection that is gone already has said so, or will.
                let _ = self.guest.shutdown(Shutdown::Write);
                return Ok(false);
            }
            budget = budget.saturating_sub(count);
            if count < asked && !self.host_ending {
                // epoll(7): a short read of a stream socket means that it is drained.
                self.host_readable = false;
            }
        }
        Ok(false)
    }

    /// Reads up to `room` bytes for the guest; `None` if there are none now. Says how many came and were asked for.
    fn read_down(&mut self, pool: &Arc<Pool>, room: usize) -> Result<Option<(usize, usize)>, Broken> {
        let mut blocks: SmallVec<[Box<[u8]>; BLOCKS]> = SmallVec::new();
        let mut left = room;
        while left > 0 && blocks.len() < BLOCKS {
            let block = pool.take();
            left = left.saturating_sub(block.len());
            blocks.push(block);
        }
        let asked = room - left;
        let count = match read_blocks(&self.host, &mut blocks, asked) {
            Ok(count) => count,
            Err(error) => {
                give_back(pool, blocks);
                return match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        self.host_readable = false;
                        Ok(None)
                    }
                    io::ErrorKind::Interrupted => Ok(None),
                    _ => Err(Broken::Host),
                };
            }
        };
        let parts = share(pool, blocks, count);
        match self.guest.try_send_bytes(parts) {
            Ok(()) => Ok(Some((count, asked))),
            Err(SendError::Shutdown) if count == 0 => Ok(Some((0, asked))),
            Err(_) => Err(Broken::Guest),
        }
    }
}

fn write_pieces(mut host: &TcpStream, pieces: &VecDeque<Bytes>) -> io::Result<usize> {
    let slices: SmallVec<[IoSlice<'_>; 16]> =
        pieces.iter().take(MAX_PIECES).map(|piece| IoSlice::new(piece)).collect();
    host.write_vectored(&slices)
}

/// Reads up to `len` bytes.
fn read_blocks(mut host: &TcpStream, blocks: &mut [Box<[u8]>], len: usize) -> io::Result<usize> {
    let mut left = len;
    let mut slices: SmallVec<[IoSliceMut<'_>; BLOCKS]> = SmallVec::new();
    for block in blocks {
        let now = left.min(block.len());
        slices.push(IoSliceMut::new(&mut block[..now]));
        left -= now;
    }
    host.read_vectored(&mut slices)
}

/// The first `count` bytes of the blocks; the rest of them goes back. Little data is copied out, so that it does not
/// hold a whole block.
fn share(pool: &Arc<Pool>, blocks: SmallVec<[Box<[u8]>; BLOCKS]>, count: usize) -> SmallVec<[Bytes; BLOCKS]> {
    let mut left = count;
    let mut parts = SmallVec::new();
    for block in blocks {
        let len = left.min(block.len());
        left -= len;
        if len > block.len() / 4 {
            parts.push(pool.share(block, len));
        } else {
            if len > 0 {
                parts.push(Bytes::copy_from_slice(&block[..len]));
            }
            drop(pool.share(block, 0));
        }
    }
    parts
}

fn give_back(pool: &Arc<Pool>, blocks: SmallVec<[Box<[u8]>; BLOCKS]>) {
    blocks.into_iter().for_each(|block| drop(pool.share(block, 0)));
}

/// Removes the first `count` bytes.
fn drop_front(pieces: &mut VecDeque<Bytes>, count: usize) {
    let mut count = count;
    while let Some(first) = pieces.front_mut() {
        if first.len() > count {
            return first.advance(count);
        }
        count -= first.len();
        pieces.pop_front();
    }
}

/// Bytes that are taken from one side before the other gets them.
const ROUND: usize = 256 << 10;
/// Bytes of one direction before other flows have their turn.
const BUDGET: usize = 1 << 20;
/// Blocks of one read.
const BLOCKS: usize = 4;
/// The length of a block, about a super-segment.
pub(crate) const BLOCK_LEN: usize = 64 << 10;
/// Below this room a read waits.
const LOW_ROOM: usize = 16 << 10;
/// Pieces of one write (IOV_MAX is 1024; fewer are enough for a round of super-segments).
const MAX_PIECES: usize = 64;
