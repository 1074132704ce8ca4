//! `<linux/netfilter/nfnetlink.h>`, `<linux/netfilter/nf_tables.h>`: the numbers that more than one file uses.

/// The subsystem of flows.
pub(super) const SUBSYS_CTNETLINK: u16 = 1;
/// The subsystem of tables.
pub(super) const SUBSYS_NFTABLES: u16 = 10;
/// The subsystem that knows what iptables has.
pub(super) const SUBSYS_NFT_COMPAT: u16 = 11;
pub(super) const BATCH_BEGIN: u16 = 0x10;
pub(super) const BATCH_END: u16 = 0x11;

pub(super) const MSG_NEWTABLE: u16 = 0;
pub(super) const MSG_GETTABLE: u16 = 1;
pub(super) const MSG_DELTABLE: u16 = 2;
pub(super) const MSG_NEWCHAIN: u16 = 3;
pub(super) const MSG_GETCHAIN: u16 = 4;
pub(super) const MSG_DELCHAIN: u16 = 5;
pub(super) const MSG_NEWRULE: u16 = 6;
pub(super) const MSG_GETRULE: u16 = 7;
pub(super) const MSG_DELRULE: u16 = 8;
pub(super) const MSG_NEWSET: u16 = 9;
pub(super) const MSG_GETSET: u16 = 10;
pub(super) const MSG_DELSET: u16 = 11;
pub(super) const MSG_NEWSETELEM: u16 = 12;
pub(super) const MSG_GETSETELEM: u16 = 13;
pub(super) const MSG_DELSETELEM: u16 = 14;
pub(super) const MSG_NEWGEN: u16 = 15;
pub(super) const MSG_GETGEN: u16 = 16;
pub(super) const MSG_NEWOBJ: u16 = 18;
pub(super) const MSG_GETOBJ: u16 = 19;
pub(super) const MSG_DELOBJ: u16 = 20;
pub(super) const MSG_GETOBJ_RESET: u16 = 21;
pub(super) const MSG_NEWFLOWTABLE: u16 = 22;
pub(super) const MSG_GETFLOWTABLE: u16 = 23;
pub(super) const MSG_DELFLOWTABLE: u16 = 24;
pub(super) const MSG_GETRULE_RESET: u16 = 25;
pub(super) const MSG_DESTROYTABLE: u16 = 26;
pub(super) const MSG_DESTROYCHAIN: u16 = 27;
pub(super) const MSG_DESTROYRULE: u16 = 28;
pub(super) const MSG_DESTROYSET: u16 = 29;
pub(super) const MSG_DESTROYSETELEM: u16 = 30;
pub(super) const MSG_DESTROYOBJ: u16 = 31;
pub(super) const MSG_GETSETELEM_RESET: u16 = 33;

/// Both families.
pub(super) const FAMILY_INET: u8 = 1;
pub(super) const FAMILY_V4: u8 = 2;
pub(super) const FAMILY_V6: u8 = 10;

/// `NFTA_LIST_ELEM`.
pub(super) const LIST_ELEM: u16 = 1;
/// `NFTA_EXPR_NAME`, `NFTA_EXPR_DATA`.
pub(super) const EXPR_NAME: u16 = 1;
pub(super) const EXPR_DATA: u16 = 2;

pub(super) const SET_ANONYMOUS: u32 = 1;
pub(super) const SET_INTERVAL: u32 = 4;
pub(super) const SET_MAP: u32 = 8;
pub(super) const SET_TIMEOUT: u32 = 0x10;
pub(super) const SET_OBJECT: u32 = 0x40;
pub(super) const SET_CONCAT: u32 = 0x80;

/// `NFT_DATA_VERDICT`: the type of data that is a verdict.
pub(super) const DATA_VERDICT: u32 = 0xffff_ff00;

/// The longest name: `NFT_NAME_MAXLEN`.
pub(super) const NAME_MAX: usize = 256;
