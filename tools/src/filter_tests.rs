//! Filters on packets of a simulated transfer and on made-up remarks, and what is wrong with bad ones.

use netstack_sim::{HostSpec, LinkSpec, Loss};
use proptest::prelude::*;

use super::Filter;
use crate::dissect::Dissection;
use crate::examine::Examined;
use crate::testing::{examine, packets, plain_link, simulate};

fn captured() -> Vec<Examined> {
    let link = LinkSpec { loss: Loss::Random { ppm: 30_000 }, ..plain_link() };
    let mut packets = packets(simulate(5, 100_000, link, &HostSpec::default()).file);
    packets.retain(|packet| Dissection::of(packet).is_some_and(|d| d.tcp().is_some()));
    packets[4].comments =
        vec!["drop: no listener\nprocess: 17 redis-server\nstate: SYN-RCVD".into(), "look here".into()];
    examine(packets).0
}

fn matching(packets: &[Examined], filter: &str) -> Vec<u64> {
    let filter: Filter = filter.parse().unwrap();
    packets.iter().filter(|packet| filter.matches(packet)).map(|packet| packet.number).collect()
}

#[test]
fn primitives_choose_what_they_say() {
    let packets = captured();
    let all: Vec<u64> = packets.iter().map(|p| p.number).collect();
    let client = packets[0].dissection.as_ref().unwrap().addresses.unwrap().0;
    for everything in
        ["", "tcp", "ip", "flow 0", "port 80", "net 0.0.0.0/0", "not udp", "len > 0", "outbound"]
    {
        assert_eq!(matching(&packets, everything), all, "{everything}");
    }
    for nothing in
        ["udp", "arp", "dns", "ip6", "icmp", "flow 1", "port 81-90", "host 9.9.9.9", "inbound", "malformed"]
    {
        assert!(matching(&packets, nothing).is_empty(), "{nothing}");
    }
    assert_eq!(matching(&packets, "tcp.flags syn and not tcp.flags ack"), [1]);
    assert_eq!(matching(&packets, "tcp.flags syn,ack"), [2]);
    assert_eq!(matching(&packets, "number <= 3 and !(number = 2)"), [1, 3]);
    let from_client = matching(&packets, &format!("src host {client}"));
    assert_eq!(from_client, matching(&packets, "dst port 80"));
    assert_eq!(from_client, matching(&packets, &format!("src {client} or udp")));
    assert_eq!(matching(&packets, "src port 80"), matching(&packets, "not dst port 80"));
    assert_eq!(matching(&packets, "time >= 0s"), all);
    assert!(matching(&packets, "rtt > 19ms").len() > 10 && matching(&packets, "rtt > 50s").is_empty());
}

#[test]
fn notes_and_remarks_choose() {
    let packets = captured();
    let retransmitted = matching(&packets, "retransmission");
    assert!(!retransmitted.is_empty());
    let kinds = "fast-retransmission or spurious-retransmission or partial-retransmission";
    let fast = matching(&packets, kinds);
    assert!(fast.iter().all(|number| retransmitted.contains(number)));
    assert!(!matching(&packets, "duplicate-ack").is_empty());
    for fifth in [
        "drop",
        "drop listener",
        "drop \"no listener\"",
        "process redis-server",
        "process 17",
        "state syn-rcvd",
        "comment here",
    ] {
        assert_eq!(matching(&packets, fifth), [5], "{fifth}");
    }
    assert!(matching(&packets, "drop checksum or process 1 or state listen").is_empty());
}

#[test]
fn and_binds_closer_than_or() {
    let packets = captured();
    assert_eq!(matching(&packets, "number = 1 or number = 2 and number = 3"), [1]);
    assert_eq!(matching(&packets, "(number = 1 || number = 2) && number = 2"), [2]);
    assert_eq!(matching(&packets, "not number > 1 or number = 3"), [1, 3]);
}

#[test]
fn errors_point_at_the_column() {
    for (text, column, message) in [
        ("tcp and", 8, "expected a condition"),
        ("tcp udp", 5, "expected \"and\" or \"or\""),
        ("(tcp or udp", 1, "a parenthesis that never closes"),
        ("tcp)", 4, "a parenthesis closes that never opened"),
        ("host 10.0.0", 6, "\"10.0.0\" is no address"),
        ("net 10.0.0.0/33", 5, "\"10.0.0.0/33\" is no ADDRESS/LENGTH"),
        ("port http", 6, "\"http\" is no port"),
        ("len 5", 5, "expected one of < <= > >= = !="),
        ("len > many", 7, "\"many\" is no number"),
        ("rtt > 5parsecs", 7, "\"5parsecs\" is no number of seconds (1.5s, 20ms, 100us)"),
        ("tcp and retransmited", 9, "unknown condition \"retransmited\""),
        ("tcp.flags syn,xyz", 11, "unknown flag \"xyz\": there are syn fin rst psh ack urg ece cwr"),
        ("comment \"abc", 9, "a quotation mark without its other"),
        ("tcp ? udp", 5, "unexpected '?'"),
    ] {
        let error = text.parse::<Filter>().unwrap_err();
        assert_eq!((error.column, error.message.as_str()), (column, message), "{text}");
    }
    let error = "tcp and bad".parse::<Filter>().unwrap_err();
    assert_eq!(error.to_string(), "unknown condition \"bad\" at column 9\n  tcp and bad\n          ^");
}

#[test]
fn deep_nesting_is_refused() {
    let error = "(".repeat(100_000).parse::<Filter>().unwrap_err();
    assert_eq!(error.message, "too deeply nested");
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,40}") {
        let _ = text.parse::<Filter>();
    }

    #[test]
    fn no_words_panic(words in prop::collection::vec(
        prop::sample::select(vec![
            "tcp", "and", "or", "not", "(", ")", "host", "src", "port", "1-2", "10.0.0.1", "::1", "len", ">", "5",
            "drop", "rtt", "net", "::/0", "flow", "tcp.flags", "syn", "\"", "é",
        ]),
        0..12,
    )) {
        let _ = words.join(" ").parse::<Filter>();
    }
}
