//! Connections that come from somewhere else: any bytes, and any values, that say what a connection was.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use netstack::StreamSnapshot;
use netstack::tcp::{Connection, Options, PathInfo, Snapshot};
use netstack::time::Instant;

use crate::connection::{config, drive, flow};
use crate::input::Input;

/// Reads bytes as a connection, and drives one that is made of them.
pub fn snapshot(data: &[u8]) {
    if let Ok(read) = StreamSnapshot::from_bytes(data) {
        assert_eq!(StreamSnapshot::from_bytes(&read.to_bytes()).as_ref(), Ok(&read));
        restored(&read.connection, &mut Input::new(data));
    }
    let mut input = Input::new(data);
    let connection = any(&mut input);
    let (local, remote) = ("10.0.0.1:1000", "[fe80::1%2]:80");
    let [local, remote]: [SocketAddr; 2] = [local, remote].map(|text| text.parse().expect("well-formed"));
    let whole = StreamSnapshot { local, remote, connection };
    assert_eq!(StreamSnapshot::from_bytes(&whole.to_bytes()).as_ref(), Ok(&whole));
    restored(&whole.connection, &mut input);
}

fn restored(snapshot: &Snapshot, input: &mut Input<'_>) {
    let mut now = Instant::from_millis(1_000_000);
    let config = Arc::new(config(input));
    let path = PathInfo { link_mss: 1460, path_mss: 1460 };
    let mut connection = Connection::restore(now, &config, Options::default(), &flow(), path, snapshot);
    // What it is now can be moved again, and nobody has read or written anything since.
    if let Some(again) = connection.snapshot(now) {
        assert_eq!((&again.unacked, &again.unread), (&snapshot.unacked, &snapshot.unread));
    }
    connection.probe(now);
    // A window that was offered is kept open.
    let window = usize::try_from(snapshot.rcv_wnd).expect("64 bits").min(65_535 << 14);
    let queued = snapshot.unread.len().max(snapshot.unacked.len());
    drive(connection, &mut now, &config, input, window + queued);
}

fn any(input: &mut Input<'_>) -> Snapshot {
    let flags = input.u8();
    let has = |bit: u8| flags & 1 << bit != 0;
    let bytes = |input: &mut Input<'_>| Bytes::from(vec![7; usize::from(input.u16())]);
    let snd_una = input.u32();
    let rcv_nxt = input.u32();
    Snapshot {
        snd_una,
        unacked: bytes(input),
        sent: input.u16().into(),
        is_write_shut: has(0),
        snd_wnd: input.near(1 << 16),
        snd_wl1: input.near(rcv_nxt),
        max_wnd: input.near(1 << 16),
        rcv_nxt,
        unread: bytes(input),
        is_read_over: has(1),
        rcv_wnd: input.near(1 << 16),
        rcv_wup: input.near(rcv_nxt),
        window_shifts: has(2).then(|| (input.u8(), input.u8())),
        peer_mss: input.u16(),
        advertised_mss: input.u16(),
        has_sack: has(3),
        has_ecn: has(4),
        timestamps: has(5).then(|| (input.u32(), input.u32())),
        srtt: has(6).then(|| Duration::from_micros(input.u32().into())),
    }
}
