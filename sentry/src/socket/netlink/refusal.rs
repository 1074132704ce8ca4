//! Why a request was refused, as `NLMSG_ERROR` says it.

use crate::errno::Errno;
use crate::socket::netlink::message::Request;

/// An error, and with `NETLINK_EXT_ACK` what else there is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) errno: Errno,
    /// Where in the message the attribute is that is to blame.
    pub(super) offset: Option<u32>,
    /// Linux's words for it.
    pub(super) text: Option<&'static str>,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self { errno, offset: None, text: None }
    }
}

impl Refusal {
    /// An error with a text.
    pub(super) fn new(errno: Errno, text: &'static str) -> Self {
        Self { errno, offset: None, text: Some(text) }
    }

    /// The same about the attribute whose value is `value`, a part of the request's body.
    pub(super) fn about(self, value: &[u8], request: &Request<'_>) -> Self {
        self.at(Some(value.as_ptr().addr()), request)
    }

    /// The same about the attribute whose value is at an address in the request's body.
    pub(super) fn at(self, attribute: Option<usize>, request: &Request<'_>) -> Self {
        let start = request.body.as_ptr().addr();
        let inside = attribute.and_then(|at| at.checked_sub(start)).filter(|at| *at <= request.body.len());
        // The value follows its header of four bytes, and the body follows the message's of sixteen.
        Self { offset: inside.and_then(|at| u32::try_from(at + 16 - 4).ok()), ..self }
    }
}
