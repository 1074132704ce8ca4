//! The errors of the user's operations on a connection, one enum each. No errno here.

use super::outcome::CloseReason;

/// Why `send` took nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SendError {
    /// The send queue is full, or the handshake is still running.
    #[error("send queue full or not yet connected")]
    WouldBlock,
    /// The write side is shut down, or the connection is over and its error was reported before.
    #[error("connection closed for sending")]
    WriteClosed,
    /// The connection failed; reported once.
    #[error("connection failed: {0:?}")]
    Failed(CloseReason),
}

/// Why `recv`, `peek` or `take` gave nothing. The end of the stream is not an error but zero bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecvError {
    /// Nothing has arrived yet.
    #[error("nothing to receive yet")]
    WouldBlock,
    /// The connection failed; reported once, afterwards reads give the end of the stream.
    #[error("connection failed: {0:?}")]
    Failed(CloseReason),
}

/// Why `shutdown` did nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ShutdownError {
    /// There is no connection.
    #[error("not connected")]
    NotConnected,
}
