//! Rewriting hot call sites: `mov eax, number; syscall` becomes a jump to stub code, which saves the signal.
//!
//! ```text
//! b8 n0 n1 n2 n3 0f 05   ->   ff 24 25 a0 a1 06 00      jmp [0x0006_a1a0]
//! ```
//! The table of jump targets is where the last two bytes, 06 00, are an invalid instruction: a thread that comes to the
//! old place of `syscall` by another way gets SIGILL there, and the sentry takes it for the call it is. The bytes are
//! replaced in three steps between which all processors that run the process synchronise (membarrier(2)), so that no
//! thread sees a mixture.
//!
//! A site is left alone if what precedes `syscall` may be the end of a longer instruction. It must also have been seen
//! with the number in `rax` each time: see [`HotCalls`]. Sites that get the number from elsewhere may be rewritten
//! another way: see [`compare_site`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::CallSite;
use crate::host;
use crate::stub::control::Window;
use crate::systrap::compare_site;
use crate::systrap::site_entry::{self, ENTRY_LEN, RETURN_ADDRESS, TARGET};

/// Where the table is in stubs, below what guests may use.
pub(super) const TABLE: u64 = 0x6_0000;
/// The size of the table.
pub(super) const TABLE_LEN: u64 = 0x1_0000;

/// The length of a site: `mov eax, imm32` and `syscall`.
pub(super) const SITE_LEN: u64 = 7;
/// Bytes before a site that its check looks at.
pub(super) const CONTEXT_LEN: u64 = 7;
/// An invalid instruction in 64-bit mode.
pub(super) const INVALID: u8 = 0x06;

/// What a rewritten site does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SiteCode {
    /// Loads a constant number in front of the call.
    Load(u32),
    /// Compares the result with a constant behind the call.
    Compare(i32),
}

/// A rewritten site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Site {
    /// The address behind `syscall`.
    pub(super) return_address: u64,
    pub(super) code: SiteCode,
}

impl Site {
    /// The address of the first instruction that was replaced.
    pub(super) fn start(self) -> u64 {
        let len = match self.code {
            SiteCode::Load(_) => SITE_LEN,
            SiteCode::Compare(_) => compare_site::CALL_LEN,
        };
        self.return_address.wrapping_sub(len)
    }

    /// The number of its calls, if it loads that.
    pub(super) fn number(self) -> Option<u32> {
        match self.code {
            SiteCode::Load(number) => Some(number),
            SiteCode::Compare(_) => None,
        }
    }
}

/// The rewritten sites of a process and of those forked from it, which have them in their memory, too.
pub(super) struct SiteTable {
    entries: Window,
    sites: Mutex<Sites>,
    /// Set once a process of the tree uses `gs` for itself.
    is_slow: AtomicBool,
}

#[derive(Default)]
struct Sites {
    by_return_address: HashMap<u64, (u64, Site)>,
    all: Vec<Site>,
}

impl SiteTable {
    pub(super) fn new(entries: Window) -> Self {
        Self { entries, sites: Mutex::default(), is_slow: AtomicBool::new(false) }
    }

    /// Where the table is in the control file.
    pub(super) fn file_offset(&self) -> u64 {
        self.entries.file_offset()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sites.lock().all.is_empty()
    }

    /// The address through which the site is to jump; `None` when the table is full, or knows the place as another site,
    /// which a relative of the process may still have there.
    pub(super) fn add(&self, site: Site) -> Option<u32> {
        let mut sites = self.sites.lock();
        if let Some((address, known)) = sites.by_return_address.get(&site.return_address) {
            return if *known == site { u32::try_from(*address).ok() } else { None };
        }
        let at = host::word(sites.all.len()) * ENTRY_LEN;
        if at + ENTRY_LEN > TABLE_LEN {
            return None;
        }
        let is_slow = self.is_slow.load(Ordering::SeqCst);
        let code = if is_slow { site_entry::slow_code(site.code) } else { site_entry::fast_code(site.code) };
        self.entries.write(at, &site_entry::entry(TABLE + at, site, code));
        sites.all.push(site);
        sites.by_return_address.insert(site.return_address, (TABLE + at, site));
        u32::try_from(TABLE + at).ok()
    }

    /// Where a guest that made a call by way of the table seems to itself to be, by what its entry told the stub. That
    /// is the return address, or for a site with a comparison the code of the entry that makes it.
    pub(super) fn return_address(&self, told: u64) -> u64 {
        match told.checked_sub(TABLE) {
            // Guests can only read the table.
            Some(at) if at < TABLE_LEN => {
                self.entries.u64(at / ENTRY_LEN * ENTRY_LEN + RETURN_ADDRESS).load(Ordering::Relaxed)
            }
            _ => told,
        }
    }

    /// Where a guest really is that stopped in the code of the table otherwise than by a call: not at the call yet, or
    /// behind it.
    pub(super) fn apparent_rip(site: Site, rip: u64) -> u64 {
        if site_entry::is_behind(site.code, rip % ENTRY_LEN) { site.return_address } else { site.start() }
    }

    /// The site whose code in the table `rip` is in.
    pub(super) fn of_code(&self, rip: u64) -> Option<Site> {
        let at = rip.checked_sub(TABLE).filter(|at| *at < TABLE_LEN)?;
        self.sites.lock().all.get(host::address(at / ENTRY_LEN)).copied()
    }

    /// The site that returns to this address.
    pub(super) fn of_return_address(&self, address: u64) -> Option<Site> {
        self.sites.lock().by_return_address.get(&address).map(|(_, site)| *site)
    }

    /// Where all sites return to.
    pub(super) fn return_addresses(&self) -> Vec<u64> {
        self.sites.lock().all.iter().map(|site| site.return_address).collect()
    }

    /// The site that returns to this address, with the address that it jumps through.
    pub(super) fn known(&self, return_address: u64) -> Option<(u32, Site)> {
        let (address, site) = *self.sites.lock().by_return_address.get(&return_address)?;
        Some((u32::try_from(address).ok()?, site))
    }

    /// Makes all sites trap again: a thread uses `gs` for itself, through which they find the thread area.
    pub(super) fn slow_down(&self) {
        if self.is_slow.swap(true, Ordering::SeqCst) {
            return;
        }
        let sites = self.sites.lock();
        for (n, site) in sites.all.iter().enumerate() {
            let at = host::word(n) * ENTRY_LEN;
            let code = site_entry::slow_code(site.code);
            self.entries.u64(at + TARGET).store(TABLE + at + code, Ordering::SeqCst);
        }
    }
}

/// The jump through `address`.
pub(super) fn jump(address: u32) -> [u8; 7] {
    let [a0, a1, a2, a3] = address.to_le_bytes();
    [0xff, 0x24, 0x25, a0, a1, a2, a3]
}

/// What the site was before.
pub(super) fn original(number: u32) -> [u8; SITE_LEN as usize] {
    let [n0, n1, n2, n3] = number.to_le_bytes();
    [0xb8, n0, n1, n2, n3, 0x0f, 0x05]
}

/// The number that the site loads, if it can be rewritten. `before` are the bytes before it, the nearest last.
pub(super) fn number_of(before: &[u8; CONTEXT_LEN as usize], site: &[u8; SITE_LEN as usize]) -> Option<u32> {
    let [0xb8, n0, n1, n2, n3, 0x0f, 0x05] = *site else { return None };
    let last = before[6];
    // A prefix, or the escape of a two-byte instruction, would make 0xb8 part of something else.
    let is_prefix =
        matches!(last, 0x0f | 0x40..=0x4f | 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3);
    (!is_prefix && !may_end_longer(before)).then_some(u32::from_le_bytes([n0, n1, n2, n3]))
}

/// Whether 0xb8 and the four bytes behind it may end an instruction that starts earlier: as ModRM or SIB byte with a
/// displacement, or as the last byte of a displacement in front of an immediate operand (Intel SDM, volume 2, 2.1).
fn may_end_longer(before: &[u8; CONTEXT_LEN as usize]) -> bool {
    /// Instructions with a 32-bit immediate operand behind ModRM.
    const WITH_IMMEDIATE: [u8; 4] = [0xc7, 0x81, 0x69, 0xf7];
    let back = |n: usize| before[7 - n];
    let has_immediate = |n: usize| WITH_IMMEDIATE.contains(&back(n));
    let (mode, rm) = (|modrm: u8| modrm >> 6, |modrm: u8| modrm & 7);
    // As ModRM: an instruction with 32-bit displacement, `op [rax + disp32]`. Those that compilers emit; each may also
    // be something harmless, which costs the site a signal per call and nothing else.
    let is_load_or_store = matches!(back(1), 0x8b | 0x89 | 0x8d | 0x88 | 0x8a | 0x63 | 0xff);
    // As SIB: ModRM before it asks for one with 32-bit displacement.
    let is_sib =
        mode(back(1)) == 2 && rm(back(1)) == 4 && matches!(back(2), 0x8b | 0x89 | 0x8d | 0x88 | 0x8a | 0x63);
    // As a displacement of one byte, without and with SIB.
    let is_disp8 = mode(back(1)) == 1 && rm(back(1)) != 4 && has_immediate(2);
    let is_disp8_sib = mode(back(2)) == 1 && rm(back(2)) == 4 && has_immediate(3);
    // As the last byte of a displacement of four, without and with SIB, or relative to rip.
    let is_disp32 = (mode(back(4)) == 2 || mode(back(4)) == 0 && rm(back(4)) == 5) && has_immediate(5);
    let is_disp32_sib = rm(back(5)) == 4 && has_immediate(6);
    is_load_or_store || is_sib || is_disp8 || is_disp8_sib || is_disp32 || is_disp32_sib
}

/// Counts calls by site, to find those worth rewriting.
pub(super) struct HotCalls {
    slots: Box<[Counts]>,
    hot: Option<CallSite>,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    return_address: u64,
    /// The number of the last call.
    number: u32,
    /// Calls with that number since the last with another.
    same: u32,
    all: u32,
}

impl HotCalls {
    /// Calls of a site with one number before it is hot: most programs that end soon never pay for a rewrite.
    const THRESHOLD: u32 = 16;
    /// The same with any numbers.
    const THRESHOLD_VARIED: u32 = 64;
    const SLOTS: usize = 64;

    pub(super) fn new() -> Self {
        Self { slots: vec![Counts::default(); Self::SLOTS].into(), hot: None }
    }

    /// Forgets all calls.
    pub(super) fn clear(&mut self) {
        self.slots.fill(Counts::default());
        self.hot = None;
    }

    /// Counts a call.
    pub(super) fn count(&mut self, return_address: u64, rax: u64) {
        let Ok(number) = u32::try_from(rax) else { return };
        // The low bits of the address spread well enough; the remainder is less than SLOTS.
        let slot = &mut self.slots[host::address(return_address % host::word(Self::SLOTS))];
        if slot.return_address != return_address {
            *slot = Counts { return_address, ..Counts::default() };
        }
        if slot.number != number {
            (slot.number, slot.same) = (number, 0);
        }
        slot.same = slot.same.saturating_add(1);
        slot.all = slot.all.saturating_add(1);
        if slot.same == Self::THRESHOLD {
            self.hot = Some(CallSite { return_address, number: Some(number) });
        } else if slot.all == Self::THRESHOLD_VARIED {
            self.hot = Some(CallSite { return_address, number: None });
        }
    }

    /// The site that has just become hot.
    pub(super) fn take(&mut self) -> Option<CallSite> {
        self.hot.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: [u8; 7] = [0xb8, 39, 0, 0, 0, 0x0f, 0x05];

    #[test]
    fn ordinary_sites_are_taken() {
        // endbr64, and a return followed by alignment.
        assert_eq!(number_of(&[0x90, 0x90, 0x90, 0xf3, 0x0f, 0x1e, 0xfa], &SITE), Some(39));
        assert_eq!(number_of(&[0xc3, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90], &SITE), Some(39));
    }

    #[test]
    fn parts_of_longer_instructions_are_left_alone() {
        for before in [
            // mov r8d, imm32
            [0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x41],
            // popcnt edi, [rax + disp32]
            [0x90, 0x90, 0x90, 0x90, 0x90, 0xf3, 0x0f],
            // mov edi, [rax + disp32]
            [0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x8b],
            // mov eax, [rax + rdi * 4 + disp32]
            [0x90, 0x90, 0x90, 0x90, 0x90, 0x8b, 0x84],
            // mov dword [rbp - 0x48], imm32
            [0x90, 0x90, 0x90, 0x90, 0x90, 0xc7, 0x45],
            // mov dword [rsp - 0x48], imm32
            [0x90, 0x90, 0x90, 0x90, 0xc7, 0x44, 0x24],
            // mov dword [rax + 0xb8000000], imm32
            [0x90, 0x90, 0xc7, 0x80, 0x00, 0x00, 0x00],
            // mov dword [rip + 0xb8000000], imm32
            [0x90, 0x90, 0xc7, 0x05, 0x00, 0x00, 0x00],
            // mov dword [rsp + 0xb8000000], imm32
            [0x90, 0xc7, 0x84, 0x24, 0x00, 0x00, 0x00],
        ] {
            assert_eq!(number_of(&before, &SITE), None, "{before:x?}");
        }
    }

    #[test]
    fn sites_with_varied_numbers_get_hot_later_and_without_one() {
        let mut calls = HotCalls::new();
        for n in 0..63 {
            calls.count(0x1000, n % 2);
            assert_eq!(calls.take(), None);
        }
        calls.count(0x1000, 7);
        assert_eq!(calls.take(), Some(CallSite { return_address: 0x1000, number: None }));
        for _ in 1..16 {
            calls.count(0x1000, 7);
        }
        assert_eq!(calls.take(), Some(CallSite { return_address: 0x1000, number: Some(7) }));
        calls.count(0x1000, 7);
        assert_eq!(calls.take(), None);
    }
}
