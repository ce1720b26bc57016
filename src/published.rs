//! Images of which something is published, for commands that look at that alone: what was built can be given out and looked at while
//! its recipe has an error.

use std::path::{Path, PathBuf};

use super::output::render;
use super::setup::{look, read_selection};
use super::{Arguments, Exit};
use recipe::{Recipe, folders, is_image_name};

/// An image, where its recipe is, and where it is published.
pub(crate) struct Place {
    pub name: String,
    pub directory: PathBuf,
    pub out: PathBuf,
    /// Missing where it has errors.
    pub recipe: Option<Recipe>,
}

impl Place {
    fn of(recipe: Recipe) -> Self {
        let (name, directory, out) = (recipe.model.image.name.clone(), recipe.directory.clone(), recipe.out.clone());
        Self { name, directory, out, recipe: Some(recipe) }
    }
}

/// Images that are published where recipes are, whatever these say: all of the workspace, or of the recipe where one stands.
pub(crate) fn published_here(arguments: &Arguments, wants_all: bool) -> Vec<Place> {
    let Ok((workspace, directories)) = folders(&arguments.directory, wants_all) else { return Vec::new() };
    let shared = workspace.as_deref().and_then(|workspace| workspace.out().map(|out| (workspace.root.clone(), out)));
    let outs = match shared {
        Some(shared) => vec![shared],
        None => directories.iter().map(|directory| (directory.clone(), directory.join("out"))).collect(),
    };
    let mut found = Vec::new();
    for (directory, out) in outs {
        let entries = std::fs::read_dir(&out).into_iter().flatten().flatten();
        for name in entries.filter_map(|entry| entry.file_name().into_string().ok()) {
            if is_image_name(&name) && out.join(&name).join("build.json").is_file() {
                // In a directory that all share, the recipe is most likely the one that is called so.
                let of_name = directories.iter().find(|one| one.ends_with(&name));
                let directory = of_name.unwrap_or(&directory).clone();
                found.push(Place { name, directory, out: out.clone(), recipe: None });
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// The images that patterns mean, or the recipe where one stands, or all of the workspace. One whose recipe has errors is taken by what is
/// published of it, and that is said; `all` is whether each of them has to be found.
/// Errors: [`Exit::Input`] when one has errors and nothing is published of it.
pub(crate) fn places(arguments: &Arguments, patterns: &[String], all: bool) -> Result<Vec<Place>, Exit> {
    let read = read_selection(arguments, patterns);
    let broken = match &read {
        Ok(selected) if selected.broken.is_empty() => {
            return look(arguments, read).map(|selected| selected.recipes.into_iter().map(Place::of).collect());
        }
        Ok(selected) => selected.broken.len(),
        Err(_) => patterns.len().max(1),
    };
    let known: Vec<&str> = match &read {
        Ok(selected) => selected.recipes.iter().map(|recipe| recipe.model.image.name.as_str()).collect(),
        Err(_) => Vec::new(),
    };
    let mut found = published_here(arguments, !patterns.is_empty());
    found.retain(|one| !known.contains(&one.name.as_str()) && (patterns.is_empty() || patterns.contains(&one.name)));
    let is_found = |name: &String| known.contains(&name.as_str()) || found.iter().any(|one| one.name == *name);
    let is_enough = patterns.iter().all(is_found) && (!all || found.len() >= broken);
    if !is_enough || found.is_empty() && known.is_empty() {
        return look(arguments, read).and(Err(Exit::Input));
    }
    let names: Vec<String> = found.iter().map(|one| format!("`{}`", one.name)).collect();
    if names.is_empty() {
        render::say("warning: a recipe has errors, which `imgbuild check` shows; the other images are used");
    } else {
        render::say(&format!(
            "warning: a recipe has errors, which `imgbuild check` shows; what was published before is used of {}",
            names.join(", ")
        ));
    }
    found.extend(read.map(|selected| selected.recipes).unwrap_or_default().into_iter().map(Place::of));
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The one image that a command is for: by its name, or the only one that can be meant.
/// Errors: As [`places`]; [`Exit::Usage`] when there are several.
pub(crate) fn place(arguments: &Arguments, name: Option<&str>) -> Result<Place, Exit> {
    let patterns: Vec<String> = name.map(str::to_owned).into_iter().collect();
    let mut found = places(arguments, &patterns, true)?;
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        (Some(last), false) => {
            let names: Vec<&str> = found.iter().chain([&last]).map(|one| one.name.as_str()).collect();
            render::say(&format!("error: this command takes one image; name one of: {}", names.join(", ")));
            Err(Exit::Usage)
        }
        (None, _) => Err(Exit::Input),
    }
}

/// Which image a command is for that looks at what is published, and where that is: by a recipe, or by the names alone where both are
/// given, for images that were pulled to where no recipe is.
/// Errors: As [`place`].
pub(crate) fn image_and_out(
    arguments: &Arguments,
    image: Option<&str>,
    out: Option<&Path>,
) -> Result<(String, PathBuf), Exit> {
    if let (Some(name), Some(out)) = (image, out)
        && is_image_name(name)
        && out.join(name).join("build.json").is_file()
    {
        return Ok((name.to_owned(), out.to_owned()));
    }
    let place = place(arguments, image)?;
    Ok((place.name, out.map_or(place.out, Path::to_owned)))
}
