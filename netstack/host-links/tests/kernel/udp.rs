//! Datagrams in super-segments and in batches, between the kernel and the stack.

use std::net::{SocketAddr, UdpSocket as KernelSocket};
use std::os::fd::AsRawFd;

use crate::common::{KERNEL, LIMIT, Net, STACK, Way, block};
use crate::require_net;
use netstack::UdpSocket;
use netstack::error::RecvError;
use netstack::options::{Datagram, Family, RecvFlags, SendMessage, SendMeta};
use netstack::wait::Readiness;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt, sockopt};

/// A kernel's socket and one of the stack, connected to each other.
fn flow(net: &Net) -> (KernelSocket, UdpSocket) {
    let ours = UdpSocket::new(&net.stack, Family::V4);
    ours.bind(format!("{}:0", STACK[0]).parse().unwrap()).unwrap();
    let theirs = net.kernel.inside(|| KernelSocket::bind((KERNEL[0], 0))).unwrap();
    theirs.connect(ours.local_addr()).unwrap();
    theirs.set_read_timeout(Some(LIMIT)).unwrap();
    let remote: SocketAddr = theirs.local_addr().unwrap();
    ours.connect(remote).unwrap();
    (theirs, ours)
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, Datagram) {
    let mut data = Vec::new();
    let datagram = block(socket.wait_queue(), Readiness::IN, || {
        match socket.try_recv(&mut data, RecvFlags::default()) {
            Ok(datagram) => Some(datagram),
            Err(RecvError::WouldBlock) => None,
            Err(error) => panic!("receive: {error}"),
        }
    });
    (data, datagram)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect()
}

#[test]
fn super_segments_of_the_kernel_arrive_whole_or_cut_as_the_socket_wants() {
    require_net!();
    for way in [Way::Tap, Way::Veth, Way::TapWithoutHeaders] {
        let net = Net::new(way, 1500);
        let (theirs, ours) = flow(&net);
        setsockopt(&theirs, sockopt::UdpGsoSegment, &1000).unwrap();
        let data = pattern(10_500);
        assert_eq!(theirs.send(&data).unwrap(), data.len());
        let parts: Vec<_> = (0..11).map(|_| receive(&ours)).collect();
        assert!(parts.iter().all(|(_, datagram)| datagram.segment_size.is_none()));
        let lengths: Vec<_> = parts.iter().map(|(part, _)| part.len()).collect();
        assert_eq!(lengths, [[1000; 10].as_slice(), &[500]].concat(), "{way:?}");
        assert_eq!(parts.concat_data(), data);
        ours.set_options(|options| options.coalesce = true);
        assert_eq!(theirs.send(&data).unwrap(), data.len());
        let mut all: Vec<u8> = Vec::new();
        while all.len() < data.len() {
            let (part, datagram) = receive(&ours);
            // On a link without super-segments it depends on how the frames are read.
            if way != Way::TapWithoutHeaders {
                assert_eq!((part.len(), datagram.segment_size), (data.len(), Some(1000)), "{way:?}");
            }
            all.extend(part);
        }
        assert_eq!(all, data);
    }
}

trait ConcatData {
    fn concat_data(&self) -> Vec<u8>;
}

impl ConcatData for Vec<(Vec<u8>, Datagram)> {
    fn concat_data(&self) -> Vec<u8> {
        self.iter().flat_map(|(part, _)| part.clone()).collect()
    }
}

#[test]
fn super_segments_of_the_stack_arrive_coalesced_at_the_kernel() {
    require_net!();
    for way in [Way::Tap, Way::Veth] {
        let net = Net::new(way, 1500);
        let (theirs, ours) = flow(&net);
        setsockopt(&theirs, sockopt::UdpGroSegment, &true).unwrap();
        ours.set_options(|options| options.segment_size = 1000);
        let data = pattern(10_500);
        assert_eq!(ours.try_send(&mut &data[..], &SendMeta::DEFAULT), Ok(data.len()));
        let mut all: Vec<u8> = Vec::new();
        let mut largest = 0;
        while all.len() < data.len() {
            let mut buffer = vec![0; 65_536];
            let mut control = nix::cmsg_space!(i32);
            let mut slices = [std::io::IoSliceMut::new(&mut buffer)];
            let message =
                recvmsg::<SockaddrIn>(theirs.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::empty())
                    .unwrap();
            for message in message.cmsgs().unwrap() {
                assert!(matches!(message, ControlMessageOwned::UdpGroSegments(1000)), "{message:?}");
            }
            let len = message.bytes;
            largest = largest.max(len);
            all.extend(&buffer[..len]);
        }
        assert_eq!(all, data);
        assert!(largest > 1000, "{way:?}: nothing was coalesced");
    }
}

#[test]
fn batches_of_the_stack_arrive_in_order() {
    require_net!();
    for way in [Way::Tap, Way::VethWithoutHeaders] {
        let net = Net::new(way, 1500);
        let (theirs, ours) = flow(&net);
        let data: Vec<Vec<u8>> = (0..100).map(pattern).collect();
        let mut slices: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        let mut messages: Vec<_> = slices.iter_mut().map(|data| SendMessage::new(data)).collect();
        assert_eq!(ours.try_send_many(&mut messages), Ok(100));
        for expected in &data {
            let mut buffer = [0; 256];
            let len = theirs.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], expected);
        }
    }
}
