//! A TCP segment as analysis wants it.

use std::fmt;

use etherparse::TcpSlice;

use crate::flow::Endpoints;

/// A TCP segment as analysis wants it.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) endpoints: Endpoints,
    pub(crate) seq: u32,
    pub(crate) ack: Option<u32>,
    pub(crate) is_syn: bool,
    pub(crate) is_fin: bool,
    pub(crate) is_rst: bool,
    pub(crate) is_psh: bool,
    pub(crate) is_urg: bool,
    /// ECN echo (RFC 3168).
    pub(crate) is_ece: bool,
    /// Congestion window reduced.
    pub(crate) is_cwr: bool,
    pub(crate) window: u16,
    pub(crate) options: Options,
    /// Payload bytes on the wire, also where the capture cut them off.
    pub(crate) payload_len: u32,
    /// Payload bytes captured.
    pub(crate) payload: Vec<u8>,
}

/// The TCP options that analysis uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) mss: Option<u16>,
    pub(crate) window_scale: Option<u8>,
    pub(crate) sack_permitted: bool,
    pub(crate) timestamps: Option<(u32, u32)>,
    /// `(left edge, right edge)` of each SACK block.
    pub(crate) sack: Vec<(u32, u32)>,
}

impl Segment {
    /// `cut` is how many bytes of the end were not captured.
    pub(super) fn new(tcp: &TcpSlice<'_>, endpoints: Endpoints, cut: u32) -> Self {
        let payload = tcp.payload().to_vec();
        Self {
            endpoints,
            seq: tcp.sequence_number(),
            ack: tcp.ack().then(|| tcp.acknowledgment_number()),
            is_syn: tcp.syn(),
            is_fin: tcp.fin(),
            is_rst: tcp.rst(),
            is_psh: tcp.psh(),
            is_urg: tcp.urg(),
            is_ece: tcp.ece(),
            is_cwr: tcp.cwr(),
            window: tcp.window_size(),
            options: Options::new(tcp),
            payload_len: u32::try_from(payload.len()).unwrap_or(u32::MAX).saturating_add(cut),
            payload,
        }
    }

    /// What the segment takes of the sequence space (RFC 9293, 3.4).
    pub(crate) fn sequence_len(&self) -> u32 {
        self.payload_len.wrapping_add(u32::from(self.is_syn)).wrapping_add(u32::from(self.is_fin))
    }
}

impl Options {
    fn new(tcp: &TcpSlice<'_>) -> Self {
        use etherparse::TcpOptionElement as Element;
        let mut options = Self::default();
        for option in tcp.options_iterator().map_while(Result::ok) {
            match option {
                Element::MaximumSegmentSize(mss) => options.mss = Some(mss),
                Element::WindowScale(shift) => options.window_scale = Some(shift.min(14)),
                Element::Timestamp(value, echo) => options.timestamps = Some((value, echo)),
                Element::SelectiveAcknowledgement(first, rest) => {
                    options.sack.push(first);
                    options.sack.extend(rest.into_iter().flatten());
                }
                Element::SelectiveAcknowledgementPermitted => options.sack_permitted = true,
                Element::Noop => {}
            }
        }
        options
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = [
            (self.is_syn, 'S'),
            (self.is_fin, 'F'),
            (self.is_rst, 'R'),
            (self.is_psh, 'P'),
            (self.is_urg, 'U'),
            (self.is_ece, 'E'),
            (self.is_cwr, 'W'),
            (self.ack.is_some(), '.'),
        ];
        let flags: String = flags.into_iter().filter(|(on, _)| *on).map(|(_, letter)| letter).collect();
        write!(f, "TCP {} [{flags}] seq {}", self.endpoints, self.seq)?;
        if let Some(ack) = self.ack {
            write!(f, " ack {ack}")?;
        }
        write!(f, " win {} length {}", self.window, self.payload_len)?;
        if let Some(mss) = self.options.mss {
            write!(f, " mss {mss}")?;
        }
        if let Some(shift) = self.options.window_scale {
            write!(f, " wscale {shift}")?;
        }
        for (left, right) in &self.options.sack {
            write!(f, " sack {left}-{right}")?;
        }
        Ok(())
    }
}
