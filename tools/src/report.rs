//! Printing packets, flows and summaries, as text or as JSON lines.

mod flow;
mod packet;
mod summary;

pub(crate) use flow::{end_of, half_text, write_flow};
pub(crate) use packet::{line as packet_line, write_packet};
pub(crate) use summary::Summary;
