//! What the interface shows, and what keys do to it.

use std::path::PathBuf;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Rect;

use super::capture::{Capture, Concern};
use super::cursor::{Cursor, Motion};
use super::detail;
use super::flow_table::FlowTable;
use super::pane::Panes;
use super::prompt::{Edit, Prompt, Purpose};
use super::stream_view::StreamView;
use crate::filter::Filter;
use crate::plot::{Kind, Series};
use crate::reassembly::{Direction, Stream};
use crate::report;
use crate::source::Packet;

/// All that is shown.
pub(super) struct Model {
    /// Of the file or the interface.
    pub(super) name: String,
    pub(super) capture: Capture,
    /// Whether no more packets will come, or why reading ended.
    pub(super) end: Option<Result<(), String>>,
    /// The last is shown.
    pub(super) views: Vec<View>,
    pub(super) packets: Cursor,
    pub(super) details: Vec<detail::Line>,
    pub(super) details_cursor: Cursor,
    /// Whether movements are for the details.
    pub(super) is_in_details: bool,
    pub(super) flows: FlowTable,
    pub(super) prompt: Option<Prompt>,
    pub(super) filter: String,
    search: String,
    /// What the last key led to.
    pub(super) message: String,
    /// The last packet stays chosen while others arrive.
    is_following: bool,
    /// The packet to go back to when the filter has got there.
    anchor: Option<usize>,
    area: Rect,
}

/// What fills the screen.
pub(super) enum View {
    Packets,
    Flows,
    Stream(StreamView),
    Chart(ChartView),
    Help(Cursor),
}

/// One direction of a connection over time.
pub(super) struct ChartView {
    pub(super) flow: usize,
    pub(super) direction: Direction,
    pub(super) kind: Kind,
    pub(super) series: Series,
}

/// What is to be done outside of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    Nothing,
    Quit,
    /// Write the packets shown.
    Write(PathBuf),
}

impl Model {
    pub(super) fn new(name: String, filter_text: &str, filter: Filter) -> Self {
        let mut capture = Capture::default();
        capture.set_filter(filter);
        Self {
            name,
            capture,
            end: None,
            views: vec![View::Packets],
            packets: Cursor::default(),
            details: Vec::new(),
            details_cursor: Cursor::default(),
            is_in_details: false,
            flows: FlowTable::default(),
            prompt: None,
            filter: filter_text.to_owned(),
            search: String::new(),
            message: String::new(),
            is_following: false,
            anchor: None,
            area: Rect::default(),
        }
    }

    /// The terminal has that many columns and rows.
    pub(super) fn resize(&mut self, width: u16, height: u16) {
        self.area = Rect::new(0, 0, width, height);
        self.go(self.packets.row);
        let height = self.height();
        self.flows.cursor.go(self.flows.cursor.row, self.flows.rows.len(), height);
    }

    /// Takes packets that were read.
    pub(super) fn add(&mut self, packets: impl IntoIterator<Item = Packet>) {
        packets.into_iter().for_each(|packet| self.capture.add(packet));
        self.catch_up();
    }

    /// Tries the filter on more packets; returns whether there were any.
    pub(super) fn advance(&mut self, count: usize) -> bool {
        let is_changed = self.capture.advance(count);
        if is_changed {
            self.catch_up();
        }
        is_changed
    }

    /// Brings what depends on the packets up to date.
    fn catch_up(&mut self) {
        let len = self.capture.len();
        if let Some(anchor) = self.anchor {
            let row = self.capture.row_of(anchor);
            let (seen, all) = self.capture.progress();
            self.go(row);
            if row < len || seen == all {
                self.anchor = None;
            }
        } else if self.is_following {
            self.go(len);
        } else if self.details.is_empty() {
            self.go(self.packets.row);
        }
        if matches!(self.views.last(), Some(View::Flows)) {
            let height = self.height();
            self.flows.refresh(&self.capture.examiner, height);
        }
    }

    /// Does what a key asks for.
    pub(super) fn on_key(&mut self, key: KeyEvent) -> Request {
        self.message.clear();
        if let Some(prompt) = &mut self.prompt {
            return match prompt.on_key(key) {
                Edit::Left => {
                    self.prompt = None;
                    Request::Nothing
                }
                edit => self.on_edit(edit == Edit::Accepted),
            };
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Request::Quit;
        }
        if let Some(motion) = Motion::of(key) {
            self.step(motion);
            return Request::Nothing;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => {
                if self.views.len() > 1 {
                    self.views.pop();
                } else if self.is_in_details {
                    self.is_in_details = false;
                } else if key.code == KeyCode::Char('q') {
                    return Request::Quit;
                }
            }
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => {
                if !matches!(self.views.last(), Some(View::Help(_))) {
                    self.views.push(View::Help(Cursor::default()));
                }
            }
            KeyCode::Char('1') => self.views.truncate(1),
            KeyCode::Char('2') => {
                self.views.truncate(1);
                self.views.push(View::Flows);
                let height = self.height();
                self.flows.refresh(&self.capture.examiner, height);
            }
            KeyCode::Char('f') => self.prompt = Some(Prompt::new(Purpose::Filter, &self.filter)),
            KeyCode::Char('w') => self.prompt = Some(Prompt::new(Purpose::Write, "")),
            KeyCode::Char('s') => self.show_stream(Direction::FromClient),
            KeyCode::Char('c') => self.show_chart(Direction::FromClient, Kind::Sequence),
            _ => match self.views.last() {
                Some(View::Packets) => self.on_packets_key(key.code),
                Some(View::Flows) => self.on_flows_key(key.code),
                Some(View::Stream(_) | View::Chart(_)) => self.on_flow_key(key.code),
                _ => {}
            },
        }
        Request::Nothing
    }

    fn on_packets_key(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter | KeyCode::Tab => self.is_in_details = !self.is_in_details,
            KeyCode::Char('/') => self.prompt = Some(Prompt::new(Purpose::Search, &self.search)),
            KeyCode::Char('n') => self.find(true),
            KeyCode::Char('N') => self.find(false),
            KeyCode::Char('e') => self.find_concern(true),
            KeyCode::Char('E') => self.find_concern(false),
            KeyCode::Char('x') => match self.capture.flow(self.packets.row) {
                Some(flow) => self.set_filter(&format!("flow {flow}")),
                None => self.message = "the packet belongs to no flow".into(),
            },
            KeyCode::Char('a') => self.set_filter(""),
            _ => {}
        }
    }

    fn on_flows_key(&mut self, key: KeyCode) {
        let height = self.height();
        let FlowTable { column, is_reversed, .. } = self.flows;
        match key {
            KeyCode::Left => self.flows.sort_by(column.neighbour(false), is_reversed, height),
            KeyCode::Right => self.flows.sort_by(column.neighbour(true), is_reversed, height),
            KeyCode::Char('r') => self.flows.sort_by(column, !is_reversed, height),
            KeyCode::Enter => {
                if let Some(flow) = self.flows.chosen() {
                    self.views.truncate(1);
                    self.set_filter(&format!("flow {flow}"));
                }
            }
            _ => {}
        }
    }

    /// Of streams and charts.
    fn on_flow_key(&mut self, key: KeyCode) {
        let other = |direction| match direction {
            Direction::FromClient => Direction::FromServer,
            Direction::FromServer => Direction::FromClient,
        };
        match (self.views.last_mut(), key) {
            (Some(View::Stream(stream)), KeyCode::Char('x')) => stream.show(!stream.is_hex),
            (Some(View::Stream(stream)), KeyCode::Char('d')) => {
                let direction = other(stream.direction);
                self.show_stream(direction);
            }
            (Some(View::Chart(chart)), KeyCode::Char('d')) => {
                let (direction, kind) = (other(chart.direction), chart.kind);
                self.show_chart(direction, kind);
            }
            (Some(View::Chart(chart)), KeyCode::Tab | KeyCode::Char('t')) => {
                chart.kind = match chart.kind {
                    Kind::Sequence => Kind::Throughput,
                    Kind::Throughput => Kind::Rtt,
                    Kind::Rtt => Kind::Window,
                    Kind::Window => Kind::Sequence,
                };
            }
            _ => {}
        }
    }

    fn step(&mut self, motion: Motion) {
        let height = self.height();
        match self.views.last_mut() {
            Some(View::Packets) if self.is_in_details => {
                let height = self.panes().details.height.into();
                self.details_cursor.scroll(motion, self.details.len(), height);
            }
            Some(View::Packets) => {
                let len = self.capture.len();
                self.packets.step(motion, len, height);
                self.anchor = None;
                self.go(self.packets.row);
                self.is_following = motion == Motion::End;
            }
            Some(View::Flows) => self.flows.cursor.step(motion, self.flows.rows.len(), height),
            Some(View::Stream(stream)) => stream.cursor.scroll(motion, stream.lines.len(), height),
            Some(View::Help(cursor)) => cursor.scroll(motion, super::help::LINES.len(), height),
            Some(View::Chart(_)) | None => {}
        }
    }

    /// Chooses a packet.
    fn go(&mut self, row: usize) {
        let height = self.height_of_packets();
        self.packets.go(row, self.capture.len(), height);
        self.details = self.capture.look(self.packets.row, detail::lines).unwrap_or_default();
        self.details_cursor = Cursor::default();
    }

    fn on_edit(&mut self, is_accepted: bool) -> Request {
        let Some(prompt) = &mut self.prompt else { return Request::Nothing };
        let text = prompt.text.clone();
        prompt.fault = None;
        match prompt.purpose {
            Purpose::Filter => match text.parse::<Filter>() {
                Err(e) => prompt.fault = Some((Some(e.column - 1), e.message)),
                Ok(_) if is_accepted => {
                    self.prompt = None;
                    self.set_filter(&text);
                }
                Ok(_) => {}
            },
            Purpose::Search if is_accepted => {
                self.prompt = None;
                self.search = text;
                self.find(true);
            }
            Purpose::Write if is_accepted && !text.is_empty() => {
                self.prompt = None;
                return Request::Write(PathBuf::from(text));
            }
            _ => {}
        }
        Request::Nothing
    }

    fn set_filter(&mut self, text: &str) {
        match text.parse() {
            Ok(filter) => {
                self.anchor = self.anchor.or(self.capture.index(self.packets.row));
                self.filter = text.to_owned();
                self.capture.set_filter(filter);
                self.packets = Cursor::default();
                self.details.clear();
            }
            Err(e) => self.message = e.to_string(),
        }
    }

    /// Goes to the next packet whose line has the text, or the one before.
    fn find(&mut self, is_forward: bool) {
        let wanted = self.search.to_lowercase();
        if wanted.is_empty() {
            self.message = "nothing to search for: / asks for a text".into();
            return;
        }
        let capture = &mut self.capture;
        let mut rows = rows_from(self.packets.row, capture.len(), is_forward);
        let found = rows.find(|&row| {
            capture.look(row, |examined| report::packet_line(examined).to_lowercase().contains(&wanted))
                == Some(true)
        });
        match found {
            Some(row) => self.jump(row, is_forward),
            None => self.message = format!("no packet has {:?}", self.search),
        }
    }

    /// Goes to the next packet that something is wrong with, or the one before.
    fn find_concern(&mut self, is_forward: bool) {
        let mut rows = rows_from(self.packets.row, self.capture.len(), is_forward);
        match rows.find(|&row| self.capture.concern(row) > Concern::None) {
            Some(row) => self.jump(row, is_forward),
            None => self.message = "nothing is wrong with the packets shown".into(),
        }
    }

    fn jump(&mut self, row: usize, is_forward: bool) {
        if (row <= self.packets.row) == is_forward {
            self.message = "went round".into();
        }
        self.anchor = None;
        self.is_following = false;
        self.go(row);
    }

    /// The TCP flow that keys are about: the one shown, or the chosen one.
    fn chosen_flow(&mut self) -> Option<usize> {
        let flow = match self.views.last() {
            Some(View::Flows) => self.flows.chosen(),
            Some(View::Stream(stream)) => Some(stream.flow),
            Some(View::Chart(chart)) => Some(chart.flow),
            _ => self.capture.flow(self.packets.row),
        };
        let view = flow.and_then(|flow| self.capture.examiner.flow(flow));
        let is_tcp = view.is_some_and(|flow| matches!(flow.subject, crate::examine::Subject::Tcp(_)));
        if !is_tcp {
            self.message = "that is for TCP connections".into();
        }
        flow.filter(|_| is_tcp)
    }

    fn show_stream(&mut self, direction: Direction) {
        let Some(flow) = self.chosen_flow() else { return };
        let mut stream = Ok(Stream::default());
        self.capture.look_at_flow(flow, |examined| {
            let is_wanted = examined.is_from_client == (direction == Direction::FromClient);
            if let (true, Ok(into), Some(segment)) =
                (is_wanted, &mut stream, examined.dissection.as_ref().and_then(|d| d.tcp()))
                && let Err(e) = into.add(segment)
            {
                stream = Err(e);
            }
        });
        self.show(View::Stream(StreamView::new(flow, direction, stream)));
    }

    fn show_chart(&mut self, direction: Direction, kind: Kind) {
        let Some(flow) = self.chosen_flow() else { return };
        let mut series = Series::new(direction);
        self.capture.look_at_flow(flow, |examined| series.add(examined));
        self.show(View::Chart(ChartView { flow, direction, kind, series }));
    }

    /// Shows a stream or chart, instead of another.
    fn show(&mut self, view: View) {
        self.views.retain(|view| matches!(view, View::Packets | View::Flows));
        self.views.push(view);
    }

    pub(super) fn panes(&self) -> Panes {
        Panes::of(self.area)
    }

    /// The rows of what fills the screen.
    fn height(&self) -> usize {
        match self.views.last() {
            Some(View::Packets) => self.height_of_packets(),
            // A row is for the columns' titles.
            Some(View::Flows) => self.panes().whole.height.saturating_sub(1).into(),
            _ => self.panes().whole.height.into(),
        }
    }

    fn height_of_packets(&self) -> usize {
        self.panes().packets.height.into()
    }
}

/// All rows from the one after `row` on, around the end, to `row` itself; or the other way.
fn rows_from(row: usize, len: usize, is_forward: bool) -> Box<dyn Iterator<Item = usize>> {
    let at = row.min(len);
    let next = (at + 1).min(len);
    if is_forward {
        Box::new((next..len).chain(0..next))
    } else {
        Box::new((0..at).rev().chain((at..len).rev()))
    }
}
