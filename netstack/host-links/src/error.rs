//! What can go wrong with a host link.

use std::io;

/// Why a link could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Interface names have 1 to 15 bytes and no NUL.
    #[error("not an interface name: {0:?}")]
    Name(String),
    /// The interface carries something other than Ethernet frames.
    #[error("{0}: not an Ethernet interface")]
    NotEthernet(String),
    /// The host refused a call.
    #[error("{interface}: {call}: {source}")]
    Host {
        /// The interface.
        interface: String,
        /// The call.
        call: &'static str,
        /// Its error.
        source: io::Error,
    },
}

impl OpenError {
    /// Makes the adapter that `map_err` wants.
    pub(crate) fn host<'a>(interface: &'a str, call: &'static str) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Host { interface: interface.to_owned(), call, source }
    }
}

/// Why nothing could be read from a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    /// The interface is down; frames may come again when somebody turns it on.
    #[error("the interface is down")]
    Down,
    /// The interface is gone for good.
    #[error("the interface is gone")]
    Gone,
}
