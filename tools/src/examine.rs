//! Everything that is known about each packet of a capture, in order.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::analysis::{Analysis, Connection, Judgement};
use crate::conversation::{Conversation, Conversations};
use crate::dissect::Dissection;
use crate::filter::Filter;
use crate::remark::{Process, Remarks};
use crate::source::{self, Packet};

/// A packet with all that is known about it.
#[derive(Debug, Clone)]
pub(crate) struct Examined {
    /// Counted from one.
    pub(crate) number: u64,
    /// Since the first packet.
    pub(crate) since_start: Duration,
    pub(crate) packet: Packet,
    /// `None` where the frame makes no sense.
    pub(crate) dissection: Option<Dissection>,
    pub(crate) remarks: Remarks,
    /// The flow's number.
    pub(crate) flow: Option<usize>,
    /// Whether it is of the side that spoke first; only of TCP.
    pub(crate) is_from_client: bool,
    pub(crate) judgement: Judgement,
}

impl Examined {
    /// Whether analysis found something, or the stack dropped the packet.
    pub(crate) fn is_notable(&self) -> bool {
        !self.judgement.notes.is_empty() || self.remarks.drop.is_some()
    }
}

/// Takes packets apart and keeps the flows.
#[derive(Debug, Default)]
pub(crate) struct Examiner {
    analysis: Analysis,
    conversations: Conversations,
    /// By the flows' numbers, which count through all protocols.
    flows: Vec<Flow>,
    tcp_flows: Vec<usize>,
    other_flows: Vec<usize>,
    packets: u64,
    start: Option<Duration>,
}

/// A flow's place among those of its kind, and what packets' comments say of it.
#[derive(Debug)]
struct Flow {
    kind: Kind,
    drops: BTreeMap<String, u64>,
    processes: Vec<Process>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Tcp(usize),
    Other(usize),
}

/// A flow as it is shown.
pub(crate) struct FlowView<'a> {
    pub(crate) number: usize,
    pub(crate) subject: Subject<'a>,
    /// How many packets the stack dropped for which reason.
    pub(crate) drops: &'a BTreeMap<String, u64>,
    /// The owners of its sockets.
    pub(crate) processes: &'a [Process],
}

/// What kind of flow it is.
#[derive(Clone, Copy)]
pub(crate) enum Subject<'a> {
    Tcp(&'a Connection),
    Other(&'a Conversation),
}

impl Examiner {
    /// Takes the next packet.
    pub(crate) fn examine(&mut self, packet: Packet) -> Examined {
        self.packets += 1;
        let time = packet.time;
        let since_start = time.saturating_sub(*self.start.get_or_insert(time));
        let dissection = Dissection::of(&packet);
        let remarks = Remarks::parse(&packet.comments);
        let (flow, judgement) = match &dissection {
            Some(dissection) => self.assign(&packet, dissection),
            None => (None, Judgement::default()),
        };
        if let Some(flow) = flow.and_then(|number| self.flows.get_mut(number)) {
            flow.remember(&remarks);
        }
        let mut is_from_client = false;
        if let (Some(Subject::Tcp(connection)), Some(segment)) = (
            flow.and_then(|f| self.flow(f)).map(|f| f.subject),
            dissection.as_ref().and_then(Dissection::tcp),
        ) {
            is_from_client = connection.endpoints == segment.endpoints;
        }
        Examined {
            number: self.packets,
            since_start,
            packet,
            dissection,
            remarks,
            flow,
            is_from_client,
            judgement,
        }
    }

    fn assign(&mut self, packet: &Packet, dissection: &Dissection) -> (Option<usize>, Judgement) {
        if let Some(segment) = dissection.tcp() {
            let (index, judgement) = self.analysis.on_segment(packet.time, segment, dissection.is_ce);
            let number = Self::number(&mut self.tcp_flows, &mut self.flows, index, Kind::Tcp(index));
            return (Some(number), judgement);
        }
        let index = self.conversations.on_packet(packet.time, packet.original_len, dissection);
        let number = index
            .map(|index| Self::number(&mut self.other_flows, &mut self.flows, index, Kind::Other(index)));
        (number, Judgement::default())
    }

    /// The number of the flow that is the `index`th of its kind; new ones come in order.
    fn number(of_kind: &mut Vec<usize>, flows: &mut Vec<Flow>, index: usize, kind: Kind) -> usize {
        if let Some(&number) = of_kind.get(index) {
            return number;
        }
        flows.push(Flow { kind, drops: BTreeMap::new(), processes: Vec::new() });
        of_kind.push(flows.len() - 1);
        flows.len() - 1
    }

    /// All flows by number.
    pub(crate) fn flows(&self) -> impl Iterator<Item = FlowView<'_>> {
        (0..self.flows.len()).filter_map(|number| self.flow(number))
    }

    /// One of them.
    pub(crate) fn flow(&self, number: usize) -> Option<FlowView<'_>> {
        let Flow { kind, drops, processes } = self.flows.get(number)?;
        let subject = match kind {
            Kind::Tcp(index) => Subject::Tcp(self.analysis.connections.get(*index)?),
            Kind::Other(index) => Subject::Other(self.conversations.all.get(*index)?),
        };
        Some(FlowView { number, subject, drops, processes })
    }
}

impl Flow {
    fn remember(&mut self, remarks: &Remarks) {
        if let Some(reason) = &remarks.drop {
            *self.drops.entry(reason.clone()).or_default() += 1;
        }
        for process in remarks.processes() {
            if !self.processes.contains(process) {
                self.processes.push(process.clone());
            }
        }
    }
}

/// Examines a file, shows `take` each packet that the filter lets through, and returns the flows of the whole file.
pub(crate) fn file(
    path: &Path,
    filter: &Filter,
    mut take: impl FnMut(&Examined) -> anyhow::Result<()>,
) -> anyhow::Result<Examiner> {
    let mut examiner = Examiner::default();
    for packet in source::open(path)? {
        let examined = examiner.examine(packet?);
        if filter.matches(&examined) {
            take(&examined)?;
        }
    }
    Ok(examiner)
}
