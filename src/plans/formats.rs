//! How a plan is printed: for people, for programs, and for the pages of merge requests.

mod github;
mod gitlab;
mod markdown;
pub(crate) mod text;

use std::path::{Component, Path, PathBuf};

use clap::ValueEnum;

use super::planned::{PlanDocument, PlannedImage};
use git::Repository;
use plan::{Cause, Verdict};
use recipe::{KDL_RECIPE_FILE, RECIPE_FILE, recipe_file};

/// A form of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Human-readable text
    Text,
    /// JSON, as described by `imgbuild schema plan`
    Json,
    /// Markdown for a merge request
    Markdown,
    /// Annotations of GitHub Actions: workflow commands
    Github,
    /// Annotations of GitLab: a Code Quality report
    Gitlab,
}

/// How many causes are shown in one place before the rest is folded.
pub(crate) const SHOWN_CAUSES: usize = 6;

/// The plan in a form. `directories` are those of the recipes, in the order of the images.
pub(crate) fn text_of(format: Format, document: &PlanDocument, directories: &[PathBuf], verbose: u8) -> String {
    match format {
        Format::Text => text::text_of(document, verbose),
        Format::Json => {
            let mut text = serde_json::to_string_pretty(document).unwrap_or_default();
            text.push('\n');
            text
        }
        Format::Markdown => markdown::text_of(document, verbose),
        Format::Github => github::text_of(&annotations(document, directories)),
        Format::Gitlab => gitlab::text_of(&annotations(document, directories)),
    }
}

/// Something to say about a line of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Annotation {
    /// File below the repository's root; none for what stands in no file of it.
    pub file: Option<String>,
    /// Line, from 1.
    pub line: Option<usize>,
    /// File of the image's recipe below the repository's root, for what has no other.
    pub recipe: String,
    pub message: String,
    /// What it makes run: images with their stages, in order. A note about an image makes nothing run.
    pub rebuilds: Vec<(String, Vec<String>)>,
}

impl Annotation {
    /// `imgbuild rebuilds compute: rootfs, pack`; of a note `imgbuild on compute`.
    pub(crate) fn effect(&self) -> String {
        if self.is_note() {
            let images: Vec<&str> = self.rebuilds.iter().take(3).map(|(image, _)| image.as_str()).collect();
            let more = self.rebuilds.len().saturating_sub(3);
            let more = if more == 0 { String::new() } else { format!(" and {more} more images") };
            return format!("imgbuild on {}{more}", images.join(", "));
        }
        let of_image = |(image, stages): &(String, Vec<String>)| format!("{image}: {}", stages.join(", "));
        let shown: Vec<String> = self.rebuilds.iter().take(3).map(of_image).collect();
        let more = self.rebuilds.len().saturating_sub(3);
        let more = if more == 0 { String::new() } else { format!(" and {more} more images") };
        format!("imgbuild rebuilds {}{more}", shown.join("; "))
    }

    /// Whether it makes nothing run.
    fn is_note(&self) -> bool {
        self.rebuilds.iter().all(|(_, stages)| stages.is_empty())
    }
}

/// One annotation for each thing that a person changed, in the order of the images; those with a file come first.
fn annotations(document: &PlanDocument, directories: &[PathBuf]) -> Vec<Annotation> {
    let mut found: Vec<Annotation> = Vec::new();
    for (index, image) in document.images.iter().enumerate() {
        let directory = directories.get(index).map(PathBuf::as_path);
        let start = directory.map(|directory| recipe_below_root(image, directory)).unwrap_or_default();
        let is_here = image.change.as_deref() != Some("removed");
        let recipe = recipe_name(directory.filter(|_| is_here));
        for stage in image.stages.iter().filter(|stage| stage.action != Verdict::Keep) {
            for cause in &stage.causes {
                note(&mut found, image, &stage.stage, cause.leaf(), (&start, recipe));
            }
        }
        let recipe = joined(&start, recipe);
        for message in &image.notes {
            let known =
                found.iter_mut().find(|known| known.is_note() && known.recipe == recipe && known.message == *message);
            let rebuilds = (image.name.clone(), Vec::new());
            match known {
                Some(known) => known.rebuilds.push(rebuilds),
                None => found.push(Annotation {
                    file: is_here.then(|| recipe.clone()),
                    line: is_here.then_some(1),
                    recipe: recipe.clone(),
                    message: message.clone(),
                    rebuilds: vec![rebuilds],
                }),
            }
        }
    }
    // GitHub shows the first ten: notes come last of those that have a file.
    found.sort_by_key(|annotation| (annotation.file.is_none(), annotation.is_note()));
    found
}

fn note(found: &mut Vec<Annotation>, image: &PlannedImage, stage: &str, cause: &Cause, (start, recipe): (&Path, &str)) {
    let file = cause.file.as_ref().map(|file| joined(start, file));
    // A reader of the repository's pages knows its paths, and not those of the recipe.
    let rest = cause.file.as_ref().and_then(|own| cause.message.strip_prefix(own.as_str()));
    let message = match (&file, rest) {
        (Some(file), Some(rest)) => format!("{file}{rest}"),
        _ => cause.message.clone(),
    };
    let at = found.iter().position(|known| known.file == file && known.message == message);
    let at = at.unwrap_or_else(|| {
        let (line, recipe) = (cause.line, joined(start, recipe));
        found.push(Annotation { file, line, recipe, message, rebuilds: Vec::new() });
        found.len() - 1
    });
    let rebuilds = &mut found[at].rebuilds;
    if rebuilds.last().is_none_or(|(name, _)| *name != image.name) {
        rebuilds.push((image.name.clone(), Vec::new()));
    }
    if let Some((_, stages)) = rebuilds.last_mut()
        && stages.last().is_none_or(|last| last != stage)
    {
        stages.push(stage.to_owned());
    }
}

fn recipe_name(directory: Option<&Path>) -> &'static str {
    let is_kdl = |directory: &Path| recipe_file(directory).file_name().is_some_and(|name| name == KDL_RECIPE_FILE);
    if directory.is_some_and(is_kdl) { KDL_RECIPE_FILE } else { RECIPE_FILE }
}

/// Directory of a recipe below the root of the repository; empty if it is missing.
fn recipe_below_root(image: &PlannedImage, directory: &Path) -> PathBuf {
    if let Some(recipe) = &image.recipe {
        return PathBuf::from(recipe);
    }
    let root = Repository::around(directory).ok();
    let below = root.and_then(|root| directory.strip_prefix(root.root()).ok().map(Path::to_owned));
    below.unwrap_or_default()
}

/// A path relative to a recipe, as a path relative to the repository's root.
fn joined(start: &Path, file: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    if file.starts_with('/') {
        return file.to_owned();
    }
    for part in start.join(file).components() {
        match part {
            Component::Normal(name) => parts.push(name.to_string_lossy().into_owned()),
            Component::ParentDir => {
                parts.pop();
            }
            _ => {}
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_repository() {
        assert_eq!(joined(Path::new("images/compute"), "site/motd"), "images/compute/site/motd");
        assert_eq!(joined(Path::new("images/compute"), "../base/image.toml"), "images/base/image.toml");
        assert_eq!(joined(Path::new("."), "image.toml"), "image.toml");
        assert_eq!(joined(Path::new(""), "/etc/hosts"), "/etc/hosts");
    }
}
