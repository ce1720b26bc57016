//! Findings in lines for people.

use std::collections::HashMap;

use super::subjects::Audited;
use crate::output::harmless::one_line;
use advisories::{Finding, Kind, Report, Silenced};

/// Vulnerabilities of a row that are shown before the others are counted.
const SHOWN: usize = 6;

/// What one does about a finding: words of a command, or none where nothing mends it yet.
pub(super) fn remedy(audited: &Audited, finding: &Finding) -> Option<Vec<String>> {
    finding.fixed.as_ref()?;
    if finding.kind == Kind::Driver || audited.recipe.is_none() {
        return None;
    }
    // A kernel's package has another name in each release: what was asked for leads to the next.
    let requests = audited.requests.get(&finding.pass).filter(|_| finding.kind == Kind::Kernel);
    let names = requests.filter(|names| !names.is_empty()).unwrap_or(&finding.packages);
    let mut words: Vec<String> = ["imgbuild", "update", &audited.subject.image].map(str::to_owned).into();
    words.extend(names.iter().flat_map(|name| ["--package".to_owned(), name.clone()]));
    Some(words)
}

/// A line for each package and version with vulnerabilities of one severity.
pub(super) fn text(audited: &[Audited], report: &Report, verbose: u8) -> String {
    let mut places: HashMap<[String; 7], usize> = HashMap::new();
    let mut rows: Vec<([String; 7], Vec<&Finding>)> = Vec::new();
    for finding in &report.findings {
        let row = row(audited, finding);
        let at = *places.entry(row.clone()).or_insert(rows.len());
        match rows.get_mut(at) {
            Some((_, of)) => of.push(finding),
            None => rows.push((row, vec![finding])),
        }
    }
    let rows = rows.into_iter().map(|(mut row, of)| {
        row[5] = ids(&of, verbose);
        row
    });
    let mut text = table(rows.collect());
    if verbose > 0 && !report.silenced.is_empty() {
        text.push_str("\nDo not count:\n");
        for one in &report.silenced {
            text.push_str(&silenced(audited, one));
        }
    }
    text
}

/// The cells of a finding but for its vulnerabilities.
fn row(audited: &[Audited], finding: &Finding) -> [String; 7] {
    let of = &audited[finding.subject];
    let place = match finding.kind {
        Kind::Tools => format!("{} ({})", of.name(), finding.pass),
        _ => of.name(),
    };
    let others: Vec<&str> =
        finding.packages.iter().map(String::as_str).filter(|name| *name != finding.source).collect();
    let package = match others.as_slice() {
        [] => finding.source.clone(),
        [one] if finding.packages.len() == 1 => format!("{one} ({})", finding.source),
        several => format!("{} ({})", finding.source, several.join(", ")),
    };
    let fix = finding.fixed.clone().unwrap_or_else(|| "no fix yet".to_owned());
    let severity = finding.severity.name().to_owned();
    let severity = if finding.exploited.is_some() { format!("{severity}, exploited") } else { severity };
    let remedy = remedy(of, finding).map(|words| words.join(" ")).unwrap_or_default();
    [severity, place, package, finding.installed.clone(), fix, String::new(), remedy]
}

/// The vulnerabilities of a row with their advisories.
fn ids(findings: &[&Finding], verbose: u8) -> String {
    let most = if verbose > 0 { usize::MAX } else { SHOWN };
    let name = |finding: &&Finding| match (&finding.id, finding.advisories.as_slice()) {
        (Some(id), []) => id.clone(),
        (Some(id), advisories) => format!("{id} ({})", advisories.join(", ")),
        (None, _) => format!("newer in {}", finding.databases.join(", ")),
    };
    let mut all: Vec<String> = findings.iter().take(most).map(name).collect();
    if findings.len() > most {
        all.push(format!("{} more", findings.len() - most));
    }
    all.join(", ")
}

fn table(rows: Vec<[String; 7]>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let head = ["SEVERITY", "IMAGE", "PACKAGE", "INSTALLED", "FIXED", "IDS", "TO DO"].map(str::to_owned);
    let rows: Vec<[String; 7]> = std::iter::once(head).chain(rows).map(|row| row.map(|cell| one_line(&cell))).collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or_default();
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            let width = widths.get(at).copied().unwrap_or_default();
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', (width + 2).saturating_sub(cell.chars().count())));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn silenced(audited: &[Audited], one: &Silenced) -> String {
    let finding = &one.finding;
    let until = one.until.map(|until| format!(", until {until}")).unwrap_or_default();
    let line = format!(
        "{} in {} of {}: {} ({}{until}; {})",
        finding.id.as_deref().unwrap_or_default(),
        finding.packages.join(", "),
        audited[finding.subject].name(),
        one.reason,
        one.author,
        one.file
    );
    format!("{}\n", one_line(&line))
}
