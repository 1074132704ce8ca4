//! Flow labels that sockets lease (`IPV6_FLOWLABEL_MGR`; Linux's `ip6_flowlabel.c`): who may use which.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use netstack::options::Family;
use netstack::time::Instant;
use parking_lot::Mutex;
use sentry_abi::inet::*;
use sentry_abi::socket::SOL_IPV6;
use zerocopy::{FromBytes, IntoBytes};

use crate::errno::Errno;
use crate::mm::UserAddr;
use crate::socket::inet::InetSocket;
use crate::socket::option::{Context, Effect, OptionRow, Value, bytes, option};
use crate::task::Capabilities;

pub(super) const ROWS: &[OptionRow] = &[option!(
    SOL_IPV6,
    IPV6_FLOWLABEL_MGR,
    get,
    set,
    Effect::Partial("no options of packets; no IPV6_FL_F_REFLECT, as with net.ipv6.flowlabel_consistency")
)];

/// The labels leased in a namespace.
#[derive(Default)]
pub(crate) struct FlowLabels {
    leases: Mutex<BTreeMap<u32, Lease>>,
    /// Whether one was not for everybody: from then on only what is leased may be sent with.
    is_exclusive: AtomicBool,
}

/// One label.
#[derive(Debug, Clone)]
struct Lease {
    share: Share,
    destination: Ipv6Addr,
    /// The sockets that lease it. Without any it is kept for a time.
    users: Vec<usize>,
    /// How long it is kept once nobody uses it.
    linger: Duration,
    expires: Instant,
}

/// Who else may lease a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Share {
    Nobody,
    Process(i32),
    User(u32),
    Everybody,
}

impl Share {
    /// The number in `IPV6_FL_S_*`, and who it is.
    fn numbers(self) -> (u8, u32) {
        match self {
            Self::Nobody => (IPV6_FL_S_EXCL, 0),
            Self::Process(pid) => (IPV6_FL_S_PROCESS, pid.cast_unsigned()),
            Self::User(user) => (IPV6_FL_S_USER, user),
            Self::Everybody => (IPV6_FL_S_ANY, 0),
        }
    }
}

impl Lease {
    /// Takes a user away.
    fn release(&mut self, at: usize, now: Instant) {
        self.users.swap_remove(at);
        if self.users.is_empty() {
            self.expires = self.expires.max(now + self.linger);
        }
    }

    /// Never makes it shorter (`fl6_renew`).
    fn renew(&mut self, times: Times, now: Instant) {
        self.linger = self.linger.max(times.linger);
        self.expires = self.expires.max(now + times.expires.max(self.linger));
    }

    fn is_over(&self, now: Instant) -> bool {
        self.users.is_empty() && self.expires <= now
    }
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
        let now = socket.namespace().stack().now();
        for lease in leases.values_mut() {
            while let Some(at) = lease.users.iter().position(|user| *user == place(socket)) {
                lease.release(at, now);
            }
        }
    }

    /// `/proc/net/ip6_flowlabel`.
    pub(super) fn text(&self, now: Instant) -> String {
        let mut text =
            "Label S Owner  Users  Linger Expires  Dst                              Opt\n".to_owned();
        let mut leases = self.leases.lock();
        leases.retain(|_, lease| !lease.is_over(now));
        for (label, lease) in &*leases {
            let (share, owner) = lease.share.numbers();
            let left = lease.expires.saturating_duration_since(now).as_secs();
            let (users, linger) = (lease.users.len(), lease.linger.as_secs());
            let to = u128::from(lease.destination);
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "{label:05X} {share:<1} {owner:<6} {users:<6} {linger:<6} {left:<8} {to:032x} {:<4}",
                0
            );
        }
        text
    }

    fn put(&self, socket: &InetSocket, label: u32, now: Instant) -> Result<(), Errno> {
        let mut leases = self.leases.lock();
        let lease = leases.get_mut(&label).ok_or(Errno::ESRCH)?;
        let at = lease.users.iter().position(|user| *user == place(socket)).ok_or(Errno::ESRCH)?;
        lease.release(at, now);
        Ok(())
    }

    fn renew(&self, socket: &InetSocket, label: u32, times: Times, now: Instant) -> Result<(), Errno> {
        let mut leases = self.leases.lock();
        let lease = leases.get_mut(&label).filter(|lease| lease.users.contains(&place(socket)));
        lease.ok_or(Errno::ESRCH)?.renew(times, now);
        Ok(())
    }

    /// What the socket leases, as `label`.
    fn leased(&self, socket: &InetSocket, label: u32) -> Option<Lease> {
        let leases = self.leases.lock();
        leases.get(&label).filter(|lease| lease.users.contains(&place(socket))).cloned()
    }

    /// Leases a label; zero stands for any.
    fn get(&self, socket: &InetSocket, wanted: &Wanted, now: Instant) -> Result<u32, Errno> {
        let Wanted { label, share, flags, times, destination, may_have_many } = *wanted;
        let user = place(socket);
        let mut leases = self.leases.lock();
        leases.retain(|_, lease| !lease.is_over(now));
        let may_create = flags & IPV6_FL_F_CREATE != 0;
        // One that nobody uses any more is not there to join, but is in the way of a new one (fl_lookup, fl_intern).
        let is_met = |lease: &&mut Lease| label != 0 && (may_create || !lease.users.is_empty());
        if let Some(lease) = leases.get_mut(&label).filter(is_met) {
            if flags & IPV6_FL_F_EXCL != 0 {
                return Err(Errno::EEXIST);
            }
            if lease.share == Share::Nobody || lease.share != share {
                return Err(Errno::EPERM);
            }
            lease.users.push(user);
            lease.renew(times, now);
            return Ok(label);
        }
        if !may_create {
            return Err(Errno::ENOENT);
        }
        let own = leases.values().filter(|lease| lease.users.contains(&user)).count();
        if !has_room(MAX_LEASES.saturating_sub(leases.len()), own, may_have_many) {
            return Err(Errno::ENOBUFS);
        }
        let label = match label {
            0 => free_label(&leases).ok_or(Errno::ENOBUFS)?,
            label => label,
        };
        if share != Share::Everybody {
            self.is_exclusive.store(true, Ordering::Relaxed);
        }
        let expires = now + times.expires.max(times.linger);
        let lease = Lease { share, destination, users: vec![user], linger: times.linger, expires };
        leases.insert(label, lease);
        Ok(label)
    }
}

/// Whether one more fits, where `room` are left and the socket has `own` (`mem_check`).
fn has_room(room: usize, own: usize, may_have_many: bool) -> bool {
    let is_modest = own < MAX_PER_SOCKET && (own == 0 || room >= MAX_LEASES / 2) && room >= MAX_LEASES / 4;
    room > MAX_LEASES - MAX_PER_SOCKET || (room > 0 && (is_modest || may_have_many))
}

/// What a program asks for, checked.
struct Wanted {
    label: u32,
    share: Share,
    flags: u16,
    times: Times,
    destination: Ipv6Addr,
    may_have_many: bool,
}

/// How long a label is kept.
#[derive(Debug, Clone, Copy)]
struct Times {
    linger: Duration,
    expires: Duration,
}

fn place(socket: &InetSocket) -> usize {
    std::ptr::from_ref(socket).addr()
}

/// A label that nobody leases, from a place that cannot be guessed.
fn free_label(leases: &BTreeMap<u32, Lease>) -> Option<u32> {
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

/// What the socket leases for the label that its peer's address had (`ipv6_flowlabel_opt_get`).
fn get(context: &Context<'_>) -> Result<Value, Errno> {
    let inet = socket(context)?;
    let asked = context.read_buffer(size_of::<In6FlowlabelReq>())?;
    let mut request = In6FlowlabelReq::read_from_bytes(&asked).map_err(|_| Errno::EINVAL)?;
    if request.action != IPV6_FL_A_GET {
        return Err(Errno::EINVAL);
    }
    let label = inet.notes().peer_label();
    let lease = context.namespace.flow_labels().leased(inet, label).ok_or(Errno::ENOENT)?;
    let left = lease.expires.saturating_duration_since(context.namespace.stack().now());
    let seconds = |time: Duration| u16::try_from(time.as_secs()).unwrap_or(u16::MAX);
    request.as_mut_bytes().fill(0);
    request.dst = lease.destination.octets();
    request.label = label.to_be_bytes();
    request.share = lease.share.numbers().0;
    request.expires = seconds(left);
    request.linger = seconds(lease.linger);
    Ok(bytes(&request))
}

fn set(context: &Context<'_>, value: &[u8]) -> Result<(), Errno> {
    let inet = socket(context)?;
    let (request, _) = In6FlowlabelReq::read_from_prefix(value).map_err(|_| Errno::EINVAL)?;
    let labels = context.namespace.flow_labels();
    let label = u32::from_be_bytes(request.label);
    let now = context.namespace.stack().now();
    match request.action {
        IPV6_FL_A_PUT => labels.put(inet, label, now),
        IPV6_FL_A_RENEW => labels.renew(inet, label, times(context, &request)?, now),
        IPV6_FL_A_GET => {
            let given = labels.get(inet, &wanted(context, &request)?, now)?;
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
fn times(context: &Context<'_>, request: &In6FlowlabelReq) -> Result<Times, Errno> {
    let may_be_long = context.namespace.grants(&context.task.creds(), Capabilities::NET_ADMIN);
    if !may_be_long && request.linger.max(request.expires) > MAX_LINGER {
        return Err(Errno::EPERM);
    }
    let time = |seconds: u16| Duration::from_secs(seconds.max(MIN_LINGER).into());
    Ok(Times { linger: time(request.linger), expires: time(request.expires) })
}

fn wanted(context: &Context<'_>, request: &In6FlowlabelReq) -> Result<Wanted, Errno> {
    let label = u32::from_be_bytes(request.label);
    if request.flags & IPV6_FL_F_REFLECT != 0 {
        // "Can not set IPV6_FL_F_REFLECT if flowlabel_consistency sysctl is enable", which it always is.
        return Err(Errno::EPERM);
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
    let may_have_many = context.namespace.grants(&creds, Capabilities::NET_ADMIN);
    let times = times(context, request)?;
    Ok(Wanted { label, share, flags: request.flags, times, destination, may_have_many })
}

const LABEL_MASK: u32 = 0xf_ffff;
/// `IPV6_FLOWLABEL_STATELESS_FLAG`.
const STATELESS: u32 = 0x8_0000;
/// Where the label is in the request.
const LABEL_AT: u64 = 16;
/// Linux's `FL_MIN_LINGER` and `FL_MAX_LINGER`, in seconds.
const MIN_LINGER: u16 = 6;
const MAX_LINGER: u16 = 150;
/// Linux's `FL_MAX_SIZE`.
const MAX_LEASES: usize = 4096;
/// Linux's `FL_MAX_PER_SOCK`.
const MAX_PER_SOCKET: usize = 32;
