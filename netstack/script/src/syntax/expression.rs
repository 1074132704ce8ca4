//! Expressions: numbers, times, names, fields and the usual operators.

use crate::diagnostic::Diagnostic;
use crate::syntax::cursor::Cursor;
use crate::syntax::{Expr, ExprKind, Operator};
use crate::value::{NANOS_PER_SECOND, Value};

/// Operators by how strongly they bind, weakest first; longer spellings first.
const LEVELS: &[&[(&str, Operator)]] = &[
    &[("||", Operator::Or)],
    &[("&&", Operator::And)],
    &[
        ("==", Operator::Equal),
        ("!=", Operator::Unequal),
        ("<=", Operator::AtMost),
        (">=", Operator::AtLeast),
        ("<", Operator::Less),
        (">", Operator::More),
    ],
    &[("|", Operator::Join)],
    &[("+", Operator::Add), ("-", Operator::Subtract)],
    &[("*", Operator::Multiply), ("/", Operator::Divide), ("%", Operator::Remainder)],
];

/// The level of sums: what stands where `<`, `>` and `|` have other meanings.
pub(super) const SUM: usize = 4;

/// Reads a whole expression.
pub(super) fn expression(cursor: &mut Cursor<'_>) -> Result<Expr, Diagnostic> {
    binary(cursor, 0)
}

/// Reads a sum: an expression without comparisons.
pub(super) fn sum(cursor: &mut Cursor<'_>) -> Result<Expr, Diagnostic> {
    binary(cursor, SUM)
}

fn binary(cursor: &mut Cursor<'_>, level: usize) -> Result<Expr, Diagnostic> {
    let Some(operators) = LEVELS.get(level) else { return unary(cursor) };
    let mut left = binary(cursor, level + 1)?;
    loop {
        cursor.skip_blanks();
        let found = operators.iter().find(|(token, _)| is_operator(cursor.rest(), token));
        let Some((token, operator)) = found else { return Ok(left) };
        let _ = cursor.take(token);
        let right = binary(cursor, level + 1)?;
        let place = left.place.clone();
        left = Expr { place, kind: ExprKind::Binary(Box::new(left), *operator, Box::new(right)) };
    }
}

/// Whether `token` stands here, and is not the beginning of another operator.
fn is_operator(rest: &str, token: &str) -> bool {
    rest.strip_prefix(token).is_some_and(|tail| !(token == "|" && tail.starts_with('|')))
}

/// Reads an operand: what binds strongest.
pub(super) fn unary(cursor: &mut Cursor<'_>) -> Result<Expr, Diagnostic> {
    cursor.skip_blanks();
    let place = cursor.place();
    for sign in ['-', '!'] {
        if cursor.take(sign.encode_utf8(&mut [0; 4])) {
            let inner = unary(cursor)?;
            return Ok(Expr { place, kind: ExprKind::Unary(sign, Box::new(inner)) });
        }
    }
    if cursor.take("(") {
        let inner = expression(cursor)?;
        cursor.need(")")?;
        return Ok(inner);
    }
    let kind = match cursor.peek() {
        Some('"') => ExprKind::Literal(Value::Name(cursor.need_string()?)),
        Some(c) if c.is_ascii_digit() => ExprKind::Literal(number(cursor)?),
        _ => named(cursor)?,
    };
    Ok(Expr { place, kind })
}

fn named(cursor: &mut Cursor<'_>) -> Result<ExprKind, Diagnostic> {
    let name = cursor.need_name("an expression")?.to_owned();
    if cursor.take_adjacent("(") {
        let mut args = Vec::new();
        while !cursor.take(")") {
            args.push(expression(cursor)?);
            if !cursor.take(",") {
                cursor.need(")")?;
                break;
            }
        }
        return Ok(ExprKind::Function(name, args));
    }
    let mark = cursor.mark();
    if cursor.take_adjacent(".") {
        if let Some(field) = cursor.take_name() {
            return Ok(ExprKind::Field(name, field.to_owned()));
        }
        cursor.go_back(mark);
    }
    Ok(ExprKind::Name(name))
}

/// A number: `12`, `0x1f`, `64K`; or a time: `0.25`, `40ms`, `10us`, `3s`.
pub(super) fn number(cursor: &mut Cursor<'_>) -> Result<Value, Diagnostic> {
    cursor.skip_blanks();
    if cursor.take_adjacent("0x") {
        let digits = cursor.take_while(|c| c.is_ascii_hexdigit());
        return match i64::from_str_radix(digits, 16) {
            Ok(value) => Ok(Value::Int(value)),
            Err(_) => cursor.error("not a hexadecimal number"),
        };
    }
    let digits = cursor.take_while(|c| c.is_ascii_digit() || c == '_').replace('_', "");
    let Ok(whole) = digits.parse::<i64>() else { return cursor.expected("a number") };
    let rest = cursor.rest();
    let has_fraction = rest.starts_with('.') && rest[1..].starts_with(|c: char| c.is_ascii_digit());
    let mut nanos = whole.checked_mul(NANOS_PER_SECOND);
    if has_fraction {
        let _ = cursor.take_adjacent(".");
        let fraction = cursor.take_while(|c| c.is_ascii_digit());
        let padded = format!("{fraction:0<9}");
        let part = padded[..9].parse::<i64>().unwrap_or(0);
        nanos = nanos.and_then(|nanos| nanos.checked_add(part));
    }
    let mark = cursor.mark();
    let unit = cursor.take_while(char::is_alphabetic);
    let value = match (unit, has_fraction) {
        ("", false) => Some(Value::Int(whole)),
        ("K", false) => whole.checked_mul(1024).map(Value::Int),
        ("M", false) => whole.checked_mul(1 << 20).map(Value::Int),
        ("" | "s", _) => nanos.map(Value::Time),
        ("ms", _) => nanos.map(|nanos| Value::Time(nanos / 1000)),
        ("us", _) => nanos.map(|nanos| Value::Time(nanos / 1_000_000)),
        _ => {
            cursor.go_back(mark);
            return cursor.expected("a unit (s, ms, us, K, M)");
        }
    };
    match value {
        Some(value) => Ok(value),
        None => cursor.error("the number is too large"),
    }
}
