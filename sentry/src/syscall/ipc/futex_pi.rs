//! Priority-inheritance futexes (`futex(2)`, "Priority-inheritance futexes").
//!
//! The protocol of the word is Linux's: the owner's thread id, `FUTEX_WAITERS`, `FUTEX_OWNER_DIED`. Waiters queue in
//! order of arrival; priorities are not boosted, since the host schedules.

use crate::errno::{Errno, Restart, SysResult};
use crate::kernel::KTime;
use crate::kernel::futex::FutexWaiter;
use crate::mm::UserAddr;
use crate::task::{BlockError, CurrentTask};

const TID_MASK: u32 = 0x3fff_ffff;
const OWNER_DIED: u32 = 0x4000_0000;
const WAITERS: u32 = 0x8000_0000;

impl CurrentTask {
    fn tid_word(&self) -> u32 {
        self.number(self.tid()).unsigned_abs()
    }

    /// Takes the lock if it is free.
    fn try_take_pi(&self, addr: UserAddr, has_waiters: bool) -> Result<bool, Errno> {
        let me = self.tid_word();
        let mut word = self.mm().load_u32(addr)?;
        loop {
            if word & TID_MASK == me {
                return Err(Errno::EDEADLK);
            }
            if word & TID_MASK != 0 {
                return Ok(false);
            }
            let waiters = if has_waiters { WAITERS } else { 0 };
            let new = me | (word & OWNER_DIED) | waiters;
            match self.mm().compare_exchange_u32(addr, word, new)? {
                Ok(_) => return Ok(true),
                Err(actual) => word = actual,
            }
        }
    }

    pub(crate) fn futex_trylock_pi(&self, addr: UserAddr, is_private: bool) -> SysResult {
        let key = self.mm().futex_key(addr, is_private)?;
        let bucket = self.kernel().futexes().lock(key);
        if self.try_take_pi(addr, bucket.has_waiters(key))? { Ok(0) } else { Err(Errno::EAGAIN.into()) }
    }

    pub(crate) fn futex_lock_pi(
        &mut self,
        addr: UserAddr,
        deadline: Option<KTime>,
        is_private: bool,
    ) -> SysResult {
        let key = self.mm().futex_key(addr, is_private)?;
        let waiter = FutexWaiter::new(self.waiter().clone(), key, u32::MAX, self.tid_word());
        {
            let kernel = self.kernel().clone();
            let mut bucket = kernel.futexes().lock(key);
            loop {
                if self.try_take_pi(addr, bucket.has_waiters(key))? {
                    return Ok(0);
                }
                let word = self.mm().load_u32(addr)?;
                if word & TID_MASK == 0 {
                    continue;
                }
                let owner = self.named((word & TID_MASK).cast_signed())?;
                // The tree is not locked by anybody who wants a bucket.
                if kernel.tree().thread(owner).is_none() {
                    return Err(Errno::ESRCH.into());
                }
                if self.mm().compare_exchange_u32(addr, word, word | WAITERS)?.is_ok() {
                    break;
                }
            }
            bucket.push(key, waiter.clone());
        }
        match self.sleep_on_futex(&waiter, deadline) {
            // The one who unlocked has made this thread the owner.
            Ok(()) => Ok(0),
            Err(BlockError::TimedOut) => Err(Errno::ETIMEDOUT.into()),
            Err(BlockError::Interrupted) => Err(Restart::Always.into()),
        }
    }

    pub(crate) fn futex_unlock_pi(&self, addr: UserAddr, is_private: bool) -> SysResult {
        let key = self.mm().futex_key(addr, is_private)?;
        if self.mm().load_u32(addr)? & TID_MASK != self.tid_word() {
            return Err(Errno::EPERM.into());
        }
        self.hand_over_pi(addr, key, 0)?;
        Ok(0)
    }

    /// Gives a PI futex to its first waiter, or frees it. `flags` go into the word.
    pub(crate) fn hand_over_pi(
        &self,
        addr: UserAddr,
        key: crate::mm::FutexKey,
        flags: u32,
    ) -> Result<(), Errno> {
        let next = {
            let mut bucket = self.kernel().futexes().lock(key);
            let next = bucket.take(key, 1, u32::MAX).pop();
            let more = if bucket.has_waiters(key) { WAITERS } else { 0 };
            let new = next.as_ref().map_or(flags, |n| n.tid | more | flags);
            let mut word = self.mm().load_u32(addr)?;
            while let Err(actual) = self.mm().compare_exchange_u32(addr, word, new)? {
                word = actual;
            }
            next
        };
        if let Some(next) = next {
            next.wake();
        }
        Ok(())
    }
}
