//! A measured row and how it is printed.

use serde_json::json;

/// Which way a figure is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Times and sizes.
    Lower,
    /// Rates.
    Higher,
}

/// One line of the table: medians over the rounds.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// The unit of `native` and `sandbox`.
    pub unit: &'static str,
    /// Which way it is good.
    pub better: Better,
    /// On the host kernel; `None` where the row has no native counterpart.
    pub native: Option<f64>,
    /// In the sandbox.
    pub sandbox: Option<f64>,
    /// Under the runtime given with `--vs`.
    pub other: Option<f64>,
}

impl Row {
    /// Sandbox over native.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        Some(self.sandbox? / self.native?)
    }

    /// The row as one JSON object.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut object = json!({
            "name": self.name, "unit": self.unit, "native": self.native, "sandbox": self.sandbox, "ratio": self.ratio(),
        });
        if let Some(other) = self.other {
            object["other"] = json!(other);
        }
        object.to_string()
    }

    /// The row as a line of a Markdown table.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let show = |x: Option<f64>| x.map_or_else(|| "-".into(), figure);
        let good = match self.better {
            Better::Lower => "lower",
            Better::Higher => "higher",
        };
        let Self { name, unit, .. } = self;
        let ratio = self.ratio().map_or_else(|| "-".into(), |r| format!("{} x", figure(r)));
        format!(
            "| {name} | {unit} | {} | {} | {ratio} | {} | {good} |",
            show(self.native),
            show(self.sandbox),
            show(self.other)
        )
    }

    /// The head of the Markdown table.
    pub const HEAD: &'static str = "| row | unit | native | sandbox | sandbox / native | other runtime | better |\n|---|---|---|---|---|---|---|";
}

/// Three significant digits.
fn figure(x: f64) -> String {
    match x.abs() {
        a if a >= 100.0 => format!("{x:.0}"),
        a if a >= 10.0 => format!("{x:.1}"),
        a if a >= 1.0 => format!("{x:.2}"),
        _ => format!("{x:.3}"),
    }
}

/// The median; `None` of nothing.
#[must_use]
pub fn median(mut samples: Vec<f64>) -> Option<f64> {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.0));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn row_without_native_has_no_ratio() {
        let row = Row {
            name: "idle".into(),
            unit: "MiB",
            better: Better::Lower,
            native: None,
            sandbox: Some(20.0),
            other: None,
        };
        assert!(row.to_json().contains("\"ratio\":null"));
        assert!(row.to_markdown().contains("| 20.0 | - |"));
    }
}
