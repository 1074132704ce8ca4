use super::*;

/// Types `keys` into a fresh terminal after `change`; returns the lines that can be read and what is on the screen.
#[track_caller]
fn typed(change: impl FnOnce(&mut Termios), keys: &[u8]) -> (Vec<Vec<u8>>, String) {
    let mut tty = Discipline::default();
    let mut termios = tty.termios;
    change(&mut termios);
    tty.set_termios(termios);
    tty.on_typed(keys);
    let mut lines = Vec::new();
    while tty.can_read() {
        lines.push(tty.read(100).unwrap());
    }
    (lines, String::from_utf8(tty.take_output(1000)).unwrap())
}

#[test]
fn canonical_editing() {
    type Row = (&'static [u8], &'static [&'static [u8]], &'static str);
    let rows: [Row; 10] = [
        (b"hi\r", &[b"hi\n"], "hi\r\n"),
        (b"hi", &[], "hi"),
        (b"hj\x7fi\n", &[b"hi\n"], "hj\x08 \x08i\r\n"),
        (b"\x7f\n", &[b"\n"], "\r\n"),
        (b"a b\x17c\n", &[b"a c\n"], "a b\x08 \x08c\r\n"),
        (b"ab\x15c\n", &[b"c\n"], "ab\x08 \x08\x08 \x08c\r\n"),
        (b"ab\x04", &[b"ab"], "ab"),
        (b"\x04", &[b""], ""),
        (b"\x16\x03\n", &[b"\x03\n"], "^\x08^C\r\n"),
        (b"\x01\x7f\n", &[b"\n"], "^A\x08 \x08\x08 \x08\r\n"),
    ];
    for (keys, lines, screen) in rows {
        let (got, shown) = typed(|_| {}, keys);
        assert_eq!((got, shown.as_str()), (lines.iter().map(|l| l.to_vec()).collect(), screen), "{keys:?}");
    }
}

#[test]
fn raw_mode_passes_everything() {
    let raw = |t: &mut Termios| {
        t.c_lflag &= !(ICANON | ECHO | ISIG | IEXTEN);
        t.c_iflag &= !(ICRNL | IXON);
    };
    assert_eq!(typed(raw, b"a\x03\r\x13\x7f").0, [b"a\x03\r\x13\x7f".to_vec()]);
}

#[test]
fn keys_that_signal_flush_the_line() {
    let mut tty = Discipline::default();
    assert_eq!(tty.on_typed(b"abc\x03"), [KeySignal::Interrupt]);
    tty.on_typed(b"d\n");
    assert_eq!(tty.read(10).unwrap(), b"d\n");
    assert_eq!(tty.on_typed(b"\x1c\x1a"), [KeySignal::Quit, KeySignal::Suspend]);
}

#[test]
fn a_short_read_leaves_the_rest_of_the_line() {
    let mut tty = Discipline::default();
    tty.on_typed(b"hello\nx\n");
    assert_eq!(tty.read(3).unwrap(), b"hel");
    assert_eq!(tty.read(10).unwrap(), b"lo\n");
    assert_eq!(tty.read(10).unwrap(), b"x\n");
    assert_eq!(tty.read(10), None);
}

#[test]
fn an_end_after_a_full_read_is_no_end_of_file() {
    let mut tty = Discipline::default();
    tty.on_typed(b"ab\x04");
    assert_eq!(tty.read(2).unwrap(), b"ab");
    assert_eq!(tty.read(2), None);
}

#[test]
fn output_is_processed() {
    let rows: [(u32, &[u8], &[u8]); 5] = [
        (OPOST | ONLCR, b"a\nb", b"a\r\nb"),
        (0, b"a\nb", b"a\nb"),
        (OPOST | OCRNL, b"a\rb", b"a\nb"),
        (OPOST | XTABS, b"ab\tc", b"ab      c"),
        (OPOST | ONOCR, b"\ra\r", b"a\r"),
    ];
    for (flags, written, shown) in rows {
        let mut tty = Discipline::default();
        tty.termios.c_oflag = flags;
        assert_eq!(tty.on_written(written), written.len());
        assert_eq!(tty.take_output(100), shown, "{flags:o}");
    }
}

#[test]
fn stopped_output_waits_for_start() {
    let mut tty = Discipline::default();
    tty.on_typed(b"\x13");
    assert_eq!(tty.on_written(b"x"), 0);
    tty.on_typed(b"\x11");
    assert_eq!(tty.on_written(b"x"), 1);
}

#[test]
fn utf8_characters_are_erased_whole() {
    let utf8 = |t: &mut Termios| t.c_iflag |= IUTF8;
    assert_eq!(typed(utf8, "aä\x7f\n".as_bytes()).0, [b"a\n".to_vec()]);
}

#[test]
fn leaving_canonical_mode_gives_up_the_typed_part() {
    let mut tty = Discipline::default();
    tty.on_typed(b"ab");
    assert!(!tty.can_read());
    let mut raw = tty.termios;
    raw.c_lflag &= !ICANON;
    tty.set_termios(raw);
    assert_eq!(tty.read(10).unwrap(), b"ab");
}
