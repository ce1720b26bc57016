//! The plan for people.

use super::super::planned::{PlanDocument, PlannedImage};
use super::SHOWN_CAUSES;
use std::collections::BTreeSet;

use crate::output::harmless::one_line;
use plan::Verdict;

pub(crate) fn text_of(document: &PlanDocument, verbose: u8) -> String {
    let texts: Vec<String> = document.images.iter().map(|image| of_image(image, verbose)).collect();
    let head = document
        .against
        .as_ref()
        .map_or_else(String::new, |against| format!("compared with {} ({:.12})\n", against.revision, against.commit));
    let together = document.estimate.as_ref().map(|total| format!("\n{}\n", crate::output::estimate::together(total)));
    head + &texts.join("\n") + &together.unwrap_or_default()
}

/// What became of an image since the revision.
pub(crate) fn change(image: &PlannedImage) -> &'static str {
    match image.change.as_deref() {
        Some("new") => "  new",
        // A note says what became of the recipe that is still here.
        Some("removed") if !image.notes.is_empty() => "  removed",
        Some("removed") => "  removed: its recipe no longer exists",
        Some("renamed") => "  renamed",
        Some("unreadable") => "  its recipe had errors",
        _ => "",
    }
}

pub(crate) fn of_image(image: &PlannedImage, verbose: u8) -> String {
    let mut text = format!("{}{}\n", image.name, change(image));
    let mut notes: Vec<String> = image.notes.iter().map(|note| format!("  note: {note}\n")).collect();
    for stage in &image.stages {
        text.push_str(&format!("  {:<8} {}\n", stage.stage, stage.action));
        for layer in &stage.layers {
            if let Some(text) = &layer.not_reproducible {
                notes.push(format!("  not reproducible: {}/{}: {text}\n", stage.stage, layer.layer));
            }
            if layer.action == Verdict::Keep && verbose == 0 {
                continue;
            }
            text.push_str(&format!("    {:<14} {}\n", layer.layer, layer.action));
            let most = if verbose > 0 { usize::MAX } else { SHOWN_CAUSES };
            for cause in layer.causes.iter().take(most) {
                text.push_str(&format!("      {}\n", one_line(&cause.message)));
            }
            if layer.causes.len() > most {
                text.push_str(&format!("      and {} more (-v shows all)\n", layer.causes.len() - most));
            }
        }
    }
    text.extend(notes);
    if let Some(estimate) = &image.estimate {
        text.push_str(&format!("  {}\n", crate::output::estimate::line(estimate)));
    }
    if !image.drift.is_empty() {
        text.push_str("  modified outside imgbuild:\n");
        for drift in &image.drift {
            text.push_str(&format!("    {} {} {}\n", drift.place, one_line(&drift.name), drift.problem));
        }
        let deep = image.drift.iter().any(|drift| drift.place == "store");
        let mut command = if deep { "imgbuild build --thorough".to_owned() } else { "imgbuild build".to_owned() };
        // Another tool's layout is written where it is asked for.
        let places: BTreeSet<&str> =
            image.drift.iter().map(|drift| drift.place.as_str()).filter(|place| place.starts_with("xcat:")).collect();
        places.iter().for_each(|place| command.push_str(&format!(" --publish {}", one_line(place))));
        text.push_str(&format!("    `{command}` restores it\n"));
    }
    text
}
