//! What a user could do right now. Always computed from state, never stored (STYLE R24).

bitflags::bitflags! {
    /// The readiness of a connection or listener.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Readiness: u8 {
        /// A read would not block: data, end of stream, an error, or a connection to accept.
        const READABLE = 1 << 0;
        /// A write would not block.
        const WRITABLE = 1 << 1;
        /// The peer has closed its direction, or ours for reading is shut (EPOLLRDHUP).
        const READ_CLOSED = 1 << 2;
        /// Both directions are closed (EPOLLHUP).
        const HANGUP = 1 << 3;
        /// An error waits to be fetched (EPOLLERR).
        const ERROR = 1 << 4;
        /// Urgent data waits (EPOLLPRI).
        const PRIORITY = 1 << 5;
    }
}
