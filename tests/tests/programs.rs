//! Real programs: the same command natively and in the sandbox gives the same output.

use std::process::Command;
use std::time::Duration;

use integration_tests::{Need, Running, Sandbox, assert_same, require};

/// One test per row: a name, the programs it needs, a script.
macro_rules! same {
    ($($name:ident: [$($program:literal),*] $script:expr;)*) => {
        $(#[test]
        fn $name() {
            require!(Need::Root $(, Need::Program($program))*);
            assert_same($script);
        })*
    };
}

same! {
    true_ends_with_zero: [] "/bin/true";
    exit_status_passes_through: [] "exit 37";
    standard_error_is_separate: [] "echo out; echo err >&2; exit 3";
    pipeline: [] "seq 1 1000 | grep 7 | sort -rn | head -20 | tac";
    pipe_status: [] "false | true; echo ${PIPESTATUS[@]}";
    here_document: [] "cat <<'X' | tr a-z A-Z\nhello\nworld\nX";
    background_jobs: [] "for i in 1 2 3; do (sleep 0.$i; echo $i) & done; wait; jobs; echo end";
    job_control: [] "exec 2>/dev/null; set -m; sleep 5 & kill -STOP %1; \
        for i in {1..500}; do jobs | grep -q Stopped && break; sleep 0.01; done; jobs | grep -o Stopped; kill -9 %1; while kill -0 $!; do sleep 0.01; done; echo gone";
    trap_and_signals: [] "trap 'echo got term' TERM; kill -TERM $$; trap 'echo bye' EXIT; echo end";
    killed_by_signal: [] "exec 2>/dev/null; bash -c 'kill -SEGV $$'; echo $?";
    command_substitution: [] "x=$(echo $(echo deep)); echo \"[$x]\"";
    files_and_directories: [] "d=$(mktemp -d); cd $d; mkdir -p a/b/c; echo hi > a/b/c/f; ln -s c a/b/l; cat a/b/l/f; \
        mv a/b/c/f a/g; ln a/g a/h; stat -c '%h %s %F' a/g; find . | sort; rm -r a; ls -A; rmdir $d";
    permissions: [] "d=$(mktemp -d); cd $d; umask 027; touch f; mkdir e; stat -c '%a %n' f e; chmod 4711 f; stat -c %a f";
    large_file: [] "dd if=/dev/zero bs=1M count=64 status=none | sha256sum; f=$(mktemp); \
        dd if=/dev/zero of=$f bs=1M count=16 status=none; truncate -s 20M $f; stat -c %s $f; sha256sum < $f";
    sparse_and_append: [] "f=$(mktemp); echo -n x | dd of=$f seek=100000 bs=1 status=none; echo tail >> $f; wc -c < $f";
    rename_over: [] "d=$(mktemp -d); cd $d; echo a > a; echo b > b; mv -f a b; cat b; ls";
    fifo: [] "d=$(mktemp -d); mkfifo $d/p; (echo through > $d/p) & cat $d/p";
    tar_round_trip: [] "d=$(mktemp -d); tar -C /usr/share/common-licenses -cf - . | tar -C $d -xf -; ls $d | sort | head -40";
    find_and_xargs: [] "find /usr/include/linux -name '*.h' | sort | head -300 | xargs cat | md5sum";
    environment: [] "env -i A=1 B='two words' env | sort";
    limits: [] "ulimit -n 77; ulimit -n";
    date_of_epoch: [] "date -u -d @1000000000 +%F-%T";
    identity: [] "id -u; id -g";
    deep_recursion: [] "f() { [ $1 = 0 ] && echo bottom || f $(($1 - 1)); }; f 300";
    python_hello: ["python3"] "python3 -c 'print(sum(range(10**6)))'";
    python_subprocess: ["python3"] "python3 -c 'import subprocess; \
        print([subprocess.run([\"sh\",\"-c\",f\"exit {i}\"]).returncode for i in range(8)])'";
    python_threads: ["python3"] "python3 -c 'import threading, queue\nq = queue.Queue()\n\
        ts = [threading.Thread(target=lambda i=i: q.put(i * i)) for i in range(50)]\n\
        [t.start() for t in ts]; [t.join() for t in ts]\nprint(sum(q.get() for _ in range(50)))'";
    python_multiprocessing: ["python3"] "python3 -c 'from multiprocessing import Pool\n\
        with Pool(2) as p: print(p.map(abs, range(-20, 0)))'";
    python_mmap: ["python3"] "python3 -c 'import mmap, tempfile\nf = tempfile.TemporaryFile(); f.truncate(8192)\n\
        m = mmap.mmap(f.fileno(), 8192); m[4095:4100] = b\"abcde\"; m.flush(); f.seek(4095); print(f.read(5))'";
    python_unix_socket: ["python3"] "python3 -c 'import socket, os\na, b = socket.socketpair()\n\
        if os.fork() == 0: b.sendall(b.recv(100)[::-1]); os._exit(0)\na.sendall(b\"hello\"); print(a.recv(100)); os.wait()'";
    python_loopback_tcp: ["python3"] "python3 -c 'import socket, threading\ns = socket.create_server((\"127.0.0.1\", 0))\n\
        def serve():\n c, _ = s.accept()\n c.sendall(c.recv(10).upper()); c.close()\n\
        threading.Thread(target=serve).start()\nc = socket.create_connection(s.getsockname())\n\
        c.sendall(b\"loopback\"); print(c.recv(100), c.recv(100))'";
    perl_system_v: ["perl"] "perl -MIPC::SysV=IPC_PRIVATE,IPC_RMID -e 'my $m = shmget(IPC_PRIVATE, 99, 0600); \
        my $q = msgget(IPC_PRIVATE, 0600); unless (fork) { shmwrite($m, \"shared\", 0, 6); msgsnd($q, pack(\"l! a*\", 5, \"done\"), 0); exit } \
        msgrcv($q, $b, 99, 5, 0); shmread($m, $s, 0, 6); print \"$s \", (unpack \"l! a*\", $b)[1], \"\\n\"; wait; \
        shmctl($m, IPC_RMID, 0); msgctl($q, IPC_RMID, 0)'";
    perl_program: ["perl"] "perl -e 'my %h; $h{$_ % 7}++ for 1..1000; print join(\",\", map {\"$_=$h{$_}\"} sort keys %h), \"\\n\"'";
    node_program: ["node"] "node -e 'setTimeout(() => console.log([3,1,2].sort(), process.argv.length), 10)'";
    sqlite: ["sqlite3"] "d=$(mktemp -d); sqlite3 $d/db 'create table t(a int, b text); begin; insert into t values(1,\"x\"),(2,\"y\"); \
        commit; select sum(a), group_concat(b) from t; pragma integrity_check;'";
    git_commit_and_log: ["git"] "d=$(mktemp -d); cd $d; export GIT_CONFIG_NOSYSTEM=1 HOME=$d GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b \
        GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z'; \
        git init -q -b main .; echo 1 > f; git add f; git commit -q -m first; echo 2 >> f; git commit -qam second; git log --format='%H %s'; git fsck";
    container_behind_a_bridge: ["ip", "iptables", "ping", "python3"] "exec 2>&1; unshare -Urnm sh -ec 'o=$(mktemp); mkdir -p /run/netns; \
        mount -t tmpfs t /run/netns; ip netns add box; ip netns add far; ip link add br0 type bridge; ip addr add 10.77.0.1/24 dev br0; \
        ip link set br0 up; ip link add p0 type veth peer name eth0 netns box; ip link set p0 master br0 up; \
        ip -n box addr add 10.77.0.2/24 dev eth0; ip -n box link set eth0 up; ip -n box route add default via 10.77.0.1; \
        ip link add p1 type veth peer name eth0 netns far; ip addr add 10.78.0.1/24 dev p1; ip link set p1 up; \
        ip -n far addr add 10.78.0.2/24 dev eth0; ip -n far link set eth0 up; echo 1 > /proc/sys/net/ipv4/ip_forward; \
        iptables -t nat -A POSTROUTING -s 10.77.0.0/24 ! -o br0 -j MASQUERADE; \
        ip netns exec box ping -c 1 -W 10 10.78.0.2 | grep -o \"1 received\"; ip -o link show master br0 | grep -o p0; \
        ip netns exec far python3 -c \"import socket\ns = socket.create_server((\\\"10.78.0.2\\\", 80)); print(1, flush=True)\n\
c, a = s.accept(); print(a[0]); n = 0\nfor d in iter(lambda: c.recv(65536), b\\\"\\\"): n += len(d)\nprint(n)\" > $o & \
        while ! grep -qs 1 $o; do sleep 0.05; done; \
        ip netns exec box python3 -c \"import socket\nsocket.create_connection((\\\"10.78.0.2\\\", 80)).sendall(bytes(3000000))\"; \
        wait; cat $o; ip netns del box; while ip -o link show p0 2>&1 | grep -q p0@; do sleep 0.05; done; ip -o link show type veth | grep -o p1'";
    gcc_hello: ["gcc"] "d=$(mktemp -d); cd $d; printf '#include <stdio.h>\\nint main(){puts(\"hello\");return 5;}' > h.c; gcc -O1 h.c -o h && ./h; echo $?";
    strace_sees_the_same_calls: ["strace"] "f=$(mktemp); strace -qq -o $f cat /dev/null; sed 's/(.*//' $f";
    strace_follows_processes: ["strace"] "f=$(mktemp); strace -qq -f -e trace=execve -e signal=none -o $f sh -c \
        '/bin/true; (exit 3); ls / | wc -l > /dev/null; echo $(echo x)'; grep -o 'execve(\"[^\"]*\".*\\]' $f | sort";
    strace_attaches: ["strace"] "f=$(mktemp); sleep 5 & strace -qq -e trace=none -o $f -p $! & sleep 0.3; kill %1; wait; sed 's|si_pid=[0-9]*||' $f";
    gdb_breaks_steps_and_calls: ["gdb", "cc"] "d=$(mktemp -d); cd $d; printf '%s\\n' '#include <stdio.h>' 'int total;' \
        'int add(int a, int b) { total += a; return a + b; }' 'int inner(int n) { int s = 0;' \
        'for (int i = 0; i < n; i++) s = add(s, i);' 'return s; }' 'int main(void) { printf(\"%d\\n\", inner(5)); return 7; }' > t.c; \
        cc -g -O0 -o t t.c; gdb -nx -batch -ex 'set debuginfod enabled off' -ex 'break main' -ex run -ex 'break add if b == 3' \
        -ex continue -ex backtrace -ex 'print a' -ex 'print add(20, 22)' -ex stepi -ex finish -ex 'watch total' -ex continue -ex continue -ex continue -ex 'info threads' ./t 2>/dev/null | grep -E '^[^\\[]*(add|inner|main|Value|\\$|Old|New|exited)' \
        | sed 's/0x[0-9a-f]*/ADDRESS/g'";
    unshare_users: ["unshare", "setpriv"] "setpriv --reuid 1000 --regid 1000 --clear-groups unshare -Ur sh -c \
        'id; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; stat -c %u / /proc/self'";
    unshare_processes: ["unshare", "setpriv"] "setpriv --reuid 1000 --regid 1000 --clear-groups unshare -Urpf --mount-proc sh -c \
        'echo $$; sleep 100 & echo $!; echo /proc/[0-9]*; readlink /proc/self; kill $!; wait; grep ^NSpid /proc/self/status'";
    unshare_mounts: ["unshare", "setpriv"] "setpriv --reuid 1000 --regid 1000 --clear-groups unshare -Urm sh -c \
        'mount -t tmpfs none /mnt && echo x > /mnt/x && stat -c %u:%g:%a /mnt/x && umount /mnt && ls /mnt; umount /proc 2>&1 | grep -c .'";
    enter_namespaces: ["unshare", "nsenter"] "d=$(mktemp -d); mkfifo $d/a $d/b; unshare -Uru sh -c \
        \"hostname inside; echo > $d/a; read x < $d/b\" & read x < $d/a; nsenter -t $! -U -u --preserve-credentials sh -c 'id -u; uname -n'; \
        uname -n | grep -c inside; echo > $d/b; wait; rm -r $d";
    bubblewrap: ["bwrap", "setpriv"] "setpriv --reuid 1000 --regid 1000 --clear-groups bwrap --unshare-user --unshare-pid --unshare-ipc \
        --unshare-uts --hostname box --ro-bind / / --proc /proc --dev /dev --tmpfs /tmp sh -c \
        'id -u; uname -n; echo $$; ls /tmp /dev; touch /x 2>&1; echo > /tmp/y; ls /tmp; echo hi > /dev/null'";
    unshare_overlays: ["unshare", "setpriv"] "setpriv --reuid 1000 --regid 1000 --clear-groups unshare -Urm sh -c \
        'mount -t tmpfs none /mnt; cd /mnt; mkdir l u w m; echo 1 > l/f; mount -t overlay o -o lowerdir=l,upperdir=u,workdir=w,userxattr m && \
        echo 2 >> m/f; cat m/f; rm m/f; ls -ln u | cut -c 1-10; mkdir m/f; ls m; umount m; ls l u'";
    busybox_applets: ["busybox"] "busybox seq 3 | busybox awk '{s+=$1} END {print s}'; busybox sh -c 'echo $((6*7))'";
}

/// As a row above, in a sandbox whose root has all capabilities.
#[track_caller]
fn assert_same_for_root(script: &str) {
    require!(Need::Root, Need::Program("unshare"), Need::Program("setpriv"), Need::Program("python3"));
    let native = Running::start(Command::new("bash").args(["-c", script])).finish(Duration::from_secs(60));
    let sandboxed = Sandbox::new().sh(script);
    assert_eq!(sandboxed.out(), native.out(), "{}", sandboxed.err());
    assert_eq!(sandboxed.status, native.status);
}

#[test]
fn overlays_show_what_was_changed_as_natively() {
    assert_same_for_root(include_str!("../scripts/overlay_changes.sh"));
}

#[test]
fn overlays_take_and_refuse_options_as_natively() {
    assert_same_for_root(include_str!("../scripts/overlay_options.sh"));
}

#[test]
fn access_control_lists_give_what_they_give_natively() {
    require!(Need::Program("setfacl"));
    assert_same_for_root(include_str!("../scripts/access_control_lists.sh"));
}

/// Ids that the guest code is told of without asking the sentry are asked for all the same where each call is printed.
#[test]
fn strace_prints_each_of_many_calls_that_only_read_ids() {
    require!(Need::Root, Need::Program("python3"));
    let program = "import ctypes\nc = ctypes.CDLL(None)\nfor i in range(300): c.getuid(); c.syscall(39)";
    let traced = Sandbox::new().flag("--strace").run("python3", &["-c", program]);
    assert_eq!(traced.status, 0, "{}", traced.err());
    for name in ["getuid", "getpid"] {
        let printed = traced.err().lines().filter(|line| line.contains(&format!(" {name}() = "))).count();
        assert!(printed >= 300, "{printed} calls of {name}");
    }
}
