//! The memory of one guest address space.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::errno::Errno;
use crate::mm::{IoVec, UserAddr};

/// One guest address space: shared by the tasks that share memory.
#[derive(Debug)]
pub struct MemoryManager {}

/// The most iovecs in one call (`IOV_MAX`).
const IOV_MAX: usize = 1024;

impl MemoryManager {
    /// Copies from guest memory as much as is readable, at least one byte.
    ///
    /// # Errors
    /// `EFAULT` when the first byte is not readable.
    pub fn read_some(&self, addr: UserAddr, buf: &mut [u8]) -> Result<usize, Errno> {
        let _ = (addr, buf);
        Err(Errno::EFAULT)
    }

    /// Copies into guest memory as much as is writable, at least one byte.
    ///
    /// # Errors
    /// `EFAULT` when the first byte is not writable.
    pub fn write_some(&self, addr: UserAddr, data: &[u8]) -> Result<usize, Errno> {
        let _ = (addr, data);
        Err(Errno::EFAULT)
    }

    /// Fills `buf` from guest memory.
    ///
    /// # Errors
    /// `EFAULT` when a byte is not readable.
    pub fn read_bytes(&self, addr: UserAddr, buf: &mut [u8]) -> Result<(), Errno> {
        if buf.is_empty() || self.read_some(addr, buf)? == buf.len() { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Copies `data` into guest memory.
    ///
    /// # Errors
    /// `EFAULT` when a byte is not writable; earlier bytes may have been stored.
    pub fn write_bytes(&self, addr: UserAddr, data: &[u8]) -> Result<(), Errno> {
        if data.is_empty() || self.write_some(addr, data)? == data.len() {
            Ok(())
        } else {
            Err(Errno::EFAULT)
        }
    }

    /// Reads one value.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn read_obj<T: FromBytes + IntoBytes>(&self, addr: UserAddr) -> Result<T, Errno> {
        let mut value = T::new_zeroed();
        self.read_bytes(addr, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Writes one value.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn write_obj<T: IntoBytes + Immutable>(&self, addr: UserAddr, value: &T) -> Result<(), Errno> {
        self.write_bytes(addr, value.as_bytes())
    }

    /// Reads `n` consecutive values.
    ///
    /// # Errors
    /// `EFAULT`, `ENOMEM` when the array cannot be as large.
    pub fn read_array<T: FromBytes + IntoBytes + Immutable>(
        &self,
        addr: UserAddr,
        n: usize,
    ) -> Result<Vec<T>, Errno> {
        let mut values = Vec::new();
        values.try_reserve_exact(n).map_err(|_| Errno::ENOMEM)?;
        values.resize_with(n, T::new_zeroed);
        self.read_bytes(addr, values.as_mut_slice().as_mut_bytes())?;
        Ok(values)
    }

    /// Reads a string up to its NUL, which is not part of the result.
    ///
    /// # Errors
    /// `EFAULT`; `ENAMETOOLONG` when there is no NUL in the first `max` bytes.
    pub fn read_cstr(&self, addr: UserAddr, max: usize) -> Result<Vec<u8>, Errno> {
        let mut out = Vec::new();
        let mut chunk = [0; 256];
        while out.len() < max {
            let at = addr.checked_add(out.len() as u64)?;
            let want = chunk.len().min(max - out.len());
            let got = self.read_some(at, &mut chunk[..want])?;
            if let Some(end) = chunk[..got].iter().position(|b| *b == 0) {
                out.extend_from_slice(&chunk[..end]);
                return Ok(out);
            }
            out.extend_from_slice(&chunk[..got]);
        }
        Err(Errno::ENAMETOOLONG)
    }

    /// Reads an array of `struct iovec` and checks it as Linux does: at most 1024 entries, each length
    /// non-negative, the total capped to `MAX_RW_COUNT`.
    ///
    /// # Errors
    /// `EINVAL`, `EFAULT`.
    pub fn read_iovec(&self, addr: UserAddr, count: u64) -> Result<Vec<IoVec>, Errno> {
        let count = usize::try_from(count).ok().filter(|n| *n <= IOV_MAX).ok_or(Errno::EINVAL)?;
        let raw: Vec<[u64; 2]> = self.read_array(addr, count)?;
        let mut total = 0_u64;
        let mut vecs = Vec::with_capacity(count);
        for [base, len] in raw {
            if len.cast_signed() < 0 {
                return Err(Errno::EINVAL);
            }
            let len = len.min(IoVec::MAX_RW_COUNT - total);
            total += len;
            vecs.push(IoVec { base: UserAddr(base), len });
        }
        Ok(vecs)
    }
}
