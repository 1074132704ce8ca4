//! Printing packets, flows and summaries, as text or as JSON lines.

mod flow;
mod packet;
mod summary;

pub(crate) use flow::{end_of, half_text, write_flow};
pub(crate) use packet::write_packet;
pub(crate) use summary::Summary;
