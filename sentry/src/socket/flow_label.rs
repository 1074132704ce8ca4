//! Flow labels that sockets lease (`IPV6_FLOWLABEL_MGR`; Linux's `ip6_flowlabel.c`): who may use which.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};

use netstack::options::Family;
use parking_lot::Mutex;
use sentry_abi::inet::*;
use sentry_abi::socket::SOL_IPV6;
use zerocopy::FromBytes;

use crate::errno::Errno;
use crate::mm::UserAddr;
use crate::socket::inet::InetSocket;
use crate::socket::option::{Context, Effect, OptionRow, option};
use crate::task::Capabilities;

pub(super) const ROWS: &[OptionRow] = &[option!(
    SOL_IPV6,
    IPV6_FLOWLABEL_MGR,
    -,
    set,
    Effect::Partial(
        "leases end with their sockets, not by time; no IPV6_FL_F_REFLECT, no options of packets"
    )
)];

/// The labels leased in a namespace.
#[derive(Default)]
pub(crate) struct FlowLabels {
    leases: Mutex<HashMap<u32, Lease>>,
    /// Whether one was not for everybody: from then on only what is leased may be sent with.
    is_exclusive: AtomicBool,
}

/// One label.
#[derive(Debug)]
struct Lease {
    share: Share,
    /// The sockets that lease it.
    users: Vec<usize>,
}

/// Who else may lease a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Share {
    Nobody,
    Process(i32),
    User(u32),
    Everybody,
}

impl FlowLabels {
    /// Whether the socket may send with a label.
    ///
    /// # Errors
    /// `EINVAL` for labels that are not leased, once some lease was not for everybody.
    pub(super) fn check(&self, socket: &InetSocket, label: u32) -> Result<(), Errno> {
        // Who leases a label does not race those who send with it.
        if label == 0 || !self.is_exclusive.load(Ordering::Relaxed) {
            return Ok(());
        }
        let leases = self.leases.lock();
        let is_leased = leases.get(&label).is_some_and(|lease| lease.users.contains(&place(socket)));
        if is_leased { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// The socket is closed.
    pub(super) fn release(&self, socket: &InetSocket) {
        let mut leases = self.leases.lock();
        if leases.is_empty() {
            return;
        }
        leases.retain(|_, lease| {
            lease.users.retain(|user| *user != place(socket));
            !lease.users.is_empty()
        });
    }

    fn put(&self, socket: &InetSocket, label: u32) -> Result<(), Errno> {
        let mut leases = self.leases.lock();
        let lease = leases.get_mut(&label).ok_or(Errno::ESRCH)?;
        let at = lease.users.iter().position(|user| *user == place(socket)).ok_or(Errno::ESRCH)?;
        lease.users.swap_remove(at);
        if lease.users.is_empty() {
            leases.remove(&label);
        }
        Ok(())
    }

    fn renew(&self, socket: &InetSocket, label: u32) -> Result<(), Errno> {
        let leases = self.leases.lock();
        let is_leased = leases.get(&label).is_some_and(|lease| lease.users.contains(&place(socket)));
        if is_leased { Ok(()) } else { Err(Errno::ESRCH) }
    }

    /// Leases a label; zero stands for any.
    fn get(&self, socket: &InetSocket, wanted: &Wanted) -> Result<u32, Errno> {
        let Wanted { label, share, flags, may_have_many } = *wanted;
        let user = place(socket);
        let mut leases = self.leases.lock();
        if let Some(lease) = leases.get_mut(&label).filter(|_| label != 0) {
            if flags & IPV6_FL_F_EXCL != 0 {
                return Err(Errno::EEXIST);
            }
            if lease.share == Share::Nobody || lease.share != share {
                return Err(Errno::EPERM);
            }
            lease.users.push(user);
            return Ok(label);
        }
        if flags & IPV6_FL_F_CREATE == 0 {
            return Err(Errno::ENOENT);
        }
        let own = leases.values().filter(|lease| lease.users.contains(&user)).count();
        if leases.len() >= MAX_LEASES || (own >= MAX_PER_SOCKET && !may_have_many) {
            return Err(Errno::ENOBUFS);
        }
        let label = match label {
            0 => free_label(&leases).ok_or(Errno::ENOBUFS)?,
            label => label,
        };
        if share != Share::Everybody {
            self.is_exclusive.store(true, Ordering::Relaxed);
        }
        leases.insert(label, Lease { share, users: vec![user] });
        Ok(label)
    }
}

/// What a program asks for, checked.
struct Wanted {
    label: u32,
    share: Share,
    flags: u16,
    may_have_many: bool,
}

fn place(socket: &InetSocket) -> usize {
    std::ptr::from_ref(socket).addr()
}

/// A label that nobody leases, from a place that cannot be guessed.
fn free_label(leases: &HashMap<u32, Lease>) -> Option<u32> {
    use std::hash::{BuildHasher, RandomState};
    let start = RandomState::new().hash_one(leases.len()) & u64::from(LABEL_MASK);
    // The mask has 20 bits.
    let start = start as u32;
    (0..=LABEL_MASK)
        .map(|step| (start + step) & LABEL_MASK)
        .find(|label| *label != 0 && !leases.contains_key(label))
}

fn socket<'a>(context: &Context<'a>) -> Result<&'a InetSocket, Errno> {
    context.inet().ok().filter(|inet| inet.ip_family() == Family::V6).ok_or(Errno::ENOPROTOOPT)
}

fn set(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let inet = socket(context)?;
    let (request, _) = In6FlowlabelReq::read_from_prefix(value).map_err(|_| Errno::EINVAL)?;
    let labels = context.namespace.flow_labels();
    let label = u32::from_be_bytes(request.label);
    match request.action {
        IPV6_FL_A_PUT => labels.put(inet, label),
        IPV6_FL_A_RENEW => {
            check_times(context, &request)?;
            labels.renew(inet, label)
        }
        IPV6_FL_A_GET => {
            let given = labels.get(inet, &wanted(context, &request)?)?;
            if label == 0 {
                let (at, _) = context.buffer;
                // As Linux: "Intentionally ignore fault".
                let field = UserAddr(at.0.wrapping_add(LABEL_AT));
                let _ = context.task.mm().write_obj(field, &given.to_be_bytes());
            }
            Ok(())
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Only who may configure the network may keep labels for long (`check_linger`).
fn check_times(context: &Context<'_>, request: &In6FlowlabelReq) -> Result<(), Errno> {
    let may_be_long = context.task.creds().has(Capabilities::NET_ADMIN);
    if !may_be_long && request.linger.max(request.expires) > MAX_LINGER {
        return Err(Errno::EPERM);
    }
    Ok(())
}

fn wanted(context: &Context<'_>, request: &In6FlowlabelReq) -> Result<Wanted, Errno> {
    let label = u32::from_be_bytes(request.label);
    if request.flags & IPV6_FL_F_REFLECT != 0 {
        return Err(Errno::ENOPROTOOPT);
    }
    if label & !LABEL_MASK != 0 {
        return Err(Errno::EINVAL);
    }
    let is_marked = context.namespace.stack().ip_config().flow_labels.are_stateless_marked;
    if is_marked && label & STATELESS != 0 {
        return Err(Errno::ERANGE);
    }
    let destination = Ipv6Addr::from(request.dst);
    if destination.is_unspecified() || IpAddr::V6(destination).to_canonical().is_ipv4() {
        return Err(Errno::EINVAL);
    }
    let creds = context.task.creds();
    let share = match request.share {
        IPV6_FL_S_EXCL => Share::Nobody,
        IPV6_FL_S_PROCESS => Share::Process(context.task.pid().0),
        IPV6_FL_S_USER => Share::User(creds.euid.0),
        IPV6_FL_S_ANY => Share::Everybody,
        _ => return Err(Errno::EINVAL),
    };
    check_times(context, request)?;
    Ok(Wanted { label, share, flags: request.flags, may_have_many: creds.has(Capabilities::NET_ADMIN) })
}

const LABEL_MASK: u32 = 0xf_ffff;
/// `IPV6_FLOWLABEL_STATELESS_FLAG`.
const STATELESS: u32 = 0x8_0000;
/// Where the label is in the request.
const LABEL_AT: u64 = 16;
/// Linux's `FL_MAX_LINGER`, in seconds.
const MAX_LINGER: u16 = 150;
/// Linux's `FL_MAX_SIZE`.
const MAX_LEASES: usize = 4096;
/// Linux's `FL_MAX_PER_SOCK`.
const MAX_PER_SOCKET: usize = 32;
