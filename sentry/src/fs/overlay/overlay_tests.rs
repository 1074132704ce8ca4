use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use sentry_platform::MemoryFile;

use super::{Overlay, OverlayLayers, OverlayOptions};
use crate::errno::Errno;
use crate::fs::tmpfs::{Tmpfs, TmpfsOptions};
use crate::io::{SliceDst, SliceSrc};
use crate::task::Credentials;
use crate::vfs::change::{self, Remove};
use crate::vfs::open::{OpenHow, open};
use crate::vfs::walk::walk;
use crate::vfs::{
    Caller, Dentry, FileType, Last, LinkTarget, Mount, MountFlags, MountNamespace, NewKind, OpenFlags,
    RenameMode, Resolve, SetAttr, WalkRoot, Walked, XattrMode,
};

/// A mounted file system and somebody who uses it.
struct Guest {
    creds: Arc<Credentials>,
    from: WalkRoot,
}

impl Guest {
    fn new(root: Arc<Dentry>) -> Self {
        let namespace = MountNamespace::new(Mount::new(root, b"test", MountFlags::empty()));
        let root = namespace.root();
        Self { creds: Credentials::root(), from: WalkRoot { namespace, start: root.clone(), root } }
    }

    fn caller(&self) -> Caller<'_> {
        Caller::kernel(&self.creds)
    }

    fn at(&self, path: &str, last: Last) -> Result<Walked, Errno> {
        walk(&self.caller(), &self.from, path.as_bytes(), last, Resolve::empty())
    }

    fn make(&self, path: &str, kind: NewKind) -> Result<(), Errno> {
        let at = self.at(path, Last::Parent)?;
        change::create(&self.caller(), &at, kind, 0o755, 0).map(|_| ())
    }

    fn append(&self, path: &str, data: &[u8]) -> Result<(), Errno> {
        let flags = OpenFlags::WRONLY | OpenFlags::CREAT | OpenFlags::APPEND;
        let how = OpenHow { mode: 0o644, ..OpenHow::existing(flags) };
        let file = open(&self.caller(), &self.from, path.as_bytes(), &how)?;
        file.write(&mut SliceSrc::new(data)).map(|_| ())
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let file = open(&self.caller(), &self.from, path.as_bytes(), &OpenHow::existing(OpenFlags::empty()))?;
        let mut buf = [0; 256];
        let n = file.read(&mut SliceDst::new(&mut buf))?;
        Ok(buf[..n].to_vec())
    }

    fn remove(&self, path: &str, what: Remove) -> Result<(), Errno> {
        change::unlink(&self.caller(), &self.at(path, Last::Parent)?, what)
    }

    fn rename(&self, from: &str, to: &str, mode: RenameMode) -> Result<(), Errno> {
        let (from, to) = (self.at(from, Last::Parent)?, self.at(to, Last::Parent)?);
        change::rename(&self.caller(), &from, &to, mode)
    }

    fn link(&self, from: &str, to: &str) -> Result<(), Errno> {
        let target = self.at(from, Last::NoFollow)?.existing()?;
        change::link(&self.caller(), &target, &self.at(to, Last::Parent)?)
    }

    fn apply(&self, op: &Op) -> Result<(), Errno> {
        match op {
            Op::Mkdir(p) => self.make(p, NewKind::Directory),
            Op::Symlink(p) => self.make(p, NewKind::Symlink(b"target".to_vec())),
            Op::Append(p, byte) => self.append(p, &[*byte]),
            Op::Unlink(p) => self.remove(p, Remove::File),
            Op::Rmdir(p) => self.remove(p, Remove::Directory),
            Op::Rename(a, b, mode) => self.rename(a, b, *mode),
            Op::Link(a, b) => self.link(a, b),
            Op::Chmod(p, mode) => {
                let place = self.at(p, Last::NoFollow)?.existing()?;
                let attr = SetAttr { mode: Some(*mode), ..SetAttr::default() };
                if place.inode().kind() == FileType::Symlink {
                    return Ok(());
                }
                place.inode().ops().set_attr(&attr)
            }
            Op::Truncate(p) => {
                let place = self.at(p, Last::NoFollow)?.existing()?;
                if place.inode().kind() != FileType::Regular {
                    return Ok(());
                }
                place.inode().ops().set_attr(&SetAttr { size: Some(0), ..SetAttr::default() })
            }
        }
    }

    /// Everything that can be seen, by path. Hard links show as equal contents.
    fn tree(&self) -> BTreeMap<String, String> {
        let mut seen = BTreeMap::new();
        let mut pending = vec![String::new()];
        while let Some(dir) = pending.pop() {
            let place = self.at(&format!("{dir}/."), Last::Follow).unwrap().existing().unwrap();
            for entry in place.inode().ops().read_dir(&self.caller()).unwrap() {
                let path = format!("{dir}/{}", String::from_utf8(entry.name).unwrap());
                let place = self.at(&path, Last::NoFollow).unwrap().existing().unwrap();
                let stat = place.stat().unwrap();
                assert_eq!(stat.file_type(), entry.kind, "{path}");
                let mut text = format!("{:?} {:o}", entry.kind, stat.permissions());
                match entry.kind {
                    FileType::Directory => pending.push(path.clone()),
                    FileType::Regular => text += &format!(" {:?}", self.read(&path).unwrap()),
                    FileType::Symlink => {
                        let LinkTarget::Path(to) = place.inode().ops().read_link(&self.caller()).unwrap()
                        else {
                            panic!("{path}")
                        };
                        text += &format!(" {to:?}");
                    }
                    _ => {}
                }
                seen.insert(path, text);
            }
        }
        seen
    }
}

#[derive(Debug, Clone)]
enum Op {
    Mkdir(String),
    Symlink(String),
    Append(String, u8),
    Unlink(String),
    Rmdir(String),
    Rename(String, String, RenameMode),
    Link(String, String),
    Chmod(String, u32),
    Truncate(String),
}

fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just("c")], 1..4)
        .prop_map(|names| format!("/{}", names.join("/")))
}

fn mode() -> impl Strategy<Value = RenameMode> {
    prop_oneof![
        3 => Just(RenameMode::Replace),
        1 => Just(RenameMode::NoReplace),
        1 => Just(RenameMode::Exchange)
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => path().prop_map(Op::Mkdir),
        1 => path().prop_map(Op::Symlink),
        3 => (path(), b'a'..=b'z').prop_map(|(p, b)| Op::Append(p, b)),
        2 => path().prop_map(Op::Unlink),
        2 => path().prop_map(Op::Rmdir),
        3 => (path(), path(), mode()).prop_map(|(a, b, m)| Op::Rename(a, b, m)),
        1 => (path(), path()).prop_map(|(a, b)| Op::Link(a, b)),
        1 => (path(), prop_oneof![Just(0o700), Just(0o755)]).prop_map(|(p, m)| Op::Chmod(p, m)),
        1 => path().prop_map(Op::Truncate),
    ]
}

fn tmpfs(memory: &Arc<MemoryFile>) -> Arc<Dentry> {
    Tmpfs::create(memory.clone(), &TmpfsOptions { mode: 0o755, ..TmpfsOptions::default() })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever the lower layer held before, an overlay and a plain file system answer every change alike and show
    /// the same tree. (Links of the lower layer are not made: an overlay breaks them when it copies.)
    #[test]
    fn behaves_like_a_plain_file_system(
        before in proptest::collection::vec(op(), 0..24),
        after in proptest::collection::vec(op(), 0..40),
    ) {
        let memory = Arc::new(MemoryFile::new(1 << 30).unwrap());
        let lower_root = tmpfs(&memory);
        let (lower, plain) = (Guest::new(lower_root.clone()), Guest::new(tmpfs(&memory)));
        for op in before.iter().filter(|op| !matches!(op, Op::Link(..))) {
            prop_assert_eq!(lower.apply(op), plain.apply(op));
        }
        let frozen = lower.tree();
        let overlay = Guest::new(Overlay::create(&tmpfs(&memory), &lower_root).unwrap());
        for op in &after {
            prop_assert_eq!(overlay.apply(op), plain.apply(op), "{:?}", op);
        }
        prop_assert_eq!(overlay.tree(), plain.tree());
        prop_assert_eq!(lower.tree(), frozen);
        // A fresh look at the same layers, without anything cached, shows the same.
        overlay.from.root.dentry.forget_tree();
        prop_assert_eq!(overlay.tree(), plain.tree());
    }
}

/// An overlay as a guest mounts it, with the lower layers from the top.
fn mounted(options: &str, lower: &[&Guest], upper: Option<&Guest>) -> Result<Guest, Errno> {
    let creds = Credentials::root();
    let upper = upper.map(|upper| {
        let at = |path| upper.at(path, Last::Follow).unwrap().existing().unwrap();
        (at("/upper"), at("/work"))
    });
    let lower = lower.iter().map(|layer| layer.from.root.clone()).collect();
    let options = OverlayOptions::parse(options).unwrap();
    Overlay::mount(&Caller::kernel(&creds), &options, &OverlayLayers { lower, upper }).map(Guest::new)
}

/// A file system with an upper layer and a work directory.
fn for_changes(root: Arc<Dentry>) -> Guest {
    let guest = Guest::new(root);
    guest.make("/upper", NewKind::Directory).unwrap();
    guest.make("/work", NewKind::Directory).unwrap();
    guest
}

/// The upper layer of `guest` alone.
fn only_upper(guest: &Guest) -> Guest {
    Guest::new(guest.at("/upper", Last::Follow).unwrap().existing().unwrap().dentry)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// What three generations of changes leave in three layers shows the same when the layers lie on each other, wherever the
    /// upper layers are: in memory, or on another overlay.
    #[test]
    fn layers_of_earlier_overlays_show_what_was_changed(
        first in proptest::collection::vec(op(), 0..20),
        second in proptest::collection::vec(op(), 0..30),
        third in proptest::collection::vec(op(), 0..30),
        is_nested in any::<bool>(),
    ) {
        let memory = Arc::new(MemoryFile::new(1 << 30).unwrap());
        let place = || {
            let root = tmpfs(&memory);
            for_changes(if is_nested { Overlay::create(&root, &tmpfs(&memory)).unwrap() } else { root })
        };
        let (lowest, plain) = (Guest::new(tmpfs(&memory)), Guest::new(tmpfs(&memory)));
        let is_link = |op: &&Op| matches!(op, Op::Link(..));
        for op in first.iter().filter(|op| !is_link(op)) {
            prop_assert_eq!(lowest.apply(op), plain.apply(op));
        }
        let both = "lowerdir=a,upperdir=u,workdir=w,redirect_dir=on";
        let middle = place();
        let overlay = mounted(both, &[&lowest], Some(&middle)).unwrap();
        for op in second.iter().filter(|op| !is_link(op)) {
            prop_assert_eq!(overlay.apply(op), plain.apply(op), "{:?}", op);
        }
        let middle = only_upper(&middle);
        prop_assert_eq!(mounted("lowerdir=a:b", &[&middle, &lowest], None).unwrap().tree(), plain.tree());
        let top = place();
        let overlay = mounted(both, &[&middle, &lowest], Some(&top)).unwrap();
        prop_assert_eq!(overlay.tree(), plain.tree());
        for op in &third {
            prop_assert_eq!(overlay.apply(op), plain.apply(op), "{:?}", op);
        }
        prop_assert_eq!(overlay.tree(), plain.tree());
        let layers = [&only_upper(&top), &middle, &lowest];
        prop_assert_eq!(mounted("lowerdir=a:b:c", &layers, None).unwrap().tree(), plain.tree());
    }
}

#[test]
fn a_lower_directory_stays_where_it_is_without_redirects() {
    let memory = Arc::new(MemoryFile::new(1 << 30).unwrap());
    let (lower, changes) = (Guest::new(tmpfs(&memory)), for_changes(tmpfs(&memory)));
    lower.make("/d", NewKind::Directory).unwrap();
    let overlay = mounted("lowerdir=a,upperdir=u,workdir=w", &[&lower], Some(&changes)).unwrap();
    assert_eq!(overlay.rename("/d", "/e", RenameMode::Replace), Err(Errno::EXDEV));
    overlay.make("/new", NewKind::Directory).unwrap();
    assert_eq!(overlay.rename("/new", "/e", RenameMode::Replace), Ok(()));
    assert_eq!(overlay.rename("/e", "/d", RenameMode::Exchange), Err(Errno::EXDEV));
}

#[test]
fn redirects_that_lead_in_circles_end() {
    let memory = Arc::new(MemoryFile::new(1 << 30).unwrap());
    let layers: Vec<Guest> = (0..60).map(|_| Guest::new(tmpfs(&memory))).collect();
    for layer in &layers {
        for name in ["/a", "/b"] {
            layer.make(name, NewKind::Directory).unwrap();
            let dir = layer.at(name, Last::Follow).unwrap().existing().unwrap();
            let other: &[u8] = if name == "/a" { b"/b/a/b" } else { b"/a/b/a" };
            layer.make(&format!("{name}/a"), NewKind::Directory).unwrap();
            layer.make(&format!("{name}/b"), NewKind::Directory).unwrap();
            dir.inode().ops().set_xattr(b"trusted.overlay.redirect", other, XattrMode::Set).unwrap();
        }
    }
    let lower: Vec<&Guest> = layers.iter().collect();
    let overlay = mounted("lowerdir=a:b", &lower, None).unwrap();
    assert_eq!(overlay.at("/a", Last::Follow).map(|_| ()), Err(Errno::ELOOP));
}

#[test]
fn who_looks_at_the_upper_layer_itself_sees_changes_at_once() {
    let memory = Arc::new(MemoryFile::new(1 << 30).unwrap());
    let (lower, changes) = (Guest::new(tmpfs(&memory)), for_changes(tmpfs(&memory)));
    let overlay = mounted("lowerdir=a,upperdir=u,workdir=w", &[&lower], Some(&changes)).unwrap();
    assert_eq!(changes.read("/upper/f"), Err(Errno::ENOENT));
    overlay.append("/f", b"x").unwrap();
    assert_eq!(changes.read("/upper/f").unwrap(), b"x");
    overlay.rename("/f", "/g", RenameMode::Replace).unwrap();
    assert_eq!(changes.read("/upper/f"), Err(Errno::ENOENT));
    assert_eq!(changes.read("/upper/g").unwrap(), b"x");
    overlay.remove("/g", Remove::File).unwrap();
    assert_eq!(changes.read("/upper/g"), Err(Errno::ENOENT));
}

fn layered(build: impl FnOnce(&Guest)) -> (Guest, Guest) {
    let memory = Arc::new(MemoryFile::new(1 << 30).unwrap());
    let lower_root = tmpfs(&memory);
    let lower = Guest::new(lower_root.clone());
    build(&lower);
    (Guest::new(Overlay::create(&tmpfs(&memory), &lower_root).unwrap()), lower)
}

#[test]
fn a_directory_made_again_does_not_show_the_old_entries() {
    let (guest, _) = layered(|lower| {
        lower.make("/d", NewKind::Directory).unwrap();
        lower.append("/d/old", b"x").unwrap();
    });
    guest.remove("/d/old", Remove::File).unwrap();
    guest.remove("/d", Remove::Directory).unwrap();
    guest.make("/d", NewKind::Directory).unwrap();
    assert_eq!(guest.read("/d/old"), Err(Errno::ENOENT));
}

#[test]
fn a_renamed_directory_keeps_its_lower_entries() {
    let (guest, lower) = layered(|lower| {
        lower.make("/d", NewKind::Directory).unwrap();
        lower.append("/d/f", b"x").unwrap();
    });
    guest.rename("/d", "/e", RenameMode::Replace).unwrap();
    assert_eq!(guest.read("/e/f").unwrap(), b"x");
    assert_eq!(guest.read("/d/f"), Err(Errno::ENOENT));
    assert_eq!(lower.read("/d/f").unwrap(), b"x");
}

#[test]
fn a_copied_file_keeps_its_number_and_an_open_reader_its_contents() {
    let (guest, _) = layered(|lower| lower.append("/f", b"old").unwrap());
    let before = guest.at("/f", Last::Follow).unwrap().existing().unwrap().stat().unwrap();
    let how = OpenHow::existing(OpenFlags::empty());
    let reader = open(&guest.caller(), &guest.from, b"/f", &how).unwrap();
    guest.append("/f", b"new").unwrap();
    let after = guest.at("/f", Last::Follow).unwrap().existing().unwrap().stat().unwrap();
    assert_eq!(before.ino, after.ino);
    let mut buf = [0; 16];
    assert_eq!(reader.read(&mut SliceDst::new(&mut buf)), Ok(3));
    assert_eq!(guest.read("/f").unwrap(), b"oldnew");
}

#[test]
fn a_lower_fifo_is_copied_without_being_waited_for() {
    let (guest, _) = layered(|lower| lower.make("/p", NewKind::Fifo).unwrap());
    let place = guest.at("/p", Last::Follow).unwrap().existing().unwrap();
    let attr = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    assert_eq!(place.inode().ops().set_attr(&attr), Ok(()));
    assert_eq!(place.stat().unwrap().permissions(), 0o600);
    let open_as = |flags| open(&guest.caller(), &guest.from, b"/p", &OpenHow::existing(flags));
    let reader = open_as(OpenFlags::empty()).unwrap();
    assert_eq!(reader.ops().finish_open(&reader), Err(Errno::EAGAIN));
    let writer = open_as(OpenFlags::WRONLY).unwrap();
    assert_eq!(reader.ops().finish_open(&reader), Ok(()));
    assert_eq!(writer.ops().finish_open(&writer), Ok(()));
    writer.write(&mut SliceSrc::new(b"hi")).unwrap();
    let mut buf = [0; 8];
    assert_eq!(reader.read(&mut SliceDst::new(&mut buf)), Ok(2));
}

#[test]
fn linked_names_are_one_file() {
    let (guest, _) = layered(|lower| lower.append("/f", b"x").unwrap());
    guest.link("/f", "/g").unwrap();
    guest.append("/g", b"y").unwrap();
    assert_eq!(guest.read("/f").unwrap(), b"xy");
    let ino = |path| guest.at(path, Last::Follow).unwrap().existing().unwrap().stat().unwrap().ino;
    assert_eq!(ino("/f"), ino("/g"));
}
