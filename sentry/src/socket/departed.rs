//! Whose the sockets were that are closed: a recording names the owner of a packet a while after it passed, and by then a
//! short program is gone.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use netstack::tcp::Flow;
use netstack::wire::ip::Protocol;
use parking_lot::Mutex;

use crate::socket::owner::{Ends, Fit};

/// Closed sockets that are remembered; the oldest are forgotten first.
const MAX: usize = 4096;

/// The last sockets that were closed, while somebody wants to know.
#[derive(Debug, Default)]
pub(crate) struct Departed {
    is_kept: AtomicBool,
    sockets: Mutex<VecDeque<(Ends, Box<str>)>>,
}

impl Departed {
    /// Begins to remember, or forgets all.
    pub(crate) fn keep(&self, is_kept: bool) {
        self.is_kept.store(is_kept, Ordering::Relaxed);
        if !is_kept {
            self.sockets.lock().clear();
        }
    }

    /// Whether somebody wants to know.
    pub(crate) fn is_kept(&self) -> bool {
        self.is_kept.load(Ordering::Relaxed)
    }

    /// A socket of `owner` is about to be closed.
    pub(super) fn add(&self, ends: Ends, owner: Box<str>) {
        let mut sockets = self.sockets.lock();
        if sockets.len() == MAX {
            sockets.pop_front();
        }
        sockets.push_back((ends, owner));
    }

    /// The last owner of a socket for the conversation, and how it belonged to it.
    pub(super) fn find(&self, protocol: Protocol, flow: &Flow) -> Option<(Fit, String)> {
        let sockets = self.sockets.lock();
        let fits = sockets.iter().filter_map(|(ends, owner)| Some((ends.fit(protocol, flow)?, owner)));
        // Of equals the last one counts.
        fits.max_by_key(|(fit, _)| *fit).map(|(fit, owner)| (fit, owner.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn ends(local: &str, peer: Option<&str>) -> Ends {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        Ends { protocol: Protocol::UDP, local: parse(local), peer: peer.map(parse) }
    }

    #[test]
    fn connected_beats_bound_and_the_last_one_the_others() {
        let departed = Departed::default();
        departed.add(ends("10.0.0.1:53", Some("10.0.0.2:7")), "1 connected".into());
        departed.add(ends("10.0.0.1:53", None), "2 old".into());
        departed.add(ends("0.0.0.0:53", None), "3 new".into());
        let find = |remote_port| {
            let flow = Flow {
                local_addr: "10.0.0.1".parse().unwrap(),
                local_port: 53,
                remote_addr: "10.0.0.2".parse().unwrap(),
                remote_port,
                zone: 0,
            };
            departed.find(Protocol::UDP, &flow).map(|(_, owner)| owner)
        };
        assert_eq!(find(7).as_deref(), Some("1 connected"));
        assert_eq!(find(8).as_deref(), Some("3 new"));
        departed.keep(false);
        assert_eq!(find(8), None);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let departed = Departed::default();
        for port in 0..=MAX {
            departed.add(ends(&format!("10.0.0.1:{port}"), None), "1 sh".into());
        }
        assert_eq!(departed.sockets.lock().len(), MAX);
        assert_eq!(departed.sockets.lock()[0].0.local.port(), 1);
    }
}
