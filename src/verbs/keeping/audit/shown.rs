//! Findings in lines for people.

use std::collections::HashMap;
use std::path::PathBuf;

use super::subjects::Audited;
use crate::output::harmless::one_line;
use crate::output::render::shell_word;
use advisories::{Finding, Kind, Report, Silenced};

/// Vulnerabilities of a row that are shown before the others are counted.
const SHOWN: usize = 6;

/// What one does about findings of one package: words of a command, or none where nothing mends it yet. It names the files that the
/// vulnerabilities are known from; where only a newer version is known, it is the packages that are named.
pub(crate) fn remedy(audited: &Audited, files: &[PathBuf], findings: &[&Finding]) -> Option<Vec<String>> {
    let finding = findings.first()?;
    finding.fixed.as_ref()?;
    if matches!(finding.kind, Kind::Driver | Kind::File) || audited.recipe.is_none() {
        return None;
    }
    let mut words: Vec<String> = ["imgbuild", "update", &audited.subject.image].map(str::to_owned).into();
    words.push("--security".to_owned());
    words.extend(findings.iter().filter_map(|finding| finding.id.clone()).filter(|id| !id.starts_with('-')));
    words.extend(files.iter().flat_map(|file| ["--db".to_owned(), file.display().to_string()]));
    Some(words)
}

/// What one does where no command mends a finding.
pub(crate) fn by_hand(finding: &Finding) -> Option<&'static str> {
    (finding.kind == Kind::File && finding.fixed.is_some()).then_some("replace the file")
}

/// Words as a shell takes them.
fn command(words: &[String]) -> String {
    words.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ")
}

/// A line for each package and version with vulnerabilities of one severity.
pub(super) fn text((audited, files): (&[Audited], &[PathBuf]), report: &Report, verbose: u8) -> String {
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
        // All of a row have the same mend: the first of many bring the others.
        let most = if verbose > 0 { of.len() } else { of.len().min(SHOWN) };
        let remedy = of.first().and_then(|first| remedy(&audited[first.subject], files, &of[..most]));
        let by_hand = || of.first().and_then(|first| by_hand(first)).map(str::to_owned);
        row[6] = remedy.map(|words| command(&words)).or_else(by_hand).unwrap_or_default();
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
        // It has no package: what mends it is another file.
        _ if !finding.files.is_empty() => match finding.files.as_slice() {
            [one] => format!("{} ({one})", of.name()),
            [one, ..] => format!("{} ({one}, ..)", of.name()),
            [] => of.name(),
        },
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
    [severity, place, package, finding.installed.clone(), fix, String::new(), String::new()]
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
