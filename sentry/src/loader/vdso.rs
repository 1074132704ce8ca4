//! The vDSO: an ELF image with a page of clock parameters in front of it (`vdso(7)`).

use std::sync::Arc;

use sentry_platform::MemoryFile;
use sentry_platform::vdso::vdso_code;
use zerocopy::IntoBytes;

use crate::errno::Errno;
use crate::loader::vdso_image::build_image;
use crate::mm::{Frames, MapFile, MapRequest, MemoryManager, PAGE_SIZE, Placement, Prot};
use crate::vfs::{Backing, Mappable, MappedRange};

/// The parameter page and the image, shared by all processes.
#[derive(Debug)]
pub struct Vdso {
    pages: Arc<Pages>,
}

/// Two pages of the memory file.
#[derive(Debug)]
struct Pages {
    frames: Arc<Frames>,
    at: u64,
}

const SIZE: u64 = 2 * PAGE_SIZE;

/// The clock parameters, in the layout that the code reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Parameters {
    /// The counter at the base.
    pub(crate) counter: u64,
    /// Nanoseconds per tick, shifted left by 32.
    pub(crate) multiplier: u64,
    /// `CLOCK_MONOTONIC`, `CLOCK_REALTIME`, `CLOCK_BOOTTIME` at the base in nanoseconds.
    pub(crate) base_ns: [u64; 3],
}

impl Vdso {
    /// Makes the pages; the clocks are not usable before their parameters are published.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(frames: &Arc<Frames>) -> Result<Self, Errno> {
        let at = frames.allocate(SIZE)?;
        let pages = Arc::new(Pages { frames: frames.clone(), at });
        let image = build_image(&vdso_code());
        pages.file().write(at + PAGE_SIZE, &image).map_err(|_| Errno::ENOMEM)?;
        Ok(Self { pages })
    }

    /// Maps the pages and returns the address of the image.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn map(&self, mm: &MemoryManager) -> Result<Option<u64>, Errno> {
        let mappable: Arc<dyn Mappable> = self.pages.clone();
        let request = |placement, offset, prot, name| MapRequest {
            max_prot: prot,
            source: Some(MapFile { mappable: mappable.clone(), offset, file: None, name }),
            ..MapRequest::anonymous(placement, PAGE_SIZE, prot)
        };
        let hole = mm.map(&MapRequest::anonymous(Placement::Hint(0), SIZE, Prot::empty()))?;
        mm.map(&request(Placement::Fixed(hole), 0, Prot::READ, "[vvar]".into()))?;
        let image = hole + PAGE_SIZE;
        mm.map(&request(Placement::Fixed(image), PAGE_SIZE, Prot::READ | Prot::EXEC, "[vdso]".into()))?;
        Ok(Some(image))
    }

    /// Publishes parameters; `None` makes the code fall back to system calls.
    pub(crate) fn publish(&self, parameters: Option<&Parameters>) {
        let (file, at) = (self.pages.file(), self.pages.at);
        // The pages are inside the memory file, so none of this fails. An odd sequence makes readers wait.
        let sequence = file.load_u32(at).unwrap_or(0);
        let _ = file.swap_u32(at, sequence.wrapping_add(1));
        let _ = file.swap_u32(at + 4, u32::from(parameters.is_some()));
        if let Some(Parameters { counter, multiplier, base_ns }) = parameters {
            let words = [*counter, *multiplier, base_ns[0], base_ns[1], base_ns[2]];
            let _ = file.write(at + 8, words.as_bytes());
        }
        let _ = file.swap_u32(at, sequence.wrapping_add(2));
    }
}

impl Pages {
    fn file(&self) -> &MemoryFile {
        self.frames.memory_file()
    }
}

impl Mappable for Pages {
    fn translate(&self, offset: u64, _len: u64, _write: bool) -> Result<MappedRange, Errno> {
        if offset >= SIZE {
            return Err(Errno::ENXIO);
        }
        Ok(MappedRange { backing: Backing::Memory(self.at + offset), len: SIZE - offset })
    }

    fn size(&self) -> u64 {
        SIZE
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.frames.release(self.at, SIZE);
    }
}
