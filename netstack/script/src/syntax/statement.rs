//! Statements: settings, blocks and events.

use std::path::Path;
use std::sync::Arc;

use crate::diagnostic::Diagnostic;
use crate::syntax::cursor::Cursor;
use crate::syntax::expression::{expression, number, sum};
use crate::syntax::packet::packet;
use crate::syntax::{
    Action, BackendName, CallSpec, Expr, ExprKind, Param, Place, Script, Statement, StatementKind, When, Why,
};

/// Reads a script from a file; includes are looked up beside it and in the folder above.
///
/// # Errors
/// The first thing that is wrong.
pub fn read(path: &Path) -> Result<Script, Diagnostic> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| no_file(&name, &error))?;
    let mut script = parse(&name, &text, &|include| {
        let folder = path.parent().unwrap_or(Path::new("."));
        let places = [folder.join(include), folder.join("..").join(include)];
        let found = places.iter().find(|place| place.is_file()).unwrap_or(&places[0]);
        std::fs::read_to_string(found).map_err(|error| no_file(&found.display().to_string(), &error))
    })?;
    path.clone_into(&mut script.file);
    Ok(script)
}

fn no_file(name: &str, error: &std::io::Error) -> Diagnostic {
    let place = Place { file: name.into(), line: 1, column: 1 };
    Diagnostic::new(&place, format!("cannot read it: {error}"))
}

/// How includes are found.
type Includes<'a> = &'a dyn Fn(&str) -> Result<String, Diagnostic>;

/// Reads a script from `text`.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(name: &str, text: &str, includes: Includes<'_>) -> Result<Script, Diagnostic> {
    let mut parser = Parser { script: Script { file: name.into(), ..Script::default() }, includes, depth: 0 };
    let mut cursor = Cursor::new(name, text);
    parser.script.body = parser.statements(&mut cursor)?;
    if !cursor.is_at_end() {
        return cursor.expected("a statement");
    }
    let top = Place { file: name.into(), line: 1, column: 1 };
    if parser.script.purpose.is_empty() {
        return Err(Diagnostic::new(&top, "the script does not say its `purpose`"));
    }
    if parser.script.reference.is_empty() {
        return Err(Diagnostic::new(&top, "the script does not say its `rfc`"));
    }
    Ok(parser.script)
}

struct Parser<'a> {
    script: Script,
    includes: Includes<'a>,
    depth: u32,
}

impl Parser<'_> {
    /// Reads statements up to the end of the text or of the block.
    fn statements(&mut self, cursor: &mut Cursor<'_>) -> Result<Vec<Statement>, Diagnostic> {
        let mut statements = Vec::new();
        loop {
            cursor.skip_lines();
            if cursor.is_at_end() || cursor.peek() == Some('}') {
                return Ok(statements);
            }
            let place = cursor.place();
            let text: Arc<str> = cursor.line().into();
            let kinds = self.statement(cursor).map_err(|error| error.with_text(&text))?;
            cursor.need_end_of_statement()?;
            statements.extend(kinds.into_iter().map(|kind| match kind {
                Item::Kind(kind) => Statement { place: place.clone(), text: Arc::clone(&text), kind },
                Item::Whole(statement) => statement,
            }));
        }
    }

    fn block(&mut self, cursor: &mut Cursor<'_>) -> Result<Vec<Statement>, Diagnostic> {
        cursor.need("{")?;
        let statements = self.statements(cursor)?;
        cursor.need("}")?;
        Ok(statements)
    }

    fn statement(&mut self, cursor: &mut Cursor<'_>) -> Result<Vec<Item>, Diagnostic> {
        let mark = cursor.mark();
        let keyword = cursor.take_name().unwrap_or("");
        let kind = match keyword {
            "purpose" => {
                self.script.purpose = cursor.need_string()?;
                return Ok(Vec::new());
            }
            "rfc" => {
                self.script.reference = cursor.need_string()?;
                return Ok(Vec::new());
            }
            "param" => {
                let param = param(cursor)?;
                self.script.params.push(param);
                return Ok(Vec::new());
            }
            "only" => {
                let backend = backend(cursor)?;
                let why = why(cursor)?;
                self.script.only = Some((backend, why));
                return Ok(Vec::new());
            }
            "include" => return self.include(cursor),
            "sysctl" => StatementKind::Sysctl(dotted(cursor)?, assigned(cursor)?),
            "config" => StatementKind::Config(dotted(cursor)?, assigned(cursor)?),
            "mtu" => StatementKind::Mtu(expression(cursor)?),
            "family" => StatementKind::Family(expression(cursor)?),
            "tolerance" => StatementKind::Tolerance(expression(cursor)?),
            "let" => StatementKind::Let(cursor.need_name("a name")?.to_owned(), assigned(cursor)?),
            "for" => self.for_loop(cursor)?,
            "if" => {
                let condition = expression(cursor)?;
                let then = self.block(cursor)?;
                let otherwise = if cursor.take_word("else") { self.block(cursor)? } else { Vec::new() };
                StatementKind::If(condition, then, otherwise)
            }
            "linux" if is_block(cursor) => self.per_backend(cursor)?,
            _ => {
                cursor.go_back(mark);
                let (when, action) = event(cursor)?;
                StatementKind::Event(when, Box::new(action))
            }
        };
        Ok(vec![Item::Kind(kind)])
    }

    /// Puts the statements of another file here.
    fn include(&mut self, cursor: &mut Cursor<'_>) -> Result<Vec<Item>, Diagnostic> {
        let name = cursor.need_string()?;
        if self.depth >= MAX_INCLUDES {
            return cursor.error("includes are nested too deeply");
        }
        let text = match (self.includes)(&name) {
            Ok(text) => text,
            Err(error) => return cursor.error(error.to_string()),
        };
        let mut inner = Cursor::new(&name, &text);
        self.depth += 1;
        let statements = self.statements(&mut inner)?;
        self.depth -= 1;
        if !inner.is_at_end() {
            return inner.expected("a statement");
        }
        Ok(statements.into_iter().map(Item::Whole).collect())
    }

    fn for_loop(&mut self, cursor: &mut Cursor<'_>) -> Result<StatementKind, Diagnostic> {
        let name = cursor.need_name("the loop's variable")?.to_owned();
        if !cursor.take_word("in") {
            return cursor.expected("`in`");
        }
        let from = sum(cursor)?;
        cursor.need("..")?;
        let to = sum(cursor)?;
        Ok(StatementKind::For(name, from, to, self.block(cursor)?))
    }

    fn per_backend(&mut self, cursor: &mut Cursor<'_>) -> Result<StatementKind, Diagnostic> {
        let linux = self.block(cursor)?;
        cursor.skip_lines();
        if !cursor.take_word("netstack") {
            return cursor.expected("`netstack { ... }` after `linux { ... }`");
        }
        let netstack = self.block(cursor)?;
        cursor.skip_lines();
        let why = why(cursor)?;
        Ok(StatementKind::PerBackend { linux, netstack, why })
    }
}

/// What a statement brings: something at its own place, or statements of an included file.
enum Item {
    Kind(StatementKind),
    Whole(Statement),
}

fn is_block(cursor: &mut Cursor<'_>) -> bool {
    cursor.skip_blanks();
    cursor.peek() == Some('{')
}

fn param(cursor: &mut Cursor<'_>) -> Result<Param, Diagnostic> {
    let name = cursor.need_name("the parameter's name")?.to_owned();
    cursor.need("=")?;
    let mut values = vec![expression(cursor)?];
    while cursor.take(",") {
        values.push(expression(cursor)?);
    }
    Ok(Param { name, values })
}

fn backend(cursor: &mut Cursor<'_>) -> Result<BackendName, Diagnostic> {
    if cursor.take_word("linux") {
        return Ok(BackendName::Linux);
    }
    if cursor.take_word("netstack") {
        return Ok(BackendName::Netstack);
    }
    cursor.expected("`linux` or `netstack`")
}

fn why(cursor: &mut Cursor<'_>) -> Result<Why, Diagnostic> {
    cursor.skip_blanks();
    let place = cursor.place();
    if !cursor.take_word("why") {
        return cursor.expected("`why \"...\"`: a deviation has to be explained");
    }
    Ok(Why { place, text: cursor.need_string()? })
}

/// A name with points in it.
fn dotted(cursor: &mut Cursor<'_>) -> Result<String, Diagnostic> {
    let mut name = cursor.need_name("a name")?.to_owned();
    while cursor.take_adjacent(".") {
        name.push('.');
        name.push_str(cursor.need_name("a name")?);
    }
    Ok(name)
}

fn assigned(cursor: &mut Cursor<'_>) -> Result<Expr, Diagnostic> {
    cursor.need("=")?;
    expression(cursor)
}

fn event(cursor: &mut Cursor<'_>) -> Result<(When, Action), Diagnostic> {
    let when = when(cursor)?;
    cursor.skip_blanks();
    let place = cursor.place();
    if cursor.take("<") {
        return match when {
            When::Any | When::Between(..) => {
                Err(Diagnostic::new(&place, "a packet of the peer needs one exact time"))
            }
            when => Ok((when, Action::Inject(packet(cursor)?))),
        };
    }
    if cursor.take(">") {
        if cursor.take("{") {
            return Ok((when, Action::ExpectAll(packets(cursor)?)));
        }
        return Ok((when, Action::Expect(packet(cursor)?)));
    }
    if let When::Any = when {
        return cursor.expected("`>`: only expected packets come at any time");
    }
    if cursor.take_word("silence") {
        return Ok((when, Action::Silence));
    }
    if cursor.take_word("ignore") {
        return Ok((when, Action::Ignore));
    }
    if cursor.take_word("assert") {
        return Ok((when, Action::Assert(expression(cursor)?)));
    }
    Ok((when, Action::Call(call(cursor)?)))
}

/// Packets in braces, one a line.
fn packets(cursor: &mut Cursor<'_>) -> Result<Vec<crate::syntax::PacketSpec>, Diagnostic> {
    let mut packets = Vec::new();
    loop {
        cursor.skip_lines();
        if cursor.take("}") {
            return Ok(packets);
        }
        packets.push(packet(cursor)?);
        cursor.need_end_of_statement()?;
    }
}

fn when(cursor: &mut Cursor<'_>) -> Result<When, Diagnostic> {
    if cursor.take("*") {
        return Ok(When::Any);
    }
    let Some((first, is_relative)) = time(cursor)? else { return Ok(When::Now) };
    if cursor.take("~") {
        return match time(cursor)? {
            Some((second, is_second_relative)) => {
                Ok(When::Between(first, is_relative, second, is_second_relative))
            }
            None => cursor.expected("the end of the time range"),
        };
    }
    Ok(if is_relative { When::After(first) } else { When::At(first) })
}

/// A time and whether it has a plus sign; `+(a + b)` may be computed.
fn time(cursor: &mut Cursor<'_>) -> Result<Option<(Expr, bool)>, Diagnostic> {
    let is_relative = cursor.take("+");
    cursor.skip_blanks();
    let place = cursor.place();
    match cursor.peek() {
        Some(c) if c.is_ascii_digit() => {
            let kind = ExprKind::Literal(number(cursor)?);
            Ok(Some((Expr { place, kind }, is_relative)))
        }
        Some('(') if is_relative => {
            cursor.need("(")?;
            let expr = expression(cursor)?;
            cursor.need(")")?;
            Ok(Some((expr, is_relative)))
        }
        _ if is_relative => {
            let name = cursor.need_name("a time")?;
            Ok(Some((Expr { place, kind: ExprKind::Name(name.to_owned()) }, is_relative)))
        }
        _ => Ok(None),
    }
}

/// `x = name(args) = result`.
fn call(cursor: &mut Cursor<'_>) -> Result<CallSpec, Diagnostic> {
    let mark = cursor.mark();
    let first = cursor.need_name("a call, a packet, `assert`, `silence` or `ignore`")?.to_owned();
    let is_assignment = cursor.take("=") && !cursor.rest().starts_with('=');
    if !is_assignment {
        cursor.go_back(mark);
    }
    let target = is_assignment.then_some(first);
    let name = cursor.need_name("the name of a call")?.to_owned();
    if !cursor.take_adjacent("(") {
        return cursor.expected("`(` and the arguments of the call");
    }
    let mut args = Vec::new();
    while !cursor.take(")") {
        args.push(expression(cursor)?);
        if !cursor.take(",") {
            cursor.need(")")?;
            break;
        }
    }
    let result = if cursor.take("=") { Some(expression(cursor)?) } else { None };
    Ok(CallSpec { target, name, args, result })
}

/// Prologues include others, but not for ever.
const MAX_INCLUDES: u32 = 8;
