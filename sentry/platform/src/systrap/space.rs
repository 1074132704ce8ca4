//! A guest address space: a stub and its guest threads.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::PAGE_SIZE;
use crate::contract::{AddressSpace, CallSite, Context, MapOp, PlatformError};
use crate::fpu::FpuState;
use crate::host;
use crate::memory_file::MemoryFile;
use crate::stub::command_page::Command;
use crate::stub::{StubProcess, Template, mapping};
use crate::systrap::call_site::{self, CONTEXT_LEN, SITE_LEN, Site, SiteCode, SiteTable, TABLE, TABLE_LEN};
use crate::systrap::compare_site;
use crate::systrap::context::SystrapContext;
use crate::systrap::guest_thread::ThreadPool;

/// The address space of one guest process.
pub(super) struct Space {
    template: Arc<Template>,
    stub: Arc<Stub>,
    memory: Arc<MemoryFile>,
    /// Held while a call site is rewritten. True once the stub has the table mapped and may synchronise processors.
    is_ready_to_rewrite: Mutex<bool>,
}

/// What contexts and their space share. The process comes first: it must be gone before the pages that it has mapped
/// are given back.
pub(super) struct Stub {
    pub(super) process: StubProcess,
    pub(super) threads: ThreadPool,
    pub(super) sites: Arc<SiteTable>,
}

impl AsRef<StubProcess> for Stub {
    fn as_ref(&self) -> &StubProcess {
        &self.process
    }
}

impl Space {
    /// An empty space, with the rewritten call sites of the process that it is to be a copy of.
    pub(super) fn new(
        template: Arc<Template>,
        memory: Arc<MemoryFile>,
        sites: Option<Arc<SiteTable>>,
    ) -> Result<Self, PlatformError> {
        let full =
            || PlatformError::Host { call: "fork", source: io::Error::from_raw_os_error(libc::ENOMEM) };
        let sites = match sites {
            Some(sites) => sites,
            None => Arc::new(SiteTable::new(template.control().window(TABLE_LEN).ok_or_else(full)?)),
        };
        let process = template.fork()?;
        let threads = ThreadPool::new(template.control().clone());
        let stub = Stub { process, threads, sites };
        let space = Self { template, stub: Arc::new(stub), memory, is_ready_to_rewrite: Mutex::new(false) };
        if !space.stub.sites.is_empty() {
            space.get_ready_to_rewrite(&mut space.is_ready_to_rewrite.lock())?;
        }
        Ok(space)
    }

    fn get_ready_to_rewrite(&self, is_ready: &mut bool) -> Result<(), PlatformError> {
        if *is_ready {
            return Ok(());
        }
        let prot = host::flags(libc::PROT_READ | libc::PROT_EXEC);
        let flags = host::flags(libc::MAP_SHARED | libc::MAP_FIXED);
        let fd = host::flags(self.template.control().raw_fd());
        let map = [TABLE, TABLE_LEN, prot, flags, fd, self.stub.sites.file_offset()];
        let commands = [
            Command::exact(libc::SYS_mmap, &map, TABLE),
            membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE),
        ];
        self.stub.process.run(&commands).map_err(|e| e.into_platform("membarrier"))?;
        *is_ready = true;
        Ok(())
    }

    /// Changes one byte of a site, or some that nothing executes, and makes all threads see it.
    fn change(&self, at: u64, bytes: &[u8]) -> Result<(), PlatformError> {
        // The range was read before, so it is in the file.
        let _ = self.memory.write(at, bytes);
        let sync = membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE);
        self.stub.process.run(&[sync]).map_err(|e| e.into_platform("membarrier"))
    }

    /// Replaces a site whose second instruction traps.
    fn replace(&self, at: u64, jump: &[u8]) -> Result<(), PlatformError> {
        // So does now whoever comes to the first, so that the bytes behind can change.
        self.change(at, &[call_site::INVALID])?;
        self.change(at + 1, &jump[1..])?;
        self.change(at, &jump[..1])
    }

    /// What the code of a site does; `None` if it is to be left alone.
    fn recognise(&self, site: CallSite, page: u64) -> Option<Site> {
        // What crosses a page, or has surroundings that do, is left alone.
        let end = site.return_address % PAGE_SIZE;
        if let Some(start) = end.checked_sub(SITE_LEN)
            && let Some(context) = start.checked_sub(CONTEXT_LEN)
        {
            let (mut before, mut bytes) = ([0; CONTEXT_LEN as usize], [0; SITE_LEN as usize]);
            self.memory.read(page + context, &mut before).ok()?;
            self.memory.read(page + start, &mut bytes).ok()?;
            if let Some(number) = call_site::number_of(&before, &bytes) {
                let code = SiteCode::Load(number);
                return (site.number == Some(number))
                    .then_some(Site { return_address: site.return_address, code });
            }
        }
        let context = end.checked_sub(compare_site::CALL_LEN)?.checked_sub(1)?;
        let mut bytes = [0; 1 + compare_site::LEN as usize];
        if context + host::word(bytes.len()) > PAGE_SIZE {
            return None;
        }
        self.memory.read(page + context, &mut bytes).ok()?;
        let code = SiteCode::Compare(compare_site::operand_of(&bytes)?);
        Some(Site { return_address: site.return_address, code })
    }
}

fn membarrier(command: libc::c_int) -> Command {
    Command::exact(libc::SYS_membarrier, &[host::flags(command), 0, 0], 0)
}

impl AddressSpace for Space {
    fn apply(&self, ops: &[MapOp]) -> Result<(), PlatformError> {
        mapping::apply(&self.stub.process, &self.memory, ops)
    }

    fn new_context(&self, fpu: &FpuState) -> Result<Box<dyn Context>, PlatformError> {
        let thread = self.stub.threads.take(&self.stub.process)?;
        Ok(Box::new(SystrapContext::new(self.stub.clone(), thread, fpu)))
    }

    fn fork(&self) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        let sites = Some(self.stub.sites.clone());
        Ok(Arc::new(Self::new(self.template.clone(), self.memory.clone(), sites)?))
    }

    fn rewrite_call(&self, site: CallSite, page: u64) -> Result<bool, PlatformError> {
        let mut is_ready = self.is_ready_to_rewrite.lock();
        let Some(site) = self.recognise(site, page) else { return Ok(false) };
        if self.get_ready_to_rewrite(&mut is_ready).is_err() {
            return if self.is_alive() { Ok(false) } else { Err(PlatformError::Dead) };
        }
        let Some(target) = self.stub.sites.add(site) else { return Ok(false) };
        let at = page + site.start() % PAGE_SIZE;
        match site.code {
            SiteCode::Load(_) => {
                // Whoever is between the two instructions gets SIGILL instead of a call, which is taken for one.
                self.change(at + 5, &[call_site::INVALID])?;
                self.replace(at, &call_site::jump(target))?;
            }
            SiteCode::Compare(_) => {
                let jump = compare_site::jump(target);
                // Whoever is between the two instructions gets SIGSEGV, and the sentry compares.
                self.change(at + compare_site::CALL_LEN, &[compare_site::PRIVILEGED])?;
                self.replace(at, &jump)?;
            }
        }
        Ok(true)
    }

    fn rewritten_calls(&self) -> Vec<u64> {
        self.stub.sites.return_addresses()
    }

    fn restore_call(&self, return_address: u64, page: u64) -> Result<(), PlatformError> {
        let _writing = self.is_ready_to_rewrite.lock();
        let Some((target, site)) = self.stub.sites.known(return_address) else { return Ok(()) };
        let (jump, original) = match site.code {
            SiteCode::Load(number) => {
                (call_site::jump(target).to_vec(), call_site::original(number).to_vec())
            }
            SiteCode::Compare(with) => {
                (compare_site::jump(target).to_vec(), compare_site::original(with).to_vec())
            }
        };
        let at = page + site.start() % PAGE_SIZE;
        let mut found = vec![0; jump.len()];
        if self.memory.read(at, &mut found).is_err() || found != jump {
            return Ok(());
        }
        // As when it was rewritten: whoever comes to the start meanwhile gets SIGILL, which is taken for the call.
        self.change(at, &[call_site::INVALID])?;
        match site.code {
            SiteCode::Load(_) => self.change(at + 1, &original[1..])?,
            SiteCode::Compare(_) => {
                // What is behind the call traps until all of it is there.
                self.change(at + 1, &original[1..2])?;
                self.change(at + 3, &original[3..])?;
                self.change(at + 2, &original[2..3])?;
            }
        }
        self.change(at, &original[..1])
    }

    fn cpu_time(&self) -> Duration {
        self.stub.process.time()
    }

    fn is_alive(&self) -> bool {
        self.stub.process.is_alive()
    }

    fn kill(&self) {
        self.stub.process.kill();
        self.stub.threads.wake_all();
    }

    fn end(&self) {
        self.kill();
        self.stub.process.reap();
    }
}
