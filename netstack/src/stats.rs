//! Counters. Every discarded packet has a reason here; the names follow the SNMP MIBs where those have one.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::hint::likely;
use crate::tcp::DropReason;

mod lanes;

pub(crate) use lanes::PerThread;

/// One counter of one thread (see [`PerThread`]). Relaxed: each is an independent value that only ever grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub(crate) fn add(&self, count: u64) {
        self.add_as(lanes::is_exclusive(), count);
    }

    /// The same where it is known whether the calling thread is the only one that adds.
    #[inline]
    fn add_as(&self, is_exclusive: bool, count: u64) {
        if likely(is_exclusive) {
            self.0.store(self.get().wrapping_add(count), Ordering::Relaxed);
        } else {
            self.0.fetch_add(count, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn increment(&self) {
        self.add(1);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Declares a struct of counters and the plain struct of values that a reader gets. Those marked with `@discard` count
/// packets that the stack did away with on their way in.
macro_rules! counters {
    ($(#[$doc:meta])* $live:ident => $(#[$snapshot_doc:meta])* $snapshot:ident {
        $($(#[$field_doc:meta])* $(@$mark:ident)? $field:ident,)*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(crate) struct $live {
            $(pub(crate) $field: Counter,)*
        }

        impl $live {
            /// The counters of packets that were discarded, with their names.
            pub(crate) const DISCARDS: &'static [(&'static str, fn(&Self) -> &Counter)] = &[$($(
                (stringify!($field), |live| {
                    // The mark is only there to choose.
                    let _ = stringify!($mark);
                    &live.$field
                }),
            )?)*];
        }

        impl PerThread<$live> {
            /// Reads all counters, one after the other.
            pub(crate) fn snapshot(&self) -> $snapshot {
                let mut total = $snapshot::default();
                for $live { $($field,)* } in self.lanes() {
                    $(total.$field = total.$field.wrapping_add($field.get());)*
                }
                total
            }
        }

        $(#[$snapshot_doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct $snapshot {
            $($(#[$field_doc])* pub $field: u64,)*
        }

        impl $snapshot {
            /// The counters with their names, in the order of declaration.
            pub fn entries(&self) -> impl Iterator<Item = (&'static str, u64)> {
                let Self { $($field,)* } = *self;
                [$((stringify!($field), $field),)*].into_iter()
            }
        }
    };
}

counters! {
    /// A thread's counters of a NIC.
    NicCounters =>
    /// What a NIC counted.
    NicStats {
        /// Packets received.
        rx_packets,
        /// Bytes received, link headers included.
        rx_bytes,
        /// Packets received for a group.
        rx_multicast,
        /// Packets dropped on arrival because the NIC is down.
        @discard rx_dropped_down,
        /// Frames for another station.
        @discard rx_dropped_other_host,
        /// Frames too short for the headers they announce, or with other nonsense.
        @discard rx_dropped_malformed,
        /// Frames of an unknown protocol.
        @discard rx_dropped_unknown_protocol,
        /// Packets sent.
        tx_packets,
        /// Bytes sent, link headers included.
        tx_bytes,
        /// Packets the link refused because its queue is full.
        tx_dropped_full,
        /// Packets dropped because the NIC or the link is down.
        tx_dropped_down,
        /// Packets the link refused as too large.
        tx_dropped_too_large,
        /// Packets dropped because the next hop could not be resolved.
        tx_dropped_unresolved,
        /// Packets dropped because too many wait for a resolution.
        tx_dropped_resolution_queue,
        /// ARP requests and neighbour solicitations sent.
        neighbour_probes_sent,
        /// Resolutions that failed.
        neighbour_failures,
    }
}

counters! {
    /// A thread's counters of a stack.
    StackCounters =>
    /// What a stack counted, besides its NICs. IPv4 and IPv6 are counted together.
    StackStats {
        /// IP packets received (`ipInReceives`).
        ip_in_receives,
        /// IP packets whose header makes no sense (`ipInHdrErrors`).
        @discard ip_in_header_errors,
        /// IPv4 packets with a wrong header checksum.
        @discard ip_in_checksum_errors,
        /// IP packets shorter than they announce (`InTruncatedPkts`).
        @discard ip_in_truncated,
        /// IP packets from or to addresses that cannot be on a link.
        @discard ip_in_martians,
        /// IP packets for somebody else (`ipInAddrErrors`).
        @discard ip_in_not_ours,
        /// Router advertisements on NICs that do not configure themselves.
        @discard router_advertisements_ignored,
        /// Router advertisements sent.
        router_advertisements_sent,
        /// Neighbour discovery in fragments, which RFC 6980 has ignored.
        @discard ndp_fragmented,
        /// Addresses that were not used because another node has them.
        duplicate_addresses,
        /// ARP packets of stations that use or want an address of ours.
        arp_conflicts,
        /// Packets that rules dropped.
        @discard filter_dropped,
        /// Packets that rules rejected.
        @discard filter_rejected,
        /// Packets that belong to no flow and can begin none (`invalid` of `nf_conntrack`).
        conntrack_invalid,
        /// Flows forgotten early to make room (`early_drop`).
        conntrack_early_drops,
        /// Packets dropped because their flow found no room, or another one in its place (`drop`, `insert_failed`).
        @discard conntrack_drops,
        /// Packets dropped because no port was free to translate to.
        @discard nat_exhausted,
        /// Packets for groups that came through another interface than their route has them from.
        @discard multicast_wrong_vif,
        /// What a multicast routing program was told.
        multicast_upcalls,
        /// Packets for groups dropped because no route was made for them in time, or too many waited.
        @discard multicast_unresolved_drops,
        /// PIM register messages that were malformed, or had a packet in them that is not routed.
        @discard multicast_register_errors,
        /// IP packets forwarded (`ipForwDatagrams`).
        ip_forw_datagrams,
        /// IP packets to be forwarded without a route (`ipInNoRoutes`).
        @discard ip_in_no_routes,
        /// IP packets whose TTL or hop limit was used up here.
        @discard ip_forward_expired,
        /// IP packets too big for the next link that must not be fragmented (`Ip6InTooBigErrors`).
        @discard ip_forward_too_big,
        /// IP packets whose source came the wrong way (`IPReversePathFilter`).
        @discard ip_reverse_path_filter,
        /// IP packets of an unknown protocol (`ipInUnknownProtos`).
        @discard ip_in_unknown_protos,
        /// IP packets delivered to transports (`ipInDelivers`).
        ip_in_delivers,
        /// IP packets that transports sent (`ipOutRequests`).
        ip_out_requests,
        /// IP packets dropped on the way out (`ipOutDiscards`).
        ip_out_discards,
        /// IP packets without a route (`ipOutNoRoutes`).
        ip_out_no_routes,
        /// Fragments received (`ipReasmReqds`).
        ip_reasm_requests,
        /// Packets reassembled (`ipReasmOKs`).
        ip_reasm_oks,
        /// Fragments dropped because they overlap or make no sense (`ipReasmFails`).
        @discard ip_reasm_fails,
        /// Packets whose fragments did not all come in time (`ipReasmTimeout`).
        ip_reasm_timeout,
        /// Packets fragmented (`ipFragOKs`).
        ip_frag_ok,
        /// Fragments made (`ipFragCreates`).
        ip_frag_creates,
        /// IGMP and MLD queries received.
        membership_in_queries,
        /// IGMP and MLD messages that make no sense.
        @discard membership_in_errors,
        /// IGMP and MLD messages sent.
        membership_out_reports,
        /// ICMP messages received (`icmpInMsgs`).
        icmp_in_msgs,
        /// ICMP messages that make no sense (`icmpInErrors`).
        @discard icmp_in_errors,
        /// ICMP messages with a wrong checksum (`icmpInCsumErrors`).
        @discard icmp_in_checksum_errors,
        /// Echo requests answered (`icmpOutEchoReps`).
        icmp_out_echo_replies,
        /// Redirects sent (`icmpOutRedirects`).
        icmp_out_redirects,
        /// Redirects that made a route.
        icmp_in_redirects_followed,
        /// Redirects that are not wanted, or not from the router in use.
        @discard icmp_in_redirects_ignored,
        /// ICMP errors sent.
        icmp_out_errors,
        /// ICMP errors not sent because of the rate limit.
        icmp_out_rate_limited,
        /// Datagrams delivered (`udpInDatagrams`).
        udp_in_datagrams,
        /// Datagrams for ports without a socket (`udpNoPorts`).
        @discard udp_no_ports,
        /// Datagrams to groups and broadcasts that no socket wants (`IgnoredMulti`).
        @discard udp_ignored_multi,
        /// Datagrams whose header makes no sense (`udpInErrors`).
        @discard udp_in_errors,
        /// Datagrams with a wrong checksum (`udpInCsumErrors`).
        @discard udp_in_checksum_errors,
        /// Datagrams dropped because the receive buffer was full (`udpRcvbufErrors`).
        @discard udp_rcvbuf_errors,
        /// Datagrams sent (`udpOutDatagrams`).
        udp_out_datagrams,
        /// Segments received (`tcpInSegs`).
        tcp_in_segs,
        /// Segments that joined the one before them (`TCPRcvCoalesce`).
        tcp_in_merged,
        /// Segments whose header makes no sense (`tcpInErrs`).
        @discard tcp_in_errs,
        /// Segments with a wrong checksum (`tcpInCsumErrors`).
        @discard tcp_in_csum_errors,
        /// Segments sent, super-segments counted once (`tcpOutSegs`).
        tcp_out_segs,
        /// Resets sent for segments that no socket wants (part of `tcpOutRsts`).
        tcp_out_rsts,
        /// Segments that no socket wants.
        @discard tcp_no_ports,
        /// Segments that the program of their socket dropped.
        @discard tcp_filtered,
        /// Segments that came from farther away than their socket takes (`TCPMinTTLDrop`).
        @discard tcp_min_ttl_drops,
        /// Connections opened by us (`tcpActiveOpens`).
        tcp_active_opens,
        /// Connections opened by others (`tcpPassiveOpens`).
        tcp_passive_opens,
        /// Connections that sent data in their SYN (`TCPFastOpenActive` counts those whose data was taken).
        tcp_fast_open_active,
        /// Connections accepted before their handshake was complete (`TCPFastOpenPassive`).
        tcp_fast_open_passive,
        /// SYN cookies sent (`SyncookiesSent`).
        tcp_cookies_sent,
        /// Segments dropped because too many waited for a busy socket (`TCPBacklogDrop`).
        @discard tcp_backlog_drops,
        /// Segments outside the window.
        @discard tcp_drop_out_of_window,
        /// Segments with an old timestamp (`PAWSEstab`).
        @discard tcp_drop_paws,
        /// Segments with an impossible acknowledgment.
        @discard tcp_drop_bad_ack,
        /// Segments without ACK, RST or SYN.
        @discard tcp_drop_no_ack,
        /// SYNs for existing connections (`TCPSYNChallenge`).
        @discard tcp_drop_unexpected_syn,
        /// Resets with an inexact sequence number (`TCPChallengeACK`).
        @discard tcp_drop_inexact_reset,
        /// Segments for which the receive buffer had no room (`TCPRcvQDrop`).
        @discard tcp_drop_no_buffer,
        /// Segments without anything new.
        @discard tcp_drop_duplicate,
        /// Data after both directions were closed (`TCPAbortOnData`).
        @discard tcp_drop_data_after_close,
        /// Resets in TIME-WAIT.
        @discard tcp_drop_reset_in_time_wait,
        /// Segments for a connection that had just ended.
        @discard tcp_drop_closed,
        /// SYNs dropped because the accept queue was full (`ListenOverflows`).
        @discard tcp_drop_listen_overflow_syn,
        /// SYNs dropped because too many handshakes were under way (`TCPReqQFullDrop`).
        @discard tcp_drop_listen_queue_full,
        /// Final ACKs ignored because the accept queue was full.
        @discard tcp_drop_listen_overflow_ack,
        /// ACKs that are no valid cookie (`SyncookiesFailed`).
        @discard tcp_drop_bad_cookie,
        /// Segments that no listener expects.
        @discard tcp_drop_listen_unexpected,
        /// Final ACKs ignored while waiting for data (`TCPDeferAcceptDrop`).
        @discard tcp_drop_defer_accept,
    }
}

impl StackCounters {
    /// Counts a segment that a TCP machine dropped.
    pub(crate) fn count_tcp_drop(&self, reason: DropReason) {
        let counter = match reason {
            DropReason::OutOfWindow => &self.tcp_drop_out_of_window,
            DropReason::PawsOld => &self.tcp_drop_paws,
            DropReason::BadAck => &self.tcp_drop_bad_ack,
            DropReason::NoAck => &self.tcp_drop_no_ack,
            DropReason::UnexpectedSyn => &self.tcp_drop_unexpected_syn,
            DropReason::InexactReset => &self.tcp_drop_inexact_reset,
            DropReason::NoBuffer => &self.tcp_drop_no_buffer,
            DropReason::Duplicate => &self.tcp_drop_duplicate,
            DropReason::DataAfterClose => &self.tcp_drop_data_after_close,
            DropReason::ResetInTimeWait => &self.tcp_drop_reset_in_time_wait,
            DropReason::Closed => &self.tcp_drop_closed,
            DropReason::ListenOverflowSyn => &self.tcp_drop_listen_overflow_syn,
            DropReason::ListenQueueFull => &self.tcp_drop_listen_queue_full,
            DropReason::ListenOverflowAck => &self.tcp_drop_listen_overflow_ack,
            DropReason::BadCookie => &self.tcp_drop_bad_cookie,
            DropReason::ListenUnexpected => &self.tcp_drop_listen_unexpected,
            DropReason::DeferAccept => &self.tcp_drop_defer_accept,
        };
        counter.increment();
    }
}
