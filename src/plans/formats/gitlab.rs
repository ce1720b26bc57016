//! A Code Quality report. Source: docs.gitlab.com, "Code Quality report format": description, check_name, fingerprint,
//! severity, location.path and location.lines.begin, in one array.

use serde::Serialize;

use super::Annotation;
use base::digest::FieldHasher;

#[derive(Serialize)]
struct Issue {
    description: String,
    check_name: &'static str,
    fingerprint: String,
    severity: &'static str,
    location: Location,
}

#[derive(Serialize)]
struct Location {
    path: String,
    lines: Lines,
}

#[derive(Serialize)]
struct Lines {
    begin: usize,
}

/// The report. Each entry needs a file: what stands in none is shown at the recipe.
pub(super) fn text_of(annotations: &[Annotation]) -> String {
    let issue = |annotation: &Annotation| {
        let path = annotation.file.clone().unwrap_or_else(|| annotation.recipe.clone());
        // The same finding in the next pipeline has the same fingerprint; its line may have moved.
        let mut hasher = FieldHasher::new("imgbuild plan annotation v1");
        hasher.text(&path).text(&annotation.message);
        annotation.rebuilds.iter().for_each(|(image, _)| {
            hasher.text(image);
        });
        Issue {
            description: format!("{}: {}", annotation.message, annotation.effect()),
            check_name: "imgbuild-plan",
            fingerprint: hasher.finish().to_string(),
            severity: "info",
            location: Location { path, lines: Lines { begin: annotation.line.unwrap_or(1) } },
        }
    };
    let issues: Vec<Issue> = annotations.iter().map(issue).collect();
    let mut text = serde_json::to_string_pretty(&issues).unwrap_or_default();
    text.push('\n');
    text
}
