//! What was mended and what is left, in lines for people.

use super::mend::{self, Move};
use super::security::Outcome;
use crate::output::harmless::one_line;
use crate::output::render;
use advisories::{Component, Finding, Kind};
use base::source::counted_as;

/// A line for each vulnerability that was mended, for each that is left, and for what moved with the mends.
pub(super) fn text(outcome: &Outcome<'_>) -> String {
    let mut rows: Vec<[String; 4]> = Vec::new();
    if let Some(after) = &outcome.after {
        for finding in mend::mended(&outcome.found, &outcome.left) {
            let to = mend::version_of(after, finding).unwrap_or("removed");
            let what = format!("{} {} -> {to}", packages(finding), finding.installed);
            rows.push(["mended".to_owned(), id(finding), what, String::new()]);
        }
    }
    for (finding, held) in outcome.left.iter().zip(&outcome.why) {
        let what = format!("{} {}", packages(finding), finding.installed);
        rows.push(["open".to_owned(), id(finding), what, held.why.clone()]);
    }
    rows.extend(outcome.also.iter().map(|one| {
        let why = if one.is_lost { "its version is no longer in any repository" } else { "needed by these" };
        ["moved".to_owned(), String::new(), moved(one), why.to_owned()]
    }));
    let rows: Vec<[String; 4]> = rows.into_iter().map(|row| row.map(|cell| one_line(&cell))).collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2)];
    let mut text = format!("{}\n", outcome.before.subject.image);
    for row in &rows {
        let mut line = String::from(" ");
        for (cell, width) in row.iter().zip(widths.iter().chain([&0])) {
            line.push_str(&format!(" {cell:<width$} "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    if rows.is_empty() { String::new() } else { text }
}

fn moved(one: &Move) -> String {
    match (&one.from, &one.to) {
        (Some(from), Some(to)) => format!("{} {from} -> {to}", one.name),
        (None, Some(to)) => format!("{} {to} added", one.name),
        (from, None) => format!("{} {} removed", one.name, from.as_deref().unwrap_or_default()),
    }
}

fn id(finding: &Finding) -> String {
    match (&finding.id, finding.advisories.as_slice()) {
        (Some(id), []) => id.clone(),
        (Some(id), advisories) => format!("{id} ({})", advisories.join(", ")),
        (None, _) => format!("newer in {}", finding.databases.join(", ")),
    }
}

fn packages(finding: &Finding) -> String {
    let names = finding.packages.join(", ");
    match finding.kind {
        Kind::Tools => format!("{names} ({})", finding.pass),
        _ if finding.packages.contains(&finding.source) => names,
        _ => format!("{names} ({})", finding.source),
    }
}

/// Versions of the kernel before and after, where it moves.
pub(super) fn kernel(outcome: &Outcome<'_>) -> Option<(String, String)> {
    let kernel = |components: &[Component]| {
        let mut all: Vec<String> =
            components.iter().filter(|one| one.kind == Kind::Kernel).map(|one| one.version.clone()).collect();
        all.sort();
        all.dedup();
        all.join(", ")
    };
    let was = kernel(&outcome.before.subject.components);
    let now = kernel(&outcome.after.as_ref()?.subject.components);
    (was != now).then_some((was, now))
}

/// Says what was written, and what comes next.
pub(super) fn sum(outcome: &Outcome<'_>) {
    let image = &outcome.before.subject.image;
    let mended = mend::mended(&outcome.found, &outcome.left).count();
    let lock = outcome.before.recipe.as_ref().map(recipe::Recipe::lock_name).unwrap_or_default();
    if let Some((from, to)) = kernel(outcome) {
        let drivers = outcome
            .before
            .subject
            .components
            .iter()
            .filter(|one| one.kind == Kind::Driver)
            .map(|one| one.name.as_str());
        let drivers: Vec<&str> = drivers.collect();
        let with = if drivers.is_empty() {
            String::new()
        } else {
            format!(
                "; `imgbuild build {image}` compiles {} for it, and if that fails, the published image is unchanged",
                drivers.join(", ")
            )
        };
        render::say(&format!("note: {image}: the kernel moves from {from} to {to}: nodes need a restart{with}"));
    }
    let left = match outcome.left.len() {
        0 => String::new(),
        count => format!(", {} open", counted_as(count, "is", "are")),
    };
    match (&outcome.after, outcome.found.is_empty()) {
        (Some(_), _) => render::say(&format!(
            "{image}: {}{left}; {lock} was updated: `imgbuild plan {image}` shows what a build will do",
            counted_as(mended, "vulnerability is mended", "vulnerabilities are mended")
        )),
        (None, true) => render::say(&format!("{image}: nothing to mend; {lock} is unchanged")),
        (None, false) => render::say(&format!("{image}: nothing can be mended{left}; {lock} is unchanged")),
    }
}
