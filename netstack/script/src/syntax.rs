//! The language: syntax tree and parser.

mod ast;
mod cursor;
mod expression;
mod packet;
mod statement;

pub use ast::{
    Action, BackendName, BodySpec, CallSpec, Expr, ExprKind, FastOpenSpec, IcmpKind, IcmpSpec, IpSpec,
    Operator, OptionSpec, PacketSpec, Param, Place, Script, Statement, StatementKind, TcpSpec, When, Why,
    WindowSpec,
};
pub use statement::{parse, read};

#[cfg(test)]
mod tests;
