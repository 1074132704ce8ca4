//! Drawing the model.

use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::capture::Concern;
use super::chart;
use super::cursor::Cursor;
use super::detail;
use super::flow_table::{Column, FlowTable, Row};
use super::help;
use super::model::{Model, View};
use super::pane::Panes;
use crate::examine::Examined;
use crate::reassembly::Direction;

/// Draws what the model shows.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let panes = Panes::of(frame.area());
    frame.render_widget(Paragraph::new(title(model)).style(BAR), panes.title);
    match model.views.last() {
        Some(View::Packets) | None => packets(frame, &panes, model),
        Some(View::Flows) => flows(frame, panes.whole, &model.flows),
        Some(View::Stream(stream)) => {
            let lines = stream.lines.iter().map(|line| Line::raw(line.as_str()));
            text(frame, panes.whole, lines, stream.cursor);
        }
        Some(View::Chart(view)) => chart::draw(frame, panes.whole, view),
        Some(View::Help(cursor)) => {
            let lines = help::LINES.iter().map(|line| match line.starts_with(' ') {
                true => Line::raw(*line),
                false => Line::raw(*line).bold(),
            });
            text(frame, panes.whole, lines, *cursor);
        }
    }
    match &model.prompt {
        Some(_) => prompt(frame, &panes, model),
        None => {
            frame.render_widget(Paragraph::new(keys(model)).style(BAR), panes.prompt);
            frame.render_widget(Paragraph::new(model.message.as_str()), panes.status);
        }
    }
}

fn title(model: &Model) -> String {
    let (seen, all) = model.capture.progress();
    let view = match model.views.last() {
        Some(View::Flows) => format!("{} flows", model.flows.rows.len()),
        Some(View::Stream(view)) => format!("stream of flow {}, {}", view.flow, side(view.direction)),
        Some(View::Chart(view)) => {
            format!("{} of flow {}, {}", chart::name(view.kind), view.flow, side(view.direction))
        }
        Some(View::Help(_)) => "keys".to_owned(),
        Some(View::Packets) | None => format!("{} of {all} packets", model.capture.len()),
    };
    let state = match &model.end {
        _ if seen < all => format!(", filtering {} %", seen * 100 / all.max(1)),
        Some(Ok(())) => String::new(),
        Some(Err(message)) => format!(", ended: {message}"),
        None => ", reading".to_owned(),
    };
    let filter = if model.filter.is_empty() { String::new() } else { format!(" | {}", model.filter) };
    format!(" {} | {view}{state}{filter}", model.name)
}

const fn side(direction: Direction) -> &'static str {
    match direction {
        Direction::FromClient => "from the client",
        Direction::FromServer => "from the server",
    }
}

fn keys(model: &Model) -> &'static str {
    match model.views.last() {
        Some(View::Packets) | None => {
            " ? help  f filter  / search  n next  e problem  Enter details  2 flows  s stream  c chart  w write  q quit"
        }
        Some(View::Flows) => {
            " ? help  \u{2190}\u{2192} column  r reverse  Enter packets  s stream  c chart  q back"
        }
        Some(View::Stream(_)) => " ? help  d direction  x hex  c chart  q back",
        Some(View::Chart(_)) => " ? help  t kind  d direction  s stream  q back",
        Some(View::Help(_)) => " q back",
    }
}

fn packets(frame: &mut Frame<'_>, panes: &Panes, model: &Model) {
    let rows = model.packets.top..model.packets.top.saturating_add(panes.packets.height.into());
    let lines = rows.filter_map(|row| {
        let line = packet(&model.capture.examined(row)?, model.capture.concern(row));
        Some(if row == model.packets.row { line.patch_style(CHOSEN) } else { line })
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), panes.packets);
    let divider = Line::raw("\u{2500}".repeat(panes.divider.width.into()));
    frame.render_widget(
        if model.is_in_details { divider.yellow() } else { divider.dark_gray() },
        panes.divider,
    );
    let details = model.details.iter().map(|line| match line {
        detail::Line::Title(text) => Line::raw(text.as_str()).bold(),
        detail::Line::Text(text) => Line::raw(text.as_str()),
        detail::Line::Remark(text) => Line::raw(text.as_str()).yellow(),
        detail::Line::Hex(text) => Line::raw(text.as_str()).dim(),
    });
    text(frame, panes.details, details, model.details_cursor);
}

fn packet(examined: &Examined, concern: Concern) -> Line<'static> {
    let mut text = format!("{:>7} {:>12.6} ", examined.number, examined.since_start.as_secs_f64());
    text += &examined.flow.map_or("     ".to_owned(), |flow| format!("{:<5}", format!("#{flow}")));
    let summary = examined.dissection.as_ref().map_or("malformed", |dissection| &dissection.summary);
    text += &format!("{:>6} {summary}", examined.packet.original_len);
    let mut more: String = examined.judgement.texts().map(|note| format!(" [{note}]")).collect();
    let remarks = examined.remarks.text();
    if !remarks.is_empty() {
        more += &format!(" {{{remarks}}}");
    }
    let style = match concern {
        Concern::None => Style::new(),
        Concern::Trouble => Style::new().fg(Color::Yellow),
        Concern::Failure => Style::new().fg(Color::Red),
    };
    Line::from(vec![Span::styled(text, style), Span::styled(more, style.add_modifier(Modifier::BOLD))])
}

fn flows(frame: &mut Frame<'_>, area: Rect, table: &FlowTable) {
    let titles = Column::ALL.map(|column| {
        let arrow = match (column == table.column, table.is_reversed) {
            (false, _) => "",
            (true, false) => "\u{2191}",
            (true, true) => "\u{2193}",
        };
        let style =
            if column == table.column { Style::new().bold().underlined() } else { Style::new().bold() };
        Span::styled(padded(column, &format!("{}{arrow}", column.title())), style)
    });
    let visible = table.rows.iter().enumerate().skip(table.cursor.top).take(area.height.into());
    let rows = visible.map(|(at, row)| {
        let text: String = Column::ALL.iter().map(|column| padded(*column, &cell(row, *column))).collect();
        let line = Line::raw(text);
        let line = if row.drops > 0 || row.trouble > 0 { line.yellow() } else { line };
        if at == table.cursor.row { line.patch_style(CHOSEN) } else { line }
    });
    let lines = std::iter::once(Line::from(titles.to_vec())).chain(rows);
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), area);
}

fn cell(row: &Row, column: Column) -> String {
    match column {
        Column::Number => row.number.to_string(),
        Column::Protocol => row.protocol.clone(),
        Column::From => row.from.clone(),
        Column::To => row.to.clone(),
        Column::Packets => row.packets.to_string(),
        Column::Bytes => row.bytes.to_string(),
        Column::Trouble => row.trouble.to_string(),
        Column::Rtt => row.rtt.map_or(String::new(), |rtt| format!("{rtt:.2?}")),
        Column::Duration => format!("{:.3}", row.duration.as_secs_f64()),
        Column::Drops => row.drops.to_string(),
        Column::End => row.end.clone(),
    }
}

fn padded(column: Column, text: &str) -> String {
    match column {
        Column::Number => format!("{text:>6} "),
        Column::Protocol => format!("{text:<9} "),
        Column::From | Column::To => format!("{text:<21} "),
        Column::End => format!(" {text}"),
        _ => format!("{text:>9} "),
    }
}

fn text<'a>(frame: &mut Frame<'_>, area: Rect, lines: impl Iterator<Item = Line<'a>>, cursor: Cursor) {
    let visible: Vec<Line<'_>> = lines.skip(cursor.top).take(area.height.into()).collect();
    frame.render_widget(Paragraph::new(visible), area);
}

fn prompt(frame: &mut Frame<'_>, panes: &Panes, model: &Model) {
    let Some(prompt) = &model.prompt else { return };
    let label = prompt.purpose.label();
    let width = usize::from(panes.prompt.width);
    let before: String = prompt.text.chars().take(prompt.cursor).collect();
    let column = Span::raw(label).width() + Span::raw(before).width();
    // A line that does not fit is shown so that its cursor is visible.
    let skipped = (column + 1).saturating_sub(width);
    let scroll = u16::try_from(skipped).unwrap_or(u16::MAX);
    let line = Line::from(vec![Span::raw(label).bold(), Span::raw(prompt.text.as_str())]);
    frame.render_widget(Paragraph::new(line).scroll((0, scroll)), panes.prompt);
    if let Some((at, message)) = &prompt.fault {
        let pointed = match at {
            Some(at) => {
                let before: String = prompt.text.chars().take(*at).collect();
                let column = Span::raw(label).width() + Span::raw(before).width();
                let column = column.saturating_sub(skipped);
                let has_room = column + 2 + message.chars().count() <= width;
                match column.checked_sub(message.chars().count() + 1) {
                    Some(space) if !has_room => format!("{}{message} ^", " ".repeat(space)),
                    _ => format!("{}^ {message}", " ".repeat(column)),
                }
            }
            None => message.clone(),
        };
        frame.render_widget(Paragraph::new(pointed).red(), panes.status);
    }
    let x = panes.prompt.x.saturating_add(u16::try_from(column - skipped).unwrap_or(u16::MAX));
    let position = Position::new(x, panes.prompt.y);
    if panes.prompt.contains(position) {
        frame.set_cursor_position(position);
    }
}

const BAR: Style = Style::new().add_modifier(Modifier::REVERSED);
const CHOSEN: Style = Style::new().add_modifier(Modifier::REVERSED);
