//! How fast two stacks talk through memory on one thread, in virtual time: bulk data, round trips, connections and
//! datagrams. Prints one line per figure; run it with `--release`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use netstack::error::SendError;
use netstack::link::channel::ChannelLink;
use netstack::link::{Capabilities, Medium};
use netstack::options::{Family, RecvFlags, SendMeta};
use netstack::packet::Packet;
use netstack::{MacAddr, NicId, Stack, TcpSocket, UdpSocket};

struct Host {
    stack: Stack,
    link: Arc<ChannelLink>,
    nic: NicId,
    frames: Vec<Packet>,
}

impl Host {
    fn new(number: u8, capabilities: Capabilities) -> Self {
        let stack = Stack::builder().manual_clock().deterministic(u64::from(number)).build();
        let medium = Medium::Ethernet(MacAddr([2, 0, 0, 0, 0, number]));
        let link = ChannelLink::new(medium, 1500, capabilities, 1 << 16);
        let nic = stack.add_nic("eth0", link.clone()).expect("a new stack takes a NIC");
        let address = format!("10.0.0.{number}/24").parse().expect("well-formed");
        stack.add_address(nic, address).expect("a new NIC takes an address");
        Self { stack, link, nic, frames: Vec::new() }
    }
}

struct Wire {
    hosts: [Host; 2],
    has_offloads: bool,
}

impl Wire {
    fn new(has_offloads: bool) -> Self {
        let capabilities = match has_offloads {
            true => Capabilities {
                tx_checksum: true,
                rx_checksum_trusted: true,
                gso_max_v4: 65_535,
                ..Capabilities::default()
            },
            false => Capabilities::default(),
        };
        Self { hosts: [Host::new(1, capabilities), Host::new(2, capabilities)], has_offloads }
    }

    /// Carries frames until both are silent. Without offloads a frame becomes one buffer, as from a device.
    fn settle(&mut self) {
        let [a, b] = &mut self.hosts;
        loop {
            a.link.take_into(&mut b.frames);
            b.link.take_into(&mut a.frames);
            if a.frames.is_empty() && b.frames.is_empty() {
                return;
            }
            for host in [&mut *a, &mut *b] {
                if !self.has_offloads {
                    for frame in &mut host.frames {
                        *frame = Packet::from_frame(frame.to_bytes());
                    }
                }
                host.stack.deliver(host.nic, &mut host.frames);
            }
        }
    }

    fn tick(&mut self) {
        let now = self.hosts[0].stack.now() + Duration::from_micros(100);
        self.hosts.iter().for_each(|host| host.stack.advance_to(now));
        self.settle();
    }

    fn connect(&mut self, listener: &TcpSocket) -> (TcpSocket, TcpSocket) {
        let client = TcpSocket::new(&self.hosts[0].stack, Family::V4);
        client.connect("10.0.0.2:80".parse().expect("well-formed")).expect("there is a route");
        self.settle();
        let (server, _) = listener.try_accept().expect("the wire loses nothing");
        (client, server)
    }

    fn listener(&self) -> TcpSocket {
        let listener = TcpSocket::new(&self.hosts[1].stack, Family::V4);
        listener.bind("10.0.0.2:80".parse().expect("well-formed")).expect("the port is free");
        listener.listen(16).expect("the socket is bound");
        listener
    }
}

fn bulk(has_offloads: bool) {
    let mut wire = Wire::new(has_offloads);
    let listener = wire.listener();
    let (client, server) = wire.connect(&listener);
    let data = vec![7; 128 << 10];
    let mut sink = vec![0; 128 << 10];
    let (mut received, start) = (0_usize, Instant::now());
    while start.elapsed() < RUN {
        match client.try_send(&mut &data[..]) {
            Ok(_) | Err(SendError::WouldBlock) => {}
            Err(error) => panic!("{error}"),
        }
        wire.settle();
        let before = received;
        while let Ok(count) = server.try_recv(&mut &mut sink[..], RecvFlags::default()) {
            received += count;
        }
        if received == before {
            wire.tick();
        }
    }
    let gbits = received as f64 * 8.0 / start.elapsed().as_secs_f64() / 1e9;
    println!("bulk, offloads {has_offloads}: {gbits:.1} Gbit/s");
}

fn round_trips() {
    let mut wire = Wire::new(false);
    let listener = wire.listener();
    let (client, server) = wire.connect(&listener);
    let (mut count, start, mut byte) = (0_u32, Instant::now(), [0; 1]);
    while start.elapsed() < RUN {
        for (from, to) in [(&client, &server), (&server, &client)] {
            from.try_send(&mut &b"x"[..]).expect("the window is open");
            wire.settle();
            to.try_recv(&mut &mut byte[..], RecvFlags::default()).expect("it has arrived");
        }
        count += 1;
    }
    println!("round trips: {:.0} /s", f64::from(count) / start.elapsed().as_secs_f64());
}

fn connections() {
    let mut wire = Wire::new(false);
    let listener = wire.listener();
    let (mut count, start) = (0_u32, Instant::now());
    while start.elapsed() < RUN {
        let (client, server) = wire.connect(&listener);
        drop(client);
        wire.settle();
        drop(server);
        wire.settle();
        // TIME-WAIT ends before the ports run out.
        wire.hosts
            .iter()
            .for_each(|host| host.stack.advance_to(host.stack.now() + Duration::from_millis(10)));
        wire.settle();
        count += 1;
    }
    println!("connect and close: {:.0} /s", f64::from(count) / start.elapsed().as_secs_f64());
}

fn datagrams() {
    let mut wire = Wire::new(false);
    let server = UdpSocket::new(&wire.hosts[1].stack, Family::V4);
    server.bind("10.0.0.2:7".parse().expect("well-formed")).expect("the port is free");
    let client = UdpSocket::new(&wire.hosts[0].stack, Family::V4);
    client.connect("10.0.0.2:7".parse().expect("well-formed")).expect("there is a route");
    let (mut count, start, mut sink) = (0_u32, Instant::now(), [0; 64]);
    while start.elapsed() < RUN {
        for _ in 0..32 {
            client.try_send(&mut &[0; 64][..], &SendMeta::default()).expect("sending does not wait");
        }
        wire.settle();
        while server.try_recv(&mut &mut sink[..], RecvFlags::default()).is_ok() {
            count += 1;
        }
    }
    println!("datagrams of 64 bytes: {:.0} /s", f64::from(count) / start.elapsed().as_secs_f64());
}

const RUN: Duration = Duration::from_secs(2);

fn main() {
    bulk(false);
    bulk(true);
    round_trips();
    connections();
    datagrams();
}
