//! A hundred hosts on one switch, in virtual time: each asks ten others for a page, and the same seed always gives the
//! same run.
//!
//! ```text
//! cargo run --release -p netstack --example hundred_hosts -- 7
//! ```
//!
//! Nothing here reads a clock or starts a thread. A frame travels from stack to stack on the stack of the call that
//! sent it; when all is quiet, the time jumps to the next timer of whichever host has the earliest.

use std::error::Error;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use netstack::error::RecvError;
use netstack::link::Link;
use netstack::link::bridge::Bridge;
use netstack::link::fault::{FaultLink, Faults};
use netstack::options::{Family, RecvFlags};
use netstack::time::Instant;
use netstack::{IpCidr, MacAddr, Stack, TcpSocket};

fn main() -> Result<(), Box<dyn Error>> {
    let seed = std::env::args().nth(1).map_or(Ok(1), |seed| seed.parse())?;
    let Outcome { pages, took, digest, .. } = run(seed)?;
    println!("{pages} pages of {PAGE} bytes for {HOSTS} hosts in {took:?} of their time");
    println!("seed {seed} always ends with {digest:016x}");
    Ok(())
}

/// What came of a run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) pages: usize,
    /// In virtual time.
    pub(crate) took: Duration,
    /// Of the order in which the pages arrived.
    pub(crate) digest: u64,
    /// Frames that never reached the switch.
    pub(crate) lost: u64,
    /// What the stacks still hold when all is over and every timer has run: nothing.
    pub(crate) left: Vec<(&'static str, usize)>,
}

pub(crate) fn run(seed: u64) -> Result<Outcome, Box<dyn Error>> {
    let mut world = World::new(seed)?;
    let mut now = Instant::ZERO;
    while !world.is_done() {
        if now > Instant::ZERO + PATIENCE {
            return Err("some pages never came".into());
        }
        world.work()?;
        // Every deadline lies in the future: what was due has run.
        now = world.next_deadline().unwrap_or(now + Duration::from_millis(1)).max(now);
        world.advance_to(now);
    }
    let pages = world.clients.iter().filter(|client| client.received == PAGE).count();
    let took = now - Instant::ZERO;
    let digest = world.digest;
    let lost = world.hosts.iter().map(|host| host.link.counts().lost).sum();
    let stacks = world.end(now + PATIENCE);
    let left = stacks.iter().flat_map(leftovers).collect();
    Ok(Outcome { pages, took, digest, lost, left })
}

/// What a stack holds besides the timers of its address.
fn leftovers(stack: &Stack) -> Vec<(&'static str, usize)> {
    let gauges = stack.gauges();
    gauges.entries().filter(|(name, value)| *value != 0 && *name != "timers").collect()
}

const HOSTS: u16 = 100;
const QUESTIONS: u16 = 10;
const PAGE: usize = 20_000;
/// Of virtual time.
const PATIENCE: Duration = Duration::from_secs(600);

struct World {
    hosts: Vec<Host>,
    clients: Vec<Client>,
    /// Of the order in which the pages arrived.
    digest: u64,
}

struct Host {
    stack: Stack,
    link: Arc<FaultLink>,
    listener: TcpSocket,
    /// Connections to this host, and what is left to send on each.
    serving: Vec<(TcpSocket, usize)>,
}

struct Client {
    socket: TcpSocket,
    received: usize,
    is_done: bool,
}

impl World {
    fn new(seed: u64) -> Result<Self, Box<dyn Error>> {
        let bridge = Bridge::new(1500);
        let hosts: Vec<Host> =
            (0..HOSTS).map(|number| Host::new(&bridge, number, seed)).collect::<Result<_, _>>()?;
        let mut clients = Vec::new();
        for number in 0..HOSTS {
            for question in 1..=QUESTIONS {
                // Strangers rather than neighbours, and never the host itself.
                let server = (number + question * 7) % HOSTS;
                let socket = TcpSocket::new(&hosts[usize::from(number)].stack, Family::V4);
                socket.connect(SocketAddr::new(address(server).into(), 80))?;
                clients.push(Client { socket, received: 0, is_done: false });
            }
        }
        Ok(Self { hosts, clients, digest: 0 })
    }

    fn is_done(&self) -> bool {
        self.clients.iter().all(|client| client.is_done)
    }

    /// Lets each program do what it can without waiting.
    fn work(&mut self) -> Result<(), Box<dyn Error>> {
        for host in &mut self.hosts {
            host.serve();
        }
        for (number, client) in self.clients.iter_mut().enumerate() {
            if client.read()? {
                let mut hasher = DefaultHasher::new();
                (self.digest, number).hash(&mut hasher);
                self.digest = hasher.finish();
            }
        }
        Ok(())
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.hosts.iter().filter_map(|host| host.stack.next_deadline()).min()
    }

    fn advance_to(&self, now: Instant) {
        for host in &self.hosts {
            host.stack.advance_to(now);
        }
    }

    /// Ends the programs, lets the stacks finish until `end`, and gives them back.
    fn end(mut self, end: Instant) -> Vec<Stack> {
        self.clients.clear();
        for host in &mut self.hosts {
            host.serving.clear();
            host.listener.close();
        }
        while let Some(next) = self.next_deadline().filter(|next| *next < end) {
            self.advance_to(next);
        }
        self.hosts.into_iter().map(|host| host.stack).collect()
    }
}

impl Host {
    fn new(bridge: &Arc<Bridge>, number: u16, seed: u64) -> Result<Self, Box<dyn Error>> {
        let [high, low] = number.to_be_bytes();
        let port = bridge.add_port(MacAddr([2, 0, 0, 0, high, low]));
        let stack = Stack::builder().manual_clock().deterministic(seed ^ u64::from(number) << 32).build();
        // One frame in a hundred gets lost on its way to the switch.
        let faults = Faults { loss_ppm: 10_000, ..Faults::default() };
        let link = FaultLink::new(Arc::clone(&port) as Arc<dyn Link>, faults, seed + u64::from(number));
        let nic = stack.add_nic("eth0", Arc::clone(&link) as Arc<dyn Link>)?;
        port.attach(&stack, nic);
        stack.add_address(nic, IpCidr::new(address(number).into(), 16).ok_or("not a prefix")?)?;
        let listener = TcpSocket::new(&stack, Family::V4);
        listener.bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 80))?;
        listener.listen(128)?;
        Ok(Self { stack, link, listener, serving: Vec::new() })
    }

    fn serve(&mut self) {
        while let Ok((socket, _)) = self.listener.try_accept() {
            self.serving.push((socket, PAGE));
        }
        for (socket, left) in &mut self.serving {
            while let Ok(sent @ 1..) = socket.try_send(&mut &PATTERN[..PATTERN.len().min(*left)]) {
                *left -= sent;
                if *left == 0 {
                    // The client reads until the end of the stream.
                    socket.close();
                }
            }
        }
    }
}

impl Client {
    /// Reads what has come; true if that was the last of it.
    fn read(&mut self) -> Result<bool, Box<dyn Error>> {
        if self.is_done {
            return Ok(false);
        }
        let mut buffer = Vec::new();
        loop {
            match self.socket.try_recv(&mut buffer, RecvFlags::default()) {
                Ok(0) if self.received == PAGE => {
                    self.is_done = true;
                    self.socket.close();
                    return Ok(true);
                }
                Ok(0) => return Err(format!("a page ended after {} bytes", self.received).into()),
                Ok(count) => self.received += count,
                Err(RecvError::WouldBlock | RecvError::NotConnected) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn address(number: u16) -> Ipv4Addr {
    let [high, low] = (number + 1).to_be_bytes();
    Ipv4Addr::new(10, 0, high, low)
}

static PATTERN: [u8; 4096] = [0x5a; 4096];
