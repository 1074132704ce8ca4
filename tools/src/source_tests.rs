//! Files of both formats, whole and broken.

use std::borrow::Cow;
use std::io::Cursor;
use std::time::Duration;

use netstack_sim::HostSpec;
use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use proptest::prelude::*;

use super::{Course, read};
use crate::examine::Examiner;
use crate::output::{Format, Output};
use crate::testing::{packets, plain_link, simulate};

/// One packet on an interface with these options, stamped with `ticks`.
fn stamped(options: Vec<InterfaceDescriptionOption<'static>>, ticks: u64) -> Duration {
    let mut writer = PcapNgWriter::new(Vec::new()).unwrap();
    let interface = InterfaceDescriptionBlock { linktype: DataLink::ETHERNET, snaplen: 0, options };
    writer.write_pcapng_block(interface).unwrap();
    let packet = EnhancedPacketBlock {
        interface_id: 0,
        timestamp: Duration::from_nanos(ticks),
        original_len: 1,
        data: Cow::Borrowed(&[0]),
        options: Vec::new(),
    };
    writer.write_pcapng_block(packet).unwrap();
    packets(writer.into_inner())[0].time
}

#[test]
fn stamps_have_the_unit_of_their_interface() {
    use InterfaceDescriptionOption::{IfTsOffset, IfTsResol};
    assert_eq!(stamped(vec![], 1_500_000), Duration::from_millis(1500));
    assert_eq!(stamped(vec![IfTsResol(9)], 1_500_000_001), Duration::new(1, 500_000_001));
    assert_eq!(stamped(vec![IfTsResol(0x80 | 10)], 1536), Duration::from_millis(1500));
    assert_eq!(stamped(vec![IfTsResol(0), IfTsOffset(7)], 3), Duration::from_secs(10));
    assert_eq!(stamped(vec![IfTsResol(127)], 3), Duration::ZERO);
}

#[test]
fn what_is_written_is_read_again() {
    let mut written = packets(simulate(1, 5_000, plain_link(), &HostSpec::default()).file);
    written[2].comments = vec!["one".into(), "two\nlines".into()];
    written[3].course = Some(Course::Inbound);
    std::sync::Arc::make_mut(&mut written[4].interface).number = 1;
    std::sync::Arc::make_mut(&mut written[4].interface).name = Some("eth1".into());
    let mut output = Output::new(Vec::new(), Format::PcapNg).unwrap();
    for packet in &written {
        output.write(packet).unwrap();
    }
    let Output::PcapNg { writer, .. } = output else { panic!("not pcapng") };
    let again = packets(writer.into_inner());
    assert_eq!(again.len(), written.len());
    for (a, b) in written.iter().zip(&again) {
        assert_eq!((a.time, &a.data, a.original_len), (b.time, &b.data, b.original_len));
        assert_eq!((&a.interface, a.course, &a.comments), (&b.interface, b.course, &b.comments));
    }
}

#[test]
fn a_cut_file_is_an_error_at_its_packet_and_then_over() {
    let mut file = simulate(1, 5_000, plain_link(), &HostSpec::default()).file;
    file.truncate(file.len() - 10);
    let all: Vec<_> = read(Cursor::new(file), "cut".into()).unwrap().collect();
    assert!(all.last().unwrap().as_ref().unwrap_err().to_string().starts_with("cut: packet"));
    assert_eq!(all.iter().filter(|packet| packet.is_err()).count(), 1);
}

/// Takes everything apart as `list` does.
fn swallow(file: Vec<u8>) {
    let Ok(packets) = read(Cursor::new(file), "fuzz".into()) else { return };
    let mut examiner = Examiner::default();
    for packet in packets.map_while(Result::ok) {
        let examined = examiner.examine(packet);
        crate::report::write_packet(&mut std::io::sink(), &examined, true).unwrap();
    }
    for flow in examiner.flows() {
        crate::report::write_flow(&mut std::io::sink(), &flow, false).unwrap();
    }
}

fn example() -> Vec<u8> {
    static FILE: std::sync::LazyLock<Vec<u8>> =
        std::sync::LazyLock::new(|| simulate(1, 20_000, plain_link(), &HostSpec::default()).file);
    FILE.clone()
}

proptest! {
    #[test]
    fn broken_files_do_not_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..30)) {
        let mut file = example();
        for (index, value) in changes {
            let at = index.index(file.len());
            file[at] = value;
        }
        swallow(file);
    }

    #[test]
    fn broken_packets_do_not_panic(
        number in any::<prop::sample::Index>(),
        changes in prop::collection::vec((0_usize..80, any::<u8>()), 1..12),
    ) {
        let mut packets = packets(example());
        let at = number.index(packets.len());
        for (at_byte, value) in changes {
            if let Some(byte) = packets[at].data.get_mut(at_byte) {
                *byte = value;
            }
        }
        let mut examiner = Examiner::default();
        for packet in packets {
            crate::report::write_packet(&mut std::io::sink(), &examiner.examine(packet), false).unwrap();
        }
    }
}
