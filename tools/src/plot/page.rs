//! A page that needs nothing else: the plots and the flow's figures.

use super::series::Series;
use super::{Kind, chart};
use crate::examine::{FlowView, Subject};
use crate::report;

/// The HTML document with all kinds of plots, `first` first.
pub(super) fn page(title: &str, first: Kind, series: &Series, flow: &FlowView<'_>) -> anyhow::Result<String> {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title>\n<style>{STYLE}</style></head>\n\
         <body><h1>{0}</h1>\n<table>\n",
        escape(title)
    );
    for (name, value) in rows(flow) {
        page += &format!("<tr><th>{}</th><td>{}</td></tr>\n", escape(&name), escape(&value));
    }
    page += "</table>\n";
    let all = [Kind::Sequence, Kind::Rtt, Kind::Window, Kind::Throughput];
    for kind in std::iter::once(first).chain(all.into_iter().filter(|kind| *kind != first)) {
        page += &chart::draw(title, kind, series)?;
        page.push('\n');
    }
    page += "</body></html>\n";
    Ok(page)
}

fn rows(flow: &FlowView<'_>) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    if let Subject::Tcp(connection) = flow.subject {
        let duration = connection.last.saturating_sub(connection.first);
        rows.push(("client".into(), connection.endpoints.source.to_string()));
        rows.push(("server".into(), connection.endpoints.destination.to_string()));
        rows.push(("duration".into(), format!("{duration:?}")));
        rows.push(("end".into(), report::end_of(connection)));
        if let Some(handshake) = connection.handshake {
            rows.push(("handshake".into(), format!("{handshake:?}")));
        }
        rows.push(("from client".into(), report::half_text(&connection.from_client)));
        rows.push(("from server".into(), report::half_text(&connection.from_server)));
    }
    rows.extend(flow.processes.iter().map(|process| ("process".into(), process.to_string())));
    rows.extend(flow.drops.iter().map(|(reason, count)| (format!("dropped: {reason}"), count.to_string())));
    rows
}

/// Names and reasons come from captures: they are text, never markup.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const STYLE: &str = "body{font-family:sans-serif;max-width:1120px;margin:1em auto}th{text-align:left;padding-right:1em;\
                     vertical-align:top}svg{display:block;margin:1em 0}";
