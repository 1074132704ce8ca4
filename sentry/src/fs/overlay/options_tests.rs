use super::*;

#[track_caller]
fn shows(data: &str, shown: &str) {
    assert_eq!(OverlayOptions::parse(data).map(|o| o.show()), Ok(shown.to_owned()), "{data}");
}

#[test]
fn options_are_shown_as_linux_shows_them() {
    shows("lowerdir=a:b", "lowerdir=a:b,redirect_dir=on");
    let both = "lowerdir=a,upperdir=u,workdir=w";
    shows(both, both);
    for same in ["redirect_dir=on", "redirect_dir=nofollow", "uuid=off", "default_permissions"] {
        shows(&format!("{both},{same}"), &format!("{both},{same}"));
    }
    for silent in ["redirect_dir=off", "redirect_dir=follow", "index=off", "xino=on", "xino=auto"] {
        shows(&format!("{both},{silent}"), both);
    }
    shows(&format!("{both},metacopy=on"), &format!("{both},redirect_dir=on,metacopy=on"));
    shows(&format!("{both},volatile"), &format!("{both},fsync=volatile"));
    shows(&format!("{both},userxattr"), &format!("{both},redirect_dir=nofollow,userxattr"));
    shows("lowerdir=a,lowerdir=b,upperdir=u,workdir=w", "lowerdir=b,upperdir=u,workdir=w");
    shows("lowerdir+=a,lowerdir+=b", "lowerdir+=a,lowerdir+=b,redirect_dir=on");
    shows(r"lowerdir=x\:y:a,upperdir=u,workdir=w", r"lowerdir=x\134:y:a,upperdir=u,workdir=w");
    shows("lowerdir=sp ace:a,upperdir=u,workdir=w", r"lowerdir=sp\040ace:a,upperdir=u,workdir=w");
}

#[test]
fn what_linux_refuses_is_invalid() {
    let both = "lowerdir=a,upperdir=u,workdir=w";
    for bad in [
        "",
        "lowerdir=a",
        "lowerdir=a:b,upperdir=u",
        "upperdir=u,workdir=w",
        "lowerdir=,upperdir=u,workdir=w",
        "lowerdir=a:,upperdir=u,workdir=w",
        "lowerdir=:a,upperdir=u,workdir=w",
        "lowerdir=a::,upperdir=u,workdir=w",
        "lowerdir=a::b:c,upperdir=u,workdir=w",
        "lowerdir+=a,lowerdir=b",
        "datadir+=a,lowerdir+=b",
        &format!("{both},bogus"),
        &format!("{both},redirect_dir=maybe"),
        &format!("{both},userxattr,redirect_dir=on"),
        &format!("{both},userxattr,metacopy=on"),
        &format!("{both},metacopy=on,redirect_dir=nofollow"),
    ] {
        assert_eq!(OverlayOptions::parse(bad), Err(Errno::EINVAL), "{bad}");
    }
}

#[test]
fn layers_of_data_come_behind_two_colons() {
    let options = OverlayOptions::parse("lowerdir=a:b::c::d,upperdir=u,workdir=w").unwrap();
    assert_eq!((options.lower, options.data), (vec!["a".into(), "b".into()], vec!["c".into(), "d".into()]));
}

#[test]
fn backslashes_take_the_meaning_from_what_follows() {
    let options = OverlayOptions::parse(r"lowerdir=x\:y:a\,b,upperdir=u,workdir=w").unwrap();
    let paths: Vec<String> = options.lower.iter().map(|path| unescape(path)).collect();
    assert_eq!(paths, ["x:y", "a,b"]);
}
