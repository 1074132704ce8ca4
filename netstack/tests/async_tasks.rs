//! Futures that are dropped before they are done, many tasks at a time, and hyper on top.

use std::net::Shutdown;
use std::time::Duration;

use futures_lite::future::{block_on, race, yield_now, zip};
use netstack::async_net::{TcpListener, TcpStream};
use netstack::{Driver, Stack};

#[path = "../examples/hyper_http.rs"]
#[expect(dead_code, reason = "the program's own entry is not called here")]
mod hyper_http;

/// A stack and a connection over its loopback.
fn pair() -> (Stack, Driver, [TcpStream; 2]) {
    let stack = Stack::builder().build();
    let driver = Driver::start(&stack).unwrap();
    let listener = TcpListener::bind(&stack, "127.0.0.1:0".parse().unwrap()).unwrap();
    let (client, server) =
        block_on(zip(TcpStream::connect(&stack, listener.local_addr()), listener.accept()));
    (stack, driver, [client.unwrap(), server.unwrap().0])
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index / 251) as u8 ^ index as u8).collect()
}

/// Some patience, which is over before or after something else, as it comes.
async fn turns(count: usize) {
    for _ in 0..count {
        yield_now().await;
    }
}

#[test]
fn reads_that_are_given_up_lose_nothing() {
    let (_stack, _driver, [writer, reader]) = pair();
    let data = pattern(1 << 20);
    let write = async {
        for (number, part) in data.chunks(777).enumerate() {
            writer.write_all(part).await.unwrap();
            turns(number % 5).await;
        }
        writer.shutdown(Shutdown::Write).unwrap();
    };
    let read = async {
        let (mut received, mut given_up) = (Vec::new(), 0);
        loop {
            let mut buffer = [0; 1000];
            let once = async { Some(reader.read(&mut buffer).await.unwrap()) };
            // The read is asked first: what it has taken, it tells.
            match race_in_order(once, received.len() % 3).await {
                Some(0) => return (received, given_up),
                Some(count) => received.extend_from_slice(&buffer[..count]),
                None => {
                    given_up += 1;
                    yield_now().await;
                }
            }
        }
    };
    let ((), (received, given_up)) = block_on(zip(write, read));
    assert!(received == data, "{} bytes of {}, or other ones", received.len(), data.len());
    assert!(given_up > 100, "{given_up}: the test waits too patiently");
}

#[test]
fn writes_that_are_given_up_send_nothing() {
    let (_stack, _driver, [writer, reader]) = pair();
    let data = pattern(1 << 20);
    let write = async {
        let (mut sent, mut given_up) = (0, 0);
        while sent < data.len() {
            let part = &data[sent..data.len().min(sent + 50_000)];
            let once = async { Some(writer.write(part).await.unwrap()) };
            match race_in_order(once, sent % 3).await {
                Some(count) => sent += count,
                None => {
                    given_up += 1;
                    yield_now().await;
                }
            }
        }
        writer.shutdown(Shutdown::Write).unwrap();
        given_up
    };
    let read = async {
        let mut received = Vec::new();
        loop {
            let mut buffer = [0; 3000];
            // Slower than the writer, whose window is closed most of the time.
            turns(7).await;
            match reader.read(&mut buffer).await.unwrap() {
                0 => return received,
                count => received.extend_from_slice(&buffer[..count]),
            }
        }
    };
    let (given_up, received) = block_on(zip(write, read));
    assert!(received == data, "{} bytes of {}, or other ones", received.len(), data.len());
    assert!(given_up > 100, "{given_up}: the window was never closed");
}

/// What `work` gives, unless that takes more turns.
async fn race_in_order<T>(work: impl Future<Output = Option<T>>, patience: usize) -> Option<T> {
    futures_lite::future::or(work, async {
        turns(patience).await;
        None
    })
    .await
}

#[test]
fn an_accept_that_is_given_up_leaves_the_connection_for_the_next() {
    let stack = Stack::builder().build();
    let _driver = Driver::start(&stack).unwrap();
    let listener = TcpListener::bind(&stack, "127.0.0.1:0".parse().unwrap()).unwrap();
    block_on(async {
        for _ in 0..100 {
            assert!(!race(async { listener.accept().await.is_ok() }, async { false }).await);
            let (client, accepted) =
                zip(TcpStream::connect(&stack, listener.local_addr()), listener.accept()).await;
            assert_eq!(accepted.unwrap().1, client.unwrap().local_addr());
        }
    });
}

#[test]
fn thousand_tasks_talk_at_a_time() {
    let stack = Stack::builder().build();
    let _driver = Driver::start(&stack).unwrap();
    let listener = TcpListener::bind(&stack, "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_time().build().unwrap();
    let talk = async {
        let server = tokio::spawn(async move {
            for _ in 0..TASKS {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(echo(stream));
            }
        });
        let clients: Vec<_> =
            (0..TASKS).map(|number| tokio::spawn(ask(stack.clone(), address, number))).collect();
        for client in clients {
            client.await.unwrap();
        }
        server.await.unwrap();
    };
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), talk).await.unwrap() });
}

const TASKS: usize = 1000;

async fn echo(stream: TcpStream) {
    let mut buffer = [0; 2000];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        stream.write_all(&buffer[..count]).await.unwrap();
    }
}

async fn ask(stack: Stack, address: std::net::SocketAddr, number: usize) {
    let stream = TcpStream::connect(&stack, address).await.unwrap();
    for round in 0..5 {
        let question = pattern(1 + (number * 31 + round * 7919) % 5000);
        let mut answer = vec![0; question.len()];
        let (sent, received) = zip(stream.write_all(&question), stream.read_exact(&mut answer)).await;
        sent.unwrap();
        received.unwrap();
        assert!(answer == question, "task {number}, round {round}");
    }
}

#[test]
fn hyper_speaks_http_over_two_stacks() {
    let hosts = hyper_http::Hosts::new().unwrap();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let answers = runtime.block_on(async {
        let answers = hyper_http::run(&hosts, 20, 10);
        tokio::time::timeout(Duration::from_secs(60), answers).await.unwrap().unwrap()
    });
    assert_eq!(answers.len(), 200);
    for (number, answer) in answers.iter().enumerate() {
        assert!(*answer == hyper_http::body(number), "answer {number}");
    }
}
