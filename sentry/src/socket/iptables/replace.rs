//! `struct ipt_replace` (`<linux/netfilter_ipv4/ip_tables.h>`): a whole table that is to be set.

use netstack::options::Family;

use super::blob::{text, word};
use super::table::{Hooks, Name};
use super::tables::Replacement;
use crate::errno::Errno;
use crate::mm::UserAddr;
use crate::socket::NetNamespace;

/// What is in front of the entries.
#[derive(Debug)]
pub(super) struct Head {
    name: Name,
    hooks: Hooks,
    entries: usize,
    /// How many entries the table is thought to have now.
    old_entries: usize,
    /// The bytes of the entries.
    pub(super) size: usize,
    /// Where the old entries' counters go.
    pub(super) counters: UserAddr,
}

impl Head {
    /// `sizeof(struct ipt_replace)`.
    pub(super) const LEN: usize = 96;

    /// Reads the first [`Self::LEN`] bytes.
    ///
    /// # Errors
    /// `ENOENT` for an unknown table, `EINVAL` for what is not this structure, `ENOMEM` for too large a table.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Errno> {
        let bytes: &[u8; Self::LEN] = bytes.first_chunk().ok_or(Errno::EINVAL)?;
        let name = Name::find(text(&bytes[..NAME_LEN])?)?;
        let number = |at: usize| word(bytes, at);
        let count = |at: usize| usize::try_from(number(at)).map_err(|_| Errno::EINVAL);
        let (size, old_entries) = (count(40)?, count(84)?);
        if number(32) != name.valid_hooks() || old_entries == 0 {
            return Err(Errno::EINVAL);
        }
        if size > MAX_TABLE {
            return Err(Errno::ENOMEM);
        }
        let five = |at: usize| std::array::from_fn(|index| number(at + 4 * index));
        let mut counters = [0; 8];
        counters.copy_from_slice(&bytes[88..]);
        Ok(Self {
            name,
            hooks: Hooks { entry: five(44), underflow: five(64) },
            entries: count(36)?,
            old_entries,
            size,
            counters: UserAddr(u64::from_ne_bytes(counters)),
        })
    }
}

impl NetNamespace {
    /// Sets a table of iptables (`IPT_SO_SET_REPLACE`), and returns the packets and bytes that each of the old entries has
    /// counted. `request` is `struct ipt_replace` with the entries behind it.
    ///
    /// # Errors
    /// `EAGAIN` if the table has changed meanwhile; `EINVAL`, `ENOENT`, `ELOOP` for what makes no sense or is not there;
    /// `ENOMEM` for too large a table.
    pub fn replace_ip_table(&self, family: Family, request: &[u8]) -> Result<Vec<(u64, u64)>, Errno> {
        let Head { name, hooks, entries, old_entries, size, counters: _ } = Head::parse(request)?;
        let blob = request.get(Head::LEN..Head::LEN + size).ok_or(Errno::EINVAL)?.to_vec();
        let new = Replacement { name, hooks, blob, entries, old_entries };
        self.ip_tables().replace(self.stack(), family, new)
    }

    /// The entries of a table of iptables, as they were set and with what they have counted (`IPT_SO_GET_ENTRIES`).
    ///
    /// # Errors
    /// `ENOENT` for an unknown table.
    pub fn ip_table_entries(&self, family: Family, name: &str) -> Result<Vec<u8>, Errno> {
        Ok(self.ip_tables().get(self.stack(), family, Name::find(name)?).blob)
    }
}

/// `XT_TABLE_MAXNAMELEN`.
const NAME_LEN: usize = 32;
/// Bounds a table: some ten thousand rules.
pub(super) const MAX_TABLE: usize = 4 << 20;
