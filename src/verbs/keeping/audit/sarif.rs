//! SARIF 2.1.0. Source: OASIS, Static Analysis Results Interchange Format 2.1.0, sections 3.13 to 3.58; `security-severity` is what code
//! hosts sort by.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::document::line;
use super::shown::{by_hand, remedy};
use super::subjects::Audited;
use advisories::{Finding, Report, Severity};
use base::digest::Sha256;

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

pub(super) fn document((audited, files): (&[Audited], &[PathBuf]), report: &Report) -> Value {
    let silenced = report.silenced.iter().map(|one| (&one.finding, Some(&one.reason)));
    let all: Vec<(&Finding, Option<&String>)> =
        report.findings.iter().map(|finding| (finding, None)).chain(silenced).collect();
    // A rule for each vulnerability, as bad as the worst of its findings.
    let mut rules: BTreeMap<String, &Finding> = BTreeMap::new();
    for finding in all.iter().map(|(finding, _)| *finding) {
        let rule = rules.entry(rule_of(finding)).or_insert(finding);
        if finding.severity > rule.severity {
            *rule = finding;
        }
    }
    let places: BTreeMap<String, usize> = rules.keys().enumerate().map(|(at, id)| (id.clone(), at)).collect();
    let results: Vec<Value> = all
        .iter()
        .map(|(finding, reason)| {
            let of = &audited[finding.subject];
            let id = rule_of(finding);
            let mut result = json!({
                "ruleId": id,
                "ruleIndex": places[&id],
                "level": level(finding.severity),
                "message": { "text": message(of, files, finding) },
                "locations": [{ "physicalLocation": {
                    "artifactLocation": { "uri": uri(of) },
                    "region": { "startLine": line(of, finding).unwrap_or(1) },
                }}],
                "partialFingerprints": { "imgbuildAudit/v1": fingerprint(of, finding, &id) },
            });
            if let Some(reason) = reason {
                result["suppressions"] = json!([{ "kind": "external", "justification": reason }]);
            }
            result
        })
        .collect();
    let rules: Vec<Value> = rules
        .iter()
        .map(|(id, finding)| {
            let title = if finding.title.is_empty() { id } else { &finding.title };
            json!({
                "id": id,
                "shortDescription": { "text": title },
                "defaultConfiguration": { "level": level(finding.severity) },
                "properties": { "security-severity": score(finding.severity), "tags": ["security"] },
            })
        })
        .collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "imgbuild", "semanticVersion": env!("CARGO_PKG_VERSION"), "rules": rules } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

/// A vulnerability, or the suite that has a newer version.
fn rule_of(finding: &Finding) -> String {
    finding.id.clone().unwrap_or_else(|| format!("newer-in-{}", finding.databases.join("-")))
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "error",
        Severity::Medium | Severity::Unknown => "warning",
        Severity::Low | Severity::Negligible => "note",
    }
}

/// The middle of what CVSS calls so.
fn score(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "9.5",
        Severity::High => "8.0",
        Severity::Medium | Severity::Unknown => "5.5",
        Severity::Low => "2.0",
        Severity::Negligible => "0.1",
    }
}

fn message(audited: &Audited, files: &[PathBuf], finding: &Finding) -> String {
    let mut text = format!("{} {} of {}", finding.packages.join(", "), finding.installed, audited.name());
    if !finding.files.is_empty() {
        let _ = write!(text, " (in {})", finding.files.join(", "));
    }
    let _ = match &finding.fixed {
        Some(fixed) => write!(text, " is mended by {fixed}"),
        None => write!(text, " has no fix yet"),
    };
    let _ = match (remedy(audited, files, &[finding]), by_hand(finding)) {
        (Some(words), _) => write!(text, ": {}", words.join(" ")),
        (None, Some(what)) => write!(text, ": {what}"),
        (None, None) => Ok(()),
    };
    text
}

/// The lock from the directory that the command is for, as code hosts name files; without a lock the build's record.
fn uri(audited: &Audited) -> String {
    let path = match (&audited.recipe, &audited.lock) {
        (Some(recipe), Some(_)) if audited.build.is_none() => recipe.lock_shown(),
        (_, Some((path, _))) => path.display().to_string(),
        (_, None) => format!("{}/build.json", audited.subject.image),
    };
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => uri.push(char::from(byte)),
            other => {
                let _ = write!(uri, "%{other:02X}");
            }
        }
    }
    uri
}

/// The same for the same finding in a lock with other lines.
fn fingerprint(audited: &Audited, finding: &Finding, id: &str) -> String {
    let parts = [id, &audited.subject.image, &finding.pass, &finding.source, &finding.installed];
    Sha256::of(parts.join("\n").as_bytes()).short()
}
