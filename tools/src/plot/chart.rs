//! Drawing points as SVG.

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::Kind;
use super::series::{Series, Span, SpanKind};

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Points = [(f64, f64)];

/// One plot as an SVG document.
pub(super) fn draw(title: &str, kind: Kind, series: &Series) -> anyhow::Result<String> {
    let end = series.end();
    match kind {
        Kind::Sequence => sequence(title, series, end),
        Kind::Rtt => {
            let title = format!("{title}: round-trip time");
            with_chart(&title, "ms", (end, top(&series.rtts)), |chart| {
                chart.draw_series(series.rtts.iter().map(|&point| Circle::new(point, 2, BLUE.filled())))?;
                label(chart, "samples", BLUE)
            })
        }
        Kind::Window => {
            let title = format!("{title}: window");
            let height = top(&series.windows).max(top(&series.in_flight));
            with_chart(&title, "bytes", (end, height), |chart| {
                line(chart, "offered window", &steps(&series.windows), GREEN_DARK)?;
                line(chart, "in flight", &series.in_flight, BLUE)
            })
        }
        Kind::Throughput => {
            let [all, new] = series.throughput(PARTS);
            let title = format!("{title}: throughput");
            with_chart(&title, "bytes/s", (end, top(&all)), |chart| {
                line(chart, "with copies", &all, RED)?;
                line(chart, "without copies", &new, BLUE)
            })
        }
    }
}

/// In the manner of tcptrace: segments as strokes between the line of acknowledgements and that of the window.
fn sequence(title: &str, series: &Series, end: f64) -> anyhow::Result<String> {
    let highest = series.segments.iter().map(|span| span.to).fold(0.0, f64::max);
    // A window that is much larger than what was sent would hide everything else.
    let height = top(&series.edges).clamp(highest, (highest * 1.25).max(highest + 1.0));
    with_chart(&format!("{title}: sequence numbers"), "bytes", (end, height), |chart| {
        line(chart, "acknowledged", &steps(&series.acks), GREEN_DARK)?;
        let edges: Vec<_> = series.edges.iter().map(|&(at, edge)| (at, edge.min(height))).collect();
        line(chart, "window", &steps(&edges), ORANGE)?;
        let of = |kind| series.segments.iter().filter(move |span| span.kind == kind);
        // What is rare is drawn last and wide, lest it drown.
        strokes(chart, "SACK", series.sacks.iter(), PURPLE.mix(0.4), 1)?;
        strokes(chart, "data", of(SpanKind::New), BLUE.mix(1.0), 2)?;
        strokes(chart, "out of order", of(SpanKind::OutOfOrder), MAGENTA.mix(1.0), 4)?;
        strokes(chart, "retransmitted", of(SpanKind::Retransmitted), RED.mix(1.0), 4)
    })
}

fn with_chart(
    title: &str,
    unit: &str,
    (width, height): (f64, f64),
    fill: impl FnOnce(&mut Chart<'_, '_>) -> anyhow::Result<()>,
) -> anyhow::Result<String> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(84)
            .build_cartesian_2d(0.0..width.max(1e-6), 0.0..height.max(1.0))?;
        chart.configure_mesh().x_desc("seconds").y_desc(unit).light_line_style(WHITE).draw()?;
        fill(&mut chart)?;
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK)
            .draw()?;
        area.present()?;
    }
    Ok(text)
}

fn line(chart: &mut Chart<'_, '_>, name: &str, points: &Points, color: RGBColor) -> anyhow::Result<()> {
    chart.draw_series(LineSeries::new(points.iter().copied(), color))?;
    label(chart, name, color)
}

fn strokes<'s>(
    chart: &mut Chart<'_, '_>,
    name: &str,
    spans: impl Iterator<Item = &'s Span>,
    color: RGBAColor,
    width: u32,
) -> anyhow::Result<()> {
    let paths = spans.map(|span| {
        PathElement::new(vec![(span.at, span.from), (span.at, span.to)], color.stroke_width(width))
    });
    chart.draw_series(paths)?;
    label(chart, name, color)
}

/// Adds the colour to the legend.
fn label(chart: &mut Chart<'_, '_>, name: &str, color: impl Into<RGBAColor>) -> anyhow::Result<()> {
    let color = color.into();
    let empty = LineSeries::new(std::iter::empty::<(f64, f64)>(), color);
    chart
        .draw_series(empty)?
        .label(name)
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
    Ok(())
}

/// What holds until the next point.
fn steps(points: &Points) -> Vec<(f64, f64)> {
    let mut steps: Vec<(f64, f64)> = Vec::with_capacity(points.len() * 2);
    for &(at, value) in points {
        if let Some(&(_, before)) = steps.last() {
            steps.push((at, before));
        }
        steps.push((at, value));
    }
    steps
}

fn top(points: &Points) -> f64 {
    points.iter().map(|point| point.1).fold(0.0, f64::max)
}

const SIZE: (u32, u32) = (1100, 560);
/// Moments of a throughput plot.
const PARTS: u32 = 100;
const GREEN_DARK: RGBColor = RGBColor(0, 128, 0);
const ORANGE: RGBColor = RGBColor(230, 130, 0);
const PURPLE: RGBColor = RGBColor(110, 0, 160);
