//! Terminals: the same keys natively and in the sandbox give the same screen.

use std::process::Command;

use integration_tests::{Need, Sandbox, Terminal, require};

/// Runs `keys` on `bash -i` natively and in the sandbox, and compares the screens and the statuses.
#[track_caller]
fn assert_same_screen(keys: impl Fn(&mut Terminal)) {
    let run = |command: &Command| {
        let mut terminal = Terminal::start(command);
        terminal.expect("$ ");
        keys(&mut terminal);
        let status = terminal.finish();
        (terminal.text(), status)
    };
    let arguments = ["--norc", "--noediting", "-i"];
    let native = run(Command::new("bash").args(arguments));
    let sandboxed = run(&Sandbox::new().command("bash", &arguments));
    assert_eq!(sandboxed, native);
}

#[test]
fn name_size_and_attributes() {
    require!(Need::Root);
    assert_same_screen(|terminal| {
        terminal.send("[ -c \"$(tty)\" ] && [ \"$(tty)\" -ef /dev/fd/0 ] && echo named; tty < /dev/null\n");
        terminal.expect("named\r\n").expect("not a tty\r\n").expect("$ ");
        terminal
            .send("stty size; stty -a; stty -echo; stty -a | grep -o -- -echo' '; stty sane; echo end1\n");
        terminal.expect("end1\r\n").expect("$ ");
        terminal.send("trap 'echo resized $(stty size)' WINCH; echo end2\n").expect("end2\r\n").expect("$ ");
        // Who has the terminal is told, and the shell is not.
        terminal
            .send("sh -c 'trap \"stty size; exit\" WINCH; echo be\"\"gun; while :; do sleep 0.1; done'\n")
            .expect("begun\r\n");
        terminal.resize(40, 99).expect("40 99\r\n").expect("$ ");
        terminal.send("stty rows 20 cols 70; echo end3 $(stty size)\n").expect("end3 20 70\r\n").expect("$ ");
        // What a program makes of the size is told to the program, not to the shell that comes after it.
        terminal
            .send("for i in {21..40}; do stty rows $i; done; echo end4 $(stty size)\n")
            .expect("end4 40 70\r\n");
        terminal.expect("$ ");
        terminal.send("echo as''k; read x < /dev/tty; echo got $x\n").expect("ask\r\n");
        terminal.send("line\n").expect("got line\r\n").expect("$ ");
        terminal.send("exit 7\n");
    });
}

#[test]
fn keys_that_interrupt_quit_and_suspend() {
    require!(Need::Root, Need::Program("perl"));
    assert_same_screen(|terminal| {
        terminal.run("sleep 100").send("\x03").expect("^C").expect("$ ");
        terminal.send("echo status $?\n").expect("status 130\r\n").expect("$ ");
        // Says when it has been continued, which is when it has the terminal. It has no children: one that is stopped
        // between vfork(2) and execve(2) would keep it from stopping.
        terminal.send(
            "perl -e '$SIG{CONT} = sub { syswrite STDOUT, qq(again\\n) }; \
            syswrite STDOUT, qq(be).qq(gun\\n); sleep 9 while 1'\n",
        );
        terminal.expect("begun\r\n").send("\x1a").expect("Stopped").expect("$ ");
        terminal.send("jobs; fg\n").expect("Stopped").expect("\nperl").expect("\nagain\r\n").send("\x1a");
        terminal
            .expect("Stopped")
            .expect("$ ")
            .send("fg\n")
            .expect("\nperl")
            .expect("\nagain\r\n")
            .send("\x03");
        terminal.expect("^C").expect("$ ").send("echo status $?\n").expect("status 130\r\n").expect("$ ");
        // Signals of keys come by another way than what is typed next, so their arrival has to be seen: by a handler that runs at
        // once, since one that waits for the interpreter may find it in a read that nothing ends.
        terminal.send(
            "perl -MPOSIX -e 'sigaction(SIGINT, POSIX::SigAction->new(sub { syswrite STDOUT, qq(caught\\n) })); \
            syswrite STDOUT, qq(be).qq(gun\\n); <STDIN>; print qq(sur).qq(vived\\n)'\n",
        );
        terminal.expect("begun\r\n").send("\x03").expect("caught\r\n").send("\n").expect("\nsurvived\r\n");
        terminal
            .expect("$ ")
            .send("ulimit -c 0\n")
            .expect("$ ")
            .run("sleep 102")
            .send("\x1c")
            .expect("Quit")
            .expect("$ ");
        terminal.send("echo status $?; exit 3\n").expect("status 131\r\n");
    });
}

#[test]
fn what_is_typed_behind_a_key_that_interrupts_comes_after_it() {
    require!(Need::Root, Need::Program("perl"));
    assert_same_screen(|terminal| {
        // Handlers run at once, not when the interpreter finds it safe.
        terminal.send(
            "stty -echo; perl -MPOSIX -e 'sigaction(SIGINT, POSIX::SigAction->new(sub { syswrite STDOUT, \"caught\\n\" })); \
            syswrite STDOUT, qq(be).qq(gun\\n); while (1) { $n = sysread(STDIN, $x, 100); next if !defined $n; \
            syswrite STDOUT, qq(got $x); last if $x =~ /end/ }'; stty echo\n",
        );
        terminal.expect("begun\r\n");
        for round in 0..30 {
            terminal.send(&format!("\x03line {round}\n")).expect(&format!("caught\r\ngot line {round}\r\n"));
        }
        terminal.send("end\n").expect("got end\r\n").expect("$ ").send("exit 4\n");
    });
}

#[test]
fn lines_and_raw_keys() {
    require!(Need::Root);
    assert_same_screen(|terminal| {
        terminal.run("cat").send("hallo\x7f\x7flo\n").expect("hallo\r\n");
        terminal.send("gone\x15kept\n").expect("kept\r\n").send("\x04").expect("$ ");
        terminal.send("stty raw -echo; echo be''gun; head -c 3 | od -An -c; stty sane; echo end\n");
        terminal.expect("begun\n").send("a\x03b").expect("003").expect("end").expect("$ ");
        terminal.send("\x04");
    });
}

#[test]
fn terminals_that_the_guest_makes() {
    require!(Need::Root, Need::Program("python3"), Need::Program("script"));
    let fork = "import pty, os, termios, fcntl, struct\n\
        pid, fd = pty.fork()\n\
        if pid == 0:\n os.execvp('sh', ['sh', '-c', 'read x; stty size; stty -echo; stty -a; stty echo; tty > /dev/null && echo done'])\n\
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', 30, 90, 0, 0)); os.write(fd, b'go\\n'); out = b''\n\
        while True:\n try: data = os.read(fd, 1000)\n except OSError: break\n out += data\n\
        os.waitpid(pid, 0); print(out.decode())";
    let fork = fork.replace("\n if", "\nif");
    for arguments in
        [["python3", "-c", fork.as_str()], ["script", "-qc", "stty size; stty -a; echo $((6 * 7))"]]
    {
        let (program, arguments) = (arguments[0], &arguments[1..]);
        let arguments = [arguments, if program == "script" { &["/dev/null"][..] } else { &[] }].concat();
        let run = |command: &Command| {
            let mut terminal = Terminal::start(command);
            let status = terminal.finish();
            (terminal.text(), status)
        };
        let native = run(Command::new(program).args(&arguments));
        assert_eq!(run(&Sandbox::new().command(program, &arguments)), native);
    }
}

#[test]
fn waiting_for_a_terminal_costs_nothing() {
    require!(Need::Root, Need::Program("python3"));
    let script = "import pty, os, time\npid, fd = pty.fork()\n\
        if pid == 0: time.sleep(1); os._exit(0)\n\
        try: os.read(fd, 10)\nexcept OSError: pass\n\
        print('busy' if time.process_time() > 0.6 else 'idle')";
    assert_eq!(Sandbox::new().run("python3", &["-c", script]).ok().out(), "idle\n");
}
