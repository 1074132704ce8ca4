//! AF_PACKET, tap and tun links for netstack.
