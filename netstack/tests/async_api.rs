//! The sockets of `netstack::async_net` under two executors.

use std::net::Shutdown;

use futures_lite::future::{block_on, race, zip};
use netstack::async_net::{TcpListener, TcpStream, UdpSocket};
use netstack::{Driver, Stack};

fn host() -> (Stack, Driver) {
    let stack = Stack::builder().build();
    let driver = Driver::start(&stack).unwrap();
    (stack, driver)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index / 251) as u8 ^ index as u8).collect()
}

async fn echo(listener: &TcpListener) {
    let (stream, _peer) = listener.accept().await.unwrap();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer).await.unwrap() {
            0 => return,
            count => stream.write_all(&buffer[..count]).await.unwrap(),
        }
    }
}

#[test]
fn one_task_reads_while_another_writes() {
    let (stack, _driver) = host();
    let listener = TcpListener::bind(&stack, "127.0.0.1:0".parse().unwrap()).unwrap();
    let data = pattern(1 << 20);
    let client = async {
        let stream = TcpStream::connect(&stack, listener.local_addr()).await.unwrap();
        let write = async {
            stream.write_all(&data).await.unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        };
        let read = async {
            let mut received = vec![0; data.len()];
            stream.read_exact(&mut received).await.unwrap();
            assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
            received
        };
        zip(write, read).await.1
    };
    let (received, ()) = block_on(zip(client, echo(&listener)));
    assert!(received == data, "the data differs");
}

#[test]
fn a_dropped_future_leaves_the_socket_usable() {
    let (stack, _driver) = host();
    let server = UdpSocket::bind(&stack, "127.0.0.1:0".parse().unwrap()).unwrap();
    let client = UdpSocket::bind(&stack, "127.0.0.1:0".parse().unwrap()).unwrap();
    block_on(async {
        let mut buffer = [0; 8];
        let nothing = async {
            server.recv(&mut buffer).await.unwrap();
            true
        };
        assert!(!race(nothing, async { false }).await);
        let (received, sent) = zip(server.recv_from(&mut buffer), async {
            futures_lite::future::yield_now().await;
            client.send_to(b"late", server.local_addr()).await
        })
        .await;
        assert_eq!((received.unwrap(), sent.unwrap()), ((4, client.local_addr()), 4));
    });
}

#[test]
fn a_refused_connection_is_an_error() {
    let (stack, _driver) = host();
    let error = block_on(TcpStream::connect(&stack, "127.0.0.1:1".parse().unwrap())).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn futures_io_traits_work_with_adapters() {
    use futures_lite::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
    let (stack, _driver) = host();
    let listener = TcpListener::bind(&stack, "127.0.0.1:0".parse().unwrap()).unwrap();
    let server = async {
        let (stream, _peer) = listener.accept().await.unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).await.unwrap();
        stream.write_all(line.to_uppercase().as_bytes()).await.unwrap();
    };
    let client = async {
        let mut stream = TcpStream::connect(&stack, listener.local_addr()).await.unwrap();
        AsyncWriteExt::write_all(&mut stream, b"hello\n").await.unwrap();
        AsyncWriteExt::close(&mut stream).await.unwrap();
        let mut answer = String::new();
        AsyncReadExt::read_to_string(&mut stream, &mut answer).await.unwrap();
        answer
    };
    let ((), answer) = block_on(zip(server, client));
    assert_eq!(answer, "HELLO\n");
}

#[test]
fn tokio_copies_in_both_directions() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (stack, _driver) = host();
    let outer = TcpListener::bind(&stack, "127.0.0.1:0".parse().unwrap()).unwrap();
    let inner = TcpListener::bind(&stack, "127.0.0.1:0".parse().unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let data = pattern(300_000);
    runtime.block_on(async {
        let proxy = async {
            let (mut near, _peer) = outer.accept().await.unwrap();
            let mut far = TcpStream::connect(&stack, inner.local_addr()).await.unwrap();
            tokio::io::copy_bidirectional(&mut near, &mut far).await.unwrap()
        };
        let client = async {
            let stream = TcpStream::connect(&stack, outer.local_addr()).await.unwrap();
            let (mut reader, mut writer) = tokio::io::split(stream);
            let write = async {
                writer.write_all(&data).await.unwrap();
                writer.shutdown().await.unwrap();
            };
            let mut received = Vec::new();
            tokio::join!(write, reader.read_to_end(&mut received)).1.unwrap();
            received
        };
        let (carried, received, ()) = tokio::join!(proxy, client, echo(&inner));
        assert_eq!(carried, (300_000, 300_000));
        assert!(received == data, "the data differs");
    });
}
