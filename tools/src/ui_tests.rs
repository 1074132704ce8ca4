//! What keys do to the model, and what is on the screen.

use std::sync::Arc;
use std::time::Duration;

use netstack_sim::{HostSpec, LinkSpec, Loss};
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Cell;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::draw;
use super::flow_table::Column;
use super::model::{Model, Request, View};
use crate::filter::Filter;
use crate::plot::Kind;
use crate::reassembly::Direction;
use crate::source::{Interface, Packet};
use crate::testing::{examine, packets, plain_link, simulate};

/// A transfer with losses: more packets than fit on any screen, and one that is malformed at the end.
fn capture() -> Vec<Packet> {
    let link = LinkSpec { loss: Loss::Random { ppm: 20_000 }, ..plain_link() };
    let mut packets = packets(simulate(3, 100_000, link, &HostSpec::default()).file);
    packets.push(raw(vec![0xff; 3], 1, "drop: too short\nprocess: 12 redis\nstate: CLOSED\nby hand"));
    packets
}

fn raw(data: Vec<u8>, link_type: u32, comment: &str) -> Packet {
    Packet {
        time: Duration::from_secs(1),
        interface: Arc::new(Interface { number: 0, name: None, link_type }),
        course: None,
        original_len: u32::try_from(data.len()).unwrap(),
        data,
        comments: vec![comment.to_owned()],
    }
}

fn model(packets: Vec<Packet>) -> Model {
    let mut model = Model::new("test".into(), "", Filter::default());
    model.resize(100, 30);
    model.add(packets);
    model.end = Some(Ok(()));
    model
}

/// Types a text; `<Name>` is a key without a character. The filter gets as far as it can after each.
fn press(model: &mut Model, text: &str) -> Request {
    let mut request = Request::Nothing;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (name, after) = match rest.strip_prefix('<').and_then(|inside| inside.split_once('>')) {
            Some((name, after)) => (name, after),
            None => ("", &rest[first.len_utf8()..]),
        };
        rest = after;
        let code = match name {
            "" => KeyCode::Char(first),
            "Enter" => KeyCode::Enter,
            "Esc" => KeyCode::Esc,
            "Tab" => KeyCode::Tab,
            "Up" => KeyCode::Up,
            "Down" => KeyCode::Down,
            "PgUp" => KeyCode::PageUp,
            "PgDn" => KeyCode::PageDown,
            "Home" => KeyCode::Home,
            "End" => KeyCode::End,
            "Left" => KeyCode::Left,
            "Right" => KeyCode::Right,
            "BS" => KeyCode::Backspace,
            "Del" => KeyCode::Delete,
            "lt" => KeyCode::Char('<'),
            _ if name.starts_with('^') => KeyCode::Char(name.chars().nth(1).unwrap()),
            _ => panic!("no key {name}"),
        };
        let control = if name.starts_with('^') { KeyModifiers::CONTROL } else { KeyModifiers::NONE };
        request = model.on_key(KeyEvent::new(code, control));
        while model.advance(7) {}
    }
    request
}

fn screen(model: &mut Model, width: u16, height: u16) -> Vec<String> {
    model.resize(width, height);
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw::draw(frame, model)).unwrap();
    let cells = terminal.backend().buffer().content();
    cells.chunks(width.into()).map(|row| row.iter().map(Cell::symbol).collect()).collect()
}

#[test]
fn keys_move_through_packets() {
    let all = capture().len();
    // The list has 16 rows.
    for (keys, row, top) in [
        ("", 0, 0),
        ("<Down>", 1, 0),
        ("j<Down>k", 1, 0),
        ("<Up>", 0, 0),
        ("<PgDn>", 16, 1),
        ("<PgDn><PgDn><Up>", 31, 17),
        ("<PgDn><PgDn><PgUp><PgUp><Down>", 1, 0),
        ("<End>", all - 1, all - 16),
        ("G<Down> ", all - 1, all - 16),
        ("<End><Home>", 0, 0),
        ("<^f><^b>", 0, 0),
    ] {
        let mut model = model(capture());
        press(&mut model, keys);
        assert_eq!((model.packets.row, model.packets.top), (row, top), "{keys}");
    }
}

#[test]
fn a_filter_is_typed_checked_and_applied() {
    let (examined, _) = examine(capture());
    for (keys, filter) in [
        ("flen > 1000<Enter>", "len > 1000"),
        ("flen > 1000<Enter>f<^u>flow 0<Enter>", "flow 0"),
        ("flen > 1000<Enter>a", ""),
        ("flen >  1000<Home><Del>l<End><BS><BS><BS>50<Enter>", "len >  150"),
        ("flen<Esc>", ""),
        ("x", "flow 0"),
        ("2<Enter>", "flow 0"),
        ("fdrop<Enter>", "drop"),
    ] {
        let mut model = model(capture());
        press(&mut model, keys);
        let parsed: Filter = filter.parse().unwrap();
        let wanted: Vec<u64> = examined.iter().filter(|e| parsed.matches(e)).map(|e| e.number).collect();
        assert_eq!(model.filter, filter, "{keys}");
        let rows = 0..model.capture.len();
        let shown: Vec<u64> = rows.map(|row| model.capture.examined(row).unwrap().number).collect();
        assert_eq!(shown, wanted, "{keys}");
    }
}

#[test]
fn an_error_is_pointed_at_and_the_old_filter_stays() {
    let mut model = model(capture());
    let all = model.capture.len();
    press(&mut model, "ftcp and prot 80<Enter>");
    let screen = screen(&mut model, 80, 24);
    let typed = screen[22].find("prot").unwrap();
    assert_eq!(screen[23].find('^'), Some(typed), "{:?}", screen[23]);
    assert!(screen[23].contains("prot"), "{:?}", screen[23]);
    press(&mut model, "<Esc>");
    assert_eq!((model.filter.as_str(), model.capture.len()), ("", all));
}

#[test]
fn the_chosen_packet_stays_chosen_when_the_filter_changes() {
    let mut model = model(capture());
    press(&mut model, "<PgDn><PgDn>");
    let number = model.capture.examined(model.packets.row).unwrap().number;
    press(&mut model, &format!("fnumber >= {}<Enter>", number - 3));
    assert_eq!((model.packets.row, model.capture.examined(3).unwrap().number), (3, number));
    press(&mut model, "f<^u>malformed and not malformed<Enter>");
    assert_eq!((model.capture.len(), model.details.len()), (0, 0));
    press(&mut model, "<Down><End>nNeEscx");
    press(&mut model, "a");
    assert!(!model.details.is_empty());
}

#[test]
fn search_and_problems_are_found_in_both_directions() {
    let (examined, _) = examine(capture());
    let troubled: Vec<usize> = examined
        .iter()
        .enumerate()
        .filter(|(_, e)| {
            e.remarks.drop.is_some() || e.judgement.notes.iter().any(|n| n.name() != "window-update")
        })
        .map(|(row, _)| row)
        .collect();
    assert!(troubled.len() > 3);
    let mut model = model(capture());
    let mut visited = Vec::new();
    for _ in &troubled {
        press(&mut model, "e");
        visited.push(model.packets.row);
    }
    assert_eq!(visited, troubled);
    press(&mut model, "e");
    assert_eq!((model.packets.row, model.message.as_str()), (troubled[0], "went round"));
    press(&mut model, "E");
    assert_eq!(model.packets.row, *troubled.last().unwrap());
    // Both ends send a SYN with this option; from the end the search goes round.
    let syns: Vec<usize> = examined
        .iter()
        .enumerate()
        .filter(|(_, e)| e.dissection.as_ref().is_some_and(|d| d.summary.contains(" mss ")))
        .map(|(row, _)| row)
        .collect();
    press(&mut model, "<End>/ MSS <Enter>");
    assert_eq!(model.packets.row, syns[0]);
    press(&mut model, "n");
    assert_eq!(model.packets.row, syns[1]);
    press(&mut model, "N");
    assert_eq!(model.packets.row, syns[0]);
    press(&mut model, "/<^u>nowhere<Enter>");
    assert_eq!((model.packets.row, model.message.as_str()), (syns[0], "no packet has \"nowhere\""));
}

#[test]
fn details_show_layers_and_what_the_stack_wrote() {
    let mut model = model(capture());
    let first = screen(&mut model, 120, 60).join("\n");
    for wanted in ["Packet 1:", "IPv4 ", "TTL ", "flags SYN", "option: maximum segment size", "000000  "] {
        assert!(first.contains(wanted), "{wanted}: {first}");
    }
    press(&mut model, "<End>");
    let last = screen(&mut model, 120, 60).join("\n");
    for wanted in
        ["drop: too short", "process: 12 redis", "state: CLOSED", "comment: by hand", "ff ff ff", "malformed"]
    {
        assert!(last.contains(wanted), "{wanted}: {last}");
    }
    model.resize(100, 30);
    press(&mut model, "<Home><Enter><Down><Down>");
    assert_eq!((model.packets.row, model.details_cursor.top), (0, 2));
    press(&mut model, "<Esc><Down>");
    assert_eq!((model.packets.row, model.details_cursor.top), (1, 0));
}

#[test]
fn the_last_packet_is_followed_until_the_user_moves() {
    let mut all = capture();
    let later = all.split_off(40);
    let mut model = model(all);
    press(&mut model, "<Down>");
    model.add(later[..5].to_vec());
    assert_eq!(model.packets.row, 1);
    press(&mut model, "<End>");
    model.add(later[5..10].to_vec());
    assert_eq!(model.packets.row, 49);
    press(&mut model, "<Up>");
    model.add(later[10..].to_vec());
    assert_eq!(model.packets.row, 48);
}

#[test]
fn flows_are_sorted_by_any_column() {
    // An ARP question of the simulation, the connection, and more of it.
    let mut both = capture();
    for (offset, mut packet) in
        packets(simulate(5, 500, plain_link(), &HostSpec::default()).file).into_iter().enumerate()
    {
        packet.time += Duration::from_secs(60 + offset as u64);
        both.push(packet);
    }
    let mut model = model(both);
    press(&mut model, "2");
    assert!(model.flows.rows.len() > 1, "{:?}", model.flows.rows);
    for column in Column::ALL {
        assert_eq!(model.flows.column, column);
        let forward: Vec<usize> = model.flows.rows.iter().map(|row| row.number).collect();
        press(&mut model, "r");
        let backward: Vec<usize> = model.flows.rows.iter().map(|row| row.number).collect();
        if column == Column::Number || column == Column::Bytes {
            assert_eq!(forward, backward.into_iter().rev().collect::<Vec<_>>(), "{column:?}");
        }
        press(&mut model, "r<Right>");
    }
    press(&mut model, "<Left><Left><Left><Left><Left>r");
    assert_eq!(model.flows.column, Column::Bytes);
    let bytes: Vec<u64> = model.flows.rows.iter().map(|row| row.bytes).collect();
    assert!(bytes.is_sorted_by(|a, b| a >= b), "{bytes:?}");
    assert_eq!(model.flows.rows.len(), model.capture.examiner.flows().count());
}

#[test]
fn streams_and_charts_have_both_directions() {
    let mut model = model(capture());
    press(&mut model, "s");
    let Some(View::Stream(view)) = model.views.last() else { panic!("no stream") };
    assert_eq!(view.direction, Direction::FromClient);
    let text: usize = view.lines.iter().map(|line| line.chars().count() + 1).sum();
    assert!(text > 90_000, "{text}");
    press(&mut model, "x");
    let Some(View::Stream(view)) = model.views.last() else { panic!("no stream") };
    assert_eq!(view.lines.len(), 100_000_usize.div_ceil(16));
    press(&mut model, "d");
    let Some(View::Stream(view)) = model.views.last() else { panic!("no stream") };
    assert_eq!(
        (view.direction, view.lines.as_slice()),
        (Direction::FromServer, ["no data".to_owned()].as_slice())
    );
    press(&mut model, "c");
    for kind in [Kind::Sequence, Kind::Throughput, Kind::Rtt, Kind::Window, Kind::Sequence] {
        let Some(View::Chart(view)) = model.views.last() else { panic!("no chart") };
        assert_eq!(view.kind, kind);
        let screen = screen(&mut model, 80, 24).join("\n");
        let dots = screen.chars().filter(|c| ('\u{2801}'..='\u{28ff}').contains(c)).count();
        assert!(dots > 20, "{kind:?}: {screen}");
        press(&mut model, "t");
    }
    press(&mut model, "q");
    assert!(matches!(model.views.last(), Some(View::Packets)));
    press(&mut model, "<End>s");
    assert_eq!(model.message, "that is for TCP connections");
}

#[test]
fn what_is_shown_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.pcapng");
    let mut model = model(capture());
    let request = press(&mut model, &format!("fdrop or number = 2<Enter>w{}<Enter>", path.display()));
    assert_eq!(request, Request::Write(path.clone()));
    assert_eq!(super::write(&model, &path), format!("wrote 2 packets to {}", path.display()));
    let written = packets(std::fs::read(&path).unwrap());
    let all = capture();
    for (written, wanted) in written.iter().zip([&all[1], all.last().unwrap()]) {
        assert_eq!((&written.data, &written.comments), (&wanted.data, &wanted.comments));
    }
    // Not again: it could be what is being read.
    assert!(super::write(&model, &path).starts_with("cannot write"));
}

#[test]
fn keys_lead_out() {
    for (keys, request) in [
        ("q", Request::Quit),
        ("<^c>", Request::Quit),
        ("<Esc>", Request::Nothing),
        ("?q", Request::Nothing),
        ("?qq", Request::Quit),
        ("2sqq", Request::Nothing),
        ("2sqqq", Request::Quit),
        ("fq", Request::Nothing),
        ("f<^c>q", Request::Quit),
        ("w<Enter>", Request::Nothing),
    ] {
        assert_eq!(press(&mut model(capture()), keys), request, "{keys}");
    }
}

/// Each view, and each prompt.
const VIEWS: [&str; 10] =
    ["", "<End>", "2", "2<Right>r", "s", "sx", "c", "?", "fprot 80 and some more of it", "/text"];

#[test]
fn any_size_can_be_drawn() {
    for keys in VIEWS {
        let mut model = model(capture());
        press(&mut model, keys);
        for (width, height) in [(1, 1), (2, 3), (10, 4), (80, 1), (1, 50), (80, 24), (600, 100), (40, 5)] {
            screen(&mut model, width, height);
            let moves = if model.prompt.is_some() { "<Left>" } else { "<Down><PgDn><Up>" };
            press(&mut model, moves);
            screen(&mut model, width, height);
        }
    }
}

#[test]
fn an_empty_capture_is_shown_as_such() {
    for keys in VIEWS {
        let mut model = model(Vec::new());
        press(&mut model, keys);
        press(&mut model, "<Esc>1<Down><End>eEnNxscd");
        assert!(screen(&mut model, 80, 24)[0].contains("0 of 0 packets"));
    }
}

#[test]
fn the_help_names_each_note_that_is_shortened_there() {
    let text = super::help::LINES.concat();
    for key in ["PageUp", " f ", " w ", " s ", " c ", " x ", " d ", " r ", " a ", "n N", "e E", "Ctrl-C"] {
        assert!(text.contains(key), "{key}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn malformed_packets_are_shown(
        frames in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..120), 0_usize..4), 1..8),
        flips in prop::collection::vec((0_usize..60, 0_usize..1500, any::<u8>()), 0..60),
    ) {
        let kinds = [1, 101, 113, 228];
        let mut all: Vec<Packet> =
            frames.into_iter().map(|(data, kind)| raw(data, kinds[kind], "x\u{1b}[2J")).collect();
        // And packets that are nearly right.
        all.extend(packets(TRANSFER.clone()).into_iter().take(60));
        for (packet, byte, value) in flips {
            if let Some(byte) = all.get_mut(packet).and_then(|packet| packet.data.get_mut(byte)) {
                *byte = value;
            }
        }
        let mut model = model(all);
        for _ in 0..model.capture.len() {
            let screen = screen(&mut model, 90, 40);
            let has_escape = screen.iter().any(|line| line.contains('\u{1b}'));
            prop_assert!(!has_escape);
            press(&mut model, "<Down>");
        }
        press(&mut model, "2sdxcdttt1<Home>sdx");
        screen(&mut model, 90, 40);
    }
}

static TRANSFER: std::sync::LazyLock<Vec<u8>> =
    std::sync::LazyLock::new(|| simulate(3, 20_000, plain_link(), &HostSpec::default()).file);
