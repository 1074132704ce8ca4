//! Names of local sockets: the abstract namespace and sockets in the file system.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::errno::Errno;
use crate::socket::base::SocketType;
use crate::socket::unix::address::{Name, Wanted};
use crate::socket::unix::{UnixSocket, place};
use crate::task::CurrentTask;

/// The abstract names of a network namespace. Sockets of different types have separate names, as in Linux.
#[derive(Debug, Default)]
pub struct AbstractNames {
    bound: Mutex<HashMap<Key, Weak<UnixSocket>>>,
}

/// A name with the type of the sockets that it is for.
type Key = (SocketType, Arc<[u8]>);

impl AbstractNames {
    /// Binds `socket` to `name`.
    ///
    /// # Errors
    /// `EADDRINUSE`.
    fn bind(&self, kind: SocketType, name: &Arc<[u8]>, socket: &Arc<UnixSocket>) -> Result<(), Errno> {
        let mut bound = self.bound.lock();
        let slot = bound.entry((kind, name.clone())).or_default();
        if slot.strong_count() > 0 {
            return Err(Errno::EADDRINUSE);
        }
        *slot = Arc::downgrade(socket);
        Ok(())
    }

    /// Frees a name if it is `socket`'s.
    pub(super) fn unbind_if(&self, kind: SocketType, name: &Arc<[u8]>, socket: &Weak<UnixSocket>) {
        let mut bound = self.bound.lock();
        let key = (kind, name.clone());
        if bound.get(&key).is_some_and(|owner| owner.ptr_eq(socket)) {
            bound.remove(&key);
        }
    }

    /// The socket with that name.
    fn find(&self, kind: SocketType, name: &[u8]) -> Option<Arc<UnixSocket>> {
        self.bound.lock().get(&(kind, name.into())).and_then(Weak::upgrade)
    }
}

impl UnixSocket {
    /// `bind(2)`.
    ///
    /// # Errors
    /// `EINVAL` when the socket has a name already; `EADDRINUSE`; for paths as `mknod(2)`.
    pub(super) fn bind_to(self: &Arc<Self>, task: &mut CurrentTask, wanted: Wanted) -> Result<(), Errno> {
        let _control = self.control.lock();
        match wanted {
            Wanted::Any => self.autobind_locked(),
            Wanted::Abstract(name) => {
                self.check_unbound()?;
                self.bind_abstract(&name)
            }
            Wanted::Path(path) => self.bind_path(task, &path),
        }
    }

    /// Binds to a name that the kernel picks, if the socket has none (unix(7) "Autobind feature").
    ///
    /// # Errors
    /// `ENOSPC` when all names are taken.
    pub(super) fn autobind(self: &Arc<Self>) -> Result<(), Errno> {
        let _control = self.control.lock();
        self.autobind_locked()
    }

    pub(super) fn autobind_locked(self: &Arc<Self>) -> Result<(), Errno> {
        if self.state.lock().name.is_some() {
            return Ok(());
        }
        for number in 0..AUTOBIND_NAMES {
            // Spread over the range by the socket's address-independent serial number.
            let number = (self.serial.wrapping_mul(0x9e37) + number) % AUTOBIND_NAMES;
            match self.bind_abstract(format!("{number:05x}").as_bytes()) {
                Err(Errno::EADDRINUSE) => {}
                done => return done,
            }
        }
        Err(Errno::ENOSPC)
    }

    fn check_unbound(&self) -> Result<(), Errno> {
        if self.state.lock().name.is_some() { Err(Errno::EINVAL) } else { Ok(()) }
    }

    pub(super) fn bind_abstract(self: &Arc<Self>, name: &[u8]) -> Result<(), Errno> {
        let name: Arc<[u8]> = name.into();
        self.namespace.abstract_names().bind(self.base.kind, &name, self)?;
        self.state.lock().name = Some(Name::Abstract(name));
        Ok(())
    }

    /// Makes a socket file and attaches this socket to it.
    fn bind_path(self: &Arc<Self>, task: &mut CurrentTask, path: &[u8]) -> Result<(), Errno> {
        // Linux makes the file first (EADDRINUSE), then looks whether the socket has a name (EINVAL), which a
        // program can tell apart only when both are wrong; the file is not made in vain here.
        self.check_unbound()?;
        let place = place::create(task, path, self)?;
        let mut state = self.state.lock();
        state.name = Some(Name::Path(path.into()));
        state.place = Some(place);
        Ok(())
    }

    /// The socket of this type that `wanted` names.
    ///
    /// # Errors
    /// `ECONNREFUSED` when no socket is there; `EPROTOTYPE` for one of another type; for paths as `open(2)` for
    /// writing.
    pub(super) fn find(&self, task: &mut CurrentTask, wanted: &Wanted) -> Result<Arc<Self>, Errno> {
        match wanted {
            Wanted::Any => Err(Errno::EINVAL),
            Wanted::Abstract(name) => {
                self.namespace.abstract_names().find(self.base.kind, name).ok_or(Errno::ECONNREFUSED)
            }
            Wanted::Path(path) => {
                let found = place::find(task, path)?;
                if found.base.kind == self.base.kind { Ok(found) } else { Err(Errno::EPROTOTYPE) }
            }
        }
    }
}

/// Linux draws five hexadecimal digits (`unix_autobind`).
const AUTOBIND_NAMES: u64 = 1 << 20;
