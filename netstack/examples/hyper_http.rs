//! HTTP with hyper, both ends on stacks of this program: no host interface, no privilege, nothing but tokio's executor.
//!
//! ```text
//! cargo run --release -p netstack --features tokio --example hyper_http
//! ```
//!
//! The streams of `async_net` have tokio's traits, and that is all that hyper (or a TLS library) asks for. Nothing here
//! uses tokio's reactor: what the tasks wait for are the stacks.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, client, server};
use hyper_util::rt::TokioIo;
use netstack::async_net::{TcpListener, TcpStream};
use netstack::link::Link;
use netstack::link::veth::VethLink;
use netstack::{Driver, MacAddr, Stack};

type AnyError = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), AnyError> {
    let hosts = Hosts::new()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
    let answers = runtime.block_on(run(&hosts, 100, 10))?;
    let bytes: usize = answers.iter().map(Bytes::len).sum();
    println!("{} answers with {bytes} bytes", answers.len());
    Ok(())
}

/// Two stacks with a cable between them, and the threads of their timers.
pub(crate) struct Hosts {
    client: Stack,
    server: Stack,
    _drivers: [Driver; 2],
}

const SERVER: &str = "10.0.0.2:80";

impl Hosts {
    pub(crate) fn new() -> Result<Self, AnyError> {
        let cable = VethLink::pair(1500, [1, 2].map(|number| MacAddr([2, 0, 0, 0, 0, number])));
        let [client, server] = [Stack::builder().build(), Stack::builder().build()];
        for ((stack, end), address) in
            [&client, &server].into_iter().zip(cable).zip(["10.0.0.1/24", "10.0.0.2/24"])
        {
            let nic = stack.add_nic("eth0", Arc::clone(&end) as Arc<dyn Link>)?;
            end.attach(stack, nic);
            stack.add_address(nic, address.parse()?)?;
        }
        let drivers = [Driver::start(&client)?, Driver::start(&server)?];
        Ok(Self { client, server, _drivers: drivers })
    }
}

/// Sends `requests` over each of `connections` at the same time; gives the answers.
pub(crate) async fn run(hosts: &Hosts, connections: usize, requests: usize) -> Result<Vec<Bytes>, AnyError> {
    let address: SocketAddr = SERVER.parse()?;
    let server = tokio::spawn(serve(TcpListener::bind(&hosts.server, address)?));
    let clients: Vec<_> = (0..connections)
        .map(|number| tokio::spawn(ask(hosts.client.clone(), address, number * requests, requests)))
        .collect();
    let mut answers = Vec::new();
    for client in clients {
        answers.extend(client.await??);
    }
    server.abort();
    Ok(answers)
}

async fn serve(listener: TcpListener) -> Result<(), AnyError> {
    loop {
        let (stream, _peer) = listener.accept().await?;
        let connection =
            server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(echo));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("a connection ended: {error}");
            }
        });
    }
}

async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    Ok(Response::new(Full::new(body)))
}

async fn ask(stack: Stack, address: SocketAddr, first: usize, count: usize) -> Result<Vec<Bytes>, AnyError> {
    let stream = TcpStream::connect(&stack, address).await?;
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let mut answers = Vec::new();
    for number in first..first + count {
        let request = Request::post("/").header("host", "server").body(Full::new(body(number)))?;
        // The connection's task may not have seen yet that the answer before was read to its end.
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        answers.push(response.into_body().collect().await?.to_bytes());
    }
    drop(sender);
    connection.await??;
    Ok(answers)
}

/// What request `number` carries: between nothing and more than a window.
pub(crate) fn body(number: usize) -> Bytes {
    let len = number * 7919 % 100_000;
    (0..len).map(|index| (index ^ number).to_le_bytes()[0]).collect()
}
