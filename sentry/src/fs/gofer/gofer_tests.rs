use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;

use sentry_hostio::seqpacket::SeqPacket;

use super::{Access, Caching, Connection, GoferFs, GoferOptions, ServedTree, serve};
use crate::errno::Errno;
use crate::io::{SliceDst, SliceSrc};
use crate::task::Credentials;
use crate::vfs::change::{self, Remove};
use crate::vfs::open::{OpenHow, open};
use crate::vfs::walk::walk;
use crate::vfs::{
    Caller, Last, Mount, MountFlags, MountNamespace, NewKind, OpenFlags, RenameMode, Resolve, SetAttr,
    WalkRoot, Walked,
};

/// A host directory served over a socket pair by a thread, mounted as a root.
struct Fixture {
    dir: tempfile::TempDir,
    creds: Arc<Credentials>,
    from: WalkRoot,
}

impl Fixture {
    fn new(access: Access) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("root/a/b/c")).unwrap();
        fs::write(dir.path().join("root/a/b/c/file"), "hello").unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        symlink("/etc", dir.path().join("root/etc")).unwrap();
        symlink("../secret", dir.path().join("root/up")).unwrap();
        let root = fs::File::open(dir.path().join("root")).unwrap();
        let (ours, theirs) = SeqPacket::pair().unwrap();
        std::thread::spawn(move || serve(&theirs, &[ServedTree::new(root.into(), access)]));
        let connection = Connection::remote(vec![ours]);
        let options = GoferOptions { tree: 0, caching: Caching::Exclusive };
        let root = GoferFs::create(connection, options, Arc::default()).unwrap();
        let namespace = MountNamespace::new(Mount::new(root, b"root", MountFlags::empty()));
        let root = namespace.root();
        Self { dir, creds: Credentials::root(), from: WalkRoot { namespace, start: root.clone(), root } }
    }

    fn caller(&self) -> Caller<'_> {
        Caller::kernel(&self.creds)
    }

    fn walk(&self, path: &str, last: Last) -> Result<Walked, Errno> {
        walk(&self.caller(), &self.from, path.as_bytes(), last, Resolve::empty())
    }

    fn open(&self, path: &str, flags: OpenFlags) -> Result<Arc<crate::vfs::File>, Errno> {
        let how = OpenHow { mode: 0o644, ..OpenHow::existing(flags) };
        open(&self.caller(), &self.from, path.as_bytes(), &how)
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let file = self.open(path, OpenFlags::empty())?;
        let mut buf = [0; 64];
        let n = file.read(&mut SliceDst::new(&mut buf))?;
        Ok(buf[..n].to_vec())
    }
}

#[test]
fn files_are_read_through_donated_descriptors() {
    let f = Fixture::new(Access::ReadOnly);
    assert_eq!(f.read("/a/b/c/file").unwrap(), b"hello");
    assert_eq!(f.read("/a/b/../b/c/file").unwrap(), b"hello");
    assert_eq!(f.read("/a/b/x/file"), Err(Errno::ENOENT));
    assert_eq!(f.read("/a/b/c/file/x"), Err(Errno::ENOTDIR));
}

#[test]
fn links_and_dot_dot_stay_in_the_tree() {
    let f = Fixture::new(Access::ReadWrite);
    // The guest's own walk resolves the links inside its root.
    assert_eq!(f.read("/etc/passwd"), Err(Errno::ELOOP));
    assert_eq!(f.read("/up"), Err(Errno::ENOENT));
    assert_eq!(f.read("/../../secret"), Err(Errno::ENOENT));
    // A directory that the host replaces by a link behind our back does not lead out either.
    assert!(f.walk("/a/b/c", Last::Follow).is_ok());
    let b = f.dir.path().join("root/a/b");
    fs::rename(&b, f.dir.path().join("root/moved")).unwrap();
    symlink("/etc", &b).unwrap();
    assert!(f.read("/a/b/c/file").is_err());
    assert!(f.open("/a/b/c/new", OpenFlags::CREAT | OpenFlags::WRONLY).is_err());
}

#[test]
fn a_malicious_client_gets_nowhere() {
    use super::execute;
    use super::protocol::{Op, OpenFor, Reply, Request};
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("root")).unwrap();
    fs::write(dir.path().join("secret"), "secret").unwrap();
    symlink("..", dir.path().join("root/up")).unwrap();
    let root = fs::File::open(dir.path().join("root")).unwrap();
    let trees = [ServedTree::new(root.into(), Access::ReadOnly)];
    let ask = |op: Op| execute(&trees, &Request { tree: 0, op });
    for path in ["../secret", "up/secret", "/etc/passwd", "a//b", ".", "up/./x", "\0"] {
        let (reply, fd) = ask(Op::Open(path.into(), OpenFor::Read));
        assert!(matches!(reply, Reply::Failed(_)) && fd.is_none(), "{path:?}: {reply:?}");
    }
    let walked = ask(Op::Walk(Vec::new(), vec![b"..".to_vec()])).0;
    assert!(matches!(walked, Reply::Failed(_)));
    let walked = ask(Op::Walk(Vec::new(), vec![b"up/..".to_vec()])).0;
    assert!(matches!(walked, Reply::Failed(_)));
    let erofs = nix::errno::Errno::EROFS as u16;
    assert_eq!(ask(Op::Unlink(b"up".to_vec())).0, Reply::Failed(erofs));
    assert_eq!(ask(Op::Open(b"x".to_vec(), OpenFor::ReadWrite)).0, Reply::Failed(erofs));
    let (reply, _) = execute(&trees, &Request { tree: 7, op: Op::Stat(Vec::new()) });
    assert!(matches!(reply, Reply::Failed(_)));
}

#[test]
fn changes_reach_the_host() {
    let f = Fixture::new(Access::ReadWrite);
    let host = f.dir.path().join("root");
    let file = f.open("/a/new", OpenFlags::CREAT | OpenFlags::RDWR).unwrap();
    file.write(&mut SliceSrc::new(b"data")).unwrap();
    assert_eq!(fs::read(host.join("a/new")).unwrap(), b"data");
    assert_eq!(file.stat().unwrap().size, 4);
    let at = f.walk("/a/d", Last::Parent).unwrap();
    change::create(&f.caller(), &at, NewKind::Directory, 0o755, 0).unwrap();
    let (from, to) = (f.walk("/a/new", Last::Parent).unwrap(), f.walk("/a/d/moved", Last::Parent).unwrap());
    change::rename(&f.caller(), &from, &to, RenameMode::Replace).unwrap();
    assert_eq!(fs::read(host.join("a/d/moved")).unwrap(), b"data");
    assert_eq!(f.read("/a/d/moved").unwrap(), b"data");
    assert_eq!(f.read("/a/new"), Err(Errno::ENOENT));
    change::unlink(&f.caller(), &f.walk("/a/d/moved", Last::Parent).unwrap(), Remove::File).unwrap();
    assert!(!host.join("a/d/moved").exists());
    // The open file outlives its name.
    let mut buf = [0; 8];
    assert_eq!(file.read_at(&mut SliceDst::new(&mut buf), 0), Ok(4));
}

#[test]
fn a_fifo_is_made_on_the_host_with_its_mode() {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let f = Fixture::new(Access::ReadWrite);
    let at = f.walk("/a/pipe", Last::Parent).unwrap();
    change::create(&f.caller(), &at, NewKind::Fifo, 0o640, 0o022).unwrap();
    let meta = fs::symlink_metadata(f.dir.path().join("root/a/pipe")).unwrap();
    assert!(meta.file_type().is_fifo());
    assert_eq!(meta.mode() & 0o777, 0o640);
}

#[test]
fn large_directories_come_in_several_replies() {
    let f = Fixture::new(Access::ReadOnly);
    let dir = f.dir.path().join("root/many");
    fs::create_dir(&dir).unwrap();
    for i in 0..1000 {
        fs::write(dir.join(format!("name-{i}")), "").unwrap();
    }
    let place = f.walk("/many", Last::Follow).unwrap().existing().unwrap();
    assert_eq!(place.inode().ops().read_dir(&f.caller()).unwrap().len(), 1000);
}

#[test]
fn names_that_are_fetched_in_batches_follow_changes() {
    let f = Fixture::new(Access::ReadWrite);
    let host = f.dir.path().join("root/many");
    fs::create_dir(&host).unwrap();
    for i in 0..1000 {
        fs::write(host.join(format!("{i:03}")), i.to_string()).unwrap();
    }
    symlink("005", host.join("link")).unwrap();
    let list = || {
        let place = f.walk("/many", Last::Follow).unwrap().existing().unwrap();
        place.inode().ops().read_dir(&f.caller()).unwrap().into_iter().map(|entry| entry.name)
    };
    assert_eq!(list().len(), 1001);
    for i in 0..100 {
        assert_eq!(f.read(&format!("/many/{i:03}")).unwrap(), i.to_string().as_bytes());
    }
    // Fetched by now, and changed before they are looked up.
    let at = |path: &str| f.walk(path, Last::Parent).unwrap();
    change::unlink(&f.caller(), &at("/many/110"), Remove::File).unwrap();
    change::rename(&f.caller(), &at("/many/111"), &at("/many/112"), RenameMode::Replace).unwrap();
    change::rename(&f.caller(), &at("/many/113"), &at("/a/113"), RenameMode::Replace).unwrap();
    f.open("/many/new", OpenFlags::CREAT | OpenFlags::WRONLY).unwrap();
    assert_eq!(f.read("/many/112").unwrap(), b"111");
    for gone in ["110", "111", "113", "absent"] {
        assert_eq!(f.read(&format!("/many/{gone}")), Err(Errno::ENOENT), "{gone}");
    }
    assert_eq!(f.read("/a/113").unwrap(), b"113");
    assert_eq!(f.read("/many/link").unwrap(), b"5");
    let listed: Vec<_> = list().collect();
    assert_eq!(listed.len(), 1001 - 3 + 1);
    assert!(listed.contains(&b"new".to_vec()) && !listed.contains(&b"111".to_vec()));
    assert!(f.walk("/a", Last::Follow).unwrap().existing().unwrap().inode().is_dir());
}

#[test]
fn attributes_of_an_open_file_without_a_name_change_no_other_file() {
    let f = Fixture::new(Access::ReadWrite);
    let at = |path: &str| f.walk(path, Last::Parent).unwrap();
    let removed = f.open("/a/b/c/file", OpenFlags::RDWR).unwrap();
    change::unlink(&f.caller(), &at("/a/b/c/file"), Remove::File).unwrap();
    let replaced = f.open("/a/b/c/file", OpenFlags::CREAT | OpenFlags::RDWR).unwrap();
    f.open("/a/new", OpenFlags::CREAT | OpenFlags::RDWR).unwrap();
    change::rename(&f.caller(), &at("/a/new"), &at("/a/b/c/file"), RenameMode::Replace).unwrap();
    let private = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    for file in [removed, replaced] {
        file.inode().ops().set_attr(&private).unwrap();
        let stat = file.stat().unwrap();
        assert_eq!((stat.mode & 0o777, stat.nlink), (0o600, 0));
    }
    let there = fs::metadata(f.dir.path().join("root/a/b/c/file")).unwrap();
    assert_eq!(there.permissions().mode() & 0o777, 0o644);
}
