//! Capturing an interface.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::examine::Examiner;
use crate::filter::Filter;
use crate::live::Live;
use crate::output::{Format, Output};

/// Writes what passes `interface` to a file until a limit is reached or the program is ended. The file is complete up to
/// the last tick. It is pcapng if its name ends so, and pcap otherwise.
///
/// # Errors
/// When there is no such interface, without `CAP_NET_RAW`, or when the file cannot be written.
pub(crate) fn run(
    interface: &str,
    file: &Path,
    filter: &Filter,
    count: Option<u64>,
    limit: Option<Duration>,
) -> anyhow::Result<()> {
    let mut live = Live::open(interface)?;
    let out: Box<dyn Write> = if file.as_os_str() == "-" {
        Box::new(io::stdout())
    } else {
        Box::new(File::create(file).with_context(|| format!("cannot write {}", file.display()))?)
    };
    let mut shared = Shared(Rc::new(RefCell::new(BufWriter::new(out))));
    let mut output = Output::new(shared.clone(), Format::of(file))?;
    let mut examiner = Examiner::default();
    let start = Instant::now();
    let mut written = 0;
    while count.is_none_or(|c| written < c) && limit.is_none_or(|l| start.elapsed() < l) {
        match live.next()? {
            // Analysis keeps the flows: only a filter needs them.
            Some(packet) if filter.is_empty() => {
                output.write(&packet)?;
                written += 1;
            }
            Some(packet) => {
                let examined = examiner.examine(packet);
                if filter.matches(&examined) {
                    output.write(&examined.packet)?;
                    written += 1;
                }
            }
            None => shared.flush()?,
        }
    }
    shared.flush()?;
    Ok(())
}

/// An output that can be flushed while the pcap writer, which has no flush, holds it.
#[derive(Clone)]
struct Shared(Rc<RefCell<BufWriter<Box<dyn Write>>>>);

impl Write for Shared {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.borrow_mut().flush()
    }
}
