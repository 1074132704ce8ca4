//! A guide to the crate, in the order in which one needs it. Each page has programs that run as tests.
//!
//! | page | for |
//! |---|---|
//! | [`concepts`] | what the parts are called, and a first connection |
//! | [`buffers`] | where bytes are, and how to move them without copies |
//! | [`time`] | clocks, timers and deadlines |
//! | [`threads`] | which thread does what, waiting, and several processors |
//! | [`errors`] | what can fail, and what is counted instead |
//! | [`links`] | writing a link of one's own |
//! | [`embedding`] | a stack without threads, in somebody else's event loop |
//! | [`testing`] | networks in virtual time, with faults and seeds |
//! | [`from_std`] | coming from `std::net` |
//! | [`from_smoltcp`] | coming from smoltcp |

#[doc = include_str!("guide/buffers.md")]
pub mod buffers {}

#[doc = include_str!("guide/concepts.md")]
pub mod concepts {}

#[doc = include_str!("guide/embedding.md")]
pub mod embedding {}

#[doc = include_str!("guide/errors.md")]
pub mod errors {}

#[doc = include_str!("guide/from_smoltcp.md")]
pub mod from_smoltcp {}

#[doc = include_str!("guide/from_std.md")]
pub mod from_std {}

#[doc = include_str!("guide/links.md")]
pub mod links {}

#[doc = include_str!("guide/testing.md")]
pub mod testing {}

#[doc = include_str!("guide/threads.md")]
pub mod threads {}

#[doc = include_str!("guide/time.md")]
pub mod time {}
