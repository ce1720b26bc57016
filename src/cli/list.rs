//! `imgbuild list`.

use super::setup::chosen;
use super::{Exit, render};
use crate::recipe::Recipe;
use crate::stage::{drift_of_artefacts, published};

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Images, by their names or patterns of them [default: the recipe where you stand, or all of the workspace]
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where artefacts are [default: `out` beside the recipe]
    #[arg(long, value_name = "DIR")]
    pub out: Option<std::path::PathBuf>,
}

/// Runs the command.
pub fn run(arguments: &super::Arguments, own: &Arguments) -> Exit {
    let recipes = match chosen(arguments, &own.images) {
        Ok(recipes) => recipes,
        Err(exit) => return exit,
    };
    if own.json {
        let images: Vec<_> = recipes.iter().map(|recipe| json_of(recipe, own)).collect();
        render::print(&format!("{:#}\n", serde_json::json!({"format_version": "1.0", "images": images})));
        return Exit::Done;
    }
    let texts: Vec<String> = recipes.iter().map(|recipe| text_of(recipe, own)).collect();
    render::print(&texts.concat());
    Exit::Done
}

fn out_of(recipe: &Recipe, own: &Arguments) -> std::path::PathBuf {
    own.out.clone().unwrap_or_else(|| recipe.out.clone())
}

fn json_of(recipe: &Recipe, own: &Arguments) -> serde_json::Value {
    let (name, out) = (&recipe.model.image.name, out_of(recipe, own));
    let mut image = serde_json::json!({"name": name, "recipe": recipe.directory, "variant": recipe.variant});
    if let Some((directory, info)) = published(&out, name) {
        image["directory"] = serde_json::json!(directory);
        image["build"] = serde_json::json!(info);
        image["drift"] = serde_json::json!(drift_of_artefacts(&out, name, None));
    }
    image
}

fn text_of(recipe: &Recipe, own: &Arguments) -> String {
    let (name, out) = (&recipe.model.image.name, out_of(recipe, own));
    let Some((directory, info)) = published(&out, name) else { return format!("{name}  not built\n") };
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
    text
}
