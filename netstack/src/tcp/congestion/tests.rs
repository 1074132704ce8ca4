//! Tests of the controllers on made-up ACK streams.

use super::*;

const MSS: u32 = 1000;

fn acked(now_ms: u64, bytes: u32) -> AckedData {
    let srtt = Duration::from_millis(100);
    AckedData { now: Instant::from_millis(now_ms), bytes, rtt: Some(srtt), srtt, round_ended: false }
}

#[test]
fn slow_start_doubles_per_round_also_with_one_stretch_ack() {
    for algorithm in [Algorithm::NewReno, Algorithm::Cubic] {
        let mut cc = Congestion::new(algorithm, 10 * MSS, MSS);
        cc.on_ack(&acked(0, 10 * MSS));
        assert_eq!(cc.cwnd(), 20 * MSS, "{algorithm:?}");
        (0..20).for_each(|_| cc.on_ack(&acked(1, MSS)));
        assert_eq!(cc.cwnd(), 40 * MSS, "{algorithm:?}");
    }
}

#[test]
fn reno_halves_and_grows_one_segment_per_window() {
    let mut cc = Congestion::new(Algorithm::NewReno, 40 * MSS, MSS);
    cc.on_congestion();
    assert_eq!(cc.ssthresh(), 20 * MSS);
    cc.set_cwnd(20 * MSS);
    cc.on_ack(&acked(0, 20 * MSS));
    assert_eq!(cc.cwnd(), 21 * MSS);
}

#[test]
fn reduction_has_a_floor_of_two_segments() {
    for algorithm in [Algorithm::NewReno, Algorithm::Cubic] {
        let mut cc = Congestion::new(algorithm, 2 * MSS, MSS);
        cc.on_congestion();
        assert_eq!(cc.ssthresh(), 2 * MSS);
    }
}

/// RFC 9438 section 4.2: after a reduction the window is back at W_max after K seconds, flat around it.
#[test]
fn cubic_returns_to_w_max_after_k() {
    let mut cc = Congestion::new(Algorithm::Cubic, 1000 * MSS, MSS);
    cc.on_congestion();
    assert_eq!(cc.ssthresh(), 700 * MSS);
    cc.set_cwnd(700 * MSS);
    let k_ms = ((1000.0_f64 * 0.3 / 0.4).cbrt() * 1000.0).round();
    let mut now_ms = 0;
    let mut at_k = 0;
    while now_ms < 12_000 {
        // One ACK per 10 ms for a tenth of the window: a round trip of 100 ms.
        let bytes = cc.cwnd() / 10;
        cc.on_ack(&acked(now_ms, bytes));
        if f64::from(u32::try_from(now_ms).unwrap()) <= k_ms {
            at_k = cc.cwnd();
        }
        now_ms += 10;
    }
    assert!((985 * MSS..=1010 * MSS).contains(&at_k), "{at_k}");
    assert!(cc.cwnd() > 1005 * MSS, "grows beyond the plateau: {}", cc.cwnd());
}

#[test]
fn cubic_is_not_slower_than_reno_on_short_paths() {
    let run = |algorithm| {
        let mut cc = Congestion::new(algorithm, 20 * MSS, MSS);
        cc.on_congestion();
        cc.set_cwnd(cc.ssthresh());
        for ms in 0..1000 {
            let mut data = acked(ms, cc.cwnd());
            data.srtt = Duration::from_millis(1);
            cc.on_ack(&data);
        }
        cc.cwnd()
    };
    assert!(run(Algorithm::Cubic) + 20 * MSS > run(Algorithm::NewReno));
}

#[test]
fn hystart_leaves_slow_start_when_the_delay_rises() {
    let mut cc = Congestion::new(Algorithm::Cubic, 10 * MSS, MSS);
    for round in 0..12_u64 {
        let rtt = Duration::from_millis(if round < 4 { 50 } else { 50 + 10 * (round - 3) });
        let share = cc.cwnd() / 10;
        for i in 0..10 {
            let mut data = acked(round * 100, share);
            data.rtt = Some(rtt);
            data.round_ended = i == 0;
            cc.on_ack(&data);
        }
    }
    assert!(!cc.window().is_slow_start());
    assert!(cc.cwnd() < 2000 * MSS, "{}", cc.cwnd());
}

/// A round of ten ACKs for what the window held when it began.
fn round(cc: &mut Congestion, number: u64, rtt_ms: u64) {
    let share = cc.cwnd() / 10;
    for i in 0..10 {
        let mut data = acked(number * 100, share);
        data.rtt = Some(Duration::from_millis(rtt_ms));
        data.round_ended = i == 0;
        cc.on_ack(&data);
    }
}

/// RFC 9406 section 4.2: CSS_ROUNDS is 5, CSS_GROWTH_DIVISOR 4.
#[test]
fn hystart_grows_by_a_quarter_for_five_rounds() {
    let mut cc = Congestion::new(Algorithm::Cubic, 10 * MSS, MSS);
    round(&mut cc, 0, 50);
    round(&mut cc, 1, 50);
    assert_eq!(cc.cwnd(), 40 * MSS);
    // One eighth more, and it stays there.
    round(&mut cc, 2, 57);
    for number in 3..7 {
        let before = cc.cwnd();
        round(&mut cc, number, 57);
        let grown = cc.cwnd() - before;
        assert!(grown.abs_diff(before / 4) <= 10, "{before} grew by {grown}");
        assert!(cc.window().is_slow_start());
    }
    round(&mut cc, 7, 57);
    assert!(!cc.window().is_slow_start());
}

/// RFC 9406 section 4.2: "If ... currentRoundMinRTT < cssBaselineMinRtt", slow start is resumed.
#[test]
fn hystart_resumes_slow_start_when_the_delay_was_a_mistake() {
    let mut cc = Congestion::new(Algorithm::Cubic, 10 * MSS, MSS);
    for (number, rtt) in (0..).zip([50, 50, 57, 50]) {
        round(&mut cc, number, rtt);
    }
    let before = cc.cwnd();
    round(&mut cc, 4, 50);
    assert_eq!(cc.cwnd(), before + before / 10 * 10);
    assert!(cc.window().is_slow_start());
}

#[test]
fn undo_restores_window_and_epoch() {
    let mut cc = Congestion::new(Algorithm::Cubic, 100 * MSS, MSS);
    let before = (cc.cwnd(), cc.ssthresh());
    cc.on_congestion();
    cc.set_cwnd(cc.ssthresh());
    cc.undo(before.0, before.1);
    assert_eq!((cc.cwnd(), cc.ssthresh()), before);
}

#[test]
fn idle_halves_the_window_per_timeout() {
    let mut cc = Congestion::new(Algorithm::Cubic, 80 * MSS, MSS);
    cc.on_idle(Duration::from_millis(450), Duration::from_millis(200), 10 * MSS);
    assert_eq!(cc.cwnd(), 20 * MSS);
    cc.on_idle(Duration::from_secs(9), Duration::from_millis(200), 10 * MSS);
    assert_eq!(cc.cwnd(), 10 * MSS);
}
