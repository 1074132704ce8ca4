//! iperf3 with datagrams: its server is on the kernel, and a client of ours that speaks its protocol is on the stack alone.
//!
//! The protocol is what iperf3 3.x says on its control connection: one byte for each state, and JSON behind four bytes of
//! length.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use integration_tests::{Running, wait_until};
use netstack::Stack;
use netstack::net::{TcpStream, UdpSocket};
use serde_json::{Value, json};

use crate::common::{KERNEL, LIMIT, Net, Way};
use crate::require_tools;

const PORT: u16 = 5201;
const DATAGRAM: usize = 1400;
/// Datagrams a second: little enough that a busy machine loses few.
const RATE: usize = 1000;
const SPAN: Duration = Duration::from_secs(1);

const TEST_START: u8 = 1;
const TEST_RUNNING: u8 = 2;
const TEST_END: u8 = 4;
const PARAM_EXCHANGE: u8 = 9;
const CREATE_STREAMS: u8 = 10;
const EXCHANGE_RESULTS: u8 = 13;
const DISPLAY_RESULTS: u8 = 14;
const IPERF_DONE: u8 = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sender {
    Stack,
    Kernel,
}

/// What the two sides counted.
#[derive(Debug)]
struct Report {
    sent: usize,
    received: usize,
    /// The server's own words.
    server: Value,
}

struct Control(TcpStream);

impl Control {
    fn open(stack: &Stack, server: &str) -> Self {
        let stream = TcpStream::connect(stack, (server, PORT)).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut control = Self(stream);
        // A cookie of 36 characters and a zero.
        control.0.write_all(b"netstacknetstacknetstacknetstack0001\0").unwrap();
        control
    }

    #[track_caller]
    fn expect(&mut self, state: u8) {
        let mut got = [0];
        self.0.read_exact(&mut got).unwrap();
        assert_eq!(got[0], state);
    }

    fn say(&mut self, state: u8) {
        self.0.write_all(&[state]).unwrap();
    }

    fn tell(&mut self, value: &Value) {
        let text = value.to_string();
        let len = u32::try_from(text.len()).unwrap().to_be_bytes();
        self.0.write_all(&[&len, text.as_bytes()].concat()).unwrap();
    }

    fn hear(&mut self) -> Value {
        let mut len = [0; 4];
        self.0.read_exact(&mut len).unwrap();
        let mut text = vec![0; usize::try_from(u32::from_be_bytes(len)).unwrap()];
        self.0.read_exact(&mut text).unwrap();
        serde_json::from_slice(&text).unwrap()
    }
}

fn run(stack: &Stack, server: &str, sender: Sender) -> Report {
    let mut control = Control::open(stack, server);
    control.expect(PARAM_EXCHANGE);
    let mut parameters = json!({
        "udp": true, "omit": 0, "time": SPAN.as_secs(), "num": 0, "blockcount": 0, "parallel": 1,
        "len": DATAGRAM, "bandwidth": RATE * DATAGRAM * 8, "pacing_timer": 1000, "client_version": "3.12",
    });
    if sender == Sender::Kernel {
        // Its presence counts.
        parameters["reverse"] = true.into();
    }
    control.tell(&parameters);
    control.expect(CREATE_STREAMS);
    let socket = data_socket(stack, server);
    control.expect(TEST_START);
    control.expect(TEST_RUNNING);
    let (sent, received) = match sender {
        Sender::Stack => (send(&socket), 0),
        Sender::Kernel => (0, receive(&socket)),
    };
    control.say(TEST_END);
    control.expect(EXCHANGE_RESULTS);
    let count = sent.max(received);
    control.tell(&json!({
        "cpu_util_total": 0.0, "cpu_util_user": 0.0, "cpu_util_system": 0.0, "sender_has_retransmits": 0,
        "streams": [{
            "id": 1, "bytes": count * DATAGRAM, "retransmits": -1, "jitter": 0.0, "errors": 0, "packets": count,
            "start_time": 0.0, "end_time": SPAN.as_secs_f64(),
        }],
    }));
    let server = control.hear();
    control.expect(DISPLAY_RESULTS);
    control.say(IPERF_DONE);
    Report { sent, received, server }
}

/// The socket of the one stream, after the greeting that shows the server its address.
fn data_socket(stack: &Stack, server: &str) -> UdpSocket {
    let any = if server.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(stack, any).unwrap();
    socket.connect((server, PORT)).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    // In the byte order of the machine, both.
    socket.send(&0x3637_3839_u32.to_ne_bytes()).unwrap();
    let mut answer = [0; 4];
    assert_eq!(socket.recv(&mut answer).unwrap(), 4);
    assert_eq!(u32::from_ne_bytes(answer), 0x3938_3736);
    socket
}

/// Sends for [`SPAN`], in bursts of a few milliseconds; gives the number of datagrams.
fn send(socket: &UdpSocket) -> usize {
    let start = Instant::now();
    let mut data = [0; DATAGRAM];
    let mut count = 0_usize;
    while start.elapsed() < SPAN {
        // A machine that was away for long does not make up for it in one burst.
        let due = (start.elapsed().as_micros() * RATE as u128 / 1_000_000) as usize;
        for _ in 0..due.saturating_sub(count).min(20) {
            count += 1;
            // Seconds, microseconds and the number, in network order.
            let now = start.elapsed();
            data[..4].copy_from_slice(&u32::try_from(now.as_secs()).unwrap().to_be_bytes());
            data[4..8].copy_from_slice(&now.subsec_micros().to_be_bytes());
            data[8..12].copy_from_slice(&u32::try_from(count).unwrap().to_be_bytes());
            socket.send(&data).unwrap();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    count
}

/// Receives until nothing has come for a while; gives the number of datagrams, whose numbers only grow.
fn receive(socket: &UdpSocket) -> usize {
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let start = Instant::now();
    let mut data = [0; 2 * DATAGRAM];
    let (mut count, mut last) = (0, 0);
    // The server sends until it is told to stop.
    while start.elapsed() < SPAN {
        let Ok(len) = socket.recv(&mut data) else { break };
        assert_eq!(len, DATAGRAM);
        let number = u32::from_be_bytes(data[8..12].try_into().unwrap());
        assert!(number > last, "{number} after {last}");
        last = number;
        count += 1;
    }
    count
}

fn stream_figure(server: &Value, name: &str) -> usize {
    let figure = server["streams"][0][name].as_u64().unwrap_or_else(|| panic!("no {name} in {server}"));
    usize::try_from(figure).unwrap()
}

#[test]
fn datagrams_of_both_directions_are_counted_alike() {
    require_tools!("iperf3");
    let net = Net::new(Way::Tap, 1500);
    for (address, sender) in
        KERNEL.iter().flat_map(|address| [(address, Sender::Stack), (address, Sender::Kernel)])
    {
        let server = net.start(&format!("iperf3 -s -1 -p {PORT}"));
        wait_until("iperf3", LIMIT, || net.run("ss -Hltn").out().contains(&format!(":{PORT} ")));
        let report = run(&net.stack, address, sender);
        finish(server);
        match sender {
            Sender::Stack => {
                // The server counts up to the highest number that it saw, and what was missing below.
                let (packets, errors) =
                    (stream_figure(&report.server, "packets"), stream_figure(&report.server, "errors"));
                let arrived = stream_figure(&report.server, "bytes") / DATAGRAM;
                assert!(packets <= report.sent && packets - errors == arrived, "{address}: {report:?}");
                assert!(arrived * 10 >= report.sent * 9 && arrived > RATE / 4, "{address}: {report:?}");
            }
            Sender::Kernel => {
                let sent = stream_figure(&report.server, "packets");
                // It goes on until it hears of the end.
                assert!(report.received <= sent && report.received > RATE / 4, "{address}: {report:?}");
            }
        }
    }
    assert_eq!(net.stack.stats().udp_in_errors, 0);
}

fn finish(server: Running) {
    server.finish(LIMIT).ok();
}
