//! What rules measure: what a packet contains, what a flow has carried, how many connections somebody has, what time it is.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::test::Side;

/// A text in a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentTest {
    /// The text.
    pub text: Vec<u8>,
    /// Letters of ASCII are the same in both cases.
    pub ignores_case: bool,
    /// Where to look: offsets from the IP header on. The text must end before the end.
    pub within: std::ops::Range<usize>,
}

/// A limit for the connections of each host or network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnLimit {
    /// Passes if there are more than this.
    pub above: u32,
    /// Which address.
    pub side: Side,
    /// Which of its bits count.
    pub mask: IpAddr,
}

/// How much a flow has carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarriedTest {
    /// What is counted.
    pub what: Carried,
    /// Of one direction (true: the opener's), or both.
    pub is_original: Option<bool>,
    /// Where the number must be.
    pub range: RangeInclusive<u64>,
}

/// What a [`CarriedTest`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carried {
    /// Packets.
    Packets,
    /// Bytes of IP packets.
    Bytes,
    /// Bytes for each packet.
    BytesPerPacket,
}

/// When rules hold. Times are UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeTest {
    /// Seconds since 1970.
    pub dates: RangeInclusive<u64>,
    /// Seconds of the day from which on it holds.
    pub day_start: u32,
    /// Seconds of the day up to which it holds; less than the start reaches over midnight.
    pub day_stop: u32,
    /// What reaches over midnight belongs to the day on which it began.
    pub is_contiguous: bool,
    /// Bit 1 is Monday, bit 7 Sunday.
    pub weekdays: u8,
    /// Bits 1 to 31.
    pub month_days: u32,
}
