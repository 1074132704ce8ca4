//! Values of expressions.

use std::fmt;
use std::time::Duration;

use crate::backend::SocketId;

/// What an expression gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A whole number.
    Int(i64),
    /// A time in nanoseconds: anything written with a point or a unit.
    Time(i64),
    /// A text, or a name that is not a variable: an error, flag or option.
    Name(String),
    /// A socket.
    Socket(SocketId),
    /// A truth.
    Bool(bool),
}

impl Value {
    /// The number that a text is, or the text.
    pub(crate) fn of_text(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Name(text.to_owned()), Self::Int)
    }

    /// What it is, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Int(_) => "a number",
            Self::Time(_) => "a time",
            Self::Name(_) => "a name",
            Self::Socket(_) => "a socket",
            Self::Bool(_) => "a truth",
        }
    }

    /// The number as a time: whole numbers are seconds.
    #[must_use]
    pub fn as_time(&self) -> Option<i64> {
        match self {
            Self::Time(nanos) => Some(*nanos),
            Self::Int(seconds) => seconds.checked_mul(NANOS_PER_SECOND),
            Self::Name(_) | Self::Socket(_) | Self::Bool(_) => None,
        }
    }

    /// The time that a duration is.
    #[must_use]
    pub fn time(span: Duration) -> Self {
        Self::Time(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX))
    }
}

/// The bytes that an even number of hexadecimal digits stands for.
pub(crate) fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect()
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => write!(f, "{number}"),
            Self::Time(nanos) => {
                let sign = if *nanos < 0 { "-" } else { "" };
                let nanos = nanos.unsigned_abs();
                let scale = NANOS_PER_SECOND.unsigned_abs();
                write!(f, "{sign}{}.{:06}", nanos / scale, nanos % scale / 1000)
            }
            Self::Name(name) => f.write_str(name),
            Self::Socket(id) => write!(f, "socket {}", id.0),
            Self::Bool(truth) => write!(f, "{truth}"),
        }
    }
}

/// Nanoseconds in a second.
pub(crate) const NANOS_PER_SECOND: i64 = 1_000_000_000;
