//! `imgbuild list`.

use super::documents::{LIST_FORMAT, ListDocument, ListedImage};
use super::setup::{published_image, recipe};
use super::{Exit, render};
use crate::stage::drift_of_artefacts;

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where artefacts are [default: `out` beside the recipe]
    #[arg(long, value_name = "DIR")]
    pub out: Option<std::path::PathBuf>,
}

/// Runs the command.
pub fn run(arguments: &super::Arguments, own: &Arguments) -> Exit {
    let recipe = match recipe(arguments) {
        Ok(recipe) => recipe,
        Err(exit) => return exit,
    };
    let name = &recipe.model.image.name;
    let out = own.out.clone().unwrap_or_else(|| recipe.directory.join("out"));
    let found = match published_image(&out, name) {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    if own.json {
        let (directory, build) = found.unzip();
        let drift = build.is_some().then(|| drift_of_artefacts(&out, name, None));
        let images =
            vec![ListedImage { name: name.clone(), recipe: recipe.directory.clone(), directory, build, drift }];
        let document = serde_json::json!(ListDocument { format_version: LIST_FORMAT.to_string(), images });
        render::print(&format!("{document:#}\n"));
        return Exit::Done;
    }
    let Some((directory, info)) = found else {
        render::print(&format!("{name}  not built\n"));
        return Exit::Done;
    };
    let mut text = format!("{name}  {}  kernel {}\n", info.target, info.kernel_release);
    text.push_str(&format!("  published  {}\n", directory.display()));
    for artefact in &info.artefacts {
        text.push_str(&format!("  {:>9}  {}\n", render::bytes(artefact.size), artefact.name));
    }
    text.push_str(&format!("  cmdline  {}\n", info.cmdline.join(" ")));
    for (layer, digest) in &info.layers {
        text.push_str(&format!("  layer  {layer:<20} {}\n", &digest[..12.min(digest.len())]));
    }
    for drift in drift_of_artefacts(&out, name, None) {
        text.push_str(&format!("  {} {}; `imgbuild build` mends it\n", drift.name, drift.problem));
    }
    render::print(&text);
    Exit::Done
}
