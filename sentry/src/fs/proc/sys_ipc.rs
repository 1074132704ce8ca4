//! `/proc/sys/kernel/{msg*,sem,shm*}`: the limits of the reader's IPC namespace (`proc_sys_kernel(5)`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::errno::Errno;
use crate::fs::pseudo::{Text, TextInode};
use crate::ipc::{IpcLimits, IpcNamespace, QueueLimits, SEMMSL};
use crate::task::Task;
use crate::vfs::Inode;

/// The files.
pub(super) fn files() -> Vec<(&'static str, Arc<Inode>)> {
    let file = |row: &'static Row| (row.name, TextInode::inode(0o644, Limit { row, namespace: None }));
    ROWS.iter().map(file).collect()
}

/// The files of `/proc/sys/fs/mqueue` (`mq_overview(7)`).
pub(super) fn queue_files() -> Vec<(&'static str, Arc<Inode>)> {
    let file =
        |row: &'static QueueRow| (row.name, TextInode::inode(0o644, QueueLimit { row, namespace: None }));
    QUEUE_ROWS.iter().map(file).collect()
}

/// One file.
struct Row {
    name: &'static str,
    get: fn(&IpcLimits) -> String,
    set: fn(&IpcLimits, &str) -> Result<(), Errno>,
}

/// One file about POSIX message queues.
struct QueueRow {
    name: &'static str,
    limit: fn(&QueueLimits) -> &AtomicUsize,
    least: usize,
    most: usize,
}

const QUEUE_ROWS: &[QueueRow] = &[
    QueueRow { name: "msg_default", limit: |l| &l.msg_default, least: 1, most: 65_536 },
    QueueRow { name: "msg_max", limit: |l| &l.msg_max, least: 1, most: 65_536 },
    QueueRow { name: "msgsize_default", limit: |l| &l.msgsize_default, least: 128, most: 16 << 20 },
    QueueRow { name: "msgsize_max", limit: |l| &l.msgsize_max, least: 128, most: 16 << 20 },
    QueueRow { name: "queues_max", limit: |l| &l.queues_max, least: 0, most: INT_MAX },
];

const ROWS: &[Row] = &[
    Row { name: "msgmax", get: |l| show(&l.msgmax), set: |l, text| store(&l.msgmax, text, INT_MAX) },
    Row { name: "msgmnb", get: |l| show(&l.msgmnb), set: |l, text| store(&l.msgmnb, text, INT_MAX) },
    Row { name: "msgmni", get: |l| show(&l.msgmni), set: |l, text| store(&l.msgmni, text, IPCMNI) },
    Row { name: "sem", get: show_sem, set: store_sem },
    Row {
        name: "shmall",
        get: |l| l.shmall.load(Ordering::Relaxed).to_string(),
        set: |l, text| number(text).map(|value| l.shmall.store(value, Ordering::Relaxed)),
    },
    Row {
        name: "shmmax",
        get: |l| l.shmmax.load(Ordering::Relaxed).to_string(),
        set: |l, text| number(text).map(|value| l.shmmax.store(value, Ordering::Relaxed)),
    },
    Row { name: "shmmni", get: |l| show(&l.shmmni), set: |l, text| store(&l.shmmni, text, IPCMNI) },
];

/// Ids have 15 bits for the place of the object.
const IPCMNI: usize = 1 << 15;
/// Most are an `int` of Linux.
const INT_MAX: usize = 0x7fff_ffff;

fn number<T: std::str::FromStr>(text: &str) -> Result<T, Errno> {
    text.parse().map_err(|_| Errno::EINVAL)
}

fn show(limit: &AtomicUsize) -> String {
    limit.load(Ordering::Relaxed).to_string()
}

fn store(limit: &AtomicUsize, text: &str, most: usize) -> Result<(), Errno> {
    let value: usize = number(text)?;
    if value > most {
        return Err(Errno::EINVAL);
    }
    limit.store(value, Ordering::Relaxed);
    Ok(())
}

fn show_sem(limits: &IpcLimits) -> String {
    [&limits.semmsl, &limits.semmns, &limits.semopm, &limits.semmni].map(show).join("\t")
}

/// Linux takes fewer than four numbers, too.
fn store_sem(limits: &IpcLimits, text: &str) -> Result<(), Errno> {
    let places = [
        (&limits.semmsl, SEMMSL),
        (&limits.semmns, INT_MAX),
        (&limits.semopm, INT_MAX),
        (&limits.semmni, IPCMNI),
    ];
    for ((limit, most), word) in places.into_iter().zip(text.split_whitespace()) {
        store(limit, word, most)?;
    }
    Ok(())
}

/// A limit; with a namespace once it is open.
struct Limit {
    row: &'static Row,
    namespace: Option<Arc<IpcNamespace>>,
}

impl Text for Limit {
    fn render(&self) -> Result<Vec<u8>, Errno> {
        let namespace = self.namespace.as_ref().ok_or(Errno::ESRCH)?;
        Ok(format!("{}\n", (self.row.get)(&namespace.limits)).into_bytes())
    }

    fn store(&self, data: &[u8]) -> Result<(), Errno> {
        let namespace = self.namespace.as_ref().ok_or(Errno::ESRCH)?;
        let text = std::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
        (self.row.set)(&namespace.limits, text.trim_matches(['\n', '\0', ' ', '\t']))
    }

    fn opened_by(&self, task: &Task) -> Option<Arc<dyn Text>> {
        Some(Arc::new(Self { row: self.row, namespace: Some(task.ipc()) }))
    }
}

/// A limit of message queues; with a namespace once it is open.
struct QueueLimit {
    row: &'static QueueRow,
    namespace: Option<Arc<IpcNamespace>>,
}

impl QueueLimit {
    fn limit(&self) -> Result<&AtomicUsize, Errno> {
        let namespace = self.namespace.as_ref().ok_or(Errno::ESRCH)?;
        Ok((self.row.limit)(&namespace.queues().accounts().limits))
    }
}

impl Text for QueueLimit {
    fn render(&self) -> Result<Vec<u8>, Errno> {
        Ok(format!("{}\n", show(self.limit()?)).into_bytes())
    }

    fn store(&self, data: &[u8]) -> Result<(), Errno> {
        let limit = self.limit()?;
        let text = std::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
        let text = text.trim_matches(['\n', '\0', ' ', '\t']);
        if number::<usize>(text)? < self.row.least {
            return Err(Errno::EINVAL);
        }
        store(limit, text, self.row.most)
    }

    fn opened_by(&self, task: &Task) -> Option<Arc<dyn Text>> {
        Some(Arc::new(Self { row: self.row, namespace: Some(task.ipc()) }))
    }
}
