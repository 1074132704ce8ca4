//! Multicast routing by guest programs: the options, requests and texts around the stack's
//! [`MulticastRouter`](netstack::multicast_route::MulticastRouter).

mod counts;
mod device;
mod message;
mod option;
mod shown;
mod state;
mod text;

pub(super) use counts::ioctl;
pub(super) use option::ROWS;
pub(super) use shown::{ShownRoute, all, close, one};
pub(crate) use state::MulticastRouting;
pub(super) use text::{cache_v4, cache_v6, vifs_v4, vifs_v6};
