use std::fs::File;
use std::io::Read;

use nix::sys::wait::WaitStatus;

use super::*;

fn shell(script: &str) -> (Spawn, File) {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
    let null = File::open("/dev/null").unwrap();
    let spawn = Spawn {
        program: File::open("/bin/sh").unwrap().into(),
        args: ["sh", "-c", script].map(|s| CString::new(s).unwrap()).into(),
        env: vec![c"PATH=/usr/bin:/bin".to_owned()],
        fds: vec![null.try_clone().unwrap().into(), write.try_clone().unwrap(), write],
        namespaces: Namespaces::empty(),
        id_maps: None,
        lifetime: Lifetime::Bound,
    };
    (spawn, read.into())
}

fn output(script: &str, change: impl FnOnce(&mut Spawn)) -> String {
    let (mut spawn, mut out) = shell(script);
    change(&mut spawn);
    let child = spawn.start().unwrap();
    let mut text = String::new();
    out.read_to_string(&mut text).unwrap();
    assert!(matches!(child.pidfd.reap().unwrap(), WaitStatus::Exited(_, 0)), "{text}");
    text
}

#[test]
fn only_the_given_descriptors_are_open() {
    // Inheritable on purpose: it must not leak all the same.
    let leak = nix::unistd::dup(File::open("/dev/null").unwrap()).unwrap();
    let listed = output("ls /proc/self/fd", |_| {});
    drop(leak);
    // 3 is ls's own directory.
    assert_eq!(listed.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

#[test]
fn a_user_namespace_maps_root_to_the_given_id() {
    let uid = nix::unistd::getuid().as_raw();
    let gid = nix::unistd::getgid().as_raw();
    let text = output("id -u; cat /proc/self/uid_map", |spawn| {
        spawn.namespaces = Namespaces::USER | Namespaces::PID;
        spawn.id_maps = Some(IdMaps::single(uid, gid));
    });
    let words: Vec<_> = text.split_whitespace().collect();
    assert_eq!(words, ["0", "0", &uid.to_string(), "1"]);
}

#[test]
fn a_file_that_is_no_program_is_an_error_and_leaves_no_child() {
    let (mut spawn, _out) = shell("true");
    spawn.program = File::open("/proc/self/status").unwrap().into();
    let error = spawn.start().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EACCES));
}
