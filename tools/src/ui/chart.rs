//! A connection over time, in a terminal's characters.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};
use ratatui::symbols::Marker;
use ratatui::widgets::{Axis, Chart, Dataset, GraphType, Paragraph};

use super::model::ChartView;
use crate::plot::{Kind, SpanKind};

/// Points of one colour.
struct Points {
    name: &'static str,
    colour: Color,
    is_line: bool,
    points: Vec<(f64, f64)>,
}

pub(super) const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Sequence => "sequence numbers",
        Kind::Rtt => "round-trip times in ms",
        Kind::Window => "window in bytes",
        Kind::Throughput => "throughput in bytes/s",
    }
}

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, view: &ChartView) {
    let sets = sets(view, area.width);
    let all = || sets.iter().flat_map(|set| &set.points);
    let Some(&(first, _)) = all().next() else {
        frame.render_widget(Paragraph::new("no data in this direction"), area);
        return;
    };
    let x = all().fold([first, first], |[low, high], &(x, _)| [low.min(x), high.max(x)]);
    let y = all().fold([0.0_f64, 1.0], |[low, high], &(_, y)| [low.min(y), high.max(y)]);
    // A single moment has no width.
    let x = if x[1] > x[0] { x } else { [x[0], x[0] + 1e-3] };
    let datasets = sets.iter().map(|set| {
        Dataset::default()
            .name(set.name)
            .marker(Marker::Braille)
            .graph_type(if set.is_line { GraphType::Line } else { GraphType::Scatter })
            .style(Style::new().fg(set.colour))
            .data(&set.points)
    });
    let seconds = [x[0], f64::midpoint(x[0], x[1]), x[1]].map(|at| format!("{at:.3} s"));
    let values = [y[0], f64::midpoint(y[0], y[1]), y[1]].map(short);
    let chart = Chart::new(datasets.collect())
        .x_axis(Axis::default().bounds(x).labels(seconds))
        .y_axis(Axis::default().bounds(y).labels(values));
    frame.render_widget(chart, area);
}

fn sets(view: &ChartView, width: u16) -> Vec<Points> {
    let series = &view.series;
    let set = |name, colour, is_line, points| Points { name, colour, is_line, points };
    let spans = |wanted: &[SpanKind]| {
        let spans = series.segments.iter().filter(|span| wanted.contains(&span.kind));
        spans.flat_map(|span| [(span.at, span.from), (span.at, span.to)]).collect()
    };
    let sets = match view.kind {
        Kind::Sequence => vec![
            set("window", Color::DarkGray, true, series.edges.clone()),
            set("acknowledged", Color::Green, true, series.acks.clone()),
            set("data", Color::Cyan, false, spans(&[SpanKind::New, SpanKind::OutOfOrder])),
            set("again", Color::Red, false, spans(&[SpanKind::Retransmitted])),
        ],
        Kind::Rtt => vec![set("rtt", Color::Cyan, false, series.rtts.clone())],
        Kind::Window => vec![
            set("window", Color::Green, true, series.windows.clone()),
            set("in flight", Color::Cyan, true, series.in_flight.clone()),
        ],
        Kind::Throughput => {
            let [all, new] = series.throughput(u32::from(width.clamp(1, MAX_PARTS)));
            vec![set("all", Color::Red, true, all), set("new", Color::Green, true, new)]
        }
    };
    sets.into_iter().filter(|set| !set.points.is_empty()).collect()
}

/// Three digits and a power of a thousand.
fn short(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{:.2} G", v / 1e9),
        v if v >= 1e6 => format!("{:.2} M", v / 1e6),
        v if v >= 1e3 => format!("{:.1} k", v / 1e3),
        v => format!("{v:.1}"),
    }
}

/// Throughput is not drawn finer.
const MAX_PARTS: u16 = 200;
