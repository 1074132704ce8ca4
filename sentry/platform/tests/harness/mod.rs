//! Guests of a few instructions on every backend.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]

use std::sync::{Arc, OnceLock, mpsc};

use sentry_platform::{
    AddressSpace, Context, FpuState, MapSource, MemoryFile, PAGE_SIZE, Platform, PlatformKind, Populate,
    Prepared, Prot, Regs,
};

pub const CODE: u64 = 0x40_0000;
pub const DATA: u64 = 0x50_0000;

pub type Backend = (Arc<dyn Platform>, Arc<MemoryFile>);

/// One platform of each kind for the whole program. The thread that makes them never ends, since stubs die with it.
fn platforms() -> &'static [Backend] {
    static PLATFORMS: OnceLock<Vec<Backend>> = OnceLock::new();
    PLATFORMS.get_or_init(|| {
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let kinds = [PlatformKind::Systrap, PlatformKind::Ptrace].into_iter();
            let made = kinds.map(|kind| {
                let memory = Arc::new(MemoryFile::new(1 << 30).unwrap());
                (Prepared::new(kind).unwrap().create(memory.clone()), memory)
            });
            sender.send(made.collect()).unwrap();
            loop {
                std::thread::park();
            }
        });
        receiver.recv().unwrap()
    })
}

/// A guest process with one page of code and one of data.
pub struct Guest {
    pub memory: Arc<MemoryFile>,
    pub space: Arc<dyn AddressSpace>,
    pub code: u64,
    pub data: u64,
}

impl Guest {
    pub fn new(platform: &Backend, code: &[u8]) -> Self {
        let (platform, memory) = platform;
        let space = platform.new_address_space().unwrap();
        let at = memory.allocate(2 * PAGE_SIZE, PAGE_SIZE).unwrap();
        memory.write(at, code).unwrap();
        space.map(CODE, PAGE_SIZE, MapSource::MemoryFile(at), Prot::READ_EXECUTE, Populate::Eagerly).unwrap();
        let data = at + PAGE_SIZE;
        space.map(DATA, PAGE_SIZE, MapSource::MemoryFile(data), Prot::READ_WRITE, Populate::Eagerly).unwrap();
        Self { memory: memory.clone(), space, code: at, data }
    }

    pub fn context(&self) -> Box<dyn Context> {
        self.space.new_context(&FpuState::initial()).unwrap()
    }
}

pub fn at(rip: u64) -> Regs {
    Regs { rip, rflags: 0x202, rsp: DATA + PAGE_SIZE, ..Regs::default() }
}

pub fn each(test: impl Fn(&Backend)) {
    for platform in platforms() {
        eprintln!("platform {}", platform.0.name());
        test(platform);
    }
}
