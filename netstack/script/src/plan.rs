//! What a script says before its first event: settings of the host, the path and the clock.

use std::time::Duration;

use crate::backend::Setup;
use crate::diagnostic::Diagnostic;
use crate::evaluate::{NoFigures, Variables, duration, evaluate};
use crate::syntax::{BackendName, Expr, Statement, StatementKind};
use crate::value::Value;

/// Collects the settings of a script before its first event.
pub(crate) struct Plan {
    pub(crate) setup: Setup,
    /// How far from their times packets may come, if not as far as the backend says.
    pub(crate) tolerance: Option<Duration>,
    vars: Variables,
    name: BackendName,
}

impl Plan {
    /// Collects them from `script` as it runs with `params` on the backend `name`.
    pub(crate) fn new(body: &[Statement], params: &Variables, name: BackendName) -> Result<Self, Diagnostic> {
        let setup = Setup { sysctls: Vec::new(), config: Vec::new(), mtu: 1500, is_v6: false };
        let mut plan = Self { setup, tolerance: None, vars: params.clone(), name };
        plan.walk(body)?;
        Ok(plan)
    }

    fn walk(&mut self, statements: &[Statement]) -> Result<(), Diagnostic> {
        for statement in statements {
            self.statement(&statement.kind).map_err(|error| error.with_text(&statement.text))?;
        }
        Ok(())
    }

    fn statement(&mut self, kind: &StatementKind) -> Result<(), Diagnostic> {
        match kind {
            StatementKind::Sysctl(name, value) => {
                let value = self.value(value)?;
                self.setup.sysctls.push((name.clone(), value));
            }
            StatementKind::Config(name, value) => {
                let value = self.value(value)?;
                self.setup.config.push((name.clone(), value));
            }
            StatementKind::Mtu(expr) => match self.value(expr)? {
                Value::Int(mtu) => self.setup.mtu = u32::try_from(mtu).unwrap_or(u32::MAX),
                other => return Err(Diagnostic::new(&expr.place, format!("an MTU is no {}", other.kind()))),
            },
            StatementKind::Family(expr) => match self.value(expr)? {
                Value::Int(4) => self.setup.is_v6 = false,
                Value::Int(6) => self.setup.is_v6 = true,
                other => return Err(Diagnostic::new(&expr.place, format!("there is no family {other}"))),
            },
            StatementKind::Tolerance(expr) => {
                self.tolerance = Some(duration(&self.value(expr)?, &expr.place)?);
            }
            StatementKind::Let(name, expr) => {
                // What depends on events is computed when they happen.
                if let Ok(value) = self.value(expr) {
                    self.vars.insert(name.clone(), value);
                }
            }
            StatementKind::If(condition, then, otherwise) => match self.value(condition) {
                Ok(Value::Bool(true)) => self.walk(then)?,
                Ok(Value::Bool(false)) => self.walk(otherwise)?,
                _ => {}
            },
            StatementKind::PerBackend { linux, netstack, why: _ } => self.walk(match self.name {
                BackendName::Linux => linux,
                BackendName::Netstack => netstack,
            })?,
            StatementKind::For(..) | StatementKind::Event(..) => {}
        }
        Ok(())
    }

    fn value(&self, expr: &Expr) -> Result<Value, Diagnostic> {
        evaluate(expr, &self.vars, &mut NoFigures)
    }
}
