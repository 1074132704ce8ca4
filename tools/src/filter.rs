//! Choosing packets with an expression in the spirit of tcpdump's.
//!
//! ```text
//! expression: primitive | not expression | expression and expression | expression or expression | ( expression )
//!
//! [src|dst] host ADDRESS   [src|dst] net ADDRESS/LENGTH   [src|dst] port NUMBER|FIRST-LAST
//! tcp udp icmp icmp6 arp ip ip6 dns inbound outbound malformed notable
//! flow NUMBER   interface NAME   tcp.flags syn,ack   contains "TEXT"
//! len|payload|seq|ack|window|number|time|rtt|in-flight  < <= > >= = !=  NUMBER    (time and rtt: 1.5s, 20ms, 100us)
//! drop [REASON]   process NAME|PID   state NAME   comment "TEXT"
//! retransmission out-of-order duplicate-ack zero-window reset ...          (any note of the analysis)
//! ```

mod expression;
mod lexer;
mod parser;

use std::str::FromStr;

use crate::examine::Examined;
use expression::Expression;

/// A parsed expression. The default lets everything through.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter(Option<Expression>);

/// Why a text is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} at column {column}\n  {text}\n  {:>column$}", "^")]
pub(crate) struct FilterError {
    text: String,
    /// In characters, from one.
    pub(crate) column: usize,
    pub(crate) message: String,
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let tokens = lexer::tokens(text);
        let parsed = tokens.and_then(|tokens| parser::parse(&tokens, text.len()));
        parsed.map(Self).map_err(|fault| FilterError {
            text: text.to_owned(),
            column: text.get(..fault.at).map_or(0, |before| before.chars().count()) + 1,
            message: fault.message,
        })
    }
}

impl Filter {
    /// Whether the filter lets the packet through.
    pub(crate) fn matches(&self, examined: &Examined) -> bool {
        self.0.as_ref().is_none_or(|expression| expression.matches(examined))
    }

    /// Whether it lets everything through.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

/// What is wrong at which byte.
#[derive(Debug)]
struct Fault {
    at: usize,
    message: String,
}

impl Fault {
    fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
