use super::*;

fn no_includes(name: &str) -> Result<String, crate::Diagnostic> {
    panic!("no include is expected: {name}");
}

fn parse_body(body: &str) -> Result<Script, crate::Diagnostic> {
    let text = format!("purpose \"a test\"\nrfc \"none\"\n{body}\n");
    parse("test.pkt", &text, &no_includes)
}

#[track_caller]
fn refuse(body: &str, place: &str, message: &str) {
    let error = parse_body(body).expect_err("it should not be accepted");
    assert_eq!(format!("{}: {}", error.place, error.message), format!("test.pkt:{place}: {message}"));
}

#[test]
fn packets_are_read() {
    let script = parse_body("+0.1 < [ect0] P. 1:1001(1000) ack 1 win 64K <ts 100 0,sack 3:4 x+1:9>").unwrap();
    let StatementKind::Event(When::After(_), action) = &script.body[0].kind else {
        panic!("{:?}", script.body)
    };
    let Action::Inject(packet) = &**action else { panic!("{action:?}") };
    let BodySpec::Tcp(tcp) = &packet.body else { panic!("{packet:?}") };
    assert_eq!((packet.ip.ecn, tcp.flags), (Some(2), 0x18));
    assert_eq!(tcp.options.as_ref().map(Vec::len), Some(2));
    assert!(matches!(&tcp.options.as_ref().unwrap()[1], OptionSpec::Sack(blocks) if blocks.len() == 2));
}

#[test]
fn sequence_numbers_may_depend_on_variables() {
    for text in
        ["> . n(1000) ack 1", "> . 1+n*1000(1000) ack 1", "> a: . (n+1):(n+2)(1) ack 1", "> F. n ack 1"]
    {
        parse_body(text).unwrap();
    }
}

#[test]
fn messages_say_where_and_what() {
    refuse(
        "+0.1 < X 0:0(0)",
        "3:8",
        "expected TCP flags (S F R P . U E W, or `-` for none), `udp` or `icmp`, found `X`",
    );
    refuse("c = accept", "3:11", "expected `(` and the arguments of the call, found the end of the line");
    refuse("* bind(s, 1)", "3:3", "expected `>`: only expected packets come at any time, found `bind(s,`");
    refuse(
        "linux { }\nnetstack { }\n",
        "6:1",
        "expected `why \"...\"`: a deviation has to be explained, found the end of the file",
    );
    refuse("+0 > S. 0(0) <mss 1,bogus>", "3:26", "unknown TCP option `bogus`");
    refuse("+0 listen(s, 1) = 0 x", "3:21", "expected the end of the statement, found `x`");
}

#[test]
fn a_script_says_what_it_is_about() {
    let error = parse("x.pkt", "rfc \"1\"\n", &no_includes).unwrap_err();
    assert_eq!(error.message, "the script does not say its `purpose`");
}

#[test]
fn included_lines_keep_their_place() {
    let text = "purpose \"p\"\nrfc \"r\"\ninclude \"a.inc\"\n";
    let script = parse("x.pkt", text, &|_| Ok("\n+0 close(s) = 0\n".to_owned())).unwrap();
    assert_eq!(script.body[0].place.to_string(), "a.inc:2:1");
    let error = parse("x.pkt", text, &|_| Ok("+0 close(\n".to_owned())).unwrap_err();
    assert_eq!(error.place.to_string(), "a.inc:1:10");
}
