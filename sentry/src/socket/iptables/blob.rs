//! The entries of a table as bytes.

use netstack::options::Family;

use crate::errno::Errno;

/// Where the parts of an entry are, which differs between the families.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// The length of an address.
    pub(super) address_len: usize,
    /// `flags` and `invflags`.
    pub(super) flags_at: usize,
    /// `target_offset`, `next_offset` behind it.
    offsets_at: usize,
    /// `counters`.
    counters_at: usize,
    /// The length of an entry's fixed part.
    pub(super) entry_len: usize,
}

impl Layout {
    pub(super) fn of(family: Family) -> Self {
        match family {
            Family::V4 => {
                Self { address_len: 4, flags_at: 82, offsets_at: 88, counters_at: 96, entry_len: 112 }
            }
            Family::V6 => {
                Self { address_len: 16, flags_at: 131, offsets_at: 140, counters_at: 152, entry_len: 168 }
            }
        }
    }

    /// The names of the interfaces, 16 bytes each, then their masks.
    pub(super) fn names_at(self) -> usize {
        4 * self.address_len
    }

    /// The transport protocol.
    pub(super) fn protocol_at(self) -> usize {
        self.names_at() + 64
    }

    /// Where the part ends that tests packets.
    pub(super) fn tests_end(self) -> usize {
        self.flags_at + 2
    }

    /// Puts counters into the entry that begins a blob.
    pub(super) fn set_counters(self, entry: &mut [u8], packets: u64, bytes: u64) {
        if let Some(room) = entry.get_mut(self.counters_at..self.counters_at + 16) {
            room[..8].copy_from_slice(&packets.to_ne_bytes());
            room[8..].copy_from_slice(&bytes.to_ne_bytes());
        }
    }
}

/// A match or target: `struct xt_entry_match`.
#[derive(Debug, Clone, Copy)]
pub(in crate::socket) struct Extension<'a> {
    pub(in crate::socket) name: &'a str,
    pub(in crate::socket) revision: u8,
    pub(in crate::socket) data: &'a [u8],
}

/// An entry.
#[derive(Debug, Clone)]
pub(super) struct Entry<'a> {
    pub(super) offset: usize,
    pub(super) next: usize,
    /// The fixed part.
    pub(super) head: &'a [u8],
    pub(super) matches: Vec<Extension<'a>>,
    pub(super) target: Extension<'a>,
}

/// Takes a blob apart.
///
/// # Errors
/// `EINVAL` where lengths make no sense.
pub(super) fn entries(layout: Layout, blob: &[u8]) -> Result<Vec<Entry<'_>>, Errno> {
    let mut entries = Vec::new();
    let mut offset = 0;
    while offset < blob.len() {
        let entry = entry(layout, blob, offset)?;
        offset = entry.next;
        entries.push(entry);
    }
    Ok(entries)
}

fn entry(layout: Layout, blob: &[u8], offset: usize) -> Result<Entry<'_>, Errno> {
    let rest = blob.get(offset..).ok_or(Errno::EINVAL)?;
    let head = rest.get(..layout.entry_len).ok_or(Errno::EINVAL)?;
    let (target_at, len) = (half(head, layout.offsets_at), half(head, layout.offsets_at + 2));
    let all = rest.get(..len).ok_or(Errno::EINVAL)?;
    if !len.is_multiple_of(ALIGNMENT) || target_at < layout.entry_len {
        return Err(Errno::EINVAL);
    }
    let mut matches = Vec::new();
    let mut at = layout.entry_len;
    while at < target_at {
        let bytes = all.get(at..target_at).ok_or(Errno::EINVAL)?;
        let (found, len) = extension(bytes)?;
        matches.push(found);
        at += len;
    }
    let (target, _) = extension(all.get(target_at..).ok_or(Errno::EINVAL)?)?;
    Ok(Entry { offset, next: offset + len, head, matches, target })
}

/// The match or target that bytes begin with, and its length.
fn extension(bytes: &[u8]) -> Result<(Extension<'_>, usize), Errno> {
    let header = bytes.get(..EXTENSION_LEN).ok_or(Errno::EINVAL)?;
    let len = half(header, 0);
    if len < EXTENSION_LEN || !len.is_multiple_of(ALIGNMENT) {
        return Err(Errno::EINVAL);
    }
    let data = bytes.get(EXTENSION_LEN..len).ok_or(Errno::EINVAL)?;
    Ok((Extension { name: text(&header[2..31])?, revision: header[31], data }, len))
}

/// A name that ends with a zero.
pub(super) fn text(bytes: &[u8]) -> Result<&str, Errno> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..end]).map_err(|_| Errno::EINVAL)
}

/// A 16-bit number; bytes beyond the end are zero.
pub(super) fn half(bytes: &[u8], at: usize) -> usize {
    let number = bytes.get(at..at + 2).map_or(0, |bytes| u16::from_ne_bytes([bytes[0], bytes[1]]));
    usize::from(number)
}

/// A 32-bit number.
pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

/// A 64-bit number.
pub(super) fn long(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes)
}

/// An entry without matches and with a target's data, for tables as they are at first.
pub(super) fn plain_entry(layout: Layout, name: &str, data: &[u8]) -> Vec<u8> {
    let target_len = EXTENSION_LEN + data.len().next_multiple_of(ALIGNMENT);
    let len = layout.entry_len + target_len;
    let mut entry = vec![0; len];
    let mut put = |at: usize, number: usize| {
        // A few hundred bytes.
        entry[at..at + 2].copy_from_slice(&(number as u16).to_ne_bytes());
    };
    put(layout.offsets_at, layout.entry_len);
    put(layout.offsets_at + 2, len);
    put(layout.entry_len, target_len);
    entry[layout.entry_len + 2..][..name.len()].copy_from_slice(name.as_bytes());
    entry[layout.entry_len + EXTENSION_LEN..][..data.len()].copy_from_slice(data);
    entry
}

/// `sizeof(struct xt_entry_match)`.
const EXTENSION_LEN: usize = 32;
/// `XT_ALIGN`.
const ALIGNMENT: usize = 8;
