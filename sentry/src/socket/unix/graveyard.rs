//! Drops files that were under way, iteratively.
//!
//! A socket's inbox can hold sockets whose inboxes hold sockets, as deep as a guest likes to nest them; dropping
//! them by recursion would run out of stack.

use std::cell::RefCell;
use std::sync::Arc;

use crate::vfs::File;

thread_local! {
    /// The files yet to drop while a burial is going on in this thread.
    static PENDING: RefCell<Option<Vec<Arc<File>>>> = const { RefCell::new(None) };
}

/// Drops `files` and all that hang on them without recursion.
pub(super) fn bury(files: Vec<Arc<File>>) {
    if files.is_empty() {
        return;
    }
    let is_outermost = PENDING.with_borrow_mut(|pending| match pending {
        Some(list) => {
            list.extend(files);
            false
        }
        None => {
            *pending = Some(files);
            true
        }
    });
    if !is_outermost {
        return;
    }
    // The file is dropped outside of the borrow: its own drop may come back here.
    while let Some(file) = PENDING.with_borrow_mut(|pending| pending.as_mut().and_then(Vec::pop)) {
        drop(file);
    }
    PENDING.set(None);
}
