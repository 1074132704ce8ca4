use std::fs;
use std::os::unix::fs::symlink;

use super::*;

fn tree() -> (tempfile::TempDir, HostTree) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("root/sub")).unwrap();
    fs::write(dir.path().join("outside"), "secret").unwrap();
    fs::write(dir.path().join("root/sub/file"), "inside").unwrap();
    symlink("/etc", dir.path().join("root/etc")).unwrap();
    symlink("../outside", dir.path().join("root/out")).unwrap();
    symlink("sub", dir.path().join("root/alias")).unwrap();
    let root = fs::File::open(dir.path().join("root")).unwrap();
    (dir, HostTree::new(root.into()))
}

#[test]
fn paths_stay_beneath_the_root() {
    let (_dir, tree) = tree();
    for path in ["..", "../outside", "sub/../../outside", "/etc/passwd", "etc/passwd", "out", "alias/file"] {
        assert!(tree.open(path.as_bytes(), OFlag::O_RDONLY).is_err(), "{path}");
    }
    assert!(tree.open(b"sub/file", OFlag::O_RDONLY).is_ok());
}

#[test]
fn a_directory_replaced_by_a_link_is_not_followed() {
    let (dir, tree) = tree();
    let sub = dir.path().join("root/sub");
    fs::rename(&sub, dir.path().join("root/moved")).unwrap();
    symlink("/etc", &sub).unwrap();
    assert!(tree.open(b"sub/passwd", OFlag::O_RDONLY).is_err());
    assert!(tree.unlink(b"sub/passwd").is_err());
    assert!(tree.create(b"sub/new", 0o600).is_err());
}

#[test]
fn links_are_named_and_read_but_not_opened() {
    let (_dir, tree) = tree();
    let link = tree.name(b"etc").unwrap();
    assert_eq!(stat(link.as_fd()).unwrap().st_mode & libc::S_IFMT, libc::S_IFLNK);
    assert_eq!(tree.read_link(b"etc").unwrap(), b"/etc");
    assert!(tree.chmod(b"etc", 0o777).is_err());
}

#[test]
fn names_are_made_moved_and_removed() {
    let (dir, tree) = tree();
    tree.mkdir(b"new", 0o755).unwrap();
    drop(tree.create(b"new/a", 0o644).unwrap());
    tree.rename(b"new/a", b"b", RenameFlags::empty()).unwrap();
    tree.link(b"b", b"new/c").unwrap();
    assert!(dir.path().join("root/new/c").exists());
    assert_eq!(tree.rmdir(b"new"), Err(Errno::ENOTEMPTY));
    tree.unlink(b"new/c").unwrap();
    tree.rmdir(b"new").unwrap();
    assert_eq!(tree.rmdir(b""), Err(Errno::EBUSY));
}
