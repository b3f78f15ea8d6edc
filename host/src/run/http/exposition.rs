//! Metrics as text, as Prometheus reads them (text format 0.0.4).

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use forebay_pipeline::metrics::Histogram;

/// The type of the answer.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a metric's number does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It only grows while the host runs.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How often, by how long it took at most.
    Histogram,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric: one row of `docs/metrics.md`.
#[derive(Debug)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

/// Numbers of metrics, by name.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    samples: BTreeMap<&'static str, String>,
}

impl Exposition {
    /// Adds a number; labels have the order of the metric's.
    pub(super) fn add<'a>(
        &mut self,
        metric: &'static Metric,
        values: impl IntoIterator<Item = &'a str>,
        number: impl Display,
    ) {
        self.line((metric, ""), values, None, number);
    }

    /// Adds the numbers of a histogram.
    pub(super) fn add_times<'a>(
        &mut self,
        metric: &'static Metric,
        values: impl IntoIterator<Item = &'a str> + Clone,
        times: &Histogram,
    ) {
        let mut all = 0;
        for (bound, count) in times.cumulative() {
            self.line((metric, "_bucket"), values.clone(), Some(bound), count);
            all = count;
        }
        self.line((metric, "_sum"), values.clone(), None, float(times.seconds()));
        self.line((metric, "_count"), values, None, all);
    }

    fn line<'a>(
        &mut self,
        (metric, suffix): (&'static Metric, &str),
        values: impl IntoIterator<Item = &'a str>,
        bound: Option<f64>,
        number: impl Display,
    ) {
        let labels = metric.labels.iter().zip(values).map(|(label, value)| format!("{label}=\"{}\"", escaped(value)));
        let labels: Vec<_> = labels.chain(bound.map(|bound| format!("le=\"{}\"", float(bound)))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let lines = self.samples.entry(metric.name).or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(lines, "{}{suffix}{labels} {number}", metric.name);
    }

    /// The text, in the order of `all`; those without a number are named too.
    pub(super) fn text(&self, all: &[&'static Metric]) -> String {
        let mut text = String::new();
        for Metric { name, kind, labels: _, help } in all {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {}", kind.name());
            text.push_str(self.samples.get(name).map_or("", String::as_str));
        }
        text
    }
}

/// A number that need not be finite.
pub(super) fn float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    number.to_string()
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    static SEEN: Metric = Metric { name: "seen", kind: Kind::Counter, labels: &["a", "b"], help: "What was seen." };
    static NOT: Metric = Metric { name: "not", kind: Kind::Gauge, labels: &[], help: "What was not." };

    #[test]
    fn labels_are_escaped_and_a_metric_without_a_number_is_named() {
        let mut out = Exposition::default();
        out.add(&SEEN, ["x\"\\\n", "y"], 1);
        out.add(&SEEN, ["x", "z"], float(f64::INFINITY));
        assert_eq!(
            out.text(&[&NOT, &SEEN]),
            "# HELP not What was not.\n# TYPE not gauge\n# HELP seen What was seen.\n# TYPE seen counter\n\
             seen{a=\"x\\\"\\\\\\n\",b=\"y\"} 1\nseen{a=\"x\",b=\"z\"} +Inf\n"
        );
        static TOOK: Metric = Metric { name: "took", kind: Kind::Histogram, labels: &["a"], help: "How long." };
        let times = Histogram::default();
        times.observe(std::time::Duration::from_millis(2));
        let mut out = Exposition::default();
        out.add_times(&TOOK, ["x"], &times);
        let text = out.text(&[&TOOK]);
        assert!(
            text.starts_with("# HELP took How long.\n# TYPE took histogram\ntook_bucket{a=\"x\",le=\"0.0005\"} 0\n")
        );
        assert!(text.contains("took_bucket{a=\"x\",le=\"0.0025\"} 1\n"), "{text}");
        assert!(
            text.ends_with("took_bucket{a=\"x\",le=\"+Inf\"} 1\ntook_sum{a=\"x\"} 0.002\ntook_count{a=\"x\"} 1\n"),
            "{text}"
        );
        assert_eq!((float(f64::NAN).as_str(), float(0.5).as_str()), ("NaN", "0.5"));
    }
}
