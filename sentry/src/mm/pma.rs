//! Physical memory areas: which pages are behind guest addresses that were touched.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use sentry_platform::MapSource;

use crate::mm::Frames;
use crate::mm::range_map::RangeValue;

/// Where the pages of an area are.
#[derive(Debug, Clone)]
pub(crate) enum PmaSource {
    /// Counted pages of the memory file.
    Frames(u64),
    /// Pages of the memory file that belong to a mapped file.
    Shared(u64),
    /// A host file.
    Host(Arc<OwnedFd>, u64),
}

impl PmaSource {
    /// The source `by` bytes further.
    pub(crate) fn advanced(&self, by: u64) -> Self {
        match self {
            Self::Frames(at) => Self::Frames(at + by),
            Self::Shared(at) => Self::Shared(at + by),
            Self::Host(fd, at) => Self::Host(fd.clone(), at + by),
        }
    }

    /// As the platform maps it.
    pub(crate) fn in_host(&self) -> MapSource {
        match self {
            Self::Frames(at) | Self::Shared(at) => MapSource::MemoryFile(*at),
            Self::Host(fd, at) => MapSource::HostFile(fd.clone(), *at),
        }
    }

    fn is_followed_by(&self, len: u64, next: &Self) -> bool {
        match (self, next) {
            (Self::Frames(a), Self::Frames(b)) | (Self::Shared(a), Self::Shared(b)) => a + len == *b,
            (Self::Host(x, a), Self::Host(y, b)) => Arc::ptr_eq(x, y) && a + len == *b,
            _ => false,
        }
    }
}

/// One area.
#[derive(Debug, Clone)]
pub(crate) struct Pma {
    pub(crate) source: PmaSource,
    /// A store may go straight to the pages: they are not shared copy-on-write, and a mapped file was told.
    pub(crate) writable: bool,
    /// The host may have the pages mapped at these addresses.
    pub(crate) installed: bool,
}

impl Pma {
    /// Drops the references of an area that was removed.
    pub(crate) fn release(&self, len: u64, frames: &Frames) {
        if let PmaSource::Frames(at) = self.source {
            frames.release(at, len);
        }
    }
}

impl RangeValue for Pma {
    fn split_off(&mut self, by: u64) -> Self {
        Self { source: self.source.advanced(by), ..*self }
    }

    fn can_merge(&self, len: u64, next: &Self) -> bool {
        self.writable == next.writable
            && self.installed == next.installed
            && self.source.is_followed_by(len, &next.source)
    }
}
