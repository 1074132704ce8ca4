//! Removing what callers left that were killed before they could clean up.

use crate::container::{self, Hooks};
use crate::log;
use crate::state::{ProcessRef, Store};

/// Destroys every container whose caller, without whom it has no reason to be, is gone.
pub(crate) fn sweep(store: &Store) {
    store.remove_unfinished();
    let records = match store.list() {
        Ok(records) => records,
        Err(error) => return log::warning(&error.to_string()),
    };
    for record in records {
        if record.caller.is_none_or(ProcessRef::is_alive) {
            continue;
        }
        log::debug(&format!("sweeping {}", record.id));
        // Another command may be sweeping, too.
        let Ok(entry) = store.open(&record.id) else {
            continue;
        };
        if let Err(error) = container::destroy(entry, Hooks::Run) {
            log::warning(&format!("sweep {}: {error:#}", record.id));
        }
    }
}
