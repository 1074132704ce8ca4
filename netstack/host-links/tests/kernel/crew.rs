//! Threads that wait for the network and read the link themselves.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::common::{Drive, LIMIT, Net, STACK, Way};
use crate::require_net;
use netstack::TcpSocket;
use netstack::options::RecvFlags;
use netstack::wait::Readiness;
use netstack_host_links::{Crew, Post};

fn net() -> Net {
    Net::with_drive(Way::Tap, 1500, |pump| Drive::Crew(Crew::start(pump).unwrap()))
}

fn crew(net: &Net) -> &Crew {
    match &net.drive {
        Drive::Crew(crew) => crew,
        Drive::Reader(_) | Drive::Nobody => unreachable!("these tests have a crew"),
    }
}

fn readable(crew: &Crew, socket: &TcpSocket) {
    let end = Some(Instant::now() + LIMIT);
    let is_readable = || socket.readiness().contains(Readiness::IN);
    assert!(crew.wait(socket.wait_queue(), Readiness::IN, end, is_readable).unwrap());
}

/// Echoes until the peer closes, waiting as one of the crew.
fn echo(crew: &Crew, socket: &TcpSocket) {
    loop {
        readable(crew, socket);
        let mut data = Vec::new();
        if socket.try_recv(&mut data, RecvFlags::default()).unwrap() == 0 {
            return;
        }
        assert_eq!(socket.try_send(&mut &data[..]), Ok(data.len()));
    }
}

fn ask(mut stream: &TcpStream, round: u32) {
    stream.write_all(&round.to_be_bytes()).unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, round.to_be_bytes());
}

#[test]
fn threads_that_wait_serve_each_other() {
    require_net!();
    let net = net();
    let (listener, local) = net.listen(STACK[0]);
    let streams: Vec<_> = net
        .kernel
        .inside(|| (0..THREADS).map(|_| TcpStream::connect_timeout(&local, LIMIT).unwrap()).collect());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            let end = Some(Instant::now() + LIMIT);
            let can_accept = || listener.readiness().contains(Readiness::IN);
            assert!(crew(&net).wait(listener.wait_queue(), Readiness::IN, end, can_accept).unwrap());
            let (socket, _) = listener.try_accept().unwrap();
            let crew = crew(&net);
            scope.spawn(move || echo(crew, &socket));
        }
        for stream in streams {
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            scope.spawn(move || (0..300).for_each(|round| ask(&stream, round)));
        }
    });
}

const THREADS: usize = 4;

#[test]
fn standby_thread_leads_when_nobody_waits() {
    require_net!();
    let net = net();
    let ping = || {
        let ping = net.kernel.command("ping").args(["-c1", "-W5", STACK[0]]).output().unwrap();
        assert!(ping.status.success());
    };
    ping();
    // A leader that leaves without a follower is replaced, too.
    for _ in 0..3 {
        let deadline = Instant::now() + LIMIT;
        let mut lead = loop {
            match crew(&net).join() {
                Post::Lead(lead) => break lead,
                // The standby thread was about to begin.
                Post::Follow(_) => assert!(Instant::now() < deadline),
            }
        };
        lead.turn(Some(Duration::from_millis(1))).unwrap();
        assert!(matches!(crew(&net).join(), Post::Follow(_)), "there can be one leader only");
        drop(lead);
        ping();
    }
}

#[test]
fn wait_ends_when_its_time_is_over() {
    require_net!();
    let net = net();
    let (listener, _) = net.listen(STACK[0]);
    let end = Instant::now() + Duration::from_millis(50);
    let outcome = crew(&net).wait(listener.wait_queue(), Readiness::IN, Some(end), || false);
    assert!(!outcome.unwrap());
    assert!(Instant::now() >= end);
}

#[test]
fn leader_hears_of_what_other_threads_do() {
    require_net!();
    let net = net();
    // Over loopback no frame arrives: only the notification ends the leader's sleep.
    let (listener, local) = net.listen("127.0.0.1");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            net.connect(local);
        });
        let end = Some(Instant::now() + LIMIT);
        let can_accept = || listener.readiness().contains(Readiness::IN);
        assert!(crew(&net).wait(listener.wait_queue(), Readiness::IN, end, can_accept).unwrap());
    });
}
