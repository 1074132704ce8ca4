#![deny(missing_docs)]
//! AF_PACKET, tap and tun links for netstack: the frames of a Linux host's interface as a [`Link`](netstack::link::Link).
//!
//! - [`PacketLink`]: a packet socket bound to an interface (a veth end, a real NIC);
//! - [`TapLink`]: the user-space end of a tap (Ethernet) or tun (IP) device;
//! - [`XdpLink`]: queues of an interface through AF_XDP;
//! - [`pipe_link`]: a socket pair between two processes.
//!
//! [`CaptureRing`] only looks: a receive ring for captures.
//!
//! Packet sockets and taps move 64 KiB super-segments with a virtio-net header in front, so that neither the stack nor the host cuts a
//! stream up into MTU-sized frames. Sending is one gather write on the caller's thread; receiving goes straight into
//! reference-counted buffers that the socket queues own from then on.
//!
//! # Who reads
//! A link is read by one thread at a time: whoever holds its [`Leader`]. [`Pump`] is the loop around it (wait, read,
//! deliver, run timers), to be turned by a program that has a loop of its own; [`Reader`] is a pump on a thread; a
//! [`Crew`] has the threads that wait for network data turn it in turns, which saves the hand-over.
//!
//! ```no_run
//! use std::io::{Read, Write};
//! use netstack::net::TcpListener;
//! use netstack::{MacAddr, Stack};
//! use netstack_host_links::{Pump, Reader, TapLink, TapOptions};
//!
//! // ip tuntap add tap0 mode tap && ip addr add 10.9.0.1/24 dev tap0 && ip link set tap0 up
//! let link = TapLink::open("tap0", TapOptions::tap(MacAddr([2, 0, 0, 0, 0, 2])))?;
//! let stack = Stack::builder().build();
//! let nic = stack.add_nic("eth0", link.clone())?;
//! stack.add_address(nic, "10.9.0.2/24".parse().expect("well-formed"))?;
//! let mut pump = Pump::new(stack.clone())?;
//! pump.add(nic, link);
//! let _reader = Reader::spawn(pump)?;
//!
//! let listener = TcpListener::bind(&stack, "10.9.0.2:7")?;
//! let (mut stream, _peer) = listener.accept()?;
//! let mut buffer = [0; 4096];
//! let count = stream.read(&mut buffer)?;
//! stream.write_all(&buffer[..count])?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Host system calls
//! Opening needs privilege. Afterwards a link needs only [`host_syscalls`].

mod capture;
mod crew;
mod descriptor;
mod device;
mod error;
mod host_link;
mod packet_link;
mod pipe_link;
mod pump;
mod queues;
mod reader;
mod receive;
mod sleep;
mod sys;
mod tap_link;
mod transmit;
mod vnet_header;
mod wake;
mod xdp;

pub use capture::{CaptureOptions, CaptureRing, CaptureStats, CapturedFrame};
pub use crew::{Crew, Follow, Lead, Post};
pub use descriptor::{receive_descriptor, send_descriptor, take_inherited};
pub use device::Device;
pub use error::{OpenError, ReceiveError};
pub use host_link::{HostLink, Leader};
pub use packet_link::{Filter, PacketLink, PacketLinkParams, PacketOptions, Transmit};
pub use pipe_link::{pipe_link, pipe_pair};
pub use pump::{Pump, Turn};
pub use queues::Queues;
pub use reader::Reader;
pub use receive::VnetHeaders;
pub use sys::host_syscalls;
pub use tap_link::{TapLink, TapLinkParams, TapMode, TapOptions};
pub use wake::Wake;
pub use xdp::{XdpLink, XdpOptions, XdpPeer};
