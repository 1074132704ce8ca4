//! How many connections use each port without a claim of their own.
//!
//! Ports are picked one after the other (RFC 6056 section 3.3.3 begins somewhere and counts on), and so they end: the counts of
//! neighbours lie together, in pages that exist while one of their ports is used. A hash table would bring a line of memory
//! into the cache for each connection that begins or ends.

use smallvec::SmallVec;

/// The counts of all ports.
#[derive(Default)]
pub(crate) struct PortUsers {
    /// By the upper bits of the port; none at all before the first use.
    pages: Vec<Option<Box<Page>>>,
    /// Some pages that lost their last users, for the next ones.
    spare: SmallVec<[Box<Page>; MAX_SPARE]>,
    /// How many ports are used.
    len: usize,
}

/// Who uses one port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Users {
    /// Those that may share it with new binders.
    pub(crate) shared: u32,
    /// Those that may not.
    pub(crate) exclusive: u32,
}

/// Whether connections share their port with new binders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PortUse {
    Shared,
    Exclusive,
}

struct Page {
    /// How many of its ports are used.
    used: usize,
    ports: [Users; PAGE],
}

impl PortUsers {
    pub(crate) fn add(&mut self, port: u16, port_use: PortUse) {
        let (page, index) = place(port);
        if self.pages.is_empty() {
            self.pages.resize_with(PAGES, || None);
        }
        let page = self.pages[page].get_or_insert_with(|| self.spare.pop().unwrap_or_else(Page::new));
        let users = &mut page.ports[index];
        if users.is_nobody() {
            page.used += 1;
            self.len += 1;
        }
        *users.of(port_use) += 1;
    }

    /// Undoes [`add`](Self::add).
    pub(crate) fn remove(&mut self, port: u16, port_use: PortUse) {
        let (index_of_page, index) = place(port);
        let Some(slot) = self.pages.get_mut(index_of_page) else { return };
        let Some(page) = slot else { return };
        let users = &mut page.ports[index];
        let count = users.of(port_use);
        if *count == 0 {
            return;
        }
        *count -= 1;
        if users.is_nobody() {
            page.used -= 1;
            self.len -= 1;
            if page.used == 0 {
                let page = slot.take();
                self.spare.extend(page.filter(|_| self.spare.len() < MAX_SPARE));
            }
        }
    }

    pub(crate) fn of(&self, port: u16) -> Users {
        let (page, index) = place(port);
        self.pages.get(page).and_then(Option::as_ref).map_or(Users::default(), |page| page.ports[index])
    }

    /// How many ports are used.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Users {
    pub(crate) fn is_nobody(self) -> bool {
        self == Self::default()
    }

    fn of(&mut self, port_use: PortUse) -> &mut u32 {
        match port_use {
            PortUse::Shared => &mut self.shared,
            PortUse::Exclusive => &mut self.exclusive,
        }
    }
}

impl Page {
    fn new() -> Box<Self> {
        Box::new(Self { used: 0, ports: [Users::default(); PAGE] })
    }
}

/// The page of a port, below [`PAGES`], and its place there.
fn place(port: u16) -> (usize, usize) {
    (usize::from(port) / PAGE, usize::from(port) % PAGE)
}

/// Ports in a page of half a KiB.
const PAGE: usize = 64;
const PAGES: usize = (1 << 16) / PAGE;
/// 4 KiB of them.
const MAX_SPARE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_of_a_map() {
        let (mut users, mut expected) = (PortUsers::default(), std::collections::HashMap::new());
        // Ports at both ends, in one page and in several, each used several times.
        let ports = [0, 1, 63, 64, 65, 4096, 65_535, 0, 64, 64, 65_535];
        for (step, &port) in ports.iter().enumerate() {
            let port_use = if step % 3 == 0 { PortUse::Shared } else { PortUse::Exclusive };
            users.add(port, port_use);
            *expected.entry(port).or_insert_with(Users::default).of(port_use) += 1;
        }
        assert_eq!(users.len(), expected.len());
        for port in 0..=u16::MAX {
            assert_eq!(users.of(port), expected.get(&port).copied().unwrap_or_default(), "{port}");
        }
        for (step, &port) in ports.iter().enumerate().rev() {
            users.remove(port, if step % 3 == 0 { PortUse::Shared } else { PortUse::Exclusive });
        }
        assert_eq!(users.len(), 0);
        assert!(users.pages.iter().all(Option::is_none));
    }

    #[test]
    fn removing_nobody_changes_nothing() {
        let mut users = PortUsers::default();
        users.remove(80, PortUse::Shared);
        users.add(80, PortUse::Shared);
        users.remove(80, PortUse::Exclusive);
        users.remove(81, PortUse::Shared);
        assert_eq!((users.len(), users.of(80)), (1, Users { shared: 1, exclusive: 0 }));
    }
}
