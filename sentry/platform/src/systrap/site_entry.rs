//! The code behind a rewritten call site: one entry of the table for each.
//!
//! An entry changes no register that a call does not. That of a site which loads a number changes no flags either; where
//! a comparison follows, flags are free. What an entry answers by itself it reads from the thread area, where
//! [`word::UNPUBLISHED`] means that the sentry is to be asked.

use crate::host;
use crate::stub::hand_over as word;
use crate::systrap::call_site::{Site, SiteCode};

/// The length of an entry.
pub(super) const ENTRY_LEN: u64 = 128;
/// Offset of the jump target, of the return address, of the code.
pub(super) const TARGET: u64 = 0;
pub(super) const RETURN_ADDRESS: u64 = 8;

std::arch::global_asm!(
    r#"
    .pushsection .rodata.sentry_site_entries, "a", @progbits
    .globl sentry_site_load, sentry_site_load_call, sentry_site_load_number, sentry_site_load_answer
    .globl sentry_site_load_word, sentry_site_load_slow, sentry_site_load_end
    .hidden sentry_site_load, sentry_site_load_call, sentry_site_load_number, sentry_site_load_answer
    .hidden sentry_site_load_word, sentry_site_load_slow, sentry_site_load_end
    .balign 16
sentry_site_load:
    .quad 0, 0
sentry_site_load_call:
20: mov rcx, qword ptr [rip + sentry_site_load + {RETURN_ADDRESS}]
    .byte 0xb8
sentry_site_load_number:
    .long 0                         /* mov eax, the number */
    jmp qword ptr gs:[{CALL_ENTRY}]
sentry_site_load_answer:
    .byte 0x65, 0x8b, 0x0c, 0x25
sentry_site_load_word:
    .long 0                         /* mov ecx, gs:[the answer] */
    mov eax, ecx
    not ecx                         /* changes no flags */
    jrcxz 20b
    jmp qword ptr [rip + sentry_site_load + {RETURN_ADDRESS}]
sentry_site_load_slow:
    .byte 0xb8
    .long 0                         /* mov eax, the number */
    syscall
sentry_site_load_end:

    .globl sentry_site_compare, sentry_site_compare_fast, sentry_site_compare_tail, sentry_site_compare_with
    .globl sentry_site_compare_slow, sentry_site_compare_end
    .hidden sentry_site_compare, sentry_site_compare_fast, sentry_site_compare_tail, sentry_site_compare_with
    .hidden sentry_site_compare_slow, sentry_site_compare_end
    .balign 16
sentry_site_compare:
    .quad 0, 0
sentry_site_compare_fast:
    cmp eax, {GETPID}
    je 21f
    lea ecx, [rax - {FIRST_ID}]
    cmp ecx, {ID_NUMBERS}
    jb 22f
    cmp eax, {GETTID}
    je 23f
20: lea rcx, [rip + sentry_site_compare_tail]
    jmp qword ptr gs:[{CALL_ENTRY}]
23: mov ecx, dword ptr gs:[{TID}]
    jmp 24f
21: mov ecx, dword ptr gs:[{PID}]
    jmp 24f
22: mov ecx, dword ptr gs:[rcx * 4 + {IDS}]
24: cmp ecx, -1                     /* not published */
    je 20b
    mov eax, ecx                    /* the last before the tail: before it, the call can begin anew */
sentry_site_compare_tail:           /* can be done again from its start at any point */
    mov rcx, qword ptr [rip + sentry_site_compare + {RETURN_ADDRESS}]
    .byte 0x48, 0x3d
sentry_site_compare_with:
    .long 0                         /* cmp rax, the operand */
    lea rcx, [rcx + 6]              /* behind the old comparison */
    jmp rcx
sentry_site_compare_slow:
    syscall
sentry_site_compare_end:
    .popsection
"#,
    RETURN_ADDRESS = const RETURN_ADDRESS,
    CALL_ENTRY = const word::CALL_ENTRY,
    PID = const word::PID,
    TID = const word::TID,
    IDS = const word::IDS,
    FIRST_ID = const word::FIRST_ID,
    ID_NUMBERS = const word::ID_NUMBERS,
    GETPID = const libc::SYS_getpid,
    GETTID = const libc::SYS_gettid,
);

unsafe extern "C" {
    static sentry_site_load: u8;
    static sentry_site_load_call: u8;
    static sentry_site_load_number: u8;
    static sentry_site_load_answer: u8;
    static sentry_site_load_word: u8;
    static sentry_site_load_slow: u8;
    static sentry_site_load_end: u8;
    static sentry_site_compare: u8;
    static sentry_site_compare_fast: u8;
    static sentry_site_compare_tail: u8;
    static sentry_site_compare_with: u8;
    static sentry_site_compare_slow: u8;
    static sentry_site_compare_end: u8;
}

/// Places in the entry of a site that loads a number.
const fn of_load(symbol: *const u8) -> (*const u8, *const u8) {
    (&raw const sentry_site_load, symbol)
}

/// Places in the entry of a site with a comparison.
const fn of_compare(symbol: *const u8) -> (*const u8, *const u8) {
    (&raw const sentry_site_compare, symbol)
}

fn offset((start, symbol): (*const u8, *const u8)) -> u64 {
    host::word(symbol.addr() - start.addr())
}

/// Where the code begins that makes the call or answers it.
pub(super) fn fast_code(code: SiteCode) -> u64 {
    match code {
        SiteCode::Load(number) if answer_to(number).is_some() => {
            offset(of_load(&raw const sentry_site_load_answer))
        }
        SiteCode::Load(_) => offset(of_load(&raw const sentry_site_load_call)),
        SiteCode::Compare(_) => offset(of_compare(&raw const sentry_site_compare_fast)),
    }
}

/// Where the code begins that traps.
pub(super) fn slow_code(code: SiteCode) -> u64 {
    match code {
        SiteCode::Load(_) => offset(of_load(&raw const sentry_site_load_slow)),
        SiteCode::Compare(_) => offset(of_compare(&raw const sentry_site_compare_slow)),
    }
}

/// Whether a guest that stopped at this offset of the entry is behind its call.
pub(super) fn is_behind(code: SiteCode, at: u64) -> bool {
    let tail = || offset(of_compare(&raw const sentry_site_compare_tail));
    matches!(code, SiteCode::Compare(_)) && (tail()..slow_code(code)).contains(&at)
}

/// The entry of a site that is to be at `address`, with its jump target at `code`.
pub(super) fn entry(address: u64, site: Site, code: u64) -> [u8; ENTRY_LEN as usize] {
    let (start, end) = match site.code {
        SiteCode::Load(_) => (&raw const sentry_site_load, &raw const sentry_site_load_end),
        SiteCode::Compare(_) => (&raw const sentry_site_compare, &raw const sentry_site_compare_end),
    };
    // SAFETY: the bytes between the two symbols are initialised and nobody writes them.
    let template = unsafe { std::slice::from_raw_parts(start, host::address(offset((start, end)))) };
    let mut entry = [0xcc; ENTRY_LEN as usize];
    entry[..template.len()].copy_from_slice(template);
    let mut put = |at: u64, bytes: &[u8]| {
        let at = host::address(at);
        entry[at..at + bytes.len()].copy_from_slice(bytes);
    };
    put(TARGET, &(address + code).to_le_bytes());
    put(RETURN_ADDRESS, &site.return_address.to_le_bytes());
    match site.code {
        SiteCode::Load(number) => {
            put(offset(of_load(&raw const sentry_site_load_number)), &number.to_le_bytes());
            put(slow_code(site.code) + 1, &number.to_le_bytes());
            // Offsets in a thread area are less than a page.
            let word = u32::try_from(answer_to(number).unwrap_or(0)).unwrap_or(0);
            put(offset(of_load(&raw const sentry_site_load_word)), &word.to_le_bytes());
        }
        SiteCode::Compare(with) => {
            put(offset(of_compare(&raw const sentry_site_compare_with)), &with.to_le_bytes());
        }
    }
    entry
}

/// Where in the thread area the answer to a call is, if it may be published.
fn answer_to(number: u32) -> Option<u64> {
    match libc::c_long::from(number) {
        libc::SYS_getpid => Some(word::PID),
        libc::SYS_gettid => Some(word::TID),
        libc::SYS_getuid => Some(word::id_of(libc::SYS_getuid)),
        libc::SYS_getgid => Some(word::id_of(libc::SYS_getgid)),
        libc::SYS_geteuid => Some(word::id_of(libc::SYS_geteuid)),
        libc::SYS_getegid => Some(word::id_of(libc::SYS_getegid)),
        _ => None,
    }
}
