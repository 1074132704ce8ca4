//! The committed header is the one that the sources give.

use std::path::Path;

#[test]
fn the_header_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    // In the order in which a reader wants them.
    let sources = [
        "stack",
        "interface",
        "frame",
        "socket",
        "transfer",
        "message",
        "messages",
        "poll",
        "option",
        "info",
        "forward",
    ];
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in sources {
        builder = builder.with_src(root.join(format!("src/{source}.rs")));
    }
    let mut generated = Vec::new();
    builder.generate().unwrap().write(&mut generated);
    let generated = String::from_utf8(generated).unwrap();

    let header = root.join("include/netstack.h");
    if std::env::var_os("UPDATE_HEADER").is_some() {
        std::fs::write(&header, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(&header).unwrap_or_default();
    assert!(
        committed == generated,
        "include/netstack.h is out of date: run UPDATE_HEADER=1 cargo test -p netstack-capi --test header"
    );
}
