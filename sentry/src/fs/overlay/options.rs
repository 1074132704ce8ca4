//! The mount options of an overlay (kernel: `fs/overlayfs/params.c`).

use std::fmt::Write as _;

use crate::errno::Errno;

/// What `mount(2)` says about an overlay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OverlayOptions {
    /// The lower layers, topmost first.
    pub lower: Vec<String>,
    /// Layers that only hold the data of files that others name. Nothing here makes such files, so nothing is looked for in them.
    pub data: Vec<String>,
    /// The layer that takes the changes.
    pub upper: Option<String>,
    /// The directory that is the overlay's own.
    pub work: Option<String>,
    /// Attributes are `user.overlay.*`.
    pub has_user_xattrs: bool,
    /// Nothing has to last.
    pub is_volatile: bool,
    pub(super) redirect: Redirect,
    lower_text: LowerText,
    shown: Shown,
}

/// What renamed directories of the lower layers are (`redirect_dir=`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Redirect {
    /// They cannot be renamed; those in the layers are found (`off` and `follow`, as kernels are built).
    #[default]
    Follow,
    On,
    NoFollow,
}

/// The lower layers as they were named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum LowerText {
    #[default]
    Nothing,
    /// `lowerdir=`
    AtOnce(String),
    /// `lowerdir+=` and `datadir+=`
    One(Vec<(&'static str, String)>),
}

/// Options that are only shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Shown {
    default_permissions: bool,
    metacopy: bool,
    uuid: Option<&'static str>,
}

impl OverlayOptions {
    /// Parses the data of `mount(2)`.
    ///
    /// # Errors
    /// `EINVAL` for what is unknown, missing or contradictory.
    pub fn parse(data: &str) -> Result<Self, Errno> {
        let mut options = Self::default();
        let mut redirect = None;
        for part in split_at(data, ',').into_iter().filter(|p| !p.is_empty()) {
            let (key, value) = part.split_once('=').map_or((part, None), |(key, value)| (key, Some(value)));
            options.set(key, value, &mut redirect)?;
        }
        options.verify(redirect)?;
        Ok(options)
    }

    fn set(&mut self, key: &str, value: Option<&str>, redirect: &mut Option<Redirect>) -> Result<(), Errno> {
        match (key, value) {
            ("lowerdir", Some(text)) => self.set_lower(text)?,
            ("lowerdir+" | "datadir+", Some(text)) if !text.is_empty() => self.add_lower(key, text)?,
            ("upperdir", Some(text)) if !text.is_empty() => self.upper = Some(text.to_owned()),
            ("workdir", Some(text)) if !text.is_empty() => self.work = Some(text.to_owned()),
            ("default_permissions", None) => self.shown.default_permissions = true,
            ("redirect_dir", Some("on")) => *redirect = Some(Redirect::On),
            ("redirect_dir", Some("off" | "follow")) => *redirect = Some(Redirect::Follow),
            ("redirect_dir", Some("nofollow")) => *redirect = Some(Redirect::NoFollow),
            ("metacopy", Some(value @ ("on" | "off"))) => self.shown.metacopy = value == "on",
            ("uuid", Some("null")) => self.shown.uuid = Some("null"),
            ("uuid", Some("off")) => self.shown.uuid = Some("off"),
            ("uuid", Some("on")) => self.shown.uuid = Some("on"),
            ("userxattr", None) => self.has_user_xattrs = true,
            ("volatile", None) | ("fsync", Some("volatile")) => self.is_volatile = true,
            // What Linux does without, too, where layers lack what it takes, and what changes nothing here.
            ("index" | "nfs_export", Some("on" | "off"))
            | ("xino", Some("on" | "off" | "auto"))
            | ("uuid", Some("auto"))
            | ("verity", Some("off"))
            | ("fsync", Some("auto" | "strict"))
            | ("override_creds" | "nooverride_creds", None) => {}
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    /// `lowerdir=A:B::DATA`, which replaces what was said before.
    fn set_lower(&mut self, text: &str) -> Result<(), Errno> {
        if matches!(self.lower_text, LowerText::One(_)) {
            return Err(Errno::EINVAL);
        }
        (self.lower, self.data) = (Vec::new(), Vec::new());
        let mut is_data = false;
        let mut parts = split_at(text, ':').into_iter().peekable();
        while let Some(part) = parts.next() {
            match (part.is_empty(), is_data) {
                (false, false) => self.lower.push(part.to_owned()),
                (false, true) => self.data.push(part.to_owned()),
                (true, _) => return Err(Errno::EINVAL),
            }
            // Each of the data layers comes behind two colons, and nothing else behind them.
            if parts.peek().is_some_and(|next| next.is_empty()) {
                parts.next();
                is_data = true;
                if parts.peek().is_none() {
                    return Err(Errno::EINVAL);
                }
            } else if is_data && parts.peek().is_some() {
                return Err(Errno::EINVAL);
            }
        }
        self.lower_text = LowerText::AtOnce(text.to_owned());
        Ok(())
    }

    fn add_lower(&mut self, key: &str, text: &str) -> Result<(), Errno> {
        let mut named = match std::mem::take(&mut self.lower_text) {
            LowerText::AtOnce(_) => return Err(Errno::EINVAL),
            LowerText::Nothing => Vec::new(),
            LowerText::One(named) => named,
        };
        if key == "datadir+" {
            if self.lower.is_empty() {
                return Err(Errno::EINVAL);
            }
            self.data.push(text.to_owned());
            named.push(("datadir+", text.to_owned()));
        } else {
            if !self.data.is_empty() {
                return Err(Errno::EINVAL);
            }
            self.lower.push(text.to_owned());
            named.push(("lowerdir+", text.to_owned()));
        }
        self.lower_text = LowerText::One(named);
        Ok(())
    }

    /// What goes together (`ovl_fs_params_verify`).
    fn verify(&mut self, redirect: Option<Redirect>) -> Result<(), Errno> {
        self.redirect = redirect.unwrap_or_default();
        if self.shown.metacopy {
            if !matches!(redirect, None | Some(Redirect::On)) {
                return Err(Errno::EINVAL);
            }
            self.redirect = Redirect::On;
        }
        if self.has_user_xattrs {
            if self.redirect == Redirect::On {
                return Err(Errno::EINVAL);
            }
            self.redirect = Redirect::NoFollow;
        }
        if self.upper.is_none() {
            self.work = None;
            self.is_volatile = false;
            if self.redirect == Redirect::Follow {
                self.redirect = Redirect::On;
            }
        } else if self.work.is_none() {
            return Err(Errno::EINVAL);
        }
        let layers = self.lower.len() + self.data.len();
        let needed = if self.upper.is_some() { 1 } else { 2 };
        if self.lower.is_empty() || layers < needed || layers > MAX_LAYERS {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    /// As `mountinfo` shows them (`ovl_show_options`), with commas, equals signs, blanks and backslashes of paths in octal.
    #[must_use]
    pub fn show(&self) -> String {
        let mut text = match &self.lower_text {
            LowerText::Nothing => String::new(),
            LowerText::AtOnce(lower) => format!("lowerdir={}", escape(lower)),
            LowerText::One(named) => {
                let named: Vec<_> =
                    named.iter().map(|(key, path)| format!("{key}={}", escape(path))).collect();
                named.join(",")
            }
        };
        // Writing to a string cannot fail.
        if let (Some(upper), Some(work)) = (&self.upper, &self.work) {
            let _ = write!(text, ",upperdir={},workdir={}", escape(upper), escape(work));
        }
        if self.shown.default_permissions {
            text.push_str(",default_permissions");
        }
        match self.redirect {
            Redirect::Follow => {}
            Redirect::On => text.push_str(",redirect_dir=on"),
            Redirect::NoFollow => text.push_str(",redirect_dir=nofollow"),
        }
        if let Some(uuid) = self.shown.uuid {
            let _ = write!(text, ",uuid={uuid}");
        }
        if self.shown.metacopy {
            text.push_str(",metacopy=on");
        }
        if self.is_volatile {
            text.push_str(",fsync=volatile");
        }
        if self.has_user_xattrs {
            text.push_str(",userxattr");
        }
        text
    }
}

/// The path behind backslashes.
#[must_use]
pub fn unescape(text: &str) -> String {
    let mut chars = text.chars();
    let mut path = String::with_capacity(text.len());
    while let Some(c) = chars.next() {
        match c {
            '\\' => path.extend(chars.next()),
            c => path.push(c),
        }
    }
    path
}

/// Splits at `separator` unless a backslash is before it.
fn split_at(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut is_escaped) = (0, false);
    for (at, c) in text.char_indices() {
        if is_escaped {
            is_escaped = false;
        } else if c == '\\' {
            is_escaped = true;
        } else if c == separator {
            parts.push(&text[start..at]);
            start = at + c.len_utf8();
        }
    }
    parts.push(&text[start..]);
    parts
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ',' | '=' | ' ' | '\t' | '\n' | '\\' => {
                // Writing to a string cannot fail; all of these are ASCII.
                let _ = write!(out, "\\{:03o}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// As many as Linux takes (`OVL_MAX_STACK`).
const MAX_LAYERS: usize = 500;

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
