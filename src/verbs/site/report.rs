//! What an import reports: image by image, and once what several of them have.

use crate::output::harmless::push_line;
use site::osimage::{Remark, Verdict};
use site::workspace::{ImportReport, ImportState, ImportedImage};

pub(super) fn text_of(report: &ImportReport, verbose: u8) -> String {
    let mut text = String::new();
    let shared = Shared::of(report, verbose);
    for image in &report.osimages {
        text.push_str(&image_text(image, report.dry_run, verbose, &shared));
    }
    text.push_str(&shared.text());
    if !report.copied.is_empty() {
        let would = if report.dry_run { "would be copied" } else { "copied" };
        push_line(&mut text, &format!("{} files {would} to site/", report.copied.len()));
    }
    for note in &report.notes {
        push_line(&mut text, &format!("note: {note}"));
    }
    for (kind, count) in &report.passed_over {
        push_line(&mut text, &format!("not imported: {kind} ({count}); they stay with xCAT"));
    }
    text
}

/// The reasons of remarks, clause by clause.
fn clauses(reason: &str) -> impl Iterator<Item = &str> {
    reason.split("; ")
}

/// What a clause says, without the path that it is about: images have these of their own.
fn about(clause: &str) -> (&str, Option<&str>) {
    match clause.split_once(' ').filter(|(path, _)| path.starts_with('/')) {
        Some((path, rest)) => (rest, Some(path)),
        None => (clause, None),
    }
}

/// Clauses of reasons that several images have: the report says them once.
#[derive(Default)]
struct Shared {
    /// By attribute and clause, in the order of their first image: the gravest verdict, the images, and their paths.
    all: Vec<((String, String), SharedClause)>,
}

struct SharedClause {
    verdict: Verdict,
    images: Vec<String>,
    paths: Vec<String>,
}

impl Shared {
    fn of(report: &ImportReport, verbose: u8) -> Self {
        let mut shared = Self::default();
        for image in report.osimages.iter().filter(|image| is_told(image, verbose)) {
            let remarks = image.attributes.iter().filter(|one| is_said(one, verbose));
            for (one, clause) in remarks.flat_map(|one| clauses(&one.reason).map(move |clause| (one, clause))) {
                let (rest, path) = about(clause);
                let key = (one.attribute.clone(), rest.to_owned());
                let at = shared.all.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
                    let new = SharedClause { verdict: one.verdict, images: Vec::new(), paths: Vec::new() };
                    shared.all.push((key, new));
                    shared.all.len() - 1
                });
                let found = &mut shared.all[at].1;
                found.verdict = found.verdict.max(one.verdict);
                if found.images.last() != Some(&image.name) {
                    found.images.push(image.name.clone());
                }
                found
                    .paths
                    .extend(path.filter(|path| !found.paths.iter().any(|known| known == path)).map(str::to_owned));
            }
        }
        shared.all.retain(|(_, one)| one.images.len() > 1 && !fault::planted("import-repeats"));
        shared
    }

    /// What is left of a reason for one image.
    fn rest(&self, one: &Remark) -> String {
        let is_own = |clause: &&str| {
            let (rest, _) = about(clause);
            !self.all.iter().any(|((attribute, known), _)| *attribute == one.attribute && known == rest)
        };
        clauses(&one.reason).filter(is_own).collect::<Vec<_>>().join("; ")
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut images: &[String] = &[];
        let mut sorted: Vec<_> = self.all.iter().collect();
        sorted.sort_by(|(a, x), (b, y)| (&x.images, x.verdict, a).cmp(&(&y.images, y.verdict, b)));
        for ((attribute, clause), one) in sorted {
            if one.images != images {
                images = &one.images;
                push_line(&mut text, &format!("{}:", images.join(", ")));
            }
            let paths = if one.paths.is_empty() { String::new() } else { format!(": {}", one.paths.join(", ")) };
            push_line(&mut text, &format!("  {:<8} {attribute}: {clause}{paths}", one.verdict.name()));
        }
        text
    }
}

/// Whether more than its name is reported of an image.
fn is_told(image: &ImportedImage, verbose: u8) -> bool {
    image.state != ImportState::Same || verbose > 0
}

/// Whether the reason of a remark is reported.
fn is_said(one: &Remark, verbose: u8) -> bool {
    let is_worth = match one.verdict {
        Verdict::Differs | Verdict::Decide => true,
        Verdict::Exact | Verdict::Stays => verbose > 0,
    };
    let is_found = one.verdict == Verdict::Exact && one.value.is_empty();
    !one.reason.is_empty() && (is_worth || is_found)
}

fn image_text(image: &ImportedImage, dry_run: bool, verbose: u8, shared: &Shared) -> String {
    let recipe = image.recipe.as_deref().unwrap_or_default();
    let what = match (image.state, dry_run) {
        (ImportState::New, false) => format!("wrote {recipe}"),
        (ImportState::New, true) => format!("would write {recipe}"),
        (ImportState::Changed, _) if image.changes.is_empty() => format!("{recipe} needs no change"),
        (ImportState::Changed, false) => format!("changed {recipe}"),
        (ImportState::Changed, true) => format!("would change {recipe}"),
        (ImportState::Same, _) => format!("{recipe} is as imported"),
        (ImportState::Skipped, _) => "no recipe".to_owned(),
        (ImportState::Gone, _) => "no longer in xCAT".to_owned(),
    };
    let mut text = String::new();
    push_line(&mut text, &format!("{}: {what}", image.name));
    if let Some(reason) = &image.reason {
        push_line(&mut text, &format!("  {reason}"));
    }
    for change in &image.changes {
        push_line(&mut text, &format!("  {change}"));
    }
    if !is_told(image, verbose) {
        return text;
    }
    let names = |verdict: Verdict| -> Vec<&str> {
        let of_verdict = image.attributes.iter().filter(|one| one.verdict == verdict && !one.value.is_empty());
        of_verdict.map(|one| one.attribute.as_str()).collect()
    };
    for verdict in [Verdict::Exact, Verdict::Stays] {
        if !names(verdict).is_empty() {
            push_line(&mut text, &format!("  {:<8} {}", verdict.name(), names(verdict).join(", ")));
        }
    }
    for verdict in [Verdict::Exact, Verdict::Stays, Verdict::Differs, Verdict::Decide] {
        for one in image.attributes.iter().filter(|one| one.verdict == verdict && is_said(one, verbose)) {
            let reason = shared.rest(one);
            if !reason.is_empty() {
                push_line(&mut text, &format!("  {:<8} {}: {reason}", verdict.name(), one.attribute));
            }
        }
    }
    text
}
