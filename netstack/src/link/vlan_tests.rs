use super::*;
use crate::link::veth::VethLink;
use crate::options::{Family, RecvFlags, SendMeta};
use crate::{IpCidr, UdpSocket};

fn mac(number: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, number])
}

/// A stack at the end of a cable with an address on the cable itself and one on its virtual LAN 7.
fn host(end: &Arc<VethLink>, number: u8) -> (Stack, [NicId; 2]) {
    let stack = Stack::builder().manual_clock().deterministic(number.into()).build();
    let below = stack.add_nic("eth0", Arc::clone(end) as Arc<dyn Link>).unwrap();
    end.attach(&stack, below);
    stack.add_address(below, format!("10.0.0.{number}/24").parse::<IpCidr>().unwrap()).unwrap();
    let trunk = VlanTrunk::new(&stack, below).unwrap();
    let link = trunk.add(7, mac(number)).unwrap();
    let nic = stack.add_nic("eth0.7", Arc::clone(&link) as Arc<dyn Link>).unwrap();
    link.attach(&stack, nic);
    stack.add_address(nic, format!("10.0.7.{number}/24").parse::<IpCidr>().unwrap()).unwrap();
    (stack, [below, nic])
}

fn exchange(from: &Stack, to: &Stack, address: &str) -> bool {
    let [sender, receiver] = [from, to].map(|stack| UdpSocket::new(stack, Family::V4));
    receiver.bind(address.parse().unwrap()).unwrap();
    sender.connect(address.parse().unwrap()).unwrap();
    let mut buffer = [0; 8];
    sender.try_send(&mut &b"hello"[..], &SendMeta::default()).unwrap();
    receiver.try_recv(&mut &mut buffer[..], RecvFlags::default()).is_ok() && &buffer[..5] == b"hello"
}

#[test]
fn tagged_and_untagged_traffic_share_a_cable() {
    let ends = VethLink::pair(1500, [mac(1), mac(2)]);
    let ((a, [_, a_lan]), (b, [b_below, b_lan])) = (host(&ends[0], 1), host(&ends[1], 2));
    assert!(exchange(&a, &b, "10.0.7.2:9"));
    let lan = b.nic(b_lan).unwrap().stats.rx_packets;
    assert!(lan > 0);
    assert!(exchange(&a, &b, "10.0.0.2:9"));
    assert_eq!(b.nic(b_lan).unwrap().stats.rx_packets, lan);
    // Without the NIC its LAN is nobody's.
    a.remove_nic(a_lan).unwrap();
    let unknown = b.nic(b_below).unwrap().stats.rx_dropped_unknown_protocol;
    b.remove_nic(b_lan).unwrap();
    assert!(exchange(&a, &b, "10.0.0.2:10"));
    assert_eq!(b.nic(b_below).unwrap().stats.rx_dropped_unknown_protocol, unknown);
}

#[test]
fn an_id_is_taken_once_and_reserved_ones_never() {
    let [end, _peer] = VethLink::pair(1500, [mac(1), mac(2)]);
    let stack = Stack::builder().manual_clock().deterministic(1).build();
    let nic = stack.add_nic("eth0", end as Arc<dyn Link>).unwrap();
    let trunk = VlanTrunk::new(&stack, nic).unwrap();
    let link = trunk.add(0, mac(3)).unwrap();
    assert_eq!(trunk.add(0, mac(3)).err(), Some(ConfigError::Exists));
    assert_eq!(trunk.add(4095, mac(3)).err(), Some(ConfigError::Invalid));
    drop(link);
    assert!(trunk.add(0, mac(3)).is_ok());
}
