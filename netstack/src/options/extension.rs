//! The extension headers of IPv6 that applications give and get (RFC 3542 sections 6 to 9).

use std::net::Ipv6Addr;

use bytes::Bytes;
use netstack_wire::ip::Protocol;
use netstack_wire::ipv6::Extensions;

/// A whole extension header: options or a route. What comes next is written into it when it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtensionHeader(Bytes);

impl ExtensionHeader {
    /// The header at the beginning of `bytes`, as long as it says itself; `None` if there is less.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        // RFC 8200 section 4.3: "Length of the [...] header in 8-octet units, not including the first 8 octets."
        let len = (usize::from(*bytes.get(1)?) + 1) * 8;
        bytes.get(..len).map(|bytes| Self(Bytes::copy_from_slice(bytes)))
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

/// The extension headers of what is sent. Those of routing and before it go together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ipv6Extensions {
    /// Options for each router (`IPV6_HOPOPTS`).
    pub hop_by_hop: Option<ExtensionHeader>,
    /// Options for each destination of the route, sent only with one (`IPV6_RTHDRDSTOPTS`).
    pub routing_destination: Option<ExtensionHeader>,
    /// The route: of type 4, which the caller has checked (`IPV6_RTHDR`; RFC 8754).
    pub routing: Option<ExtensionHeader>,
    /// Options for the last destination (`IPV6_DSTOPTS`).
    pub destination: Option<ExtensionHeader>,
}

impl Ipv6Extensions {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        let Self { hop_by_hop, routing_destination, routing, destination } = self;
        [hop_by_hop, routing_destination, routing, destination].iter().all(|header| header.is_none())
    }

    /// The bytes of all that are sent.
    pub(crate) fn len(&self) -> usize {
        let before_route = self.routing_destination.as_ref().filter(|_| self.routing.is_some());
        let headers =
            [self.hop_by_hop.as_ref(), before_route, self.routing.as_ref(), self.destination.as_ref()];
        headers.into_iter().flatten().map(|header| header.as_slice().len()).sum()
    }

    /// Where the route goes first; `None` without one.
    pub(crate) fn first_hop(&self) -> Option<Ipv6Addr> {
        let route = self.routing.as_ref()?.as_slice();
        let at = SEGMENTS + usize::from(*route.get(SEGMENTS_LEFT)?) * 16;
        route.get(at..)?.first_chunk::<16>().map(|address| Ipv6Addr::from(*address))
    }

    /// What precedes the part that can be cut into fragments, as types and bytes.
    pub(crate) fn unfragmentable(&self, last: Ipv6Addr) -> Vec<(Protocol, Vec<u8>)> {
        let mut headers = Vec::new();
        let bytes = |header: &ExtensionHeader| header.as_slice().to_vec();
        headers.extend(self.hop_by_hop.iter().map(|header| (Protocol::HOP_BY_HOP, bytes(header))));
        if let Some(route) = &self.routing {
            let before = self.routing_destination.iter();
            headers.extend(before.map(|header| (Protocol::DESTINATION_OPTIONS, bytes(header))));
            let mut route = bytes(route);
            // RFC 8754 section 2: the list begins with the last segment.
            if let Some(segment) = route.get_mut(SEGMENTS..).and_then(|list| list.first_chunk_mut::<16>()) {
                *segment = last.octets();
            }
            headers.push((Protocol::ROUTING, route));
        }
        headers
    }
}

/// The extension headers of a packet that was received.
#[derive(Clone, PartialEq, Eq)]
pub struct ReceivedExtensions {
    first: Protocol,
    bytes: Box<[u8]>,
}

impl ReceivedExtensions {
    pub(crate) fn new(first: Protocol, bytes: &[u8]) -> Self {
        Self { first, bytes: bytes.into() }
    }

    /// The headers in their order, each with its type.
    pub fn headers(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let headers = Extensions::new(self.first, &self.bytes).filter_map(Result::ok);
        headers.map(|header| (header.kind.0, header.bytes))
    }
}

impl std::fmt::Debug for ReceivedExtensions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.headers()).finish()
    }
}

/// Where a routing header says how many segments are left.
const SEGMENTS_LEFT: usize = 3;
/// Where its list of segments begins.
const SEGMENTS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_as_long_as_they_say() {
        assert_eq!(ExtensionHeader::new(&[0; 7]), None);
        assert_eq!(ExtensionHeader::new(&[0, 1, 0, 0, 0, 0, 0, 0]), None);
        let header = ExtensionHeader::new(&[9; 8 * 10 + 3]).unwrap();
        assert_eq!(header.as_slice(), [9; 80]);
    }

    #[test]
    fn routes_begin_with_the_segment_that_is_left_and_end_with_the_destination() {
        let mut route = vec![0, 4, 4, 1, 1, 0, 0, 0];
        route.extend([0; 16]);
        route.extend([7; 16]);
        let routing = ExtensionHeader::new(&route);
        let options = ExtensionHeader::new(&[0, 0, 1, 4, 0, 0, 0, 0]);
        let without = Ipv6Extensions { routing_destination: options.clone(), ..Ipv6Extensions::default() };
        assert_eq!((without.first_hop(), without.unfragmentable(Ipv6Addr::LOCALHOST).len()), (None, 0));
        let all = Ipv6Extensions { hop_by_hop: options.clone(), routing, destination: options, ..without };
        assert_eq!(all.first_hop(), Some(Ipv6Addr::from([7; 16])));
        let headers = all.unfragmentable(Ipv6Addr::LOCALHOST);
        let kinds: Vec<_> = headers.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [Protocol::HOP_BY_HOP, Protocol::DESTINATION_OPTIONS, Protocol::ROUTING]);
        assert_eq!(headers[2].1[8..24], Ipv6Addr::LOCALHOST.octets());
        assert_eq!(headers[2].1[24..], [7; 16]);
    }
}
