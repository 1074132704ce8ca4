//! Runs one program of the host under the sentry, with the host's root file system, with a loopback and without isolation.
//!
//! For work on the sentry itself: `cargo run -p sentry --example host_root -- [ptrace|systrap] /bin/ls -l`.
//! `RUST_LOG=strace=info` prints system calls. Programs are better run with `runsc do`.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use netstack::Stack;
use sentry::fs::gofer::{Access, Caching, Connection, GoferFs, GoferOptions, ServedTree};
use sentry::io::{IoDst, IoSrc};
use sentry::ipc::IpcNamespace;
use sentry::kernel::{ContainerId, Kernel, KernelConfig, Namespaces, UtsNamespace};
use sentry::socket::NetNamespace;
use sentry::task::{Credentials, Limits, ProcessArgs};
use sentry::vfs::{
    Fd, FdFlags, FdTableUser, File, FileOps, FsContext, Mount, MountFlags, MountNamespace, OpenFlags,
};
use sentry_platform::{MemoryFile, PlatformKind, Prepared};

/// A host descriptor that blocks the caller; enough for standard streams of an example.
struct HostStream(std::fs::File);

impl FileOps for HostStream {
    fn read(&self, _: &File, dst: &mut dyn IoDst, _: &mut u64) -> Result<usize, sentry::errno::Errno> {
        let mut buf = vec![0; dst.remaining().min(65536)];
        let n = std::io::Read::read(&mut &self.0, &mut buf).map_err(|_| sentry::errno::Errno::EIO)?;
        dst.put(&buf[..n])
    }

    fn write(&self, _: &File, src: &mut dyn IoSrc, _: &mut u64) -> Result<usize, sentry::errno::Errno> {
        let mut buf = vec![0; src.remaining().min(65536)];
        let n = src.take(&mut buf)?;
        std::io::Write::write_all(&mut &self.0, &buf[..n]).map_err(|_| sentry::errno::Errno::EIO)?;
        Ok(n)
    }
}

fn main() {
    let mut args: Vec<Vec<u8>> = std::env::args().skip(1).map(String::into_bytes).collect();
    assert!(args.len() >= 2, "usage: host_root PLATFORM PROGRAM [ARG]...");
    let kind: PlatformKind = String::from_utf8_lossy(&args.remove(0)).parse().expect("a platform");
    let prepared = Prepared::new(kind).expect("the template process");
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let memory_file = Arc::new(MemoryFile::new(4 << 30).expect("the memory file"));
    let platform = prepared.create(memory_file.clone());
    let config = KernelConfig {
        platform,
        memory_file,
        max_tasks: 1000,
        strace: std::env::var_os("RUST_LOG").is_some(),
    };
    let kernel = Kernel::new(config).expect("a kernel");
    let network = NetNamespace::standalone(Stack::builder().build()).expect("the network");
    kernel.set_net_namespace(network.clone());

    let root: OwnedFd = std::fs::File::open("/").expect("the root directory").into();
    let connection = Connection::direct(vec![ServedTree::new(root, Access::ReadWrite)]);
    let options = GoferOptions { tree: 0, caching: Caching::Shared };
    let root = GoferFs::create(connection, options, Arc::default()).expect("the root file system");
    let namespace = MountNamespace::new(Mount::new(root, b"root", MountFlags::empty()));
    let files = FdTableUser::new();
    for fd in 0..3 {
        let host = std::fs::File::options().read(true).write(fd > 0).open(format!("/proc/self/fd/{fd}"));
        let ops = Box::new(HostStream(host.expect("a standard stream")));
        let file = File::anonymous(ops, OpenFlags::RDWR, sentry::vfs::anon::AnonKind::Other("[host]"));
        files.replace(Fd(fd), file, FdFlags::empty(), 1024).expect("a descriptor");
    }
    let task = kernel
        .create_process(ProcessArgs {
            path: args[0].clone(),
            argv: args,
            envp: std::env::vars().map(|(k, v)| format!("{k}={v}").into_bytes()).collect(),
            creds: Credentials::root(),
            limits: Limits::default(),
            files,
            fs: FsContext::new(namespace),
            namespaces: Namespaces::initial(
                UtsNamespace::new(b"sandbox"),
                IpcNamespace::new(),
                Some(network),
            ),
            container: ContainerId::FIRST,
        })
        .expect("a process");
    let status = kernel.wait_for_exit(task.pid()).expect("its status");
    std::process::exit(status.shell_code());
}
