//! Host and domain name (`uts_namespaces(7)`).

use std::sync::Arc;

use parking_lot::Mutex;

/// The names of one UTS namespace.
#[derive(Debug)]
pub struct UtsNamespace {
    names: Mutex<(Vec<u8>, Vec<u8>)>,
}

/// What `uname(2)` says about the kernel.
pub const RELEASE: &str = "6.6.0";
/// The build string of `uname(2)`.
pub const VERSION: &str = "#1 SMP PREEMPT_DYNAMIC";

impl UtsNamespace {
    /// A namespace with this host name.
    #[must_use]
    pub fn new(hostname: &[u8]) -> Arc<Self> {
        Arc::new(Self { names: Mutex::new((hostname.to_vec(), b"(none)".to_vec())) })
    }

    /// A copy (`CLONE_NEWUTS`).
    #[must_use]
    pub fn fork(&self) -> Arc<Self> {
        Arc::new(Self { names: Mutex::new(self.names.lock().clone()) })
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
