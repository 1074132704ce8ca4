use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::io::{SliceDst, SliceSrc};
use crate::wait::Observer;

#[derive(Default)]
struct Count(AtomicUsize);

impl Observer for Count {
    fn notify(&self, _: Readiness) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn readers_that_find_nothing_do_not_wake_themselves() {
    let pty = Pty::new(0, Weak::new());
    pty.with(|state| state.is_locked = false);
    pty.open_slave().unwrap();
    let (master, slave) = (Arc::new(Count::default()), Arc::new(Count::default()));
    pty.master_queue.register(Readiness::IN, master.clone());
    pty.slave_queue.register(Readiness::IN, slave.clone());
    let mut buf = [0; 16];
    assert_eq!(pty.read_master(&mut SliceDst::new(&mut buf)), Err(Errno::EAGAIN));
    assert_eq!(pty.read_slave(&mut SliceDst::new(&mut buf)), Err(Errno::EAGAIN));
    let wakes = |count: &Count| count.0.load(Ordering::Relaxed);
    assert_eq!((wakes(&master), wakes(&slave)), (0, 0));
    pty.write_slave(&mut SliceSrc::new(b"out")).unwrap();
    assert_eq!((wakes(&master), wakes(&slave)), (1, 0));
    pty.type_keys(&mut SliceSrc::new(b"in\n")).unwrap();
    assert_eq!(wakes(&slave), 1);
    assert_eq!(pty.read_slave(&mut SliceDst::new(&mut buf)), Ok(3));
}
