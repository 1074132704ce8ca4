//! The listen path: backlog, cookies, overflow, defer-accept, and gauges that return to zero.

use super::super::{Config, DropReason, ListenOutcome, ListenRules, Options, State, SynCookies};
use super::network::Rng;
use super::peer::{Clients, PEER_ISS, plain, segment};
use core::time::Duration;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::{TcpFlags, Timestamps};

const ACK: TcpFlags = TcpFlags::ACK;

fn with_rules(listen_rules: ListenRules, syn_cookies: SynCookies) -> Config {
    Config { listen_rules, syn_cookies, ..plain() }
}

#[track_caller]
fn assert_dropped(outcome: Option<ListenOutcome>, reason: DropReason) {
    assert!(matches!(outcome, Some(ListenOutcome::Drop(why)) if why == reason), "{outcome:?}");
}

#[track_caller]
fn assert_reset(outcome: Option<ListenOutcome>, seq: SeqNum) {
    let Some(ListenOutcome::Reset(reset, _)) = outcome else { panic!("{outcome:?}") };
    assert_eq!((reset.repr.flags, reset.repr.seq), (TcpFlags::RST, seq));
}

/// The seed's rules 1, 2 and 7: a full queue ignores the final ACK; the same ACK completes the handshake later.
#[test]
fn seed_2019_backlog_full_ignores_the_ack_until_there_is_room() {
    let mut clients = Clients::new(with_rules(ListenRules::Seed2019, SynCookies::Off), Options::default(), 2);
    clients.connect(1);
    clients.connect(2);
    let third = clients.expect_syn_ack(3);
    assert_dropped(clients.ack(3, &third, b""), DropReason::ListenOverflowAck);
    assert!(clients.accept().is_some());
    assert!(clients.accept().is_some());
    assert!(clients.accept().is_none());
    assert!(clients.ack(3, &third, b"").is_none());
    let mut connection = clients.accept().expect("completed by the repeated ACK");
    assert_eq!(connection.send(clients.now, b"Don't panic"), Ok(11));
    let data = connection.poll_transmit(clients.now, 65_000).unwrap();
    assert_eq!(data.payload.to_vec(), b"Don't panic");
    assert_eq!((clients.listener.half_open(), clients.listener.queued()), (0, 0));
}

/// The seed's rule 3: N queued and N half open, then SYNs are dropped.
#[test]
fn seed_2019_drops_syns_only_when_both_queues_are_full() {
    let mut clients = Clients::new(with_rules(ListenRules::Seed2019, SynCookies::Off), Options::default(), 1);
    clients.connect(1);
    let second = clients.expect_syn_ack(2);
    assert_dropped(clients.ack(2, &second, b""), DropReason::ListenOverflowAck);
    assert_dropped(clients.syn(3), DropReason::ListenOverflowSyn);
    assert!(clients.accept().is_some());
    assert!(clients.ack(2, &second, b"").is_none());
    assert!(clients.accept().is_some());
    assert!(clients.accept().is_none());
}

/// Linux: the accept queue holds backlog + 1, then SYNs are dropped until there is room.
#[test]
fn linux_drops_syns_while_the_accept_queue_is_full() {
    let mut clients = Clients::new(plain(), Options::default(), 10);
    (1..=11).for_each(|port| clients.connect(port));
    assert_eq!(clients.listener.queued(), 11);
    assert_dropped(clients.syn(12), DropReason::ListenOverflowSyn);
    (0..10).for_each(|_| assert!(clients.accept().is_some()));
    clients.connect(12);
}

/// Half-open connections beyond the backlog get cookies; their ACKs complete without state, the others' when they come.
#[test]
fn cookies_beyond_the_backlog_complete_and_old_handshakes_wait() {
    let mut clients = Clients::new(plain(), Options::default(), 10);
    let slow: Vec<_> = (1..=11).map(|port| clients.expect_syn_ack(port)).collect();
    for port in 100..111 {
        let Some(ListenOutcome::Cookie(cookie)) = clients.syn(port) else { panic!("no cookie for {port}") };
        assert_eq!(cookie.repr.options.window_scale, None);
        assert!(clients.ack(port, &cookie, b"x").is_none());
    }
    assert_eq!((clients.listener.half_open(), clients.listener.queued()), (11, 11));
    for (port, syn_ack) in (1..).zip(&slow) {
        assert_dropped(clients.ack(port, syn_ack, b""), DropReason::ListenOverflowAck);
    }
    let stray = segment(&Clients::flow(999), SeqNum(7), SeqNum(1234), ACK, b"");
    assert_reset(clients.deliver(999, stray), SeqNum(1234));
    assert_dropped(clients.syn(998), DropReason::ListenOverflowSyn);
    while let Some(mut connection) = clients.accept() {
        let mut buf = [0; 4];
        assert_eq!(connection.recv(clients.now, &mut buf), Ok(1));
    }
    for (port, syn_ack) in (1..).zip(&slow) {
        assert!(clients.ack(port, syn_ack, b"").is_none());
    }
    assert_eq!(clients.listener.half_open(), 0);
}

#[test]
fn cookie_ack_may_carry_data_or_fin_but_not_syn_or_rst() {
    let always = with_rules(ListenRules::Linux, SynCookies::Always);
    let rows = [
        (ACK, true),
        (ACK | TcpFlags::PSH, true),
        (ACK | TcpFlags::FIN, true),
        (ACK | TcpFlags::SYN, false),
        (TcpFlags::RST, false),
        (TcpFlags::RST | ACK, false),
    ];
    for (flags, completes) in rows {
        let mut clients = Clients::new(always.clone(), Options::default(), 1);
        let cookie = clients.expect_syn_ack(5);
        assert_eq!(clients.listener.half_open(), 0);
        let answer = segment(&Clients::flow(5), PEER_ISS + 1, cookie.repr.seq + 1, flags, b"data");
        clients.deliver(5, answer);
        assert_eq!(clients.accept().is_some(), completes, "{flags:?}");
    }
}

/// A cookie's ACK that met a full queue can be used again; an expired or foreign one draws a RST.
#[test]
fn cookie_ack_is_reusable_until_it_expires() {
    let mut clients = Clients::new(with_rules(ListenRules::Linux, SynCookies::Always), Options::default(), 0);
    let cookies: Vec<_> = (1..=3).map(|port| clients.expect_syn_ack(port)).collect();
    assert!(clients.ack(1, &cookies[0], b"").is_none());
    assert_dropped(clients.ack(2, &cookies[1], b""), DropReason::ListenOverflowAck);
    assert!(clients.accept().is_some());
    assert!(clients.ack(2, &cookies[1], b"").is_none());
    assert!(clients.accept().is_some());
    assert_reset(clients.ack(4, &cookies[2], b""), cookies[2].repr.seq + 1);
    clients.now += Duration::from_secs(300);
    assert_reset(clients.ack(3, &cookies[2], b""), cookies[2].repr.seq + 1);
}

/// Through the timestamp, a cookie keeps window scaling and SACK.
#[test]
fn cookie_keeps_the_options_in_the_timestamp() {
    let config = Config { syn_cookies: SynCookies::Always, ..Config::default() };
    let mut clients = Clients::new(config, Options::default(), 5);
    let mut syn = segment(&Clients::flow(5), PEER_ISS, SeqNum(0), TcpFlags::SYN, b"");
    syn.repr.options.mss = Some(1460);
    syn.repr.options.window_scale = Some(9);
    syn.repr.options.sack_permitted = true;
    syn.repr.options.timestamps = Some(Timestamps { value: 77, echo: 0 });
    let Some(ListenOutcome::Cookie(cookie)) = clients.deliver(5, syn) else { panic!() };
    let echo = cookie.repr.options.timestamps.unwrap().value;
    let mut ack = segment(&Clients::flow(5), PEER_ISS + 1, cookie.repr.seq + 1, ACK, b"");
    ack.repr.options.timestamps = Some(Timestamps { value: 78, echo });
    assert!(clients.deliver(5, ack).is_none());
    let info = clients.accept().unwrap().info(clients.now).unwrap();
    assert!(info.has_sack && info.has_timestamps);
    assert_eq!(info.window_scale.unwrap().0, 9);
    assert_eq!(info.snd_wnd, 30_000 << 9);
    assert_eq!(info.snd_mss, 1460 - 12);
}

#[test]
fn modes_of_cookies_when_the_queue_is_full() {
    let rows = [(SynCookies::Off, false), (SynCookies::WhenNeeded, true)];
    for (mode, has_cookie) in rows {
        let mut clients = Clients::new(with_rules(ListenRules::Linux, mode), Options::default(), 1);
        // The queue of half-open connections holds backlog + 1, too.
        clients.expect_syn_ack(1);
        clients.expect_syn_ack(2);
        match clients.syn(3) {
            Some(ListenOutcome::Cookie(_)) => assert!(has_cookie),
            outcome => {
                assert!(!has_cookie);
                assert_dropped(outcome, DropReason::ListenQueueFull);
            }
        }
    }
}

#[test]
fn repeated_syn_repeats_the_syn_ack() {
    let mut clients = Clients::new(plain(), Options::default(), 5);
    let first = clients.expect_syn_ack(1);
    for _ in 0..5 {
        assert_eq!(clients.expect_syn_ack(1).repr, first.repr);
        // Not more often than twice a second.
        assert!(matches!(clients.syn(1), Some(ListenOutcome::Drop(_))));
        clients.now += Duration::from_millis(500);
    }
    assert_eq!(clients.listener.half_open(), 1);
}

#[test]
fn syn_ack_is_retransmitted_with_backoff_and_given_up() {
    let mut clients = Clients::new(plain(), Options::default(), 5);
    clients.expect_syn_ack(1);
    let start = clients.now;
    let mut times = Vec::new();
    while let Some(at) = clients.listener.next_deadline() {
        clients.now = at;
        while let Some((_, transmit)) = clients.listener.on_timer(at) {
            assert_eq!(transmit.repr.flags, TcpFlags::SYN | ACK);
            times.push((at - start).as_secs());
        }
    }
    assert_eq!(times, [1, 3, 7, 15, 31]);
    assert_eq!(clients.listener.half_open(), 0);
}

#[test]
fn ack_out_of_window_is_challenged_and_the_right_one_completes() {
    let mut clients = Clients::new(plain(), Options::default(), 5);
    let syn_ack = clients.expect_syn_ack(1);
    let bad = segment(&Clients::flow(1), PEER_ISS - 5, syn_ack.repr.seq + 1, ACK, b"");
    let Some(ListenOutcome::Challenge(challenge, _)) = clients.deliver(1, bad) else { panic!() };
    assert_eq!((challenge.repr.seq, challenge.repr.ack), (syn_ack.repr.seq + 1, PEER_ISS + 1));
    assert!(clients.ack(1, &syn_ack, b"").is_none());
}

#[test]
fn unexpected_segments_to_a_listener() {
    let mut clients = Clients::new(plain(), Options::default(), 5);
    let rows = [(TcpFlags::RST, false), (TcpFlags::FIN, false), (TcpFlags::SYN | ACK, true), (ACK, true)];
    for (flags, is_reset) in rows {
        let outcome = clients.deliver(9, segment(&Clients::flow(9), SeqNum(5), SeqNum(6), flags, b""));
        if is_reset {
            assert_reset(outcome, SeqNum(6));
        } else {
            assert_dropped(outcome, DropReason::ListenUnexpected);
        }
    }
}

#[test]
fn rst_ends_a_half_open_connection_only_if_exact() {
    let mut clients = Clients::new(plain(), Options::default(), 5);
    clients.expect_syn_ack(1);
    clients.deliver(1, segment(&Clients::flow(1), PEER_ISS + 50, SeqNum(0), TcpFlags::RST, b""));
    assert_eq!(clients.listener.half_open(), 1);
    clients.deliver(1, segment(&Clients::flow(1), PEER_ISS + 1, SeqNum(0), TcpFlags::RST, b""));
    assert_eq!(clients.listener.half_open(), 0);
}

#[test]
fn deferred_accept_waits_for_data() {
    let options = Options { defer_accept: Some(Duration::from_secs(5)), ..Options::default() };
    let mut clients = Clients::new(plain(), options, 5);
    let syn_ack = clients.expect_syn_ack(1);
    assert_dropped(clients.ack(1, &syn_ack, b""), DropReason::DeferAccept);
    assert!(clients.accept().is_none());
    assert!(clients.ack(1, &syn_ack, b"GET").is_none());
    assert_eq!(clients.accept().unwrap().receive_queued(), 3);
    let syn_ack = clients.expect_syn_ack(2);
    clients.now += Duration::from_secs(6);
    assert!(clients.ack(2, &syn_ack, b"").is_none(), "after its time a bare ACK is enough");
}

#[test]
fn close_resets_what_is_half_open() {
    let mut clients = Clients::new(plain(), Options::default(), 5);
    let syn_ack = clients.expect_syn_ack(1);
    let resets = clients.listener.close();
    assert_eq!(resets.len(), 1);
    assert_eq!(resets[0].0, Clients::flow(1));
    assert_eq!(resets[0].1.repr.seq, syn_ack.repr.seq + 1);
    assert_eq!(clients.listener.half_open(), 0);
}

#[test]
fn backlog_can_be_changed() {
    let mut clients = Clients::new(plain(), Options::default(), 1);
    clients.connect(1);
    clients.connect(2);
    assert_dropped(clients.syn(3), DropReason::ListenOverflowSyn);
    clients.listener.set_backlog(20);
    clients.connect(3);
}

/// Any storm of SYNs, ACKs, RSTs, time and accepts leaves no gauge behind.
#[test]
fn storms_leave_no_gauge_behind() {
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let rules = if rng.chance(500) { ListenRules::Linux } else { ListenRules::Seed2019 };
        let cookies = [SynCookies::Off, SynCookies::WhenNeeded, SynCookies::Always]
            [usize::try_from(rng.below(3)).unwrap()];
        let backlog = rng.below(20);
        let mut clients = Clients::new(with_rules(rules, cookies), Options::default(), backlog);
        let mut syn_acks = Vec::new();
        for _ in 0..600 {
            let port = u16::try_from(1 + rng.below(100)).unwrap();
            match rng.below(10) {
                0..=4 => {
                    if let Some(ListenOutcome::Reply(reply) | ListenOutcome::Cookie(reply)) =
                        clients.syn(port)
                    {
                        syn_acks.push((port, reply));
                    }
                }
                5..=6 if !syn_acks.is_empty() => {
                    let index = usize::try_from(rng.below(u32::try_from(syn_acks.len()).unwrap())).unwrap();
                    let (port, syn_ack) = syn_acks[index].clone();
                    clients.ack(port, &syn_ack, b"");
                }
                7 => {
                    let reset = segment(&Clients::flow(port), PEER_ISS + 1, SeqNum(0), TcpFlags::RST, b"");
                    clients.deliver(port, reset);
                }
                8 => drop(clients.accept()),
                _ => {
                    clients.now += Duration::from_millis(u64::from(rng.below(2000)));
                    while clients.listener.on_timer(clients.now).is_some() {}
                }
            }
            let capacity = match rules {
                ListenRules::Linux => backlog + 1,
                ListenRules::Seed2019 => backlog,
            };
            assert!(clients.listener.queued() <= usize::try_from(capacity).unwrap(), "seed {seed}");
            assert_eq!(clients.listener.queued(), clients.accept_queue.len(), "seed {seed}");
        }
        while let Some(mut connection) = clients.accept() {
            assert_eq!(connection.state(), State::Established);
            let _ = connection.abort(clients.now);
        }
        while let Some(at) = clients.listener.next_deadline() {
            clients.now = clients.now.max(at);
            while clients.listener.on_timer(clients.now).is_some() {}
        }
        assert_eq!((clients.listener.half_open(), clients.listener.queued()), (0, 0), "seed {seed}");
    }
}
