//! Two senders get the same random inputs, one with the fast paths and one without, and must stay the same in every field.

use super::super::super::congestion::Algorithm;
use super::super::super::negotiated::Negotiated;
use super::super::super::tests::Rng;
use super::super::{DataOut, GiveUp};
use super::*;
use crate::tcp::sender::RestingSender;
use netstack_wire::tcp::{SackBlock, SackBlocks};

const LIMITS: TransmitLimits =
    TransmitLimits { max_payload: 65_000, segment: 1448, no_delay: false, cork: false };

fn negotiated(has_sack: bool) -> Negotiated {
    Negotiated {
        now: Instant::from_millis(1000),
        iss: SeqNum(u32::MAX - 5000),
        irs: SeqNum(1),
        snd_wnd: 60_000,
        snd_wnd_shift: 0,
        rcv_wnd: 60_000,
        rcv_wnd_shift: 0,
        has_window_scaling: false,
        send_mss: 1460,
        peer_mss: 1460,
        advertised_mss: 1460,
        has_sack,
        timestamps: Some(0),
        timestamp_offset: 0,
        has_ecn: true,
        rtt: Some(Duration::from_millis(20)),
        is_path_lossy: false,
    }
}

/// What both give next; the transmission must be the same, whichever way it took.
fn poll(fast: &mut Sender, general: &mut Sender, now: Instant, limits: TransmitLimits) -> Option<bool> {
    let config = Config::default();
    let expected = general.poll_data(&config, now, limits);
    let (seq, payload, was_last) = match fast.poll_last(&config, now, &limits) {
        Some((seq, payload)) => (seq, payload, true),
        None => {
            let out = fast.poll_data(&config, now, limits);
            assert_eq!(format!("{out:?}"), format!("{expected:?}"));
            return out.map(|_| false);
        }
    };
    let out = DataOut {
        seq,
        payload,
        has_fin: false,
        has_push: true,
        has_cwr: false,
        gso_size: None,
        is_new: true,
    };
    assert_eq!(format!("{:?}", Some(out)), format!("{expected:?}"));
    Some(was_last)
}

fn ack(rng: &mut Rng, sender: &Sender, now: Instant) -> AckInput {
    let flight = sender.snd_nxt - sender.snd_una;
    let ack = sender.snd_una
        + match rng.below(4) {
            0 => 0,
            1 => rng.below(flight + 1),
            _ => flight,
        };
    let mut sack = SackBlocks::default();
    if sender.has_sack && rng.chance(50) && sender.snd_nxt.gt(ack) {
        let start = ack + rng.below(sender.snd_nxt - ack);
        sack.push(SackBlock { start, end: start + (1 + rng.below(sender.snd_nxt - start)) });
    }
    AckInput {
        now,
        seq: SeqNum(2),
        ack,
        window: if rng.chance(950) { 60_000 } else { rng.below(60_000) },
        sack,
        echo: Some(sender.timestamp(now).wrapping_sub(rng.below(50))),
        has_ecn_echo: rng.chance(10),
        has_payload: rng.chance(300),
    }
}

fn run(seed: u64, algorithm: Algorithm, has_sack: bool) -> [u32; 2] {
    let (config, negotiated) = (Config::default(), negotiated(has_sack));
    let make = || RestingSender::new(&config, &negotiated).wake(algorithm, None, None);
    let (mut fast, mut general, mut rng) = (make(), make(), Rng::new(seed));
    let mut now = negotiated.now;
    let (mut calm_acks, mut last_segments) = (0, 0);
    for step in 0..1000 {
        now += Duration::from_micros(u64::from(either(&mut rng, 20, [900_000, 3000])));
        match rng.below(10) {
            0..=3 if fast.queued() < 6000 => {
                let data = vec![7; usize::try_from(1 + either(&mut rng, 800, [100, 4000])).unwrap()];
                fast.push_copy(&data);
                general.push_copy(&data);
            }
            4..=6 => {
                let limits = TransmitLimits { no_delay: rng.chance(500), cork: rng.chance(50), ..LIMITS };
                while let Some(was_last) = poll(&mut fast, &mut general, now, limits) {
                    last_segments += u32::from(was_last);
                }
            }
            7 | 8 => {
                let input = ack(&mut rng, &fast, now);
                calm_acks += u32::from(fast.is_calm(&input));
                let (one, other) = (fast.on_ack(&config, input), general.on_any_ack(&config, input));
                assert_eq!(one.acked, other.acked);
            }
            _ => {
                let give_up = GiveUp { user_timeout: None, retries: 15 };
                let (one, other) =
                    (fast.on_timer(&config, now, give_up), general.on_timer(&config, now, give_up));
                assert_eq!(one, other);
            }
        }
        assert_eq!(format!("{fast:?}"), format!("{general:?}"), "seed {seed}, step {step}");
    }
    [calm_acks, last_segments]
}

/// A number below one of two bounds, the first in `per_mille` of a thousand cases.
fn either(rng: &mut Rng, per_mille: u32, bounds: [u32; 2]) -> u32 {
    let bound = bounds[usize::from(!rng.chance(per_mille))];
    rng.below(bound)
}

#[test]
fn fast_and_general_path_leave_the_same_sender() {
    let mut taken = [0, 0];
    for (seed, algorithm) in (0..).zip(Algorithm::ALL.iter().cycle()).take(12) {
        let counts = run(seed, *algorithm, seed % 4 != 3);
        taken = [taken[0] + counts[0], taken[1] + counts[1]];
    }
    assert!(taken[0] > 300 && taken[1] > 200, "the fast paths were hardly taken: {taken:?}");
}
