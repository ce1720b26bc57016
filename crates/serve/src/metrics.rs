//! What the server counts, for Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Answers by the first digit of their status.
    answers: [AtomicU64; 6],
    bytes: AtomicU64,
    connections: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    stalled: AtomicU64,
    transfers: AtomicU64,
    told_to_wait: AtomicU64,
    scripts: AtomicU64,
    reports: AtomicU64,
    bad_tokens: AtomicU64,
    strangers: AtomicU64,
}

/// A file on its way: counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Transfer(Arc<Metrics>);

#[derive(Debug)]
pub(crate) struct Connection(Arc<Metrics>);

impl Drop for Transfer {
    fn drop(&mut self) {
        self.0.transfers.fetch_sub(1, Relaxed);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

impl Metrics {
    pub(crate) fn answered(&self, status: u16) {
        if let Some(count) = self.answers.get(usize::from(status / 100)) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn sent(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn connection(self: &Arc<Self>) -> Connection {
        self.accepted.fetch_add(1, Relaxed);
        self.connections.fetch_add(1, Relaxed);
        Connection(Arc::clone(self))
    }

    pub(crate) fn transfer(self: &Arc<Self>) -> Transfer {
        self.transfers.fetch_add(1, Relaxed);
        Transfer(Arc::clone(self))
    }

    pub(crate) fn transfers(&self) -> u64 {
        self.transfers.load(Relaxed)
    }

    /// Counts a connection that was closed at once, since there are too many.
    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// Counts a connection whose client took nothing for too long.
    pub(crate) fn stalled(&self) {
        self.stalled.fetch_add(1, Relaxed);
    }

    /// Counts a client that was reported to come again later.
    pub(crate) fn told_to_wait(&self) {
        self.told_to_wait.fetch_add(1, Relaxed);
    }

    pub(crate) fn script(&self) {
        self.scripts.fetch_add(1, Relaxed);
    }

    pub(crate) fn reported(&self) {
        self.reports.fetch_add(1, Relaxed);
    }

    /// Counts a client that got no boot script, because it is no node or several.
    pub(crate) fn stranger(&self) {
        self.strangers.fetch_add(1, Relaxed);
    }

    pub(crate) fn bad_token(&self) {
        self.bad_tokens.fetch_add(1, Relaxed);
    }

    /// All in Prometheus' text form, with how many nodes are in which state. Source: Prometheus, "Exposition formats".
    pub(crate) fn text(&self, nodes: &BTreeMap<(String, &'static str), u64>) -> String {
        let mut text = String::new();
        let mut one = |name: &str, kind: &str, help: &str, value: &AtomicU64| {
            let _ = writeln!(
                text,
                "# HELP imgbuild_{name} {help}\n# TYPE imgbuild_{name} {kind}\nimgbuild_{name} {}",
                value.load(Relaxed)
            );
        };
        one("connections", "gauge", "Open connections.", &self.connections);
        one("connections_total", "counter", "Connections that were accepted.", &self.accepted);
        one("connections_refused_total", "counter", "Connections closed because of the limits.", &self.refused);
        one(
            "connections_stalled_total",
            "counter",
            "Connections whose client took nothing for too long.",
            &self.stalled,
        );
        one("transfers", "gauge", "Files on their way.", &self.transfers);
        one("transfers_delayed_total", "counter", "Requests answered with 503 and Retry-After.", &self.told_to_wait);
        one("sent_bytes_total", "counter", "Bytes of files that were sent.", &self.bytes);
        one("boot_scripts_total", "counter", "Boot scripts that nodes fetched.", &self.scripts);
        one("strangers_total", "counter", "Clients without a boot script: no node, or several.", &self.strangers);
        one("reports_total", "counter", "Reports of nodes.", &self.reports);
        one("reports_refused_total", "counter", "Reports with a wrong token.", &self.bad_tokens);
        text += "# HELP imgbuild_answers_total Answers by class of status.\n# TYPE imgbuild_answers_total counter\n";
        for (class, count) in self.answers.iter().enumerate().skip(2) {
            let _ = writeln!(text, "imgbuild_answers_total{{class=\"{class}xx\"}} {}", count.load(Relaxed));
        }
        text += "# HELP imgbuild_nodes Nodes by image and last report.\n# TYPE imgbuild_nodes gauge\n";
        for ((image, state), count) in nodes {
            let image = image.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = writeln!(text, "imgbuild_nodes{{image=\"{image}\",state=\"{state}\"}} {count}");
        }
        text
    }
}
