//! The addresses that interfaces have without anybody giving them any.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use netstack::nic::NicInfo;
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
