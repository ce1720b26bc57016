//! `[sync.owner]`, checked against what the lists bring.

use std::collections::BTreeSet;

use super::{SyncedFile, SyncedNodes};
use crate::Spans;
use crate::owners::Said;
use base::source::{Finding, Span, nearest};

/// What is wrong with the table.
pub(crate) fn check(
    said: &std::collections::BTreeMap<String, String>,
    (sync, of_nodes): (&[SyncedFile], &SyncedNodes),
    spans: &Spans,
    whole: &Span,
) -> Vec<Finding> {
    let places: BTreeSet<String> = sync.iter().flat_map(SyncedFile::destinations).collect();
    let is_without = sync.is_empty() && of_nodes.is_empty();
    let mut findings = Vec::new();
    for (path, text) in said {
        let span = spans.nearest(&format!("sync.owner.{path}")).unwrap_or(whole);
        if let Err(problem) = Said::parse(text) {
            let finding = Finding::error("sync::owner", span, problem.to_string()).label("set here");
            findings.push(finding.help(format!(
                "write user, group and mode: ‹[sync.owner] \"{path}\" = \"root:root 0644\"›; a part of it is enough"
            )));
        }
        // Without lists there is nothing to copy: `packimage --nosyncfiles`.
        if is_without || places.contains(path) || of_nodes.brings(path) {
            continue;
        }
        let finding = Finding::error("sync::owner", span, format!("no synclist copies a file to `{path}`"));
        let near = nearest(path, places.iter().map(String::as_str));
        findings.push(finding.label("named here").help(match near.first() {
            Some(near) => format!("did you mean `{near}`?"),
            None => "name the destination of a line, or the path of a file below that".to_owned(),
        }));
    }
    findings
}
