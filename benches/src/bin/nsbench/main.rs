//! One end of a network benchmark on our stack; the other end is plain sockets anywhere.
//!
//! ```text
//! ip tuntap add t0 mode tap && ip addr add 10.9.0.1/24 dev t0 && ip link set t0 up
//! nsbench tx --link tap:t0 --ip 10.9.0.2/24 --peer 10.9.0.1 --port 7000 --secs 5
//! ```
//! The peer serves BASE+0 sink, +1 source, +2 echo, +3 accept and close, +4 accept and hold, UDP +5 sink and +6 echo;
//! `nsbench server` does the same. Everything runs on one thread: the pump carries frames to the sockets, the tasks of
//! those that became ready run, and the thread sleeps only if there is nothing to do.
#![forbid(unsafe_code)]

mod cli;
mod client;
mod engine;
mod report;
mod server;

use clap::Parser;

fn main() -> anyhow::Result<()> {
    let cli = cli::Cli::parse();
    let mut seats = engine::Engine::open(&cli)?;
    let report = match cli.mode {
        cli::Mode::Server => {
            anyhow::ensure!(seats.len() == 1, "a server reads one queue");
            server::run(engine::Engine::new(seats.remove(0), &cli)?, &cli)?
        }
        mode => client::run_on_queues(seats, mode, &cli)?,
    };
    println!("{}", if cli.json { report.to_json() } else { report.to_text() });
    Ok(())
}
