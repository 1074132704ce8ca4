//! Host and domain name (`uts_namespaces(7)`).

use std::sync::Arc;

use parking_lot::Mutex;

use crate::errno::Errno;
use crate::kernel::{NamespaceBase, NamespaceKind};
use crate::task::Credentials;

/// The names of one UTS namespace.
#[derive(Debug)]
pub struct UtsNamespace {
    pub(crate) base: NamespaceBase,
    names: Mutex<(Vec<u8>, Vec<u8>)>,
}

/// What `uname(2)` says about the kernel.
pub const RELEASE: &str = "6.6.0";
/// The build string of `uname(2)`.
pub const VERSION: &str = "#1 SMP PREEMPT_DYNAMIC";

impl UtsNamespace {
    /// The first namespace, with this host name.
    #[must_use]
    pub fn new(hostname: &[u8]) -> Arc<Self> {
        let names = Mutex::new((hostname.to_vec(), b"(none)".to_vec()));
        Arc::new(Self { base: NamespaceBase::initial(NamespaceKind::Uts), names })
    }

    /// A copy that `maker` makes (`CLONE_NEWUTS`).
    ///
    /// # Errors
    /// `ENOSPC` where there are too many.
    pub fn fork(&self, maker: &Credentials) -> Result<Arc<Self>, Errno> {
        let base = NamespaceBase::new(NamespaceKind::Uts, maker)?;
        Ok(Arc::new(Self { base, names: Mutex::new(self.names.lock().clone()) }))
    }

    /// The host name.
    #[must_use]
    pub fn hostname(&self) -> Vec<u8> {
        self.names.lock().0.clone()
    }

    /// The NIS domain name.
    #[must_use]
    pub fn domainname(&self) -> Vec<u8> {
        self.names.lock().1.clone()
    }

    /// Sets the host name; the caller checked its length.
    pub fn set_hostname(&self, name: Vec<u8>) {
        self.names.lock().0 = name;
    }

    /// Sets the NIS domain name; the caller checked its length.
    pub fn set_domainname(&self, name: Vec<u8>) {
        self.names.lock().1 = name;
    }
}
