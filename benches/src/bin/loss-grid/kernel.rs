//! The kernel's ends of a measurement. Call these on a thread in the namespace that they belong to.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::socket::{setsockopt, sockopt};

use crate::cli::Control;

/// Accepts one connection and counts what arrives on it for `span`.
pub(crate) fn sink(listener: &TcpListener, span: Duration) -> anyhow::Result<u64> {
    let stream = accept(listener)?;
    stream.set_read_timeout(Some(READ_SLICE))?;
    let end = Instant::now() + span;
    let mut buffer = vec![0; BUFFER];
    let mut total = 0;
    while Instant::now() < end {
        match (&stream).read(&mut buffer) {
            Ok(0) => bail!("the sender closed early"),
            // A buffer is shorter than 2^64.
            Ok(count) => total += count as u64,
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error).context("read"),
        }
    }
    Ok(total)
}

/// Connects and writes until `stop` or the end of the connection.
pub(crate) fn send_to(remote: SocketAddr, control: Control, stop: &AtomicBool) -> anyhow::Result<()> {
    let stream = TcpStream::connect_timeout(&remote, CONNECT_LIMIT).context("connect")?;
    write_all(&stream, control, stop)
}

/// Accepts a connection and writes until `stop` or its end.
pub(crate) fn serve(listener: &TcpListener, control: Control, stop: &AtomicBool) -> anyhow::Result<()> {
    let stream = accept(listener)?;
    write_all(&stream, control, stop)
}

fn write_all(stream: &TcpStream, control: Control, stop: &AtomicBool) -> anyhow::Result<()> {
    let name = control.name();
    setsockopt(&stream.as_fd(), sockopt::TcpCongestion, &name.into())
        .with_context(|| format!("TCP_CONGESTION {name}"))?;
    stream.set_write_timeout(Some(READ_SLICE))?;
    let buffer = vec![b'x'; BUFFER];
    let mut stream = stream;
    while !stop.load(Ordering::Relaxed) {
        match stream.write(&buffer) {
            Ok(_) => {}
            Err(error) if is_timeout(&error) => {}
            // The receiver has measured long enough.
            Err(_) => break,
        }
    }
    Ok(())
}

fn accept(listener: &TcpListener) -> anyhow::Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let end = Instant::now() + CONNECT_LIMIT;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error).context("accept"),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

const BUFFER: usize = 131_072;
const READ_SLICE: Duration = Duration::from_millis(50);
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
