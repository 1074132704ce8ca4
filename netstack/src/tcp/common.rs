//! What a connection keeps in each of its states: settings, ports, and the error that nobody has asked for yet.

use super::config::Config;
use super::congestion::Algorithm;
use super::flow::Flow;
use super::options::{FinWait2, Options};
use super::outcome::CloseReason;
use super::segment::{Ecn, Payload, Transmit};
use core::time::Duration;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::{TcpFlags, TcpOptions, TcpRepr, Timestamps};
use std::sync::Arc;

/// The settings, ports and error of one connection.
#[derive(Clone, Debug)]
pub(super) struct Common {
    /// Shared and immutable: a value, not a channel.
    pub(super) config: Arc<Config>,
    /// Shared with the listener and its other connections until changed.
    pub(super) options: Arc<Options>,
    pub(super) local_port: u16,
    pub(super) remote_port: u16,
    /// To be reported once (`SO_ERROR`).
    pub(super) error: Option<CloseReason>,
}

impl Common {
    pub(super) fn new(config: &Arc<Config>, options: impl Into<Arc<Options>>, flow: &Flow) -> Self {
        let mut common = Self::without_flow(config, options.into());
        common.set_flow(flow);
        common
    }

    /// What the connections of a listener have in common.
    pub(super) fn without_flow(config: &Arc<Config>, options: Arc<Options>) -> Self {
        let config = options.override_config(config);
        Self { config, options, local_port: 0, remote_port: 0, error: None }
    }

    /// Makes it that of a connection.
    #[inline]
    pub(super) fn set_flow(&mut self, flow: &Flow) {
        let Flow { local_port, remote_port, .. } = *flow;
        (self.local_port, self.remote_port) = (local_port, remote_port);
    }

    pub(super) fn set_options(&mut self, options: Options) {
        self.config = options.override_config(&self.config);
        self.options = Arc::new(options);
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.options.congestion.unwrap_or(self.config.congestion)
    }

    /// The send buffer in payload bytes: half of `SO_SNDBUF` if the user set it (the other half pays for what is around the
    /// payload, as in Linux), otherwise twice what could ever be in flight. It does not shrink with the window (nor does
    /// Linux's): while a loss is repaired, the buffer is full of what waits behind the hole, and new data has to go on.
    pub(super) fn send_capacity(&self, mss: u32, largest_flight: u32) -> u32 {
        let sizes = self.config.send_buffer;
        match self.options.send_buffer {
            Some(bytes) => (bytes / 2).max(mss),
            None => {
                let floor = self.config.initial_window.saturating_mul(mss);
                let flight = largest_flight.max(floor);
                flight.saturating_mul(2).clamp(sizes.default.min(sizes.max), sizes.max)
            }
        }
    }

    /// What [`send_capacity`](Self::send_capacity) is at least, whatever the path.
    #[inline]
    pub(super) fn least_send_capacity(&self) -> u32 {
        let sizes = self.config.send_buffer;
        self.options.send_buffer.map_or(sizes.default.min(sizes.max), |bytes| bytes / 2)
    }

    pub(super) fn not_sent_low_water(&self) -> u32 {
        self.options.not_sent_low_water.unwrap_or(self.config.not_sent_low_water)
    }

    pub(super) fn syn_retries(&self) -> u32 {
        u32::from(self.options.syn_retries.unwrap_or(self.config.syn_retries))
    }

    pub(super) fn keepalive_idle(&self) -> Duration {
        self.options.keepalive_idle.unwrap_or(self.config.keepalive_idle)
    }

    pub(super) fn keepalive_interval(&self) -> Duration {
        self.options.keepalive_interval.unwrap_or(self.config.keepalive_interval)
    }

    pub(super) fn keepalive_probes(&self) -> u8 {
        self.options.keepalive_probes.unwrap_or(self.config.keepalive_probes)
    }

    /// How long an orphan stays in FIN-WAIT-2; `None`: not at all.
    pub(super) fn fin_timeout(&self) -> Option<Duration> {
        match self.options.fin_wait2 {
            FinWait2::Default => Some(self.config.fin_timeout),
            FinWait2::Skip => None,
            FinWait2::After(time) => Some(time),
        }
    }

    /// A header of ours with nothing in it but the ports.
    pub(super) fn header(&self, seq: SeqNum, ack: SeqNum, flags: TcpFlags) -> TcpRepr {
        TcpRepr {
            src_port: self.local_port,
            dst_port: self.remote_port,
            seq,
            ack,
            flags,
            window: 0,
            urgent: 0,
            options: TcpOptions::default(),
        }
    }

    /// A RST.
    pub(super) fn reset(&self, seq: SeqNum, ack: Option<SeqNum>, timestamps: Option<Timestamps>) -> Transmit {
        let flags = if ack.is_some() { TcpFlags::RST | TcpFlags::ACK } else { TcpFlags::RST };
        let mut repr = self.header(seq, ack.unwrap_or_default(), flags);
        repr.options.timestamps = timestamps;
        bare(repr)
    }
}

/// A segment without payload.
pub(super) fn bare(repr: TcpRepr) -> Transmit {
    Transmit { repr, payload: Payload::new(), gso_size: None, ecn: Ecn::NotCapable }
}
