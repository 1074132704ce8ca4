//! Evaluates expressions.

use std::collections::HashMap;
use std::time::Duration;

use crate::backend::SocketId;
use crate::diagnostic::Diagnostic;
use crate::syntax::{Expr, ExprKind, Operator, Place};
use crate::value::Value;

/// Variables by name.
pub type Variables = HashMap<String, Value>;

/// Looks up figures of sockets and counters.
pub trait Figures {
    /// A field of a socket.
    fn field(&mut self, socket: SocketId, field: &str) -> Option<Value>;
    /// A counter.
    fn counter(&mut self, name: &str) -> Option<i64>;
}

/// Where there are no sockets yet.
#[derive(Debug)]
pub struct NoFigures;

impl Figures for NoFigures {
    fn field(&mut self, _: SocketId, _: &str) -> Option<Value> {
        None
    }

    fn counter(&mut self, _: &str) -> Option<i64> {
        None
    }
}

/// Evaluates `expr`.
///
/// # Errors
/// Values of the wrong kind, unknown fields, overflow.
pub fn evaluate(expr: &Expr, vars: &Variables, figures: &mut dyn Figures) -> Result<Value, Diagnostic> {
    let fail = |message: String| Diagnostic::new(&expr.place, message);
    match &expr.kind {
        ExprKind::Literal(value) => Ok(value.clone()),
        // A name that is no variable stands for itself.
        ExprKind::Name(name) => Ok(match (vars.get(name), name.as_str()) {
            (Some(value), _) => value.clone(),
            (None, "true") => Value::Bool(true),
            (None, "false") => Value::Bool(false),
            (None, _) => Value::Name(name.clone()),
        }),
        ExprKind::Field(name, field) if name == "mib" => match figures.counter(field) {
            Some(count) => Ok(Value::Int(count)),
            None => Err(fail(format!("there is no counter `{field}` here"))),
        },
        ExprKind::Field(name, field) => {
            let Some(Value::Socket(socket)) = vars.get(name) else {
                return Err(fail(format!("`{name}` is not a socket")));
            };
            figures
                .field(*socket, field)
                .ok_or_else(|| fail(format!("`{name}` has no `{field}` here (is it connected?)")))
        }
        ExprKind::Unary(sign, inner) => {
            let value = evaluate(inner, vars, figures)?;
            match (sign, value) {
                ('-', Value::Int(number)) => Ok(Value::Int(number.saturating_neg())),
                ('-', Value::Time(nanos)) => Ok(Value::Time(nanos.saturating_neg())),
                ('!', Value::Bool(truth)) => Ok(Value::Bool(!truth)),
                (sign, value) => Err(fail(format!("`{sign}` does not go with {}", value.kind()))),
            }
        }
        ExprKind::Binary(left, operator, right) => {
            let left = evaluate(left, vars, figures)?;
            match (operator, &left) {
                (Operator::And, Value::Bool(false)) | (Operator::Or, Value::Bool(true)) => return Ok(left),
                _ => {}
            }
            let right = evaluate(right, vars, figures)?;
            binary(&left, *operator, &right).map_err(fail)
        }
        ExprKind::Function(name, args) => {
            let values: Result<Vec<Value>, Diagnostic> =
                args.iter().map(|arg| evaluate(arg, vars, figures)).collect();
            function(name, &values?).map_err(fail)
        }
    }
}

fn function(name: &str, args: &[Value]) -> Result<Value, String> {
    let (Some(first), rest) = (args.first(), args.get(1..).unwrap_or_default()) else {
        return Err(format!("{name} needs arguments"));
    };
    match name {
        "min" | "max" => {
            let mut best = first.clone();
            for value in rest {
                let operator = if name == "min" { Operator::Less } else { Operator::More };
                if binary(value, operator, &best)? == Value::Bool(true) {
                    best = value.clone();
                }
            }
            Ok(best)
        }
        // Made by the parser of packets: a length that is written twice.
        "same" => match rest.iter().find(|other| *other != first) {
            None => Ok(first.clone()),
            Some(other) => Err(format!("the length is {first}, but the sequence numbers differ by {other}")),
        },
        other => Err(format!("there is no function `{other}` (min, max)")),
    }
}

fn binary(left: &Value, operator: Operator, right: &Value) -> Result<Value, String> {
    match (left, operator, right) {
        (Value::Bool(a), Operator::And, Value::Bool(b)) => Ok(Value::Bool(*a && *b)),
        (Value::Bool(a), Operator::Or, Value::Bool(b)) => Ok(Value::Bool(*a || *b)),
        (_, Operator::Join, _) => Ok(Value::Name(format!("{left}|{right}"))),
        (Value::Int(a), _, Value::Int(b)) => arithmetic(*a, operator, *b, Value::Int),
        (Value::Time(a), Operator::Multiply, Value::Int(b))
        | (Value::Int(b), Operator::Multiply, Value::Time(a)) => {
            a.checked_mul(*b).map(Value::Time).ok_or_else(|| "the time is too long".to_owned())
        }
        (Value::Time(a), Operator::Divide, Value::Int(b)) => {
            arithmetic(*a, Operator::Divide, *b, Value::Time)
        }
        (Value::Time(_), _, Value::Time(_) | Value::Int(_)) | (Value::Int(_), _, Value::Time(_)) => {
            match (left.as_time(), right.as_time()) {
                (Some(a), Some(b)) => arithmetic(a, operator, b, Value::Time),
                _ => Err("the time is too long".to_owned()),
            }
        }
        (a, Operator::Equal, b) => Ok(Value::Bool(a == b)),
        (a, Operator::Unequal, b) => Ok(Value::Bool(a != b)),
        (a, _, b) => Err(format!("the operator does not go with {} and {}", a.kind(), b.kind())),
    }
}

fn arithmetic(a: i64, operator: Operator, b: i64, make: impl Fn(i64) -> Value) -> Result<Value, String> {
    let number = match operator {
        Operator::Equal => return Ok(Value::Bool(a == b)),
        Operator::Unequal => return Ok(Value::Bool(a != b)),
        Operator::Less => return Ok(Value::Bool(a < b)),
        Operator::AtMost => return Ok(Value::Bool(a <= b)),
        Operator::More => return Ok(Value::Bool(a > b)),
        Operator::AtLeast => return Ok(Value::Bool(a >= b)),
        Operator::Add => a.checked_add(b),
        Operator::Subtract => a.checked_sub(b),
        Operator::Multiply => a.checked_mul(b),
        Operator::Divide => a.checked_div(b),
        Operator::Remainder => a.checked_rem(b),
        Operator::Or | Operator::And | Operator::Join => {
            return Err("`&&`, `||` need truths".to_owned());
        }
    };
    number.map(make).ok_or_else(|| "division by zero, or a result that is too large".to_owned())
}

/// Writes out the two sides of a comparison, for messages.
pub fn explain(expr: &Expr, vars: &Variables, figures: &mut dyn Figures, out: &mut Vec<String>) {
    match &expr.kind {
        ExprKind::Field(name, field) => {
            if let Ok(value) = evaluate(expr, vars, figures) {
                out.push(format!("{name}.{field} is {value}"));
            }
        }
        ExprKind::Binary(left, _, right) => {
            explain(left, vars, figures, out);
            explain(right, vars, figures, out);
        }
        ExprKind::Unary(_, inner) => explain(inner, vars, figures, out),
        ExprKind::Function(_, args) => {
            for arg in args {
                explain(arg, vars, figures, out);
            }
        }
        ExprKind::Literal(_) | ExprKind::Name(_) => {}
    }
}

/// The time that a value is.
pub(crate) fn duration(value: &Value, place: &Place) -> Result<Duration, Diagnostic> {
    let nanos = value.as_time().and_then(|nanos| u64::try_from(nanos).ok());
    match nanos {
        Some(nanos) => Ok(Duration::from_nanos(nanos)),
        None => Err(Diagnostic::new(place, format!("expected a time, found {}", value.kind()))),
    }
}
