//! What a run measured.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Map, Value, json};

/// The figures of a run: those that apply.
#[derive(Debug, Default)]
pub(crate) struct Report {
    figures: Map<String, Value>,
}

impl Report {
    pub(crate) fn new(mode: &str) -> Self {
        let mut report = Self::default();
        report.figures.insert("mode".into(), json!(mode));
        report
    }

    /// The figures of queues that were measured together: rates add up, times are the same for all.
    pub(crate) fn merge(reports: Vec<Self>) -> Option<Self> {
        reports.into_iter().reduce(|mut all, one| {
            for (name, value) in &one.figures {
                let sum = [all.figures.get(name), Some(value)].map(|value| value.and_then(Value::as_f64));
                if let ([Some(a), Some(b)], false) = (sum, name.ends_with("_s")) {
                    all.add(name, a + b);
                }
            }
            all
        })
    }

    /// Adds a figure, to three decimals.
    pub(crate) fn add(&mut self, name: &str, value: f64) {
        self.figures.insert(name.into(), json!((value * 1000.0).round() / 1000.0));
    }

    /// Adds the median and the 99th percentile of latencies.
    pub(crate) fn add_latencies(&mut self, mut nanos: Vec<u64>) {
        nanos.sort_unstable();
        for (name, per_mille) in [("p50_us", 500), ("p99_us", 990)] {
            if let Some(&value) = nanos.get(nanos.len() * per_mille / 1000) {
                // Latencies stay far below 2^53 nanoseconds.
                self.add(name, value as f64 / 1000.0);
            }
        }
    }

    pub(crate) fn to_json(&self) -> String {
        Value::Object(self.figures.clone()).to_string()
    }

    pub(crate) fn to_text(&self) -> String {
        let items = self.figures.iter().map(|(name, value)| match value {
            Value::String(text) => text.clone(),
            other => format!("{name}={other}"),
        });
        items.collect::<Vec<_>>().join(" ")
    }
}

/// The processor time of this process so far.
pub(crate) fn cpu_time() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Duration::ZERO };
    let micros = [usage.user_time(), usage.system_time()].map(|time| {
        let (seconds, micros) = (time.tv_sec(), time.tv_usec());
        // Neither is negative.
        Duration::from_secs(seconds.unsigned_abs()) + Duration::from_micros(micros.unsigned_abs())
    });
    micros.iter().sum()
}
