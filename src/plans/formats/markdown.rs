//! The plan as a comment for a merge request, in the Markdown that GitHub and GitLab have in common.

use super::super::planned::{PlanDocument, PlannedImage};
use plan::{Stage, Verdict};

/// Largest comment, in bytes; GitHub takes 65536 characters, GitLab a million.
const COMMENT_LIMIT: usize = 60_000;

/// How many causes of an image are shown before the rest is folded.
const SHOWN: usize = 50;

pub(super) fn text_of(document: &PlanDocument, verbose: u8) -> String {
    let changed = document.images.iter().filter(|image| image.has_work()).count();
    let against = document.against.as_ref().map_or_else(String::new, |against| {
        format!(", compared with {} ({:.12})", code(&against.revision), against.commit)
    });
    let count = document.images.iter().filter(|image| image.change.as_deref() != Some("removed")).count();
    let mut text = format!("### imgbuild: {changed} of {count} images to build{against}\n\n");
    text.push_str("| image |");
    Stage::ALL.iter().for_each(|stage| text.push_str(&format!(" {} |", stage.name())));
    text.push_str("\n|---|---|---|---|---|\n");
    document.images.iter().for_each(|image| text.push_str(&row(image)));
    let mut left_out = 0;
    for image in &document.images {
        let details = details(image, if verbose > 0 { usize::MAX } else { SHOWN });
        if text.len() + details.len() > COMMENT_LIMIT {
            left_out += usize::from(!details.is_empty());
        } else {
            text.push_str(&details);
        }
    }
    if left_out > 0 {
        text.push_str(&format!(
            "\nThe causes of {left_out} more images are too long for a comment: see `imgbuild plan`.\n"
        ));
    }
    text
}

fn row(image: &PlannedImage) -> String {
    let change = image.change.as_ref().map_or_else(String::new, |change| format!(" ({change})"));
    let mut row = format!("| {}{change} |", code(&image.name));
    for stage in Stage::ALL {
        let found = image.stages.iter().find(|one| one.stage == stage.name());
        let word = match found.map(|stage| stage.action) {
            Some(Verdict::Run) => "**run**",
            Some(verdict @ (Verdict::Depends | Verdict::Keep)) => verdict.name(),
            None => "",
        };
        row.push_str(&format!(" {word} |"));
    }
    row.push('\n');
    row
}

/// The causes of an image, each with the stages that it makes run.
fn details(image: &PlannedImage, most: usize) -> String {
    let mut causes: Vec<(String, Vec<&str>)> = Vec::new();
    for stage in image.stages.iter().filter(|stage| stage.action != Verdict::Keep) {
        for cause in &stage.causes {
            let message = &cause.leaf().message;
            match causes.iter_mut().find(|(known, _)| known == message) {
                Some((_, stages)) => stages.push(&stage.stage),
                None => causes.push((message.clone(), vec![&stage.stage])),
            }
        }
    }
    let drift: Vec<String> =
        image.drift.iter().map(|drift| format!("{} {} {}", drift.place, drift.name, drift.problem)).collect();
    if causes.is_empty() && image.notes.is_empty() && drift.is_empty() {
        return String::new();
    }
    let plural = if causes.len() == 1 { "cause" } else { "causes" };
    let mut text = format!("\n<details><summary>{}: {} {plural}</summary>\n\n", html(&image.name), causes.len());
    for (message, stages) in causes.iter().take(most) {
        text.push_str(&format!("- {} ({})\n", code(message), stages.join(", ")));
    }
    if causes.len() > most {
        text.push_str(&format!("- and {} more: see `imgbuild plan -v`\n", causes.len() - most));
    }
    image.notes.iter().for_each(|note| text.push_str(&format!("- note: {}\n", code(note))));
    drift.iter().for_each(|drift| text.push_str(&format!("- modified outside imgbuild: {}\n", code(drift))));
    text.push_str("\n</details>\n");
    text
}

/// A code span that nothing in the text can end. Source: CommonMark 0.31, section 6.1.
fn code(text: &str) -> String {
    let plain: String = text.chars().map(|one| if one.is_control() { ' ' } else { one }).collect();
    // In a table a bar would end the cell, even in a code span.
    let plain = plain.replace('|', "\\|");
    let longest = plain.split(|one| one != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let space = if plain.starts_with('`') || plain.ends_with('`') { " " } else { "" };
    format!("{fence}{space}{plain}{space}{fence}")
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_code_span() {
        assert_eq!(code("a"), "`a`");
        assert_eq!(code("a ` b"), "``a ` b``");
        assert_eq!(code("``"), "``` `` ```");
        assert_eq!(code("a\nb</details>"), "`a b</details>`");
    }
}
