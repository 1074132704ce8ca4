//! Plots show each segment, tell copies apart and are well-formed.

use netstack_sim::{HostSpec, LinkSpec, Loss};

use super::series::{Series, SpanKind};
use super::{Kind, run};
use crate::examine::Subject;
use crate::filter::Filter;
use crate::reassembly::Direction;
use crate::testing::{Simulated, examine, packets, plain_link, simulate};

fn lossy() -> Simulated {
    let link = LinkSpec { loss: Loss::Random { ppm: 20_000 }, ..plain_link() };
    simulate(3, 300_000, link, &HostSpec::default())
}

#[test]
fn series_have_what_analysis_counts() {
    let Simulated { file, client } = lossy();
    let (examined, examiner) = examine(packets(file));
    let mut series = Series::new(Direction::FromClient);
    examined.iter().filter(|packet| packet.flow == Some(0)).for_each(|packet| series.add(packet));
    let Subject::Tcp(connection) = examiner.flow(0).unwrap().subject else { panic!("not TCP") };
    let copies = series.segments.iter().filter(|span| span.kind == SpanKind::Retransmitted).count();
    assert_eq!(copies as u64, client.total_retransmits);
    assert_eq!(series.rtts.len(), connection.from_client.rtt().samples as usize);
    assert!(!series.sacks.is_empty() && !series.windows.is_empty());
    // SYN, data and FIN.
    let last = series.acks.last().unwrap().1;
    assert_eq!(last, 300_002.0);
    assert!(series.segments.iter().all(|span| (0.0..=last).contains(&span.to)));
}

#[test]
fn throughput_adds_up() {
    let (examined, _) = examine(packets(lossy().file));
    let mut series = Series::new(Direction::FromClient);
    examined.iter().filter(|packet| packet.flow == Some(0)).for_each(|packet| series.add(packet));
    let [all, new] = series.throughput(50);
    let (first, last) = (series.segments.first().unwrap().at, series.segments.last().unwrap().at);
    let sum = |points: &[(f64, f64)]| points.iter().map(|p| p.1).sum::<f64>() * (last - first) / 50.0;
    let sent: f64 = series.segments.iter().map(|span| span.to - span.from).sum();
    assert!((sum(&all) - sent).abs() < 1.0, "{} {sent}", sum(&all));
    assert!(sum(&new) < sent && sum(&new) > 299_000.0);
}

#[test]
fn files_are_written_in_both_formats() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("in.pcapng");
    let mut file = packets(lossy().file);
    file[3].comments = vec!["drop: <script>".into()];
    let mut output = crate::output::Output::new(Vec::new(), crate::output::Format::PcapNg).unwrap();
    file.iter().for_each(|packet| output.write(packet).unwrap());
    let crate::output::Output::PcapNg { writer, .. } = output else { panic!("not pcapng") };
    std::fs::write(&capture, writer.into_inner()).unwrap();
    let filter = Filter::default();
    for kind in [Kind::Sequence, Kind::Rtt, Kind::Window, Kind::Throughput] {
        let svg = folder.path().join("out.svg");
        run(&capture, 0, kind, Direction::FromClient, &filter, &svg).unwrap();
        let text = std::fs::read_to_string(&svg).unwrap();
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"), "{kind:?}");
    }
    let html = folder.path().join("out.html");
    run(&capture, 0, Kind::Window, Direction::FromServer, &filter, &html).unwrap();
    let text = std::fs::read_to_string(&html).unwrap();
    assert_eq!(text.matches("<svg").count(), 4);
    assert!(text.contains("dropped: &lt;script&gt;") && !text.contains("<script>"));
    assert!(
        !text.contains("http://")
            || text.matches("http://").count() == text.matches("xmlns=\"http://").count()
    );
    assert!(run(&capture, 9, Kind::Rtt, Direction::FromClient, &filter, &html).is_err());
}
