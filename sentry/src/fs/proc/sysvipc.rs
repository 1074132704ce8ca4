//! `/proc/sysvipc`: the objects of the reader's IPC namespace (`sysvipc(7)`), in Linux's columns.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::errno::Errno;
use crate::fs::pseudo::{PseudoDir, Text, TextInode};
use crate::ipc::IpcNamespace;
use crate::task::Task;
use crate::vfs::Inode;

/// The directory.
pub(super) fn directory() -> Arc<Inode> {
    let file = |show| TextInode::inode(0o444, Listing { show, namespace: None });
    PseudoDir::inode(vec![("msg", file(queues)), ("sem", file(sets)), ("shm", file(segments))])
}

/// One file; with a namespace once it is open.
struct Listing {
    show: fn(&IpcNamespace) -> String,
    namespace: Option<Arc<IpcNamespace>>,
}

impl Text for Listing {
    fn render(&self) -> Result<Vec<u8>, Errno> {
        let namespace = self.namespace.as_ref().ok_or(Errno::ESRCH)?;
        Ok((self.show)(namespace).into_bytes())
    }

    fn opened_by(&self, task: &Task) -> Option<Arc<dyn Text>> {
        Some(Arc::new(Self { show: self.show, namespace: Some(task.ipc()) }))
    }
}

fn segments(namespace: &IpcNamespace) -> String {
    let mut out = String::from(
        "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      \
         atime      dtime      ctime                   rss                  swap\n",
    );
    for (id, segment) in namespace.shm.all() {
        let s = segment.stat();
        let p = s.perm;
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "{:>10} {:>10}  {:>4o} {:>21} {:>5} {:>5}  {:>5} {:>5} {:>5} {:>5} {:>5} {:>10} {:>10} {:>10} {:>21} {:>21}",
            p.key,
            id.0,
            p.mode,
            s.segsz,
            s.cpid,
            s.lpid,
            s.nattch,
            p.uid,
            p.gid,
            p.cuid,
            p.cgid,
            s.atime,
            s.dtime,
            s.ctime,
            segment.resident(),
            0,
        );
    }
    out
}

fn sets(namespace: &IpcNamespace) -> String {
    let mut out = String::from(
        "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n",
    );
    for (id, set) in namespace.sem.all() {
        let Ok(s) = set.stat() else { continue };
        let p = s.perm;
        let _ = writeln!(
            out,
            "{:>10} {:>10}  {:>4o} {:>10} {:>5} {:>5} {:>5} {:>5} {:>10} {:>10}",
            p.key, id.0, p.mode, s.nsems, p.uid, p.gid, p.cuid, p.cgid, s.otime, s.ctime,
        );
    }
    out
}

fn queues(namespace: &IpcNamespace) -> String {
    let mut out = String::from(
        "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      \
         stime      rtime      ctime\n",
    );
    for (id, queue) in namespace.msg.all() {
        let Ok(q) = queue.stat() else { continue };
        let p = q.perm;
        let _ = writeln!(
            out,
            "{:>10} {:>10}  {:>4o}  {:>10} {:>10} {:>5} {:>5} {:>5} {:>5} {:>5} {:>5} {:>10} {:>10} {:>10}",
            p.key,
            id.0,
            p.mode,
            q.cbytes,
            q.qnum,
            q.lspid,
            q.lrpid,
            p.uid,
            p.gid,
            p.cuid,
            p.cgid,
            q.stime,
            q.rtime,
            q.ctime,
        );
    }
    out
}
