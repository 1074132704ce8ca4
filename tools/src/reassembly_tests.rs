//! Streams from segments in any order.

use std::net::{Ipv4Addr, SocketAddr};

use super::Stream;
use crate::dissect::{Options, Segment};
use crate::flow::Endpoints;

fn segment(seq: u32, is_syn: bool, payload: &[u8]) -> Segment {
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Segment {
        endpoints: Endpoints { source: at(1), destination: at(2) },
        seq,
        ack: None,
        is_syn,
        is_fin: false,
        is_rst: false,
        is_psh: false,
        is_urg: false,
        is_ece: false,
        is_cwr: false,
        window: 1000,
        options: Options::default(),
        payload_len: payload.len().try_into().unwrap(),
        payload: payload.to_vec(),
    }
}

fn join(segments: &[Segment]) -> anyhow::Result<Vec<u8>> {
    let mut stream = Stream::default();
    for segment in segments {
        stream.add(segment)?;
    }
    stream.finish()
}

#[test]
fn reordered_duplicate_and_overlapping_data_joins() {
    let segments = [
        segment(99, true, b""),
        segment(104, false, b"efgh"),
        segment(100, false, b"abcd"),
        segment(102, false, b"cdefghij"),
        segment(100, false, b"ab"),
    ];
    assert_eq!(join(&segments).unwrap(), b"abcdefghij");
}

#[test]
fn sequence_numbers_wrap() {
    let start = u32::MAX - 2;
    let segments = [segment(start, false, b"abc"), segment(0, false, b"def"), segment(3, false, b"g")];
    assert_eq!(join(&segments).unwrap(), b"abcdefg");
}

#[test]
fn missing_bytes_are_an_error() {
    let error = join(&[segment(0, false, b"ab"), segment(4, false, b"ef")]).unwrap_err();
    assert_eq!(error.to_string(), "2 bytes at offset 2 are missing from the capture");
}
