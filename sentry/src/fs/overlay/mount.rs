//! Overlays that guests mount (kernel: `fs/overlayfs/super.c`).

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::errno::Errno;
use crate::fs::overlay::layer::Lower;
use crate::fs::overlay::mark::{Dialect, Mark, WhiteoutForm};
use crate::fs::overlay::options::Redirect;
use crate::fs::overlay::{LAYER_DISTANCE, Overlay, OverlayOptions, OverlayShared, WhiteoutKind, upper};
use crate::vfs::permission::check_access;
use crate::vfs::{
    Access, Caller, Dentry, DeviceId, Inode, Mount, MountFlags, NewInode, NewKind, SuperBlock, VfsPath,
};

/// The directories that the options name.
pub struct OverlayLayers {
    /// From the top.
    pub lower: Vec<VfsPath>,
    /// The upper layer and the work directory.
    pub upper: Option<(VfsPath, VfsPath)>,
}

/// The work directory's part that the overlay uses.
const WORK: &[u8] = b"work";
/// What a volatile overlay leaves there: after a crash nobody knows what is written.
const INCOMPATIBLE: &[u8] = b"incompat";
/// How many file systems may lie on each other (`FILESYSTEM_MAX_STACK_DEPTH`).
const MAX_DEPTH: u32 = 2;
/// How deep the leftovers in a work directory are looked through.
const MAX_LEFT: u32 = 32;

impl Overlay {
    /// Shows `layers` as `options` say, for `caller`; returns the dentry of the root.
    ///
    /// DEVIATION: the upper layer may be on an overlay itself, for the sandbox's root is one where users have a disk elsewhere.
    /// Whiteouts are marked files there.
    ///
    /// # Errors
    /// `EINVAL` for layers that cannot be used, or not together; `ELOOP` for lower layers in others; `EACCES`, `EPERM`.
    pub fn mount(
        caller: &Caller<'_>,
        options: &OverlayOptions,
        layers: &OverlayLayers,
    ) -> Result<Arc<Dentry>, Errno> {
        check_layers(layers)?;
        let user_ns = &caller.creds.user_ns;
        let dialect = match (options.has_user_xattrs, user_ns.is_initial()) {
            (true, _) => Dialect::User,
            (false, true) => Dialect::Trusted,
            (false, false) => Dialect::Nothing,
        };
        let depth = 1 + all(layers).map(|at| depth_of(at.dentry.superblock())).max().unwrap_or(0);
        if depth > MAX_DEPTH {
            return Err(Errno::EINVAL);
        }
        let makes = match &layers.upper {
            Some((upper, work)) => prepare(caller, options, dialect, upper, work)?,
            None => WhiteoutKind::Device,
        };
        let roots = layers.lower.iter().enumerate();
        let lower_roots: Vec<_> =
            roots.map(|(layer, at)| Lower { inode: at.inode().clone(), layer }).collect();
        let upper = layers.upper.as_ref().map(|(upper, _)| upper);
        let top = upper.or(layers.lower.first()).ok_or(Errno::EINVAL)?;
        let takes_acls = top.inode().ops().takes_acls();
        let top = top.dentry.superblock();
        let is_one = all(layers).all(|at| Arc::ptr_eq(at.dentry.superblock(), top));
        let trusts = dialect != Dialect::Nothing;
        let shared = OverlayShared {
            upper: upper.map(|at| at.dentry.superblock().clone()),
            sizes: top.clone(),
            takes_acls,
            _upper_mount: upper.map(|at| Mount::new(at.dentry.clone(), b"none", MountFlags::empty())),
            first_upper_number: if is_one {
                0
            } else {
                LAYER_DISTANCE.wrapping_mul(lower_roots.len() as u64)
            },
            lower_roots,
            dialect,
            whiteouts: WhiteoutForm::DeviceOrMark,
            makes,
            redirects: trusts && options.redirect == Redirect::On,
            follows_redirects: trusts && options.redirect != Redirect::NoFollow,
            mounter: (!user_ns.is_initial()).then(|| Arc::new(caller.creds.clone())),
            options: options.show(),
            depth,
            change: Mutex::new(()),
            linked: Mutex::new(HashMap::new()),
        };
        let name = upper.map(|at| at.dentry.clone());
        Self::of(shared, name.as_ref().map(|name| name.inode().clone()), name)
    }
}

fn all(layers: &OverlayLayers) -> impl Iterator<Item = &VfsPath> {
    layers.lower.iter().chain(layers.upper.iter().map(|(upper, _)| upper))
}

/// How many overlays a guest sees in a file system; the sandbox's root is as good as a disk.
fn depth_of(superblock: &SuperBlock) -> u32 {
    superblock.downcast::<Overlay>().map_or(0, |overlay| overlay.shared.depth)
}

/// Which directories go together (`ovl_get_workdir`, `ovl_check_overlapping_layers`).
fn check_layers(layers: &OverlayLayers) -> Result<(), Errno> {
    let mut all: Vec<&VfsPath> = layers.lower.iter().collect();
    if let Some((upper, work)) = &layers.upper {
        if !Arc::ptr_eq(&upper.mount, &work.mount)
            || upper.dentry.is_ancestor_of(&work.dentry)
            || work.dentry.is_ancestor_of(&upper.dentry)
        {
            return Err(Errno::EINVAL);
        }
        all.extend([upper, work]);
    }
    if all.iter().any(|at| !at.inode().is_dir()) {
        return Err(Errno::EINVAL);
    }
    // What changes in another layer would change here behind the back of who looks.
    for (index, lower) in layers.lower.iter().enumerate() {
        let is_above =
            |(other, at): (usize, &&VfsPath)| other != index && at.dentry.is_ancestor_of(&lower.dentry);
        if all.iter().enumerate().any(is_above) {
            return Err(Errno::ELOOP);
        }
    }
    Ok(())
}

/// Makes the work directory ready, and finds out what the upper layer is able to do (`ovl_make_workdir`).
fn prepare(
    caller: &Caller<'_>,
    options: &OverlayOptions,
    dialect: Dialect,
    upper: &VfsPath,
    work: &VfsPath,
) -> Result<WhiteoutKind, Errno> {
    if upper.mount.check_writable().is_err() {
        return Err(Errno::EINVAL);
    }
    let base = work.inode();
    check_access(caller, base, Access::WRITE | Access::EXEC)?;
    match base.lookup(caller, WORK) {
        Ok(left) => {
            if left.is_dir() && left.lookup(caller, INCOMPATIBLE).is_ok() {
                return Err(Errno::EINVAL);
            }
            remove_all(caller, base, WORK, &left, MAX_LEFT)?;
        }
        Err(Errno::ENOENT) => {}
        Err(e) => return Err(e),
    }
    let own = |kind, mode| NewInode { kind, mode, uid: caller.creds.fsuid.0, gid: caller.creds.fsgid.0 };
    let dir = upper::create(base, WORK, &own(NewKind::Directory, 0))?;
    if options.is_volatile {
        let incompatible = upper::create(&dir, INCOMPATIBLE, &own(NewKind::Directory, 0))?;
        upper::create(&incompatible, b"volatile", &own(NewKind::Directory, 0))?;
    }
    // Copies get their names when they are complete.
    dir.create_unnamed(&own(NewKind::Regular, 0)).map_err(|_| Errno::EINVAL)?;
    if let Ok(made) = upper::create(&dir, b"#0", &own(NewKind::CharDevice(DeviceId::default()), 0)) {
        upper::remove(&dir, b"#0", &made)?;
        return Ok(WhiteoutKind::Device);
    }
    let made = upper::create(&dir, b"#0", &own(NewKind::Regular, 0))?;
    let marked = dialect.write(&made, Mark::Whiteout, b"y");
    upper::remove(&dir, b"#0", &made)?;
    marked.map(|()| WhiteoutKind::Marked).map_err(|_| Errno::EINVAL)
}

/// Removes what an overlay left, as far as `caller` may.
fn remove_all(
    caller: &Caller<'_>,
    dir: &Arc<Inode>,
    name: &[u8],
    victim: &Arc<Inode>,
    depth: u32,
) -> Result<(), Errno> {
    if victim.is_dir() {
        let entries = victim.ops().read_dir(caller)?;
        if !entries.is_empty() {
            check_access(caller, victim, Access::WRITE | Access::EXEC)?;
        }
        let depth = depth.checked_sub(1).ok_or(Errno::EINVAL)?;
        for entry in entries {
            let child = victim.lookup(caller, &entry.name)?;
            remove_all(caller, victim, &entry.name, &child, depth)?;
        }
    }
    upper::remove(dir, name, victim)
}
