//! What the readers of a device finish themselves, as the stack knows it.

use netstack::link::Capabilities;
use sentry_abi::tun::*;

use crate::errno::Errno;

/// What a link does whose readers do that (`TUN_F_*`, `set_offload`).
///
/// # Errors
/// `EINVAL` for what goes with nothing that is there, or is unknown.
pub(super) fn capabilities(mut wanted: u32) -> Result<Capabilities, Errno> {
    const LONGEST: u32 = 65_535;
    let mut capabilities = Capabilities::default();
    if wanted & TUN_F_CSUM != 0 {
        capabilities.tx_checksum = true;
        wanted &= !(TUN_F_CSUM | TUN_F_UFO);
        if wanted & (TUN_F_TSO4 | TUN_F_TSO6) != 0 {
            let is_on = |flag| if wanted & flag == 0 { 0 } else { LONGEST };
            capabilities.gso_max_v4 = is_on(TUN_F_TSO4);
            capabilities.gso_max_v6 = is_on(TUN_F_TSO6);
            wanted &= !(TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN);
        }
        const BOTH: u32 = TUN_F_USO4 | TUN_F_USO6;
        if wanted & BOTH == BOTH {
            capabilities.gso_max_udp = LONGEST;
            wanted &= !BOTH;
        }
        // Segments within tunnels are never made here, so that who takes them takes what comes.
        if wanted & TUN_F_UDP_TUNNEL_GSO != 0 {
            wanted &= !(TUN_F_UDP_TUNNEL_GSO | TUN_F_UDP_TUNNEL_GSO_CSUM);
        }
    }
    if wanted == 0 { Ok(capabilities) } else { Err(Errno::EINVAL) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offloads_need_checksums_and_each_other() {
        assert_eq!(capabilities(0), Ok(Capabilities::default()));
        for wanted in [TUN_F_TSO4, TUN_F_USO4 | TUN_F_CSUM, TUN_F_CSUM | TUN_F_TSO_ECN, 0x201] {
            assert_eq!(capabilities(wanted), Err(Errno::EINVAL), "{wanted:#x}");
        }
        let all = capabilities(0xff).unwrap();
        let maxima = [all.gso_max_v4, all.gso_max_v6, all.gso_max_udp];
        assert!(all.tx_checksum && maxima == [65_535; 3]);
        assert_eq!(capabilities(TUN_F_CSUM | TUN_F_TSO6).unwrap().gso_max_v4, 0);
    }
}
