//! What a page of rustdoc says, without its markup.

/// The index of a module.
pub(super) struct Index {
    /// `pub use` lines of what is documented elsewhere.
    pub(super) reexports: Vec<String>,
    /// The pages of its items, relative to it: `struct.Name.html`, `name/index.html`.
    pub(super) links: Vec<String>,
}

/// Reads a module's page.
pub(super) fn index(html: &str) -> Index {
    let entries: Vec<&str> = html
        .split("<dt")
        .skip(1)
        .filter_map(|rest| rest.split_once("</dt>"))
        .map(|(entry, _)| entry)
        .collect();
    let mut reexports: Vec<String> = entries
        .iter()
        .filter_map(|entry| entry.strip_prefix(" id=\"reexport."))
        .filter_map(|entry| between(entry, "<code>", "</code>"))
        .map(text)
        .collect();
    reexports.sort();
    let links = entries
        .iter()
        .filter(|entry| !entry.starts_with(" id="))
        .filter_map(|entry| between(entry, "href=\"", "\""))
        .map(str::to_owned)
        .collect();
    Index { reexports, links }
}

/// Reads an item's page: its declaration, then its own methods and constants, then the traits that it implements, sorted.
pub(super) fn item(kind: &str, html: &str) -> Vec<String> {
    let declaration =
        between(html, "<pre class=\"rust item-decl\"><code>", "</code></pre>").unwrap_or_default();
    let mut lines: Vec<String> = without(declaration, "<summary", "</summary>")
        .lines()
        .map(|line| decoded(&untagged(line)).trim_end().to_owned())
        .filter(|line| !line.is_empty())
        .collect();
    // The methods of a trait are in its declaration, those of an alias on the page of what it names.
    if matches!(kind, "trait" | "type" | "constant" | "static" | "fn" | "macro") {
        return lines;
    }
    let (mut methods, mut traits) = (Vec::new(), Vec::new());
    for section in own_part(html).split("<section id=\"").skip(1) {
        let Some(class) = between(section, "class=\"", "\"") else { continue };
        let Some(header) = header(section) else { continue };
        match class {
            "method" | "associatedconstant" | "associatedtype" => methods.push(header),
            // The compiler's own mark of a derive is no promise.
            "impl" if header.starts_with("impl StructuralPartialEq") => {}
            "impl" if header.contains(" for ") => traits.push(header),
            _ => {}
        }
    }
    methods.sort();
    traits.sort();
    lines.extend(methods);
    lines.extend(traits);
    lines
}

/// Without what every type has: implementations for all types, and what follows from the fields.
fn own_part(html: &str) -> &str {
    const ENDS: [&str; 2] = ["id=\"synthetic-implementations\"", "id=\"blanket-implementations\""];
    let end = ENDS.iter().filter_map(|id| html.find(id)).min().unwrap_or(html.len());
    &html[..end]
}

fn header(section: &str) -> Option<String> {
    let start = section.find("class=\"code-header\">")?;
    let rest = &section[start + "class=\"code-header\">".len()..];
    let end = ["</h3>", "</h4>"].iter().filter_map(|tag| rest.find(tag)).min()?;
    Some(text(&rest[..end]))
}

/// Markup as one line of text.
fn text(html: &str) -> String {
    let words = decoded(&untagged(html)).replace('ⓘ', "");
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn untagged(html: &str) -> String {
    without(html, "<", ">")
}

fn decoded(text: &str) -> String {
    const ENTITIES: [(&str, &str); 6] =
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&nbsp;", " "), ("&amp;", "&")];
    ENTITIES.iter().fold(text.to_owned(), |text, (entity, character)| text.replace(entity, character))
}

/// `text` without the parts from `open` to `close`.
fn without(text: &str, open: &str, close: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, part)) = rest.split_once(open) {
        kept.push_str(before);
        rest = part.split_once(close).map_or("", |(_, after)| after);
    }
    kept.push_str(rest);
    kept
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(open)?;
    Some(rest.split_once(close)?.0)
}

#[cfg(test)]
mod tests {
    use super::{index, item};

    #[test]
    fn index_names_pages_and_reexports() {
        let html = r#"<dl class="item-table reexports"><dt id="reexport.MacAddr"><code>pub use wire::<a class="struct"
            href="../wire/struct.MacAddr.html">MacAddr</a>;</code></dt></dl><dl class="item-table"><dt><a class="mod"
            href="link/index.html">link</a></dt><dd>Words.</dd><dt><a class="struct" href="struct.Stack.html">Stack</a></dt></dl>"#;
        let index = index(html);
        assert_eq!(index.reexports, ["pub use wire::MacAddr;"]);
        assert_eq!(index.links, ["link/index.html", "struct.Stack.html"]);
    }

    #[test]
    fn items_have_their_own_methods_and_traits() {
        let html = r##"<pre class="rust item-decl"><code>pub struct <a href="x">X</a>&lt;T&gt; {
            <details><summary class="hideme"><span>Show 2 fields</span></summary>    pub a: T,
            }</details></code></pre>
            <section id="method.new" class="method"><a href="#">x</a><h4 class="code-header">pub fn <a>new</a>() -&gt; Self</h4></section>
            <section id="impl-Clone-for-X" class="impl"><h3 class="code-header">impl <a>Clone</a> for <a>X</a></h3></section>
            <section id="method.clone" class="method trait-impl"><h4 class="code-header">fn clone(&amp;self)</h4></section>
            <h2 id="synthetic-implementations"></h2>
            <section id="impl-Send-for-X" class="impl"><h3 class="code-header">impl Send for X</h3></section>"##;
        let lines: Vec<_> = item("struct", html).iter().map(|line| line.trim().to_owned()).collect();
        assert_eq!(
            lines,
            ["pub struct X<T> {", "pub a: T,", "}", "pub fn new() -> Self", "impl Clone for X"]
        );
    }
}
