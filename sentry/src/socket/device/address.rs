//! The addresses that interfaces have without anybody giving them any.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use netstack::link::Medium;
use netstack::nic::{InterfaceAddress, NicInfo};
use netstack::wire::ethernet::MacAddr;
use netstack::{IpCidr, NicId};

use crate::socket::{NetNamespace, netlink};

/// Of a loopback that goes up (`inetdev_event`, `init_loopback`).
pub(super) fn give_loopback(namespace: &Arc<NetNamespace>, nic: &NicInfo) {
    for cidr in [IpCidr::LOOPBACK_V4, IpCidr::LOOPBACK_V6] {
        if !nic.addresses.iter().any(|own| own.address() == cidr.address())
            && namespace.stack().add_address(nic.id, cidr).is_ok()
        {
            netlink::announce_address(namespace, nic.id, cidr);
        }
    }
}

/// Gives an Ethernet interface that works its link-local address, made of the station's (RFC 4291 appendix A), or takes it from
/// one that does not.
pub(super) fn settle_link_local(namespace: &Arc<NetNamespace>, nic: NicId, works: bool) {
    let Some(info) = namespace.stack().nic(nic) else { return };
    if info.medium == Medium::Ip {
        return settle_random_link_local(namespace, &info, works);
    }
    let Some(cidr) = info.mac().and_then(link_local) else { return };
    let has = info.addresses.iter().any(|own| own.address() == cidr.address());
    // What fails was changed by somebody else meanwhile.
    match (works, has) {
        (true, false) if info.mtu >= IPV6_MIN_MTU => {
            let _ = namespace.stack().add_tentative_address(nic, cidr);
        }
        (false, true) => {
            let _ = namespace.stack().remove_address(nic, cidr.address());
        }
        _ => {}
    }
}

/// The same for an interface without a station: with an identifier that is random (`IN6_ADDR_GEN_MODE_RANDOM`), and without a
/// search for duplicates, which nobody would answer.
fn settle_random_link_local(namespace: &NetNamespace, info: &NicInfo, works: bool) {
    let is_link_local = |address: IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let own: Vec<IpAddr> =
        info.addresses.iter().map(InterfaceAddress::address).filter(|own| is_link_local(*own)).collect();
    let stack = namespace.stack();
    if !works {
        for address in own {
            let _ = stack.remove_address(info.id, address);
        }
    } else if own.is_empty() && info.mtu >= IPV6_MIN_MTU {
        let mut bytes = [0; 16];
        if sentry_hostio::random::fill(&mut bytes[8..]).is_err() {
            return;
        }
        bytes[..2].copy_from_slice(&[0xfe, 0x80]);
        if let Some(cidr) = IpCidr::new(IpAddr::V6(Ipv6Addr::from(bytes)), 64) {
            let _ = stack.add_address(info.id, cidr);
        }
    }
}

fn link_local(mac: MacAddr) -> Option<IpCidr> {
    let [a, b, c, d, e, f] = mac.0;
    let identifier = [a ^ 2, b, c, 0xff, 0xfe, d, e, f];
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&[0xfe, 0x80]);
    bytes[8..].copy_from_slice(&identifier);
    IpCidr::new(IpAddr::V6(Ipv6Addr::from(bytes)), 64)
}

/// RFC 8200 section 5.
const IPV6_MIN_MTU: u32 = 1280;
