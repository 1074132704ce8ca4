//! Looking through the lower layers.

use std::sync::Arc;

use crate::errno::Errno;
use crate::fs::overlay::OverlayShared;
use crate::fs::overlay::mark::Mark;
use crate::vfs::{Caller, Dentry, Inode};

/// Where the contents of a file are. At least one layer has it; several have a merged directory.
#[derive(Clone)]
pub(super) struct Layers {
    pub(super) upper: Option<Arc<Inode>>,
    /// Its name where the upper layer can be seen without the overlay: kept, so that both use one inode.
    pub(super) _upper_name: Option<Arc<Dentry>>,
    pub(super) lower: Vec<Lower>,
    /// The path that shows the same in the lower layers alone.
    pub(super) lower_path: Vec<u8>,
}

/// A file of a lower layer.
#[derive(Clone)]
pub(super) struct Lower {
    pub(super) inode: Arc<Inode>,
    /// Which one, from the top.
    pub(super) layer: usize,
}

impl Layers {
    /// A file of the upper layer alone.
    pub(super) fn only_upper(upper: Arc<Inode>) -> Self {
        Self { upper: Some(upper), _upper_name: None, lower: Vec::new(), lower_path: Vec::new() }
    }

    /// The file that is shown.
    pub(super) fn top(&self) -> Result<&Arc<Inode>, Errno> {
        self.upper.as_ref().or(self.lower.first().map(|l| &l.inode)).ok_or(Errno::EIO)
    }

    /// True for a directory that is made of several.
    pub(super) fn is_merged(&self) -> bool {
        self.lower.len() + usize::from(self.upper.is_some()) > 1
    }
}

/// How many lookups one redirected directory may cost, and how deep redirects may lead to others.
struct Budget {
    steps: u32,
    depth: u32,
}

/// Far more than what renaming makes; layers can be written by hand.
const MAX_STEPS: u32 = 10_000;
const MAX_DEPTH: u32 = 40;

impl OverlayShared {
    /// What directories of the lower layers, topmost first, have under `name`; empty for nothing, or what is hidden.
    pub(super) fn lower_in(
        &self,
        caller: &Caller<'_>,
        dirs: &[Lower],
        name: &[u8],
    ) -> Result<Vec<Lower>, Errno> {
        self.lower_step(caller, dirs, name, &mut Budget { steps: MAX_STEPS, depth: MAX_DEPTH })
    }

    /// What the lower layers have at `path` from their roots.
    pub(super) fn lower_at(&self, caller: &Caller<'_>, path: &[u8]) -> Result<Vec<Lower>, Errno> {
        let budget = &mut Budget { steps: MAX_STEPS, depth: MAX_DEPTH };
        self.lower_walk(caller, self.lower_roots.clone(), path, budget)
    }

    fn lower_walk(
        &self,
        caller: &Caller<'_>,
        mut at: Vec<Lower>,
        path: &[u8],
        budget: &mut Budget,
    ) -> Result<Vec<Lower>, Errno> {
        for name in path.split(|b| *b == b'/').filter(|n| !n.is_empty()) {
            if matches!(name, b"." | b"..") {
                return Err(Errno::EIO);
            }
            at = self.lower_step(caller, &at, name, budget)?;
        }
        Ok(at)
    }

    fn lower_step(
        &self,
        caller: &Caller<'_>,
        dirs: &[Lower],
        name: &[u8],
        budget: &mut Budget,
    ) -> Result<Vec<Lower>, Errno> {
        let mut found: Vec<Lower> = Vec::new();
        for (index, dir) in dirs.iter().enumerate() {
            budget.steps = budget.steps.checked_sub(1).ok_or(Errno::ELOOP)?;
            let inode = match dir.inode.lookup(caller, name) {
                Ok(inode) => inode,
                Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
                Err(e) => return Err(e),
            };
            if self.dialect.is_whiteout(&inode, self.whiteouts)? {
                break;
            }
            let is_dir = inode.is_dir();
            // What is not a directory ends a merged one, and hides all below where it comes first.
            if is_dir || found.is_empty() {
                found.push(Lower { inode: inode.clone(), layer: dir.layer });
            }
            // The last layer hides nothing, so its marks mean nothing.
            if !is_dir || index + 1 == dirs.len() && dir.layer + 1 == self.lower_roots.len() {
                break;
            }
            if self.dialect.is_opaque(&inode) {
                break;
            }
            if let Some(path) = self.redirect_of(&inode)? {
                budget.depth = budget.depth.checked_sub(1).ok_or(Errno::ELOOP)?;
                let below = |root: &&Lower| root.layer > dir.layer;
                let rest = if path.starts_with(b"/") {
                    let roots = self.lower_roots.iter().filter(below).cloned().collect();
                    self.lower_walk(caller, roots, &path, budget)?
                } else {
                    self.lower_step(caller, &dirs[index + 1..], &path, budget)?
                };
                budget.depth += 1;
                found.extend(rest.into_iter().filter(|l| l.inode.is_dir()));
                break;
            }
        }
        Ok(found)
    }

    /// Where the rest of a renamed directory is: an absolute path, or a name beside it.
    pub(super) fn redirect_of(&self, dir: &Inode) -> Result<Option<Vec<u8>>, Errno> {
        if !self.follows_redirects {
            return Ok(None);
        }
        let Some(path) = self.dialect.read(dir, Mark::Redirect) else { return Ok(None) };
        let is_name = !path.contains(&b'/') && !matches!(&path[..], b"" | b"." | b"..");
        if is_name || path.starts_with(b"/") { Ok(Some(path)) } else { Err(Errno::EINVAL) }
    }
}
