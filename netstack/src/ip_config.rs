//! Settings of the network layer as a whole.

use std::ops::RangeInclusive;
use std::time::Duration;

/// What of the network layer can be set for the whole stack. Later packets and sockets follow a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpConfig {
    /// The ports that are picked for sockets without one (RFC 6056; `ip_local_port_range`). Not empty.
    pub ephemeral_ports: RangeInclusive<u16>,
    /// The TTL of IPv4 packets for which nobody asked for another (`ip_default_ttl`).
    pub default_ttl: u8,
    /// The least MTU that a path of IPv4 is believed to have (`route/min_pmtu`). Where one is told to have less, packets of this
    /// size may be fragmented on their way.
    pub min_path_mtu: u32,
    /// How long the MTU of a path of IPv4 counts (`route/mtu_expires`; RFC 1191 section 6.3 recommends ten minutes).
    pub path_mtu_lifetime_v4: Duration,
    /// The same for IPv6 (`route/mtu_expires`; RFC 8201 section 5.3).
    pub path_mtu_lifetime_v6: Duration,
    /// Echo requests get no answer (`icmp_echo_ignore_all`).
    pub ignores_echo_v4: bool,
    /// The same for IPv6 (`icmp/echo_ignore_all`).
    pub ignores_echo_v6: bool,
    /// The flow labels of IPv6.
    pub flow_labels: FlowLabels,
}

/// Which flow labels packets of IPv6 get (RFC 6437).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FlowLabels {
    /// Whether flows get a label that nobody asked for (`auto_flowlabels`).
    pub auto: AutoFlowLabels,
    /// Those labels have their highest bit set, so that others can be told from them (`flowlabel_state_ranges`).
    pub are_stateless_marked: bool,
    /// Connections that others begin have the label of their first segments (1 in `flowlabel_reflect`).
    pub reflects_streams: bool,
    /// Resets for what nobody wants have its label (2 in `flowlabel_reflect`).
    pub reflects_resets: bool,
    /// Answers to echo requests have the request's label (4 in `flowlabel_reflect`).
    pub reflects_echo: bool,
}

/// Whether flows get a label that nobody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AutoFlowLabels {
    /// No.
    Off,
    /// Unless the socket does not want that.
    #[default]
    OptOut,
    /// If the socket wants it.
    OptIn,
    /// Always.
    Forced,
}

impl Default for IpConfig {
    /// As Linux's.
    fn default() -> Self {
        // RFC 1700, "IP time to live parameter"; the ports are Linux's, who leaves out the IANA's upper ones.
        Self {
            ephemeral_ports: 32_768..=60_999,
            default_ttl: 64,
            min_path_mtu: 552,
            path_mtu_lifetime_v4: Duration::from_secs(600),
            path_mtu_lifetime_v6: Duration::from_secs(600),
            ignores_echo_v4: false,
            ignores_echo_v6: false,
            flow_labels: FlowLabels::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::net::SocketAddr;

    use crate::error::{BindError, ConnectError, SendError};
    use crate::options::{Family, SendMeta};
    use crate::{Stack, UdpSocket};

    #[test]
    fn ports_are_picked_from_the_range_that_is_set() {
        let stack = Stack::builder().manual_clock().deterministic(1).build();
        let changed = stack.change_ip_config(|config| -> Result<(), Infallible> {
            config.ephemeral_ports = 5000..=5001;
            Ok(())
        });
        assert_eq!(changed, Ok(()));
        let sockets: Vec<_> = (0..3).map(|_| UdpSocket::new(&stack, Family::V4)).collect();
        let any = "127.0.0.1:0".parse().unwrap();
        let outcomes: Vec<_> = sockets.iter().map(|socket| socket.bind(any)).collect();
        assert_eq!(outcomes, [Ok(()), Ok(()), Err(BindError::NoFreePort)]);
        let mut ports: Vec<_> = sockets[..2].iter().map(|socket| socket.local_addr().port()).collect();
        ports.sort_unstable();
        assert_eq!(ports, [5000, 5001]);

        // Linux tells the two apart: EADDRINUSE for bind(2), EAGAIN for calls that need a port besides (inet_autobind).
        let somebody: SocketAddr = "127.0.0.1:9".parse().unwrap();
        assert_eq!(sockets[2].connect(somebody), Err(ConnectError::NoFreePort));
        let meta = SendMeta { to: Some(somebody), ..SendMeta::default() };
        let other = UdpSocket::new(&stack, Family::V4);
        assert_eq!(other.try_send(&mut &b"x"[..], &meta), Err(SendError::NoFreePort));
    }
}
