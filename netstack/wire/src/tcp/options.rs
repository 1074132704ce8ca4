//! The TCP options: RFC 9293 section 3.2 (MSS), RFC 7323 (window scale, timestamps), RFC 2018 (SACK), RFC 7413 (Fast
//! Open).

use super::MAX_OPTIONS_LEN;
use crate::seq::SeqNum;

/// The options of a segment that this stack understands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TcpOptions {
    /// Maximum segment size (SYN only).
    pub mss: Option<u16>,
    /// Window scale shift (SYN only). Parsing keeps the sender's figure; RFC 7323 section 2.3 caps its use at 14.
    pub window_scale: Option<u8>,
    /// SACK permitted (SYN only).
    pub sack_permitted: bool,
    /// The timestamps.
    pub timestamps: Option<Timestamps>,
    /// The SACK blocks.
    pub sack: SackBlocks,
    /// The Fast Open cookie; an empty one is a request (SYN only).
    pub fast_open: Option<FastOpenCookie>,
}

/// The timestamps option (RFC 7323 section 3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Timestamps {
    /// TSval: the sender's clock.
    pub value: u32,
    /// TSecr: the echo of a TSval of ours; significant with ACK.
    pub echo: u32,
}

/// One SACK block: the bytes `[start, end)` have arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SackBlock {
    /// The first sequence number of the block.
    pub start: SeqNum,
    /// The sequence number after the block.
    pub end: SeqNum,
}

/// Up to four SACK blocks, in the order of the wire.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct SackBlocks {
    blocks: [SackBlock; Self::MAX],
    len: u8,
}

impl SackBlocks {
    /// 40 bytes of options hold at most four blocks (RFC 2018 section 3).
    pub const MAX: usize = 4;
    /// With timestamps only three fit.
    pub const MAX_WITH_TIMESTAMPS: usize = 3;

    /// Appends a block; returns whether there was room.
    pub fn push(&mut self, block: SackBlock) -> bool {
        let at = usize::from(self.len);
        let Some(slot) = self.blocks.get_mut(at) else { return false };
        *slot = block;
        self.len += 1;
        true
    }

    /// The blocks.
    #[must_use]
    pub fn as_slice(&self) -> &[SackBlock] {
        &self.blocks[..usize::from(self.len)]
    }

    /// Returns whether there is no block.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl core::fmt::Debug for SackBlocks {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

/// A Fast Open cookie (RFC 7413 section 4.1.1): empty (a request) or 4 to 16 bytes, an even number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FastOpenCookie {
    bytes: [u8; Self::MAX],
    len: u8,
}

impl FastOpenCookie {
    /// The longest cookie.
    pub const MAX: usize = 16;
    /// The empty cookie: a request for one.
    pub const REQUEST: Self = Self { bytes: [0; Self::MAX], len: 0 };

    /// Makes a cookie of `bytes`; `None` if RFC 7413 does not allow the length.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let valid =
            bytes.is_empty() || (4..=Self::MAX).contains(&bytes.len()) && bytes.len().is_multiple_of(2);
        if !valid {
            return None;
        }
        let mut cookie = Self { bytes: [0; Self::MAX], len: u8::try_from(bytes.len()).ok()? };
        cookie.bytes[..bytes.len()].copy_from_slice(bytes);
        Some(cookie)
    }

    /// The cookie's bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Returns whether this asks for a cookie.
    #[must_use]
    pub fn is_request(&self) -> bool {
        self.len == 0
    }
}

impl TcpOptions {
    /// Parses option bytes; what is unknown, malformed or cut off is skipped.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let mut options = Self { timestamps: Self::only_timestamps(bytes), ..Self::default() };
        if options.timestamps.is_some() || options.parse_usual_syn(bytes) {
            return options;
        }
        let mut rest = bytes;
        while let [kind, tail @ ..] = rest {
            match *kind {
                KIND_END => break,
                KIND_NOP => rest = tail,
                kind => {
                    // A length below 2 or past the end leaves nothing that could be trusted.
                    let Some(&len) = tail.first() else { break };
                    let Some(body) = rest.get(2..usize::from(len)) else { break };
                    options.parse_one(kind, body);
                    rest = &rest[usize::from(len)..];
                }
            }
        }
        options
    }

    /// Parses the usual layout of a data segment: NOP, NOP, timestamps and nothing else (RFC 7323 appendix A).
    #[must_use]
    #[inline]
    pub fn only_timestamps(bytes: &[u8]) -> Option<Timestamps> {
        match *bytes {
            [KIND_NOP, KIND_NOP, KIND_TIMESTAMPS, LEN_TIMESTAMPS, v0, v1, v2, v3, e0, e1, e2, e3] => {
                Some(Timestamps {
                    value: u32::from_be_bytes([v0, v1, v2, v3]),
                    echo: u32::from_be_bytes([e0, e1, e2, e3]),
                })
            }
            _ => None,
        }
    }

    /// Parses what most SYNs carry, in the order in which Linux and this stack write it: MSS, SACK permitted, timestamps, NOP and
    /// window scale. Says whether it is that.
    fn parse_usual_syn(&mut self, bytes: &[u8]) -> bool {
        let &[
            KIND_MSS,
            4,
            m0,
            m1,
            KIND_SACK_PERMITTED,
            2,
            KIND_TIMESTAMPS,
            LEN_TIMESTAMPS,
            v0,
            v1,
            v2,
            v3,
            e0,
            e1,
            e2,
            e3,
            KIND_NOP,
            KIND_WINDOW_SCALE,
            3,
            shift,
        ] = bytes
        else {
            return false;
        };
        self.mss = Some(u16::from_be_bytes([m0, m1]));
        self.sack_permitted = true;
        self.timestamps = Some(Timestamps {
            value: u32::from_be_bytes([v0, v1, v2, v3]),
            echo: u32::from_be_bytes([e0, e1, e2, e3]),
        });
        self.window_scale = Some(shift);
        true
    }

    fn parse_one(&mut self, kind: u8, body: &[u8]) {
        match (kind, body) {
            (KIND_MSS, &[a, b]) => self.mss = Some(u16::from_be_bytes([a, b])),
            (KIND_WINDOW_SCALE, &[shift]) => self.window_scale = Some(shift),
            (KIND_SACK_PERMITTED, []) => self.sack_permitted = true,
            (KIND_TIMESTAMPS, body) if body.len() == 8 => self.timestamps = parse_timestamps(body),
            (KIND_SACK, body) if body.len().is_multiple_of(SACK_BLOCK_LEN) => {
                self.sack = SackBlocks::default();
                for block in body.chunks_exact(SACK_BLOCK_LEN) {
                    let (start, end) = block.split_at(4);
                    if let (Some(start), Some(end)) = (u32_of(start), u32_of(end)) {
                        self.sack.push(SackBlock { start: SeqNum(start), end: SeqNum(end) });
                    }
                }
            }
            (KIND_FAST_OPEN, body) => self.fast_open = FastOpenCookie::new(body).or(self.fast_open),
            _ => {}
        }
    }

    /// The length of the emitted options with padding: a multiple of four, at most 40.
    #[must_use]
    pub fn emit_len(&self) -> usize {
        if self.is_usual() {
            return if self.timestamps.is_some() { PADDED_TIMESTAMPS_LEN } else { 0 };
        }
        if self.fast_open.is_none() {
            let mss = if self.mss.is_some() { 4 } else { 0 };
            let timestamps = match (self.timestamps, self.sack_permitted) {
                (Some(_), _) => PADDED_TIMESTAMPS_LEN,
                (None, true) => 4,
                (None, false) => 0,
            };
            let scale = if self.window_scale.is_some() { 4 } else { 0 };
            let used = mss + timestamps + scale;
            return used + self.sack_len(used);
        }
        let mut scratch = [0; MAX_OPTIONS_LEN];
        self.emit(&mut scratch)
    }

    /// Whether there is nothing but perhaps timestamps, as in most segments.
    #[must_use]
    #[inline]
    pub fn is_usual(&self) -> bool {
        let Self { mss, window_scale, sack_permitted, timestamps: _, sack, fast_open } = self;
        mss.is_none() && window_scale.is_none() && !sack_permitted && sack.is_empty() && fast_open.is_none()
    }

    /// Writes the options, padded to a multiple of four, and returns their length. What does not fit in `buf` or in
    /// 40 bytes is left out, SACK blocks and the Fast Open cookie first.
    ///
    /// The order is Linux's: MSS, SACK permitted, timestamps, window scale, then Fast Open and SACK.
    pub fn emit(&self, buf: &mut [u8]) -> usize {
        if let (Some(timestamps), true) = (self.timestamps, self.is_usual())
            && let Some(out) = buf.first_chunk_mut()
        {
            *out = padded_timestamps(timestamps);
            return out.len();
        }
        let room = buf.len().min(MAX_OPTIONS_LEN);
        let mut out = Writer { buf: &mut buf[..room], at: 0 };
        if let Some(mss) = self.mss {
            let [a, b] = mss.to_be_bytes();
            out.put(&[KIND_MSS, 4, a, b]);
        }
        match (self.sack_permitted, self.timestamps) {
            (true, Some(timestamps)) => {
                out.put(&[KIND_SACK_PERMITTED, 2]);
                out.put_timestamps(timestamps);
            }
            (true, None) => out.put(&[KIND_NOP, KIND_NOP, KIND_SACK_PERMITTED, 2]),
            (false, Some(timestamps)) => {
                out.put(&[KIND_NOP, KIND_NOP]);
                out.put_timestamps(timestamps);
            }
            (false, None) => {}
        }
        if let Some(shift) = self.window_scale {
            out.put(&[KIND_NOP, KIND_WINDOW_SCALE, 3, shift]);
        }
        if let Some(cookie) = &self.fast_open {
            out.put_fast_open(cookie);
        }
        out.put_sack(&self.sack);
        out.at
    }

    /// The length of the SACK option, given `used` bytes before it.
    fn sack_len(&self, used: usize) -> usize {
        let fit = (MAX_OPTIONS_LEN - used).saturating_sub(4) / SACK_BLOCK_LEN;
        match self.sack.as_slice().len().min(fit) {
            0 => 0,
            blocks => 4 + blocks * SACK_BLOCK_LEN,
        }
    }
}

/// NOP, NOP and the timestamps, so that their values are aligned (RFC 7323 appendix A).
#[inline]
fn padded_timestamps(timestamps: Timestamps) -> [u8; PADDED_TIMESTAMPS_LEN] {
    let ([a, b, c, d], [e, f, g, h]) = (timestamps.value.to_be_bytes(), timestamps.echo.to_be_bytes());
    [KIND_NOP, KIND_NOP, KIND_TIMESTAMPS, LEN_TIMESTAMPS, a, b, c, d, e, f, g, h]
}

/// Writes options one after the other, leaving out what does not fit.
struct Writer<'a> {
    buf: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        if let Some(slot) = self.buf.get_mut(self.at..self.at + bytes.len()) {
            slot.copy_from_slice(bytes);
            self.at += bytes.len();
        }
    }

    fn put_timestamps(&mut self, timestamps: Timestamps) {
        let mut option = [0; 10];
        option[0] = KIND_TIMESTAMPS;
        option[1] = LEN_TIMESTAMPS;
        option[2..6].copy_from_slice(&timestamps.value.to_be_bytes());
        option[6..10].copy_from_slice(&timestamps.echo.to_be_bytes());
        self.put(&option);
    }

    fn put_fast_open(&mut self, cookie: &FastOpenCookie) {
        let bytes = cookie.as_slice();
        let mut option = [KIND_NOP; 2 + FastOpenCookie::MAX + 2];
        option[0] = KIND_FAST_OPEN;
        option[1] = 2 + cookie.len;
        option[2..2 + bytes.len()].copy_from_slice(bytes);
        let padded = (2 + bytes.len()).next_multiple_of(4);
        self.put(&option[..padded]);
    }

    fn put_sack(&mut self, sack: &SackBlocks) {
        let fit = (self.buf.len() - self.at).saturating_sub(4) / SACK_BLOCK_LEN;
        let blocks = &sack.as_slice()[..sack.as_slice().len().min(fit)];
        if blocks.is_empty() {
            return;
        }
        let mut option = [0; 4 + SackBlocks::MAX * SACK_BLOCK_LEN];
        let len = 4 + blocks.len() * SACK_BLOCK_LEN;
        option[0] = KIND_NOP;
        option[1] = KIND_NOP;
        option[2] = KIND_SACK;
        // At most 2 + 32.
        option[3] = u8::try_from(len - 2).unwrap_or(0);
        for (slot, block) in option[4..].chunks_exact_mut(SACK_BLOCK_LEN).zip(blocks) {
            slot[..4].copy_from_slice(&block.start.0.to_be_bytes());
            slot[4..].copy_from_slice(&block.end.0.to_be_bytes());
        }
        self.put(&option[..len]);
    }
}

fn parse_timestamps(body: &[u8]) -> Option<Timestamps> {
    let (value, echo) = body.split_at_checked(4)?;
    Some(Timestamps { value: u32_of(value)?, echo: u32_of(echo)? })
}

fn u32_of(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_be_bytes)
}

const KIND_END: u8 = 0;
const KIND_NOP: u8 = 1;
const KIND_MSS: u8 = 2;
const KIND_WINDOW_SCALE: u8 = 3;
const KIND_SACK_PERMITTED: u8 = 4;
const KIND_SACK: u8 = 5;
const KIND_TIMESTAMPS: u8 = 8;
const KIND_FAST_OPEN: u8 = 34;
const LEN_TIMESTAMPS: u8 = 10;
const PADDED_TIMESTAMPS_LEN: usize = 12;
const SACK_BLOCK_LEN: usize = 8;
