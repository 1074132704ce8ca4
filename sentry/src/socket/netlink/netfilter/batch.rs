//! Batches: messages that take effect together.

use std::collections::HashMap;

use netstack::filter::machine::{ChainId, SetId};
use sentry_abi::netlink::*;
use zerocopy::FromBytes;

use super::attributes::{Outcome, Refused, number};
use super::constants::*;
use super::model::{Model, Table};
use super::{Context, Header, chain, commit, element, object, rule, set, table};
use crate::errno::Errno;
use crate::socket::NetNamespace;
use crate::socket::netlink::message::{Attributes, Builder, Request};
use crate::socket::netlink::refusal::Refusal;

/// Whether a message begins a batch.
pub(in crate::socket::netlink) fn begins_batch(request: &Request<'_>) -> bool {
    request.header.kind == BATCH_BEGIN
}

/// What became of a message.
pub(in crate::socket::netlink) struct Answered<'a> {
    pub(in crate::socket::netlink) request: Request<'a>,
    pub(in crate::socket::netlink) refused: Option<Refusal>,
}

/// Carries out a batch of which `begin` is the first message; takes its other messages off `rest`. Returns what is to be
/// acknowledged, in order, and the messages that tell what has changed.
pub(in crate::socket::netlink) fn batch<'a>(
    namespace: &NetNamespace,
    begin: Request<'a>,
    rest: &mut &'a [u8],
    port: u32,
) -> (Vec<Answered<'a>>, Vec<Event>) {
    let mut answers = Vec::new();
    let context = Context { stack: namespace.stack(), namespace };
    let mut current = namespace.nf_tables().0.lock();
    if let Err(refused) = check_begin(&begin, &current) {
        answers.push(Answered { request: begin, refused: Some(Refusal::of(refused, &begin)) });
        // Nothing of it counts.
        while let Some(request) = Request::next(rest) {
            if request.header.kind == BATCH_END {
                break;
            }
        }
        return (answers, Vec::new());
    }
    let all = *rest;
    let mut batch = Batch::new(&context, current.clone(), port);
    let (mut is_complete, mut has_failed) = (false, false);
    while let Some(request) = Request::next(rest) {
        if request.header.kind == BATCH_END {
            is_complete = true;
            break;
        }
        let done = batch.one(&request);
        has_failed |= done.is_err();
        let refused = done.err().map(|refused| Refusal::of(refused, &request));
        if refused.is_some() || request.has(NLM_F_ACK) {
            answers.push(Answered { request, refused });
        }
    }
    if !is_complete || has_failed {
        return (answers, Vec::new());
    }
    let Batch { mut model, events, has_changed, .. } = batch;
    if !has_changed {
        return (answers, Vec::new());
    }
    if let Err(refused) = commit::commit(context.stack, &mut model) {
        answers.push(
            blame(&context, &current, all, refused, port)
                .unwrap_or(Answered { request: begin, refused: Some(Refusal::of(refused, &begin)) }),
        );
        return (answers, Vec::new());
    }
    *current = model;
    (answers, events)
}

/// The message of a batch with which it stopped making sense.
fn blame<'a>(
    context: &Context<'_>,
    current: &Model,
    messages: &'a [u8],
    refused: Refused,
    port: u32,
) -> Option<Answered<'a>> {
    let mut rest = messages;
    let mut batch = Batch::new(context, current.clone(), port);
    let (mut last, mut checks) = (None, 0);
    while let Some(request) = Request::next(&mut rest).filter(|request| request.header.kind != BATCH_END) {
        // It went well the first time.
        let _ = batch.one(&request);
        let may_lead_on = matches!(request.header.kind & 0xff, MSG_NEWRULE | MSG_NEWSETELEM | MSG_NEWCHAIN);
        if !may_lead_on {
            continue;
        }
        last = Some(request);
        checks += 1;
        // Each check looks at all rules: of a large batch, the last message takes the blame.
        if checks <= MAX_CHECKS && commit::check(context.stack, &batch.model).is_err() {
            break;
        }
    }
    last.map(|request| Answered { request, refused: Some(Refusal::of(refused, &request)) })
}

fn check_begin(begin: &Request<'_>, current: &Model) -> Outcome {
    let (header, attributes): (Header, Attributes<'_>) = begin.split_full().map_err(Refused::from)?;
    if u16::from_be_bytes(header.resource) != SUBSYS_NFTABLES {
        return Err(Errno::EOPNOTSUPP.into());
    }
    match number(attributes, BATCH_GENERATION) {
        // Who made the batch looked at older rules.
        Some(generation) if generation != current.generation => Err(Errno::ERESTART.into()),
        _ => Ok(()),
    }
}

/// A message that tells what has changed.
#[derive(Debug)]
pub(in crate::socket::netlink) struct Event {
    /// The message.
    pub(in crate::socket::netlink) bytes: Vec<u8>,
    /// Who asked for it wants to have it as well.
    pub(in crate::socket::netlink) is_echoed: bool,
}

/// A batch that is being carried out.
pub(super) struct Batch<'c> {
    pub(super) context: &'c Context<'c>,
    pub(super) model: Model,
    /// What messages of this batch call what they made.
    pub(super) set_ids: HashMap<u32, SetId>,
    pub(super) chain_ids: HashMap<u32, ChainId>,
    pub(super) rule_ids: HashMap<u32, u64>,
    port: u32,
    events: Vec<Event>,
    has_changed: bool,
}

/// A message of a batch.
pub(super) struct Change<'b, 'c> {
    pub(super) batch: &'b mut Batch<'c>,
    pub(super) family: u8,
    pub(super) attributes: Attributes<'b>,
    flags: u16,
}

/// What to do about something that should be removed and is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Refused,
    Ignored,
}

impl Missing {
    pub(super) fn or(self, refused: Refused) -> Outcome {
        match self {
            Self::Refused => Err(refused),
            Self::Ignored => Ok(()),
        }
    }
}

impl<'c> Batch<'c> {
    fn new(context: &'c Context<'c>, model: Model, port: u32) -> Self {
        Self {
            context,
            model,
            set_ids: HashMap::new(),
            chain_ids: HashMap::new(),
            rule_ids: HashMap::new(),
            port,
            events: Vec::new(),
            has_changed: false,
        }
    }

    fn one(&mut self, request: &Request<'_>) -> Outcome {
        let (subsystem, kind) = (request.header.kind >> 8, request.header.kind & 0xff);
        if subsystem != SUBSYS_NFTABLES {
            return Err(Errno::EINVAL.into());
        }
        let (header, _) = Header::read_from_prefix(request.body).map_err(|_| Refused::from(Errno::EINVAL))?;
        let attributes = Attributes::within(&request.body[size_of::<Header>()..]);
        self.has_changed = true;
        let flags = request.header.flags;
        let mut change = Change { batch: self, family: header.family, attributes, flags };
        match kind {
            MSG_NEWTABLE => table::add(&mut change)?,
            MSG_DELTABLE => table::remove(&mut change, Missing::Refused)?,
            MSG_DESTROYTABLE => table::remove(&mut change, Missing::Ignored)?,
            MSG_NEWCHAIN => chain::add(&mut change)?,
            MSG_DELCHAIN => chain::remove(&mut change, Missing::Refused)?,
            MSG_DESTROYCHAIN => chain::remove(&mut change, Missing::Ignored)?,
            MSG_NEWRULE => rule::add(&mut change)?,
            MSG_DELRULE => rule::remove(&mut change, Missing::Refused)?,
            MSG_DESTROYRULE => rule::remove(&mut change, Missing::Ignored)?,
            MSG_NEWSET => set::add(&mut change)?,
            MSG_DELSET => set::remove(&mut change, Missing::Refused)?,
            MSG_DESTROYSET => set::remove(&mut change, Missing::Ignored)?,
            MSG_NEWSETELEM => element::add(&mut change)?,
            MSG_DELSETELEM => element::remove(&mut change, Missing::Refused)?,
            MSG_DESTROYSETELEM => element::remove(&mut change, Missing::Ignored)?,
            MSG_NEWOBJ => object::add(&mut change)?,
            MSG_DELOBJ => object::remove(&mut change, Missing::Refused)?,
            MSG_DESTROYOBJ => object::remove(&mut change, Missing::Ignored)?,
            // Flow tables are not built, as in a kernel without their module (nft_flowtable_type_get).
            MSG_NEWFLOWTABLE | MSG_DELFLOWTABLE => return Err(Errno::ENOENT.into()),
            _ => return Err(Errno::EINVAL.into()),
        }
        self.tell(request, kind, header.family);
        Ok(())
    }

    /// Tells what a message has changed: what it said, with what it was given.
    fn tell(&mut self, request: &Request<'_>, kind: u16, family: u8) {
        let mut builder = Builder::default();
        // The generation is the next one once the batch has taken effect.
        let header = super::dump::header(family, self.model.generation.wrapping_add(1));
        let NlMsgHdr { flags, seq, .. } = request.header;
        let kept = flags & (NLM_F_CREATE | NLM_F_APPEND | NLM_F_EXCL | NLM_F_REPLACE);
        builder.begin(SUBSYS_NFTABLES << 8 | kind, kept, seq, self.port, &header);
        let attributes = Attributes::within(&request.body[size_of::<Header>()..]);
        let is_described = match kind {
            MSG_NEWRULE => rule::describe_last(self, family, attributes, &mut builder),
            MSG_NEWCHAIN => chain::describe_named(&self.model, family, attributes, &mut builder),
            MSG_NEWSET => set::describe_named(&self.model, family, attributes, &mut builder),
            _ => false,
        };
        if !is_described {
            builder.raw(attributes.bytes());
        }
        builder.end();
        self.events.push(Event { bytes: builder.finish(), is_echoed: flags & NLM_F_ECHO != 0 });
    }

    /// A set of a table by its name, or by what this batch calls it.
    pub(super) fn set_of(&self, table: usize, name: Option<&str>, id: Option<u32>) -> Option<SetId> {
        let table = &self.model.tables[table];
        if let Some(set) = name.and_then(|name| table.set(name)) {
            return Some(set.slot);
        }
        let slot = *self.set_ids.get(&id?)?;
        table.sets.iter().any(|set| set.slot == slot).then_some(slot)
    }
}

impl Change<'_, '_> {
    pub(super) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// The table that an attribute names.
    pub(super) fn table(&self, attribute: u16) -> Outcome<usize> {
        let name = super::attributes::name(self.attributes, attribute)?;
        let missing = Refused::at(Errno::ENOENT, self.attributes.find(attribute));
        self.batch.model.find(self.family, name).ok_or(missing)
    }

    /// Removes tables with all that is in them.
    pub(super) fn remove_tables(&mut self, is_unwanted: impl Fn(&Table) -> bool) {
        let model = &mut self.batch.model;
        for table in model.tables.iter().filter(|table| is_unwanted(table)) {
            table.chains.iter().for_each(|chain| model.chain_slots.give_back(chain.slot.0));
            table.sets.iter().for_each(|set| model.set_slots.give_back(set.slot.0));
        }
        model.tables.retain(|table| !is_unwanted(table));
    }
}

/// How often a batch that makes no sense is looked at.
const MAX_CHECKS: usize = 256;
/// `NFNL_BATCH_GENID`.
const BATCH_GENERATION: u16 = 1;
