//! The runner notices what it is there to notice.

use netstack_script::syntax::{BackendName, parse};
use netstack_script::{Case, Variables};

/// Runs `body` on netstack; what fails is the message with its notes.
fn run(body: &str) -> Result<(), String> {
    let text = format!("purpose \"a test\"\nrfc \"none\"\n{body}\n");
    let script = parse("test.pkt", &text, &|_| Ok(PROLOGUE.to_owned())).map_err(|error| error.to_string())?;
    let case = Case { script, params: Variables::new(), name: "test".to_owned() };
    case.run(BackendName::Netstack).result.map_err(|error| error.to_string())
}

#[track_caller]
fn refuse(body: &str, parts: &[&str]) {
    let error = run(&format!("include \"prologue\"\n{body}")).expect_err("it should fail");
    for part in parts {
        assert!(error.contains(part), "`{part}` is not in\n{error}");
    }
}

const PROLOGUE: &str = "
s = socket(tcp)
bind(s, 8080) = 0
listen(s, 8) = 0
+0.1 < S 0:0(0) win 65535 <mss 1000>
+0   > S. 0:0(0) ack 1 <mss 1460>
+0.1 < . 1:1(0) ack 1 win 65535
c = accept(s)
";

#[test]
fn a_correct_script_passes() {
    run("include \"prologue\"\nsend(c, 10) = 10\n+0 > P. 1:11(10) ack 1").unwrap();
}

#[test]
fn differences_of_a_packet_are_listed() {
    refuse(
        "send(c, 10) = 10\n+0 > . 2:13(11) ack 2",
        &[
            "test.pkt:5:6: the packet is not the expected one: P. 1:11(10) ack 1",
            "its sequence number is 1, expected 2",
        ],
    );
    refuse(
        "send(c, 10) = 10\n+0 > . 1:12(11) ack 1",
        &["it carries 10 bytes, expected 11", "packets up to 0.200000"],
    );
    refuse("send(c, 10) = 10\n+0 > . 1:11(10) ack 5", &["it acknowledges 1, expected 5"]);
    refuse("send(c, 10) = 10\n+0 > F. 1:11(10) ack 1", &["its flags are P., expected F."]);
    refuse("send(c, 10) = 10\n+0 > . 1:11(10) ack 1 <sack 1:2>", &["an option is missing"]);
    refuse("send(c, 10) = 10\n+0 > [ect0] . 1:11(10) ack 1", &["its ECN field is noecn, expected ect0"]);
}

#[test]
fn times_count() {
    refuse(
        "send(c, 10) = 10\n+0.5 > . 1:11(10) ack 1",
        &["it came too early: at 0.200000, expected at 0.700000"],
    );
    refuse("+0.1 > . 1 ack 1", &["no packet came until"]);
    refuse("+0~+0.1 recv(c, 1) = 1\n", &["recv has not returned until"]);
}

#[test]
fn what_is_not_expected_is_an_error() {
    refuse("send(c, 10) = 10\n", &["the script ends, but a packet was sent"]);
    refuse("send(c, 10) = 10\n+0.01 silence", &["expected silence, got a packet"]);
}

#[test]
fn results_are_compared() {
    refuse("send(c, 10) = 11\n", &["send gave 10, expected 11"]);
    refuse("recv(c, 10) = 1\n", &["recv gave the error EAGAIN, expected 1"]);
    refuse("accept(s)\n", &["accept failed with EAGAIN"]);
    refuse("assert c.state == \"CLOSE\"\n", &["c.state is ESTABLISHED"]);
    refuse(
        "+0 < P. 1:11(10) ack 1 data \"wrongbytes\"\n+0 > . 1 ack 11\nrecv(c, 10) = 10\n",
        &["byte 0 of the received stream is wrong"],
    );
}

#[test]
fn mistakes_in_a_script_have_a_place() {
    refuse(
        "+0 < . 1:5(3) ack 1\n",
        &["test.pkt:4:10: the length is 3, but the sequence numbers differ by 4"],
    );
    refuse("send(x, 10) = 10\n", &["`x` is not a socket"]);
    refuse("assert c.nonsense == 1\n", &["`c` has no `nonsense` here"]);
    refuse("+0 < . 1:1(0)\n", &["a packet of the peer needs its acknowledgment"]);
}
