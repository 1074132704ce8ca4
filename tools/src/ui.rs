//! An interactive terminal interface: `model` has what is shown and what keys do, `draw` puts it on the screen, and this
//! moves packets, keys and requests between them and the world.

mod capture;
mod chart;
mod cursor;
mod detail;
mod draw;
mod flow_table;
mod help;
mod model;
mod pane;
mod prompt;
mod stream_view;

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGTERM};

use crate::filter::Filter;
use crate::live::Live;
use crate::output::{Format, Output};
use crate::source::{self, Packet, Packets};
use model::{Model, Request};

/// Shows a capture, or what passes an interface, until the user leaves.
///
/// # Errors
/// Without a terminal, or when the file or interface cannot be opened. The terminal is as it was before.
pub(crate) fn run(input: &Path, filter_text: &str) -> anyhow::Result<()> {
    let filter: Filter = filter_text.parse()?;
    if !io::stdout().is_terminal() {
        bail!("standard output is not a terminal: `netcap list` prints packets to files and pipes");
    }
    let is_leaving = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&is_leaving)).context("cannot watch signals")?;
    }
    let packets = open(input)?;
    let mut model = Model::new(input.display().to_string(), filter_text, filter);
    // It also restores the terminal before a panic's message.
    let result = ratatui::try_init()
        .context("cannot use the terminal")
        .and_then(|mut terminal| interact(&mut terminal, &mut model, &packets, &is_leaving));
    let restored = ratatui::try_restore().context("cannot restore the terminal");
    result.and(restored)
}

/// What the thread that reads has to say.
enum News {
    Packets(Vec<Packet>),
    /// There are no more packets.
    End(Result<(), String>),
}

/// Starts to read a file, or else an interface of that name.
fn open(input: &Path) -> anyhow::Result<Receiver<News>> {
    // Reading is not ahead of the screen by more than that.
    let (sender, receiver) = sync_channel(8);
    let name = input.to_str().filter(|_| input.as_os_str() != "-" && !input.exists());
    match name.filter(|name| !name.contains('/')) {
        Some(name) => {
            let live = Live::open(name)
                .with_context(|| format!("{name} is neither a file nor an interface to capture"))?;
            thread::spawn(move || capture(live, &sender));
        }
        None => {
            let packets = source::open(input)?;
            thread::spawn(move || read(packets, &sender));
        }
    }
    Ok(receiver)
}

/// Ends when nobody listens any more.
fn read(packets: Packets, sender: &SyncSender<News>) {
    let mut batch = Vec::new();
    let mut end = Ok(());
    for packet in packets {
        match packet {
            Ok(packet) => batch.push(packet),
            Err(e) => end = Err(format!("{e:#}")),
        }
        if batch.len() >= BATCH && sender.send(News::Packets(std::mem::take(&mut batch))).is_err() {
            return;
        }
    }
    // Nobody to tell: the user has left.
    let _ = sender.send(News::Packets(batch)).and_then(|()| sender.send(News::End(end)));
}

fn capture(mut live: Live, sender: &SyncSender<News>) {
    loop {
        let news = match live.next() {
            Ok(Some(packet)) => News::Packets(vec![packet]),
            // Sent all the same: that fails when the user has left.
            Ok(None) => News::Packets(Vec::new()),
            Err(e) => News::End(Err(format!("{e:#}"))),
        };
        let is_end = matches!(news, News::End(_));
        if sender.send(news).is_err() || is_end {
            return;
        }
    }
}

fn interact(
    terminal: &mut DefaultTerminal,
    model: &mut Model,
    packets: &Receiver<News>,
    is_leaving: &AtomicBool,
) -> anyhow::Result<()> {
    let size = terminal.size()?;
    model.resize(size.width, size.height);
    let mut is_stale = true;
    while !is_leaving.load(Ordering::Relaxed) {
        let work = work(model, packets)?;
        if is_stale || work != Work::None {
            terminal.draw(|frame| draw::draw(frame, model)).context("cannot draw")?;
        }
        let patience = if work == Work::More { Duration::ZERO } else { TICK };
        is_stale = event::poll(patience).context("cannot read the terminal")?;
        // All keys that are there, so that a held key does not wait for drawings.
        while event::poll(Duration::ZERO)? {
            match event::read().context("cannot read the terminal")? {
                Event::Resize(width, height) => model.resize(width, height),
                Event::Key(key) if key.kind != KeyEventKind::Release => match model.on_key(key) {
                    Request::Nothing => {}
                    Request::Quit => return Ok(()),
                    Request::Write(path) => model.message = write(model, &path),
                },
                _ => {}
            }
        }
    }
    Ok(())
}

/// What there was to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    None,
    Done,
    /// And there is more.
    More,
}

/// Reads and filters for a moment.
fn work(model: &mut Model, packets: &Receiver<News>) -> anyhow::Result<Work> {
    let until = Instant::now() + SLICE;
    let mut work = Work::None;
    while Instant::now() < until {
        if model.advance(BATCH) {
            work = Work::Done;
            continue;
        }
        match packets.try_recv() {
            Ok(News::Packets(batch)) => model.add(batch),
            Ok(News::End(end)) => model.end = Some(end),
            Err(TryRecvError::Disconnected) if model.end.is_none() => bail!("reading ended unexpectedly"),
            Err(_) => return Ok(work),
        }
        work = Work::Done;
    }
    Ok(Work::More)
}

/// Writes the packets shown; returns what to tell the user.
fn write(model: &Model, path: &Path) -> String {
    match try_write(model, path) {
        Ok(count) => format!("wrote {count} packets to {}", path.display()),
        Err(e) => format!("cannot write {}: {e:#}", path.display()),
    }
}

/// A file that is there is not overwritten: it may be the one that is being read.
fn try_write(model: &Model, path: &Path) -> anyhow::Result<usize> {
    let mut output = Output::new(BufWriter::new(File::create_new(path)?), Format::PcapNg)?;
    let mut count = 0;
    for packet in model.capture.shown() {
        output.write(packet)?;
        count += 1;
    }
    output.flush()?;
    Ok(count)
}

/// Packets that are read or filtered at once.
const BATCH: usize = 1000;
/// How long reading and filtering may keep a key waiting.
const SLICE: Duration = Duration::from_millis(30);
/// How often a screen at rest looks for packets.
const TICK: Duration = Duration::from_millis(50);

#[cfg(test)]
#[path = "ui_tests.rs"]
mod tests;
