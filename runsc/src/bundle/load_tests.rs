use super::*;

fn bundle(config: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("rootfs")).unwrap();
    fs::write(dir.path().join("config.json"), config).unwrap();
    dir
}

#[track_caller]
fn refusal(config: &str) -> String {
    let dir = bundle(config);
    let error = Bundle::load(dir.path()).unwrap_err().to_string();
    let shown = error.replace(&dir.path().canonicalize().unwrap().display().to_string(), "B");
    assert!(!shown.contains('\n'), "{shown}");
    shown
}

const PROCESS: &str = r#""process":{"cwd":"/","user":{"uid":0,"gid":0},"args":["true"]}"#;

#[test]
fn a_minimal_bundle_loads() {
    let dir = bundle(&format!(r#"{{"ociVersion":"1.0.2","root":{{"path":"rootfs"}},{PROCESS}}}"#));
    let bundle = Bundle::load(dir.path()).unwrap();
    assert!(bundle.rootfs.ends_with("rootfs"));
    assert_eq!(bundle.network_namespace(), None);
    assert!(!bundle.has_network_namespace());
}

#[test]
fn errors_name_the_file_and_the_field() {
    for (config, expected) in [
        ("", "B/config.json: .: EOF while parsing"),
        (r#"{"ociVersion":"1.0.2","process":{"cwd":1}}"#, "B/config.json: process.cwd: invalid type"),
        (r#"{"ociVersion":"1.0.2"}"#, "B/config.json: process: missing"),
        (r#"{"ociVersion":"2.0.0"}"#, r#"B/config.json: ociVersion: "2.0.0" is not supported"#),
        (
            r#"{"ociVersion":"1.0.2","process":{"cwd":"/","user":{"uid":0,"gid":0},"args":[]}}"#,
            "B/config.json: process.args: missing",
        ),
        (
            r#"{"ociVersion":"1.0.2","process":{"cwd":"x","user":{"uid":0,"gid":0},"args":["a"]}}"#,
            r#"B/config.json: process.cwd: "x" is not supported"#,
        ),
        (&format!(r#"{{"ociVersion":"1.0.2",{PROCESS}}}"#), "B/config.json: root: missing"),
        (
            &format!(r#"{{"ociVersion":"1.0.2","root":{{"path":"nope"}},{PROCESS}}}"#),
            "B/config.json: root.path: B/nope: No such file",
        ),
        (
            &format!(r#"{{"ociVersion":"1.0.2","root":{{"path":"config.json"}},{PROCESS}}}"#),
            "B/config.json: root.path: B/config.json: Not a directory",
        ),
    ] {
        let refused = refusal(config);
        assert!(refused.starts_with(expected), "{refused}\nexpected {expected}");
    }
}

#[test]
fn a_missing_bundle_and_a_missing_file_differ() {
    let dir = tempfile::tempdir().unwrap();
    let error = Bundle::load(&dir.path().join("x")).unwrap_err();
    assert!(matches!(error, LoadError::NoBundle { .. }), "{error}");
    let error = Bundle::load(dir.path()).unwrap_err();
    assert!(matches!(error, LoadError::Unreadable { .. }), "{error}");
}
